"""Numbers for :mod:`.evaluate`: an mpmath context of our own, and exact roots and logarithms."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

from mpmath.ctx_mp import MPContext

from .tree import Apply, Items, Labelled, Matrix, Node, Quantity, Relation, SetOp, Symbol

Value = Any
"""A ``Fraction`` where the value is rational, else an mpmath real or complex number."""


class Undefined(Exception):
    """The expression has no finite value: a division by zero, an unknown operation, an infinity."""


_lock = threading.RLock()


def _renew_lock() -> None:
    """Give a forked child a lock that no thread of its parent holds."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)

context = MPContext()
"""Ours alone: mpmath's global precision stays as the caller set it. Used under the lock, as its caches are not thread-safe."""


@contextmanager
def precision(digits: int) -> Iterator[None]:
    """
    Work with so many digits inside the block; one thread at a time.

    :param digits: decimal digits
    """
    with _lock:
        before = context.dps
        context.dps = digits
        try:
            yield
        finally:
            context.dps = before


def symbols(node: Node) -> frozenset[str]:
    """
    Collect the symbols of an expression.

    :param node: its tree
    """
    if isinstance(node, Symbol):
        return frozenset({node.name})
    if isinstance(node, Apply):
        return frozenset().union(*(symbols(argument) for argument in node.args))
    return frozenset()


def symbols_of(node: Node) -> frozenset[str]:
    """
    Collect the symbols of any tree.

    :param node: a tree
    """
    if isinstance(node, Items):
        return frozenset().union(*(symbols_of(item) for item in node.items))
    if isinstance(node, Relation):
        return frozenset().union(*(symbols_of(member) for member in node.members))
    if isinstance(node, Quantity | Labelled):
        return symbols_of(node.value)
    if isinstance(node, SetOp):
        return symbols_of(node.left) | symbols_of(node.right)
    if isinstance(node, Matrix):
        return frozenset().union(*(symbols_of(entry) for row in node.rows for entry in row))
    return symbols(node)


def bits_of(value: Fraction) -> int:
    """
    Give the size of a fraction.

    :param value: any
    :return: bits of numerator and denominator together
    """
    return value.numerator.bit_length() + value.denominator.bit_length()


def is_real(value: Value) -> bool:
    """
    Tell whether a value is real by its type.

    :param value: a complex number whose imaginary part is 0 is not
    """
    return isinstance(value, Fraction) or not isinstance(value, context.mpc)


def to_mp(value: Value) -> Any:
    """
    Convert a value to an mpmath number of the present precision.

    :param value: a ``Fraction``, or what is an mpmath number already
    """
    if isinstance(value, Fraction):
        return context.mpf(value.numerator) / value.denominator
    return value


def close_to(a: Any, b: Any, digits: int) -> bool:
    """
    Tell whether two numbers agree, or both vanish at the present precision.

    :param a: an mpmath number
    :param b: another
    :param digits: decimal digits of the larger one that must agree
    """
    if a == b:
        return True
    scale = max(abs(a), abs(b))
    return bool(abs(a - b) <= scale * context.mpf(10) ** -digits or scale < context.mpf(10) ** -(context.dps - 10))


def integer_root(number: int, index: int) -> int | None:
    """
    Find the exact root of a whole number.

    :param number: 0 or more
    :param index: 2 for the square root
    :return: ``None`` if the root is no whole number, or it would take long to find out
    """
    if index == 2:
        root = math.isqrt(number)
        return root if root * root == number else None
    if number < 2:
        return number
    if index > 64 or number.bit_length() > 4096:
        return None
    root = round(float(number) ** (1 / index)) if number.bit_length() < 1000 else 0
    for candidate in (root - 1, root, root + 1):
        if candidate >= 0 and candidate**index == number:
            return candidate
    return None


def exact_logarithm(base: Value, argument: Value) -> Fraction | None:
    """
    Find a logarithm that is a whole number: ``log_2 8`` = 3.

    :param base: a whole number above 1; for any other there is nothing to find
    :param argument: a whole number
    :return: ``None`` if the logarithm is none, or above 300
    """
    if (
        isinstance(base, Fraction)
        and isinstance(argument, Fraction)
        and base.denominator == argument.denominator == 1
        and base > 1
    ):
        power, count = 1, 0
        while power < argument and count < 300:
            power *= base.numerator
            count += 1
        if power == argument:
            return Fraction(count)
    return None
