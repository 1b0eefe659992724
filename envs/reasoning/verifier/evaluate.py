"""The value of an expression: exactly where it is rational, to the present precision otherwise, within a fixed budget of work.

Numbers are limited in size before they are computed, and every operation is charged, so that no answer can take long: the verdict on
an expression depends on the expression alone, never on the speed of the machine.
"""

from __future__ import annotations

import math
import zlib
from fractions import Fraction
from typing import Any

from mpmath.libmp import ComplexResult, NoConvergence

from .numerics import (
    Undefined,
    Value,
    bits_of,
    context,
    exact_logarithm,
    integer_root,
    is_real,
    to_mp,
)
from .tokens import TooComplex
from .tree import Apply, Constant, Node, Number, Symbol

MAX_BITS = 1 << 16
"""Largest numerator or denominator that is computed, in bits."""
MAX_COUNT = 2000
"""Largest argument of a factorial, and largest lower argument of a binomial coefficient."""
MAX_FACTORS = 20
"""Largest lower argument of a binomial coefficient whose upper argument is no whole number."""
_ODD_ROOTS = range(3, 65, 2)
_CHEAP, _DEAR = 1.2, 1.7
"""How the cost of arithmetic, and of functions, grows with the number of digits."""

_FUNCTIONS = {
    "sin": context.sin, "cos": context.cos, "tan": context.tan, "cot": context.cot, "sec": context.sec, "csc": context.csc,
    "arcsin": context.asin, "arccos": context.acos, "arctan": context.atan, "arccot": context.acot, "sinh": context.sinh,
    "cosh": context.cosh, "tanh": context.tanh, "coth": context.coth, "exp": context.exp, "ln": context.log,
    "arcsec": context.asec, "arccsc": context.acsc, "arcsinh": context.asinh, "arccosh": context.acosh, "arctanh": context.atanh,
    "Re": context.re, "Im": context.im, "arg": context.arg,
}  # fmt: skip


class Evaluator:
    """
    Evaluates trees; one for each comparison, because it holds the budget.

    ``largest`` and ``smallest`` are the binary exponents of the largest and the smallest number met since they were last set to 0: they
    say how many digits an evaluation needs if none of its terms is to be lost beside another. ``rounded`` says whether a floor or a
    ceiling was taken of a number that is known to the present precision alone.

    :param work: budget in units of roughly a microsecond
    """

    def __init__(self, work: int = 400_000):
        self.work = work
        self.largest = 0
        self.smallest = 0
        self.rounded = False

    def charge(self, units: int) -> None:
        """
        Take from the budget.

        :param units: cost of an operation
        :raises TooComplex: if nothing is left
        """
        self.work -= units
        if self.work < 0:
            raise TooComplex("out of its budget of work")

    def spend(self, units: int, growth: float = _CHEAP) -> None:
        """
        Take the cost of an operation at the present precision from the budget.

        :param units: cost at 120 digits or fewer
        :param growth: the power of the number of digits that it grows with
        :raises TooComplex: if nothing is left
        """
        self.charge(int(units * max(1.0, context.dps / 120) ** growth))

    # ---------------------------------------------------------------- evaluation
    def value(self, node: Node, point: dict[str, Value]) -> Value:
        """
        Evaluate an expression.

        :param node: its tree
        :param point: the value of each symbol
        :return: a ``Fraction`` or an mpmath number
        :raises Undefined: if it has no finite value
        :raises TooComplex: if it would cost too much
        """
        self.charge(5)
        if isinstance(node, Number):
            self._note_size(node.value)
            return node.value
        if isinstance(node, Constant):
            self.spend(1, _DEAR)
            return self._constant(node.name)
        if isinstance(node, Symbol):
            if node.name not in point:
                raise Undefined(node.name)
            return point[node.name]
        if not isinstance(node, Apply):
            raise Undefined(type(node).__name__)
        values = [self.value(argument, point) for argument in node.args]
        try:
            return self._sized(self._apply(node.op, values))
        except (ArithmeticError, ValueError, NoConvergence, ComplexResult) as error:
            raise Undefined(f"{node.op}: {error}") from error

    def _constant(self, name: str) -> Value:
        if name == "pi":
            return +context.pi
        if name == "e":
            return +context.e
        if name == "i":
            return context.mpc(0, 1)
        raise Undefined(name)

    def _apply(self, op: str, values: list[Value]) -> Value:
        if op == "add":
            return self._fold(values, lambda a, b: a + b)
        if op == "mul":
            return self._fold(values, lambda a, b: a * b)
        first = values[0]
        if op == "neg":
            return -first
        if op == "inv":
            if first == 0:
                raise Undefined("division by zero")
            return 1 / first
        if op == "pow":
            return self._power(first, values[1])
        if op == "sqrt":
            return self._root(first, Fraction(2))
        if op == "root":
            if not isinstance(values[1], Fraction) or values[1] <= 0:
                raise Undefined("index of a root")
            if values[1].denominator == 1 and values[1].numerator % 2 and is_real(first) and first < 0:
                return -self._root(-first, values[1])
            return self._root(first, values[1])
        if op in ("factorial", "binom"):
            return self._counting(op, values)
        if op in ("floor", "ceil"):
            return self._rounded(op, first)
        if op == "abs":
            return abs(first)
        if op.startswith("call:"):
            # an unknown function: some fixed smooth function of its arguments, so that f(x) = f(x) and f(x) ≠ f(2x)
            self.spend(300, _DEAR)
            phase = context.mpf(zlib.crc32(op.encode()) % 997)
            for k, value in enumerate(values):
                phase += to_mp(value) * (13 + 7 * k) / 10
            return context.cos(phase) + 2
        return self._function(op, values)

    def _fold(self, values: list[Value], combine: Any) -> Value:
        total = values[0]
        for value in values[1:]:
            if isinstance(total, Fraction) and isinstance(value, Fraction):
                self.charge(1 + (bits_of(total) + bits_of(value)) // 50)
                total = combine(total, value)
            else:
                self.spend(10)
                total = combine(to_mp(total), to_mp(value))
            self._sized(total)
        return total

    def _sized(self, value: Value) -> Value:
        """Refuse numbers that would make the next operation slow."""
        if isinstance(value, Fraction):
            if bits_of(value) > 2 * MAX_BITS:
                raise TooComplex("a number too long")
            self._note_size(value)
            return value
        if not context.isfinite(value):
            raise Undefined("not finite")
        if value != 0 and abs(context.mag(value)) > MAX_BITS:
            raise TooComplex("a number too large or too small")
        self._note_size(value)
        return value

    def _note_size(self, value: Value) -> None:
        if isinstance(value, Fraction):
            # the digits of its denominator are digits that can be lost, whatever its size
            self.largest = max(self.largest, value.numerator.bit_length())
            self.smallest = min(self.smallest, 1 - value.denominator.bit_length())
        elif value != 0:
            size = context.mag(value)
            self.largest = max(self.largest, size)
            self.smallest = min(self.smallest, size)

    def _power(self, base: Value, exponent: Value) -> Value:
        if isinstance(exponent, Fraction) and exponent.denominator in _ODD_ROOTS and is_real(base) and base < 0:
            # x^(1/3) is a real number where the cube root of x is one
            root = -self._root(-base, Fraction(exponent.denominator))
            return self._power(root, Fraction(exponent.numerator))
        if isinstance(exponent, Fraction) and isinstance(base, Fraction):
            power = self._rational_power(base, exponent)
            if power is not None:
                return power
        whole = exponent.numerator if isinstance(exponent, Fraction) and exponent.denominator == 1 else None
        base, exponent = to_mp(base), to_mp(exponent)
        if base == 0:
            raise Undefined("a power of zero")
        size = abs(context.mag(base)) + 2
        if (exponent != 0 and context.mag(exponent) > 17) or abs(exponent) * size > MAX_BITS:
            raise TooComplex("a power too large")
        if whole is not None:
            if is_real(base):
                self.spend(60)
            else:
                self.spend(300, _DEAR)
            return base**whole
        self.spend(150, _DEAR)
        return base**exponent

    def _rational_power(self, base: Fraction, exponent: Fraction) -> Value | None:
        """A power that is rational, or one of a root; ``None`` for any other."""
        if base == 0:
            if exponent <= 0:
                raise Undefined("zero to a power that is not positive")
            return Fraction(0)
        if base == 1:
            return base
        if exponent.denominator == 1:
            bits = bits_of(base) * abs(exponent.numerator)
            if bits > MAX_BITS and abs(base) != 1:
                raise TooComplex("a power too large")
            if base == -1:
                return Fraction(-1 if exponent.numerator % 2 else 1)
            self.charge(1 + bits // 20)
            return base**exponent.numerator
        if exponent.denominator <= 64 and base > 0 and bits_of(exponent) < 64:
            return self._power(self._root(base, Fraction(exponent.denominator)), Fraction(exponent.numerator))
        return None

    def _root(self, radicand: Value, index: Fraction) -> Value:
        if isinstance(radicand, Fraction) and index.denominator == 1 and radicand >= 0:
            self.charge(1 + bits_of(radicand) // 10)
            top = integer_root(radicand.numerator, index.numerator)
            bottom = integer_root(radicand.denominator, index.numerator)
            if top is not None and bottom is not None:
                return Fraction(top, bottom)
        self.spend(60)
        if index == 2:
            return context.sqrt(to_mp(radicand))
        return self._power(to_mp(radicand), 1 / index) if radicand != 0 else Fraction(0)

    def _counting(self, op: str, values: list[Value]) -> Value:
        if op == "binom" and not (isinstance(values[0], Fraction) and values[0].denominator == 1):
            return self._falling(values[0], values[1])
        if not all(isinstance(value, Fraction) and value.denominator == 1 and value >= 0 for value in values):
            raise Undefined(f"{op} of something else than whole numbers")
        numbers = [value.numerator for value in values]
        if op == "factorial":
            if numbers[0] > MAX_COUNT:
                raise TooComplex("a factorial too large")
            self.charge(10 + numbers[0])
            return Fraction(math.factorial(numbers[0]))
        lower = min(numbers[1], max(numbers[0] - numbers[1], 0))
        if lower * max(1, numbers[0].bit_length()) > MAX_BITS // 4:
            raise TooComplex("a binomial coefficient too large")
        self.charge(10 + 10 * lower)
        return Fraction(math.comb(numbers[0], lower) if numbers[1] <= numbers[0] else 0)

    def _falling(self, upper: Value, lower: Value) -> Value:
        """A binomial coefficient as a polynomial of its upper argument: ``\\binom{n}{2}`` is n(n-1)/2."""
        if not isinstance(lower, Fraction) or lower.denominator != 1 or not 0 <= lower <= MAX_FACTORS:
            raise Undefined("binom of something else than whole numbers")
        factors = [upper - k for k in range(lower.numerator)]
        return self._fold([Fraction(1, math.factorial(lower.numerator)), *factors], lambda a, b: a * b)

    def _rounded(self, op: str, value: Value) -> Fraction:
        if isinstance(value, Fraction):
            return Fraction(math.floor(value) if op == "floor" else math.ceil(value))
        if not is_real(value) or context.mag(value) > 200:
            raise Undefined("rounding of such a number")
        self.rounded = True
        nearest = int(context.nint(value))
        # whole, as far as the rounding error of the largest number met lets one see
        if abs(value - nearest) < context.mpf(10) ** (self.largest * 3 // 10 + 30 - context.dps):
            return Fraction(nearest)
        return Fraction(int(context.floor(value) if op == "floor" else context.ceil(value)))

    def _function(self, op: str, values: list[Value]) -> Value:
        self.spend(300, _DEAR)
        if op in ("log", "log10") and len(values) == 1:
            op, values = "log", [Fraction(10), *values]
        arguments = [to_mp(value) for value in values]
        first = arguments[0]
        if first != 0 and context.mag(first) > 2000 and op not in ("ln", "log", "Re", "Im", "arg"):
            raise TooComplex("argument of a function too large")
        exponential = op in ("exp", "sinh", "cosh", "tanh", "coth") or not is_real(first)
        if exponential and first != 0 and context.mag(first) > 15:
            raise TooComplex("argument of an exponential too large")
        if op == "log" and len(arguments) == 2:
            base, argument = arguments
            if base in (0, 1) or argument == 0:
                raise Undefined("logarithm")
            exact = exact_logarithm(values[0], values[1])
            return exact if exact is not None else context.log(argument) / context.log(base)
        if op not in _FUNCTIONS or len(arguments) != 1:
            raise Undefined(op)
        return _FUNCTIONS[op](first)
