"""The points at which expressions with symbols are compared."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice

from .numerics import Value, context, symbols
from .tree import Apply, Node, Number

_ROUNDING = ("floor", "ceil")
_WHOLE_LETTERS = frozenset("nmkjNMK")
_MOST_POINTS = 240
_MOST_CONSTANTS = 5
_LARGEST_CONSTANT = 10**6
_LARGE = (997, 12_345, 1_000_003, 1_000_000_007)


def sample_point(names: list[str], number: int, near_one: bool = False) -> dict[str, Value]:
    """
    Give every symbol a value: fixed irrational numbers, all positive at even points, of mixed sign at odd ones.

    :param names: the symbols
    :param number: which point
    :param near_one: stay between 1 and 1.3, where high powers are numbers of few digits
    """
    point: dict[str, Value] = {}
    for k, name in enumerate(names):
        seed = zlib.crc32(f"{name}/{number}".encode())
        value = context.sqrt(context.mpf(seed % 99991 + 7)) / 97 + context.mpf(k + 1) / 7
        if near_one:
            value = 1 + value / (17 + 2 * k)
        point[name] = -value if number % 2 and (k + number // 2) % 2 == 0 else value
    return point


def rounds_symbols(node: Node) -> bool:
    """
    Tell whether a floor or a ceiling stands over a symbol, so that an expression jumps at points that no irrational sample meets.

    :param node: a tree
    """
    if not isinstance(node, Apply):
        return False
    return (node.op in _ROUNDING and bool(symbols(node))) or any(rounds_symbols(argument) for argument in node.args)


def stand_for_whole_numbers(names: frozenset[str]) -> bool:
    """
    Tell whether symbols are letters that stand for whole numbers by custom: ``n``, ``m``, ``k``, ``j`` and the like.

    :param names: symbols
    """
    return all(name.split("_")[0] in _WHOLE_LETTERS for name in names)


def rounding_points(names: list[str], left: Node, right: Node) -> list[dict[str, Value]]:
    """
    Give points at which floors and ceilings jump: whole numbers of every residue, around the multiples of the numbers that the
    expressions hold, and fractions unless the symbols stand for whole numbers.

    :param names: the symbols
    :param left: an expression
    :param right: another
    """
    constants = sorted(set(_constants(left)) | set(_constants(right)))[:_MOST_CONSTANTS]
    whole = stand_for_whole_numbers(frozenset(names))
    if len(names) == 1:
        values = dict.fromkeys(islice(_jumps(constants, whole), _MOST_POINTS))
        return [{names[0]: value} for value in values]
    points: list[dict[str, Value]] = []
    for number in range(120):
        point: dict[str, Value] = {}
        span = 24 if number < 60 or not constants else 4 * constants[number % len(constants)]
        span = _LARGE[number % len(_LARGE)] if number >= 112 else span
        for name in names:
            draw = zlib.crc32(f"{name}|{number}".encode()) % (12 * span)
            point[name] = Fraction(1 + draw % span) if whole or number % 2 else Fraction(draw - 4 * span, 12)
        points.append(point)
    return points


def _jumps(constants: list[int], whole: bool) -> Iterator[Fraction]:
    yield from (Fraction(k) for k in range(1, 41))
    yield from map(Fraction, _LARGE)
    if not whole:
        yield from (Fraction(k, 12) for k in range(-24, 37))
        scales = dict.fromkeys([*constants, *(2 * c for c in constants), *(c * d for c in constants for d in constants)])
        yield from (Fraction(k, scale) for scale in scales for k in (-3, -2, -1, 1, 2, 3, 5))
    for step in (0, *constants):
        for multiple in range(1, 4):
            for constant in constants:
                for sign in (1, -1):
                    yield from (Fraction(abs(constant * multiple + sign * step + k) + 1) for k in (-2, -1, 0))


def _constants(node: Node) -> Iterator[int]:
    if isinstance(node, Number):
        for part in (abs(node.value.numerator), node.value.denominator):
            if 1 < part <= _LARGEST_CONSTANT:
                yield part
    elif isinstance(node, Apply):
        for argument in node.args:
            yield from _constants(argument)
