"""The layer of the parser that reads functions with their arguments: those with a known meaning, and those that have a name alone."""

from __future__ import annotations

from fractions import Fraction

from .arithmetic import Arithmetic, degrees, read_number
from .tokens import Token, Unreadable
from .tree import Apply, Constant, Items, Node, Number, Quantity, Symbol
from .units import DEGREE, RADIAN, canonical_unit, word_set

FUNCTIONS = word_set(
    "sin cos tan cot sec csc arcsin arccos arctan arccot sinh cosh tanh coth ln log log10 exp abs Re Im arg gcd lcm max min"
)
GREEK = word_set(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau upsilon phi chi psi omega Gamma Delta Theta "
    "Lambda Xi Pi Sigma Upsilon Phi Psi Omega hbar ell"
)
_OF_ANGLES = word_set("sin cos tan cot sec csc")
_INVERTED = word_set("sin cos tan cot sec csc sinh cosh tanh")
"""Functions whose power -1 is the inverse function, not the reciprocal."""
_MINUS_ONE = Apply("neg", (Number(Fraction(1)),))
_APPLIED = frozenset("fghFG")
_QUANTITIES = frozenset("gh")
"""Names of functions that are as often a height and an acceleration."""
_FACTORS = GREEK | {"pi", "sqrt", "frac"}
"""Commands that go on with the argument of a function that stands without brackets."""
REALS = Items("()", (Apply("neg", (Constant("infty"),)), Constant("infty")))


class Functions(Arithmetic):
    """Functions, and the letters that may be their names."""

    def letter(self, token: Token) -> Node:
        """Read a variable, a constant, or an unknown function with its arguments."""
        name = token.value
        if name == "e" or name == "i":
            return Constant(name)
        if name == "mathbb:R":
            return REALS
        follows = self.peek()
        if follows.kind == "op" and follows.value == "(" and not follows.spaced:
            inside = self.peek(1)
            applied = name in _APPLIED and not (name in _QUANTITIES and self.sum_of_letters_follows())
            if applied or (inside.kind == "num" and self.is_op(")", 2)):
                self.at += 1
                argument = self.list_of_values()
                self.expect(")")
                several = isinstance(argument, Items) and argument.kind == "list"
                return Apply(f"call:{name}", argument.items if several else (argument,))  # type: ignore[union-attr]
        return Symbol(name)

    def sum_of_letters_follows(self) -> bool:
        """Look for a bracket with a sum of letters alone: ``h(a+b)`` is a product, ``h(x)`` and ``g(x+1)`` are values of functions."""
        letters, signs = 0, 0
        for k, token in enumerate(self.tokens[self.at + 1 :], self.at + 1):
            if token.value == ")":
                return letters > 1 and signs > 0 and not self.is_op("=", k + 1 - self.at)
            below = "_" in (self.tokens[k - 1].value, self.tokens[k - 2].value)
            if token.kind == "letter" and token.value not in ("e", "i"):
                letters += 1
            elif token.value in ("+", "-"):
                signs += 1
            elif token.value not in ("_", "{", "}") and not (token.kind == "num" and below):
                return False
        return False

    def applied_name(self) -> Node | None:
        """
        Read the left side of ``p(x) = …``, ``f'(t) = …``, ``f^{-1}(x) = …``, ``P_n(x) = …``: a name applied to plain arguments. Before
        an equals sign that is a function, elsewhere it may be a product.
        """
        head, end = self.peek(), len(self.tokens)
        if not (head.kind == "letter" and head.value not in ("e", "i")) and not (head.kind == "cmd" and head.value in GREEK):
            return None
        at = self.behind_marks(self.at + 1)
        if at is None:
            return None
        name = "".join(token.value for token in self.tokens[self.at : at])
        arguments: list[Node] = []
        while at + 2 < end and self.tokens[at].value == ("," if arguments else "("):
            argument = _plain_argument(self.tokens[at + 1])
            if argument is None:
                return None
            arguments.append(argument)
            at += 2
        if not arguments or at + 1 >= end or self.tokens[at].value != ")" or self.tokens[at + 1].value != "=":
            return None
        self.at = at + 1
        return Apply(f"call:{name}", tuple(arguments))

    def behind_marks(self, at: int) -> int | None:
        """Go over the primes, subscripts and ``^{-1}`` behind a name; ``None`` for a power, as in the product ``x^2(y)``."""
        end = len(self.tokens)
        while at + 2 < end and self.tokens[at].value in ("'", "_", "^"):
            mark, opening, inner = (token.value for token in self.tokens[at : at + 3])
            if mark == "^" and (opening != "{" or inner not in ("-", "(")):
                return None
            at += 1
            if mark != "'":
                while opening == "{" and at < end and self.tokens[at].value != "}":
                    at += 1
                at += 1
        return at

    def function(self, name: str) -> Node:
        """``sin x``, ``\\sin^2 x``, ``\\sin^{-1} x``, ``\\log_2 8``, ``\\ln(x+1)``, ``\\cos 2\\theta``."""
        base: Node | None = None
        exponent: Node | None = None
        while self.is_op("^") or (self.is_op("_") and name == "log"):
            if self.next().value == "_":
                base = self.log_base()
            else:
                exponent = self.script()
        if name in ("gcd", "lcm", "max", "min"):
            raise Unreadable(f"\\{name}")
        outer, self.angle = self.angle, name in _OF_ANGLES and exponent != _MINUS_ONE
        argument = self.function_argument()
        if self.angle:
            argument = self.in_degrees(argument)
        self.angle = outer
        if exponent == _MINUS_ONE:
            if name not in _INVERTED:
                raise Unreadable(f"an inverse or a reciprocal of \\{name}")
            return Apply("arc" + name, (argument,))
        node = Apply(name, (argument,)) if base is None else Apply("log", (base, argument))
        return node if exponent is None else Apply("pow", (node, exponent))

    def function_argument(self) -> Node:
        """Read what a function is applied to: a bracket, or the factors up to the next function."""
        bracket = self.peek()
        if (bracket.kind == "op" and bracket.value in ("(", "{", "[")) or bracket.value == "|":
            argument = self.atom()
        else:
            factors = [self.signed()]
            while not isinstance(factors[0], Apply | Items) and self.continues_argument():
                factors.append(self.power())
            if self.is_op("/") and self.peek(1).kind == "num" and isinstance(factors[-1], Constant | Symbol):
                # \sin \pi/6 is the sine of π/6
                self.at += 1
                factors.append(Apply("inv", (self.power(),)))
            argument = factors[0] if len(factors) == 1 else Apply("mul", tuple(factors))
        if isinstance(argument, Items):
            raise Unreadable("a function of several values")
        return argument

    def continues_argument(self) -> bool:
        """Tell whether another factor of the argument of a function stands here, as ``x`` of ``\\sin 2x``."""
        token = self.peek()
        return token.kind == "letter" or (token.kind == "cmd" and token.value in _FACTORS)

    def in_degrees(self, angle: Node) -> Node:
        """Take the unit of an angle into its value: ``\\sin(30 \\text{ degrees})``, ``\\sin 30 \\text{ degrees}``, ``\\sin(30)^\\circ``."""
        if isinstance(angle, Quantity):
            if angle.unit not in (DEGREE, RADIAN) or (isinstance(angle.value, Apply) and angle.value.op == "add"):
                raise Unreadable("an angle with a unit of something else, or of a part of it")
            return degrees(angle.value) if angle.unit == DEGREE else angle.value
        token = self.peek()
        if token.kind == "text" and canonical_unit([(token.value, 1)]) == DEGREE:
            self.at += 1
            return degrees(angle)
        return degrees(angle) if self.any_degree_sign() else angle

    def log_base(self) -> Node:
        """Read the base of a logarithm; of ``\\log_23`` it is 2, as TeX sets it, for the 3 would have nothing to stand behind."""
        token = self.peek()
        if token.kind == "num" and token.value.isdigit() and len(token.value) > 1 and not self.starts_atom(self.peek(1)):
            self.tokens[self.at : self.at + 1] = [Token("num", token.value[0]), Token("num", token.value[1:])]
        return self.atom()


def _plain_argument(token: Token) -> Node | None:
    if token.kind == "num":
        return Number(read_number(token.value))
    if token.kind == "letter" or (token.kind == "cmd" and token.value in GREEK):
        return Symbol(token.value)
    return None
