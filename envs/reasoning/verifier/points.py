"""The points at which expressions with symbols are compared."""

from __future__ import annotations

import math
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
_BRANCHING = ("sqrt", "root", "abs", "ln", "log", "log10")
_LARGE = (997, 12_345, 1_000_003, 1_000_000_007)


def sample_point(names: list[str], number: int, near_one: bool = False, place: str = "") -> dict[str, Value]:
    """
    Give every symbol a value: fixed irrational numbers, all positive at even points, of mixed sign at odd ones.

    :param names: the symbols
    :param number: which point
    :param near_one: stay between 1 and 1.3, where high powers are numbers of few digits
    :param place: ``"small"`` for numbers below 1, ``"large"`` for numbers around 10
    """
    point: dict[str, Value] = {}
    for k, name in enumerate(names):
        seed = zlib.crc32(f"{name}/{number}".encode())
        value = context.sqrt(context.mpf(seed % 99991 + 7)) / 97 + context.mpf(k + 1) / 7
        if near_one:
            value = 1 + value / (17 + 2 * k)
        elif place:
            value = value / (4 + k) if place == "small" else value + 8
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
    return points + list(_directed_points(names, constants))


def _directed_points(names: list[str], constants: list[int]) -> Iterator[dict[str, Value]]:
    """Points around the multiples of constants, at which a floor of a sum, a difference or a product jumps."""
    for k, constant in enumerate(constants):
        for residue in (-2, -1, 0, 1):
            # all but one symbol are 1, so that products jump too
            for chosen in names[:2]:
                yield {name: Fraction(2 * constant + residue if name == chosen else 1) for name in names}
            others = {name: Fraction(2 + 3 * k + j) for j, name in enumerate(names[1:])}
            yield {**others, names[0]: Fraction(residue) - sum(others.values()) + constant * (2 + sum(others.values()))}


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
        whole = _small_whole(node)
        if whole is not None and 1 < abs(whole) <= _LARGEST_CONSTANT:
            yield abs(whole)
        for argument in node.args:
            yield from _constants(argument)


def _small_whole(node: Node) -> int | None:
    """The value of ``3^5`` or ``6!`` where that is a whole number of moderate size."""
    if isinstance(node, Number):
        return node.value.numerator if node.value.denominator == 1 and abs(node.value) <= _LARGEST_CONSTANT else None
    if not isinstance(node, Apply) or node.op not in ("pow", "factorial", "mul", "neg"):
        return None
    values = [_small_whole(argument) for argument in node.args]
    wholes = [value for value in values if value is not None]
    if len(wholes) < len(values):
        return None
    first = wholes[0]
    if node.op == "neg":
        return -first
    if node.op == "factorial":
        return math.factorial(first) if 0 <= first < 10 else None
    if node.op == "pow":
        # of a power of a power nothing is left to interrupt
        return first ** wholes[1] if 0 <= wholes[1] <= 20 and abs(first) <= _LARGEST_CONSTANT else None
    product = 1
    for value in wholes:
        product *= value
        if abs(product) > _LARGEST_CONSTANT:
            return None
    return product


def has_branches(node: Node) -> bool:
    """
    Tell whether an expression holds a root, a logarithm or the like, so that another one may agree with it on a part of the line only.

    :param node: a tree
    """
    if not isinstance(node, Apply):
        return False
    if node.op in _BRANCHING or node.op.startswith("arc"):
        return True
    if node.op == "pow" and not (isinstance(node.args[1], Number) and node.args[1].value.denominator == 1):
        return True
    return any(has_branches(argument) for argument in node.args)


def counted_symbols(node: Node) -> frozenset[str]:
    """
    Collect the symbols that must be whole numbers: in ``n!``, in ``\\binom{n}{k}``, and the letters for whole numbers in ``(-1)^n``.

    :param node: a tree
    """
    if not isinstance(node, Apply):
        return frozenset()
    if node.op == "factorial" or (node.op == "binom" and symbols(node.args[1])):
        return symbols(node)
    if node.op == "pow" and _is_negative(node.args[0]):
        names = symbols(node.args[1])
        if stand_for_whole_numbers(names):
            return names
    return frozenset().union(*(counted_symbols(argument) for argument in node.args))


def _is_negative(node: Node) -> bool:
    return isinstance(node, Apply) and node.op == "neg" and isinstance(node.args[0], Number)


def counting_points(counted: list[str]) -> Iterator[dict[str, Value]]:
    """
    Give whole numbers to symbols that count, of two symbols each the larger one at some points.

    :param counted: such symbols
    """
    if len(counted) == 1:
        yield from ({counted[0]: Fraction(k)} for k in range(1, 17))
        return
    for number in range(64):
        yield {
            name: Fraction(
                1 + number % 8 if k == 0 else 1 + number // 8 if k == 1 else 1 + zlib.crc32(f"{name}{number}".encode()) % 6
            )
            for k, name in enumerate(counted)
        }
