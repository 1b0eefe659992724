"""The forms an answer can take, once it has been read."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from .units import Unit


@dataclass(frozen=True)
class Number:
    """An exact rational number."""

    value: Fraction


@dataclass(frozen=True)
class Constant:
    """``pi``, ``e``, ``i`` or ``infty``."""

    name: str


@dataclass(frozen=True)
class Symbol:
    """A variable, with its subscript if it has one; also a function of unknown meaning applied to a fixed argument, or a word."""

    name: str


@dataclass(frozen=True)
class Apply:
    """
    An operation or a known function: ``add``, ``mul``, ``pow``, ``neg``, ``inv``, ``plusminus``, ``sqrt``, ``sin``, ``log`` (base,
    argument; of the argument alone to base 10), ``factorial``, ``binom``, ``abs`` and so on; ``call:f`` is an unknown function.
    """

    op: str
    args: tuple[Node, ...]


@dataclass(frozen=True)
class BaseNumber:
    """Digits with a base: ``52_8``."""

    digits: str
    base: int


@dataclass(frozen=True)
class Quantity:
    """A value with a unit."""

    value: Node
    unit: Unit


@dataclass(frozen=True)
class Items:
    """
    Several values. ``kind``: ``list`` (bare, in no order), ``set``, ``ratio``, ``clock`` (a time), or the two brackets of a tuple or an
    interval: ``()``, ``[]``, ``(]``, ``[)``.
    """

    kind: str
    items: tuple[Node, ...]


@dataclass(frozen=True)
class Matrix:
    """A matrix, by rows."""

    rows: tuple[tuple[Node, ...], ...]


@dataclass(frozen=True)
class SetOp:
    """``cup``, ``cap`` or ``setminus`` of two sets."""

    op: str
    left: Node
    right: Node


@dataclass(frozen=True)
class Relation:
    """A chain ``a = b = c`` or ``a < x <= b``: one more member than operators."""

    ops: tuple[str, ...]
    members: tuple[Node, ...]


@dataclass(frozen=True)
class Labelled:
    """A multiple-choice letter followed by the value it stands for: ``(C) 5``."""

    label: str
    value: Node


Node = Number | Constant | Symbol | Apply | BaseNumber | Quantity | Items | Matrix | SetOp | Relation | Labelled
