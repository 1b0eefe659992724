"""The layer of the parser that reads numbers, names, functions, brackets and matrices."""

from __future__ import annotations

from fractions import Fraction

from .arithmetic import Arithmetic, degrees, read_number
from .cursor import MAX_ITEMS
from .tokens import Token, TooComplex, Unreadable
from .tree import Apply, Constant, Items, Matrix, Node, Number, Quantity, Relation, SetOp, Symbol
from .units import DEGREE, RADIAN, canonical_unit, word_set

_FUNCTIONS = word_set(
    "sin cos tan cot sec csc arcsin arccos arctan arccot sinh cosh tanh coth ln log log10 exp abs Re Im arg gcd lcm max min"
)
REALS = Items("()", (Apply("neg", (Constant("infty"),)), Constant("infty")))
_OF_ANGLES = word_set("sin cos tan cot sec csc")
_INVERTED = word_set("sin cos tan cot sec csc sinh cosh tanh")
"""Functions whose power -1 is the inverse function, not the reciprocal."""
_MINUS_ONE = Apply("neg", (Number(Fraction(1)),))
_CONSTANTS = {"pi": "pi", "infty": "infty"}
_GREEK = word_set(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau upsilon phi chi psi omega Gamma Delta Theta "
    "Lambda Xi Pi Sigma Upsilon Phi Psi Omega hbar ell"
)
_CLOSING = {"(": (")", "]"), "[": ("]", ")"), r"\{": (r"\}",), "{": ("}",)}
_CLOSERS = frozenset(closing for pairs in _CLOSING.values() for closing in pairs)
_BARS = ("|", ":")
_ACCENTS = word_set(
    "overline bar vec hat tilde widehat overrightarrow overleftrightarrow dot ddot angle triangle measuredangle"
)
_APPLIED = frozenset("fghFG")
_QUANTITIES = frozenset("gh")
"""Names of functions that are as often a height and an acceleration."""


class Atoms(Arithmetic):
    """What stands between operators."""

    def atom(self) -> Node:
        """Read a number, a name, a command with its arguments, or something in brackets."""
        self.enter()
        node = self.unchecked_atom()
        self.depth -= 1
        return node

    def unchecked_atom(self) -> Node:
        """Read an atom; the depth is the business of the caller."""
        token = self.next()
        if token.kind == "num":
            return self.number(token)
        if token.kind == "letter":
            return self.letter(token)
        if token.kind == "text":
            words = [token.value]
            while self.peek().kind == "text" and self.peek().value not in ("and", "or"):
                words.append(self.next().value)
            return Symbol("word:" + " ".join(words).lower())
        if token.kind == "cmd":
            return self.command(token.value)
        if token.value in ("(", "[", r"\{", "{"):
            return self.bracketed(token.value)
        if token.value == "|" and self.bars == 0:
            self.bars += 1
            node = self.sum()
            self.bars -= 1
            self.expect("|")
            return Apply("abs", (node,))
        raise Unreadable(f"unexpected {token.value!r}")

    def number(self, token: Token) -> Node:
        """Read a number, which may have a repeating part behind it."""
        value = read_number(token.value)
        if "." not in token.value or not self.is_cmd("overline", "bar"):
            return Number(value)
        # a repeating decimal: 0.1\overline{6}
        self.at += 1
        braced = self.is_op("{")
        self.at += braced
        period = self.next()
        if braced:
            self.expect("}")
        elif len(period.value) > 1:
            raise Unreadable("several digits behind a bar that covers one")
        if period.kind != "num" or not period.value.isdigit():
            raise Unreadable("a repeating part that is no number")
        places = len(token.value.split(".")[1])
        return Number(value + Fraction(int(period.value), (10 ** len(period.value) - 1) * 10**places))

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
        start, end = self.at, len(self.tokens)
        head = self.peek()
        if not (head.kind == "letter" and head.value not in ("e", "i")) and not (head.kind == "cmd" and head.value in _GREEK):
            return None
        at = start + 1
        while at + 2 < end and self.tokens[at].value in ("'", "_", "^"):
            mark, opening, inner = (token.value for token in self.tokens[at : at + 3])
            if mark == "^" and (opening != "{" or inner not in ("-", "(")):
                # x^2(y) is a product; an inverse or a derivative is a function
                return None
            at += 1
            if mark != "'":
                while opening == "{" and at < end and self.tokens[at].value != "}":
                    at += 1
                at += 1
        name = "".join(token.value for token in self.tokens[start:at])
        arguments: list[Node] = []
        while at + 2 < end and self.tokens[at].value == ("," if arguments else "("):
            token = self.tokens[at + 1]
            if token.kind == "num":
                arguments.append(Number(read_number(token.value)))
            elif token.kind == "letter" or (token.kind == "cmd" and token.value in _GREEK):
                arguments.append(Symbol(token.value))
            else:
                return None
            at += 2
        if not arguments or at + 1 >= end or self.tokens[at].value != ")" or self.tokens[at + 1].value != "=":
            return None
        self.at = at + 1
        return Apply(f"call:{name}", tuple(arguments))

    def command(self, name: str) -> Node:
        """Read a LaTeX command with its arguments."""
        if name in _CONSTANTS:
            return Constant(_CONSTANTS[name])
        if name == "frac":
            return Apply("mul", (self.argument(True), Apply("inv", (self.argument(True),))))
        if name == "binom":
            return Apply("binom", (self.argument(True), self.argument(True)))
        if name in ("sqrt", "cbrt"):
            index: Node | None = Number(Fraction(3)) if name == "cbrt" else None
            if self.is_op("["):
                self.at += 1
                index = self.sum()
                self.expect("]")
            radicand = self.argument()
            return Apply("sqrt", (radicand,)) if index is None else Apply("root", (radicand, index))
        if name in _FUNCTIONS:
            return self.function(name)
        if name == "emptyset":
            return Items("set", ())
        if name in _GREEK:
            return Symbol(name)
        if name == "begin":
            return self.environment()
        if name in ("lfloor", "lceil"):
            node = self.sum()
            closing = self.next()
            if closing.value != "r" + name[1:]:
                raise Unreadable("a floor that is not closed")
            return Apply(name[1:], (node,))
        if name in _ACCENTS:
            return Symbol(f"{name}:{self.raw_argument()}")
        raise Unreadable(f"command \\{name}")

    def raw_argument(self) -> str:
        """The tokens of one argument as a string: names of points and the like."""
        if not self.is_op("{"):
            letters = [self.next().value]
            while self.peek().kind == "letter" and not self.peek().spaced:
                letters.append(self.next().value)
            return "".join(letters)
        self.at += 1
        parts: list[str] = []
        while not self.is_op("}"):
            token = self.next()
            if token.kind not in ("letter", "num", "text"):
                raise Unreadable("an accent over an expression")
            parts.append(token.value)
        self.at += 1
        return "".join(parts)

    def argument(self, digitwise: bool = False) -> Node:
        """The argument of a command: a group, or one atom; ``digitwise`` takes one digit of a number, as TeX does."""
        token = self.peek()
        if digitwise and token.kind == "num" and len(token.value) > 1:
            # \\frac12 and \\frac 59: TeX takes one digit at a time; anything longer is ambiguous
            if not token.value.isdigit() or len(token.value) > 2 or self.tokens[self.at - 1].value not in ("frac", "binom"):
                raise Unreadable("digits behind \\frac or \\binom")
            self.tokens[self.at : self.at + 1] = [Token("num", digit) for digit in token.value]
        if self.is_op("{"):
            self.at += 1
            node = self.list_of_values()
            self.expect("}")
            return node
        return self.atom()

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
            while (
                self.peek().kind == "letter"
                or (self.peek().kind == "cmd" and self.peek().value in (_GREEK | {"pi", "sqrt", "frac"}))
            ) and not isinstance(factors[0], Apply | Items) | (self.peek().kind == "cmd" and self.peek().value in _FUNCTIONS):
                factors.append(self.power())
            if self.is_op("/") and self.peek(1).kind == "num" and isinstance(factors[-1], Constant | Symbol):
                # \sin \pi/6 is the sine of π/6
                self.at += 1
                factors.append(Apply("inv", (self.power(),)))
            argument = factors[0] if len(factors) == 1 else Apply("mul", tuple(factors))
        if isinstance(argument, Items):
            raise Unreadable("a function of several values")
        return argument

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

    def bracketed(self, opening: str) -> Node:
        """Read what a bracket holds: a value, a tuple, an interval, a set."""
        self.enter()
        bars, self.bars = self.bars, 0
        if opening == r"\{" and self.is_op(r"\}"):
            self.at += 1
            self.depth -= 1
            return Items("set", ())
        condition = self.condition() if opening == r"\{" else None
        if condition is not None:
            self.depth -= 1
            self.bars = bars
            return condition
        node = self.list_of_values()
        closing = self.next().value
        self.depth -= 1
        self.bars = bars
        if closing not in _CLOSING[opening]:
            raise Unreadable(f"{opening!r} closed by {closing!r}")
        listed = isinstance(node, Items) and node.kind == "list"
        if opening == "{":
            return node
        if opening == r"\{":
            listed = listed or node is self.alternatives
            return Items("set", node.items if listed and isinstance(node, Items) else (node,))
        if listed and isinstance(node, Items):
            return Items(opening + closing, node.items)
        if isinstance(node, Items) and node.kind in ("ratio", "clock"):
            return node
        if opening + closing == "()" or (opening + closing == "[]" and not isinstance(node, Relation | Items)):
            return node
        raise Unreadable(f"one value between {opening!r} and {closing!r}")

    def condition(self) -> Node | None:
        """Read the rest of ``{x | x > 2}`` or ``{x \\in R | x > 2}``; nothing is read where this is no set by a condition."""
        element, mark = self.peek(), self.peek(1).value
        if element.kind != "letter" or not (mark in _BARS or (mark == "in" and self.bar_follows())):
            return None
        self.at += 2
        domain: Node | None = None
        if mark == "in":
            # the next bar ends the domain and opens no absolute value
            self.bars += 1
            domain = self.set_expression()
            self.bars -= 1
            if self.next().value not in _BARS:
                raise Unreadable("a set whose condition does not follow its domain")
        condition = self.list_of_values()
        self.expect(r"\}")
        if not isinstance(condition, Relation | SetOp):
            raise Unreadable("a set by a condition that is no relation")
        if domain is None or domain == REALS:
            return condition
        return SetOp("cap", Relation(("in",), (Symbol(element.value), domain)), condition)

    def bar_follows(self) -> bool:
        """Look for the bar of a set by a condition between here and the end of the set."""
        depth = 0
        for token in self.tokens[self.at :]:
            if token.kind == "op":
                depth += (token.value in _CLOSING) - (token.value in _CLOSERS)
                if depth < 0 or (depth == 0 and token.value in _BARS):
                    return depth == 0
        return False

    def environment(self) -> Node:
        """A matrix; its determinant for ``vmatrix``; an array without its column letters."""
        name = self.environment_name()
        if name not in ("pmatrix", "bmatrix", "Bmatrix", "matrix", "smallmatrix", "array", "vmatrix"):
            raise Unreadable(f"environment {name}")
        if name == "array":
            if not self.is_op("{"):
                raise Unreadable("an array without columns")
            while not self.is_op("}"):
                self.at += 1
                if self.peek().kind == "end":
                    raise Unreadable("an array that breaks off")
            self.at += 1
        rows: list[tuple[Node, ...]] = []
        row: list[Node] = []
        while True:
            if self.is_cmd("end"):
                break
            row.append(self.relation())
            if len(row) * (len(rows) + 1) > MAX_ITEMS:
                raise TooComplex(f"more than {MAX_ITEMS} entries")
            if self.is_op("&"):
                self.at += 1
            elif self.is_op(r"\\"):
                self.at += 1
                rows.append(tuple(row))
                row = []
            elif not self.is_cmd("end"):
                raise Unreadable("a matrix that is not closed")
        if row:
            rows.append(tuple(row))
        self.at += 1
        if self.environment_name() != name or len({len(entries) for entries in rows}) != 1 or name == "vmatrix":
            raise Unreadable("a matrix whose rows differ in length")
        return Matrix(tuple(rows))

    def environment_name(self) -> str:
        """Read the name behind ``\\begin`` or ``\\end``."""
        self.expect("{")
        name = ""
        while not self.is_op("}"):
            name += self.next().value
        self.at += 1
        return name
