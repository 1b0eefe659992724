"""Whether two expressions are equal: rational values exactly, others to so many digits that no term can be lost beside another."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

from .evaluate import Evaluator
from .numerics import Undefined, Value, close_to, context, is_real, precision, symbols, to_mp
from .points import (
    counted_symbols,
    counting_points,
    has_branches,
    rounding_points,
    rounds_symbols,
    sample_point,
    stand_for_whole_numbers,
)
from .tokens import TooComplex
from .tree import Apply, Constant, Node

DIGITS = 120
"""Digits of values that are kept, such as the ends of intervals."""
_CLOSE = 90
"""Digits to which such values agree when they are equal."""
_FIRST = 80
_MOST_DIGITS = 6000
_MANY_DIGITS = 400
_SPARE = 60
_LARGEST_TOLERANCE = 1e-20
_POINTS = 4
_FEWEST_ROUNDING_POINTS = 10
_FEWEST_COUNTING_POINTS = 10
_SMALL = 100
"""A gold that has a value at coordinates below this is not too complex there, and neither is what equals it."""

Pair = Callable[[], tuple[Value, Value]]
Point = Callable[[], dict[str, Value]]


class _OneSided(Exception):
    """At this point only one of two expressions has a value."""


class _Pole(Undefined):
    """Numbers grow with the digits they are computed to: ``\\tan 90^\\circ``, whose value is nothing but rounding error."""


class _Difference(NamedTuple):
    """How far apart two values are when they are computed to so many digits."""

    digits: int
    needed: int
    """Digits that tell the smallest number met in the evaluation from the rounding error of the largest."""
    largest: int
    """Decimal places of the largest number met."""
    exact: bool
    size: Value
    scale: Value


class Equality(Evaluator):
    """Compares expressions; one for each comparison, because it holds the budget."""

    def equal(self, left: Node, right: Node) -> bool:
        """
        Tell whether two expressions are the same: in value, or at several points if they hold symbols. Where they round symbols that
        stand for whole numbers, whole numbers are the points. Where neither is real they may differ, unless one of them holds ``i``.

        :param left: an expression
        :param right: another
        :raises TooComplex: if one of them would cost too much
        :raises Undefined: if one of them has no finite value
        """
        own, names = symbols(left), symbols(left) | symbols(right)
        if not names:
            return self._agree(lambda: (self.value(left, {}), self.value(right, {})))
        if names > own and (rounds_symbols(right) or counted_symbols(right)):
            # symbols that the gold has not would choose the points at which it is looked at
            return False
        if rounds_symbols(left) or rounds_symbols(right):
            same = self._equal_where_rounded(left, right, names)
            if not same or stand_for_whole_numbers(names):
                return same
        counted = _counted(left, right)
        if counted:
            return self._equal_where_counted(left, right, sorted(counted), sorted(names - counted))
        return self._equal_at_samples(left, right, sorted(names))

    def _equal_where_rounded(self, left: Node, right: Node, names: frozenset[str]) -> bool:
        """Compare where floors and ceilings jump. That is enough where only whole numbers can be put in; there must be enough of them."""
        agreed = 0
        for point in rounding_points(sorted(names), left, right):
            same = self._agree_where_small(left, right, point)
            if same is False:
                return False
            agreed += same is not None
        if agreed < _FEWEST_ROUNDING_POINTS and stand_for_whole_numbers(names):
            raise Undefined("defined at too few points")
        return True

    def _equal_where_counted(self, left: Node, right: Node, counted: list[str], others: list[str]) -> bool:
        """Compare at whole numbers where ``n!`` and the like have a value. Of two, ``\\binom{n}{k}`` has one where ``(n-k)!`` has none."""
        agreed = 0
        for number, point in enumerate(counting_points(counted)):

            def here(number: int = number, point: dict[str, Value] = point) -> dict[str, Value]:
                return {**sample_point(others, number), **point}

            with precision(_FIRST):
                defined = [self._at(node, here()) is not None for node in (left, right)]
            if not any(defined):
                continue
            if len(counted) > 1 and (not defined[0] or (not defined[1] and self._vanishes(left, here))):
                # the binomial of k > n is 0, and the quotient of factorials has no value; nothing else may be missing
                continue
            if not self._agree_at(left, right, here):
                return False
            agreed += 1
        if agreed < _FEWEST_COUNTING_POINTS:
            raise Undefined("defined at too few points")
        return True

    def _equal_at_samples(self, left: Node, right: Node, names: list[str]) -> bool:
        """Compare at irrational points; with roots and the like also at small and at large ones, where other branches may lie."""
        agreed = 0
        for number in range(_POINTS + 2):
            same = self._agree_at_sample(left, right, names, number)
            if same is False:
                return False
            agreed += same is not None
            if agreed == _POINTS:
                break
        if agreed < 2:
            raise Undefined("defined at too few points")
        places = ("small", "large") if has_branches(left) or has_branches(right) else ()
        return all(
            self._agree_at_sample(left, right, names, number, place) is not False for place in places for number in range(2)
        )

    def _agree_at_sample(self, left: Node, right: Node, names: list[str], number: int, place: str = "") -> bool | None:
        """
        Compare at one of the irrational points; ``None`` where that says nothing: neither expression has a value there, or they differ
        where neither is real, and neither holds ``i``.
        """
        sample = self._sample(names, number, (left, right), place)
        same = self._agree_at(left, right, sample)
        if same is False and not (_holds_i(left) or _holds_i(right)) and self._neither_is_real(left, right, sample):
            return None
        return same

    def proportional(self, left: Node, right: Node) -> bool:
        """
        Tell whether two expressions differ by a constant factor other than zero.

        :param left: an expression with symbols
        :param right: another
        """
        names = symbols(left)
        if names != symbols(right) or not names:
            return False
        points = [self._sample(sorted(names), number, (left, right)) for number in range(_POINTS)]
        for point in points:
            for node in (left, right):
                if self._agree(lambda node=node, point=point: (self.value(node, point()), Fraction(0))):  # type: ignore[misc]
                    return False
        first, *others = points
        if rounds_symbols(left) or rounds_symbols(right):
            others += [lambda point=point: point for point in rounding_points(sorted(names), left, right)]  # type: ignore[misc]

        def crossed(point: Point) -> tuple[Value, Value]:
            here, there = first(), point()
            return (
                self._fold([self.value(left, here), self.value(right, there)], lambda a, b: a * b),
                self._fold([self.value(right, here), self.value(left, there)], lambda a, b: a * b),
            )

        return all(self._agree(lambda point=point: crossed(point)) for point in others)  # type: ignore[misc]

    # ---------------------------------------------------------------- how many digits
    def _agree(self, pair: Pair) -> bool:
        """
        Compare two values that can be had to any number of digits.

        Of ``x^2024 - 1`` the 1 is lost in 900 digits beside the power, so the digits follow the numbers met. Then twice as many: the
        difference of equal values, which is rounding error, shrinks with them, and any other stays.
        """
        found = self._difference(pair, _FIRST)
        for _ in range(2):
            if found.exact or found.needed <= found.digits:
                break
            found = self._difference(pair, found.needed)
        if found.exact:
            return bool(found.size == 0)
        # a comparison that did not come to rest has met such numbers, or small ones (\sin \pi), which do no harm
        if found.largest + _SPARE - 15 > found.digits:
            raise _Pole
        ten = context.mpf(10)
        if found.size > max(ten ** (found.largest + 30 - found.digits), found.scale * ten**-10):
            return False
        finer = self._difference(pair, 2 * found.digits)
        if finer.largest > found.largest + 2:
            raise _Pole
        tolerance = max(ten ** (found.largest + 30 - finer.digits), found.size * ten ** (15 - found.digits))
        # whatever was computed, no answer may make up for a difference that can be seen
        if tolerance > _LARGEST_TOLERANCE:
            raise _Pole
        return bool(finer.size <= tolerance)

    def _difference(self, pair: Pair, digits: int) -> _Difference:
        if digits > 2 * _MOST_DIGITS:
            raise TooComplex("a comparison that needs too many digits")
        with precision(digits):
            self.largest = self.smallest = 0
            self.rounded = False
            a, b = pair()
            largest, smallest = int(self.largest * 0.30103) + 1, int(-self.smallest * 0.30103) + 1
            # three times the smallest: dividing by a small number enlarges the error that it has
            needed = largest + 3 * smallest + _SPARE
            if isinstance(a, Fraction) and isinstance(b, Fraction) and not self.rounded:
                return _Difference(digits, needed, largest, True, int(a != b), 1)
            a, b = to_mp(a), to_mp(b)
            return _Difference(digits, needed, largest, False, abs(a - b), max(abs(a), abs(b)))

    def _agree_at(self, left: Node, right: Node, point: Point) -> bool | None:
        """Compare at one point; ``None`` where neither expression has a value there."""

        def pair() -> tuple[Value, Value]:
            here = point()
            a, b = self._at(left, here), self._at(right, here)
            if a is None and b is None:
                raise Undefined("both sides")
            if a is None or b is None:
                raise _OneSided
            return a, b

        try:
            return self._agree(pair)
        except (_OneSided, _Pole):
            return False
        except Undefined:
            return None

    def _agree_where_small(self, left: Node, right: Node, point: dict[str, Value]) -> bool | None:
        """Compare at one point, unless the numbers get too large there: 2^n at a large n."""
        try:
            return self._agree_at(left, right, lambda: point)
        except TooComplex:
            if self.work < 0:
                raise
            if all(abs(value) < _SMALL for value in point.values()) and not self._too_complex_at(left, point):
                # where the gold is simple, what is too complex is something else
                return False
            return None

    def _too_complex_at(self, node: Node, point: dict[str, Value]) -> bool:
        try:
            with precision(_FIRST):
                self._at(node, point)
        except TooComplex:
            if self.work < 0:
                raise
            return True
        return False

    def _vanishes(self, node: Node, point: Point) -> bool:
        with precision(_FIRST):
            return bool(self._at(node, point()) == 0)

    def _neither_is_real(self, left: Node, right: Node, point: Point) -> bool:
        """Whether a point lies outside the reals for both expressions, where the branches of roots may differ: √(a/b) and √a/√b."""
        with precision(_FIRST):
            here = point()
            values = [self._at(node, here) for node in (left, right)]
            return all(
                value is not None and not is_real(value) and abs(value.imag) > abs(value) * context.mpf(10) ** -30
                for value in values
            )

    def _at(self, node: Node, point: dict[str, Value]) -> Value | None:
        try:
            return self.value(node, point)
        except Undefined:
            return None

    def _sample(self, names: list[str], number: int, nodes: tuple[Node, ...], place: str = "") -> Point:
        """A point to sample at: one near ±1 where high powers would need many digits at the usual one."""

        def digits(near_one: bool) -> int:
            with precision(_FIRST):
                self.largest = self.smallest = 0
                try:
                    point = sample_point(names, number, near_one, place)
                    for node in nodes:
                        self._at(node, point)
                except TooComplex:
                    if self.work < 0:
                        raise
                    return _MOST_DIGITS
                return int((self.largest - 3 * self.smallest) * 0.30103)

        usual = digits(False)
        near_one = usual > _MANY_DIGITS and digits(True) < usual
        return lambda: sample_point(names, number, near_one, place)

    # ---------------------------------------------------------------- values that are kept
    def real(self, node: Node) -> Value:
        """
        Evaluate a constant expression that must be real.

        :param node: its tree
        :raises Undefined: if it is not real, not finite, or holds symbols
        """
        with precision(DIGITS):
            self.largest = self.smallest = 0
            value = self.value(node, {})
            if isinstance(value, Fraction):
                return value
            found = self.largest
            if found * 0.30103 > _CLOSE - 15:
                with precision(2 * DIGITS):
                    self.largest = 0
                    self.value(node, {})
                if self.largest > found + 7:
                    raise _Pole
            if not is_real(value) and abs(value.imag) > context.mpf(10) ** -_CLOSE * abs(value):
                raise Undefined("not real")
            return value if is_real(value) else value.real

    def close(self, left: Value, right: Value, digits: int = _CLOSE) -> bool:
        """
        Compare two values.

        :param left: a value
        :param right: another
        :param digits: decimal digits that must agree
        """
        with precision(DIGITS):
            if isinstance(left, Fraction) and isinstance(right, Fraction) and digits == _CLOSE:
                return left == right
            return close_to(to_mp(left), to_mp(right), digits)

    def below(self, left: Value, right: Value) -> bool:
        """
        Tell whether one real value is below another.

        :param left: a value
        :param right: another
        """
        with precision(DIGITS):
            if isinstance(left, Fraction) and isinstance(right, Fraction):
                return left < right
            return bool(to_mp(left) < to_mp(right))


def _counted(gold: Node, answer: Node) -> frozenset[str]:
    """The symbols that must be whole numbers; a letter that is none by custom is one only if the gold says so."""
    usual = (name for name in counted_symbols(answer) if stand_for_whole_numbers(frozenset({name})))
    return counted_symbols(gold).union(usual)


def _holds_i(node: Node) -> bool:
    if isinstance(node, Apply):
        return any(_holds_i(argument) for argument in node.args)
    return isinstance(node, Constant) and node.name == "i"
