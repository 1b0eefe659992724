"""What may stand behind ``≈``: a value rounded to the digits that it shows, or computed with 3.14 for π."""

from __future__ import annotations

from fractions import Fraction

from .equality import Equality
from .numerics import Undefined
from .tree import Apply, Constant, Node, Number, Quantity

PERCENT = (("percent", 1),)
_MOST_PLACES = 40
_FEWEST_STEPS = 10
"""Steps in a number of two digits that count, such as 0.17; below that, rounding is guessing."""
_USUAL_PI = tuple(map(Fraction, ("3.14", "22/7", "3.142", "3.1416", "3.14159", "3.1415926", "3.14159265")))


def step(value: Fraction) -> Fraction | None:
    """
    Give one in the last place that a decimal number shows.

    :param value: the number
    :return: ``None`` if it is no decimal number of a sane length
    """
    found = Fraction(1)
    for _ in range(_MOST_PLACES):
        if (value / found).denominator != 1:
            found /= 10
        elif value and value.denominator == 1 and (value / (10 * found)).denominator == 1:
            found *= 10
        else:
            return found
    return None


def hundredth(value: Node) -> Node:
    """
    Turn percent into a number.

    :param value: how many percent
    """
    return Apply("mul", (value, Number(Fraction(1, 100))))


def is_rounded(exact: Node, rounded: Node, evaluator: Equality) -> bool:
    """
    Tell whether a value is another one rounded or cut to the digits that it shows: within one percent of it, or rounded to two digits
    or more; or that one with a usual fraction for π.

    :param exact: the value that is rounded
    :param rounded: what is shown of it
    :param evaluator: evaluates both
    """
    if isinstance(rounded, Quantity) and rounded.unit == PERCENT and not isinstance(exact, Quantity):
        return is_rounded(exact, hundredth(rounded.value), evaluator) or is_rounded(exact, rounded.value, evaluator)
    exact, rounded = (node.value if isinstance(node, Quantity) else node for node in (exact, rounded))
    try:
        value, shown = evaluator.real(exact), evaluator.real(rounded)
        if not isinstance(shown, Fraction):
            return False
        if any(evaluator.real(_with_pi(exact, pi)) == shown for pi in _USUAL_PI if _with_pi(exact, pi) != exact):
            return True
        place = step(shown)
        distance = evaluator.real(Apply("abs", (Apply("add", (exact, Apply("neg", (Number(shown),)))),)))
    except Undefined:
        return False
    if place is None:
        return False
    if evaluator.close(value, shown, digits=2):
        return evaluator.below(distance, place)
    return abs(shown) >= _FEWEST_STEPS * place and not evaluator.below(place / 2, distance)


def _with_pi(node: Node, pi: Fraction) -> Node:
    if isinstance(node, Apply):
        return Apply(node.op, tuple(_with_pi(argument, pi) for argument in node.args))
    return Number(pi) if node == Constant("pi") else node
