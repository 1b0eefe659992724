"""Reads tokens into the tree of an answer: a recursive-descent parser with a fixed depth limit.

The grammar, loosest binding first: list (``,`` ``;`` and, or) → relation (``=`` ``<`` ``∈``) → set operation (``∪``) →
sum → product (explicit, or by juxtaposition) → sign → power → atom.
"""

from __future__ import annotations

from fractions import Fraction

from .tokens import Token, TooComplex, Unreadable, tokenize
from .tree import Apply, BaseNumber, Constant, Items, Labelled, Matrix, Node, Number, Quantity, Relation, SetOp, Symbol
from .units import MULTIPLIERS, canonical_unit

MAX_DEPTH = 60
MAX_ITEMS = 64

_FUNCTIONS = frozenset(
    "sin cos tan cot sec csc arcsin arccos arctan arccot sinh cosh tanh coth ln log log10 exp abs Re Im arg gcd lcm max min".split()
)
_CONSTANTS = {"pi": "pi", "infty": "infty"}
_GREEK = frozenset(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau upsilon phi chi psi omega Gamma Delta Theta "
    "Lambda Xi Pi Sigma Upsilon Phi Psi Omega hbar ell".split()
)
_RELATIONS = {
    "=": "=",
    "<": "<",
    ">": ">",
    "le": "<=",
    "ge": ">=",
    "approx": "~",
    "in": "in",
    "ne": "!=",
    "equiv": "=",
    "sim": "~",
}
_CLOSING = {"(": (")", "]"), "[": ("]", ")"), r"\{": (r"\}",), "{": ("}",)}
_ACCENTS = frozenset(
    "overline bar vec hat tilde widehat overrightarrow overleftrightarrow dot ddot angle triangle measuredangle".split()
)
_STOPS = frozenset({",", ";", ")", "]", "}", r"\}", "|", ":", "&", r"\\"})
_SIGNS = {"+": "+", "-": "-", "pm": "plusminus", "mp": "minusplus"}
_APPLIED = frozenset("fghFG")


def parse(text: str, letter_units: bool = False) -> Node:
    """
    Read an answer.

    :param text: result of :func:`~.tokens.tidy`
    :param letter_units: see :func:`~.tokens.tokenize`
    :return: its tree
    :raises Unreadable: if the grammar does not cover it
    :raises TooComplex: if it exceeds a size limit
    """
    tokens = tokenize(text, letter_units)
    if not tokens:
        raise Unreadable("nothing to read")
    label = _choice_label(tokens)
    if label is not None:
        letter, rest = label
        try:
            return Labelled(letter, _Parser(rest).whole())
        except Unreadable:
            pass
    return _Parser(tokens).whole()


def _choice_label(tokens: list[Token]) -> tuple[str, list[Token]] | None:
    """Split ``(C) value``; a letter in brackets that is multiplied (``(C)(x+1)``, ``(C)x``) needs a space to be a label."""
    values = [token.value for token in tokens[:4]]
    if len(tokens) > 3 and values[0] == "(" and values[2] == ")" and tokens[1].value in ("A", "B", "C", "D", "E", "F"):
        if tokens[3].spaced and values[3] not in ("+", "-", "*", "/", "^", "=", ",", "cup"):
            return values[1], tokens[3:]
    return None


class _Parser:
    """One pass over the tokens of one answer."""

    def __init__(self, tokens: list[Token], depth: int = 0):
        self.tokens = tokens
        self.at = 0
        self.depth = depth
        self.bars = 0
        """How many |…| are open."""

    # ---------------------------------------------------------------- helpers
    def peek(self, offset: int = 0) -> Token:
        index = self.at + offset
        return self.tokens[index] if index < len(self.tokens) else Token("end", "")

    def next(self) -> Token:
        token = self.peek()
        if token.kind == "end":
            raise Unreadable("the answer breaks off")
        self.at += 1
        return token

    def expect(self, value: str) -> None:
        token = self.next()
        if token.kind != "op" or token.value != value:
            raise Unreadable(f"{value!r} expected, {token.value!r} found")

    def is_op(self, value: str, offset: int = 0) -> bool:
        token = self.peek(offset)
        return token.kind == "op" and token.value == value

    def is_cmd(self, *names: str) -> bool:
        token = self.peek()
        return token.kind == "cmd" and token.value in names

    def enter(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise TooComplex(f"nested deeper than {MAX_DEPTH}")

    # ---------------------------------------------------------------- lists, relations, sets
    def whole(self) -> Node:
        node = self.list_of_values()
        if self.peek().kind != "end":
            raise Unreadable(f"unexpected {self.peek().value!r}")
        return node

    def list_of_values(self) -> Node:
        items = [self.relation()]
        while self.separator():
            items.append(self.relation())
            if len(items) > MAX_ITEMS:
                raise TooComplex(f"more than {MAX_ITEMS} items")
        return items[0] if len(items) == 1 else Items("list", tuple(items))

    def separator(self) -> bool:
        found = False
        if self.is_op(",") or self.is_op(";"):
            self.at += 1
            found = True
        if self.peek().kind == "text" and self.peek().value in ("and", "or"):
            self.at += 1
            found = True
        return found

    def relation(self) -> Node:
        if self.is_op("=") or self.is_cmd("approx"):
            # "= 5": the left side was left out
            self.at += 1
        members, ops = [self.set_expression()], []
        while True:
            token = self.peek()
            name = _RELATIONS.get(token.value) if token.kind in ("op", "cmd") else None
            if name is None:
                break
            self.at += 1
            if name in ("<", ">") and self.is_op("="):
                self.at += 1
                name += "="
            ops.append(name)
            members.append(self.set_expression())
        if self.is_op(":") and not ops:
            while self.is_op(":"):
                self.at += 1
                members.append(self.sum())
            return Items("ratio", tuple(members))
        return members[0] if not ops else Relation(tuple(ops), tuple(members))

    def set_expression(self) -> Node:
        left = self.quantity()
        while self.is_cmd("cup", "cap", "setminus"):
            op = self.next().value
            left = SetOp(op, left, self.quantity())
        return left

    # ---------------------------------------------------------------- values with units
    def quantity(self) -> Node:
        """A sum, with the unit that may stand behind it (or a dollar sign before it)."""
        negative = self.is_op("-") and self.peek(1).value == "$"
        if (self.peek().kind == "text" and self.peek().value == "$") or negative:
            self.at += 2 if negative else 1
            value = self.sum()
            value, unit = self.unit_behind(value)
            if unit not in ((), (("dollar", 1),)):
                raise Unreadable("two units")
            return Quantity(Apply("neg", (value,)) if negative else value, (("dollar", 1),))
        value = self.sum()
        value, unit = self.unit_behind(value)
        return Quantity(value, unit) if unit else value

    def unit_behind(self, value: Node) -> tuple[Node, tuple[tuple[str, int], ...]]:
        while self.peek().kind == "text" and self.peek().value.lower() in MULTIPLIERS:
            factor = MULTIPLIERS[self.next().value.lower()]
            if factor is None:
                raise Unreadable("an indefinite number")
            value = Apply("mul", (value, Number(Fraction(factor))))
        words = self.unit_words()
        if not words:
            return value, ()
        unit = canonical_unit(words)
        if unit is None:
            raise Unreadable("words that are no unit")
        return value, unit

    def unit_words(self) -> list[tuple[str, int]]:
        words: list[tuple[str, int]] = []
        sign = 1
        while True:
            token = self.peek()
            if token.kind == "text" and token.value not in ("and", "or"):
                self.at += 1
                words.append((token.value, sign * self.unit_power()))
            elif token.kind == "op" and token.value == "%":
                self.at += 1
                words.append(("%", 1))
            elif token.kind == "op" and token.value == "^" and self.degree_sign():
                words.append(("deg", 1))
            elif token.kind == "cmd" and token.value == "circ":
                self.at += 1
                words.append(("deg", 1))
            elif words and token.value == "/" and self.peek(1).kind == "text":
                self.at += 1
                sign = -1
                continue
            elif words and token.value in ("*", ".", "-") and self.peek(1).kind == "text":
                self.at += 1
            elif token.kind == "cmd" and token.value == "frac" and self.is_op("{", 1) and self.peek(2).kind == "text":
                self.at += 1
                for side in (1, -1):
                    self.expect("{")
                    words += [(name, side * power) for name, power in self.unit_words()]
                    self.expect("}")
            else:
                return words
            sign = 1

    def unit_power(self) -> int:
        if not self.is_op("^"):
            return 1
        start = self.at
        self.at += 1
        braced = self.is_op("{")
        self.at += braced
        sign = -1 if self.is_op("-") else 1
        self.at += sign < 0
        token = self.peek()
        if token.kind == "num" and token.value in ("1", "2", "3", "4"):
            self.at += 1
            if braced:
                self.expect("}")
            return sign * int(token.value)
        self.at = start
        return 1

    def degree_sign(self) -> bool:
        """Read ``^\\circ`` or ``^{\\circ}`` if it stands here."""
        start = self.at
        self.at += 1
        braced = self.is_op("{")
        self.at += braced
        if self.is_cmd("circ"):
            self.at += 1
            if not braced:
                return True
            if self.is_op("}"):
                self.at += 1
                return True
        self.at = start
        return False

    # ---------------------------------------------------------------- arithmetic
    def sum(self) -> Node:
        self.enter()
        terms: list[Node] = []
        sign = "+"
        if self.peek().value in _SIGNS and self.peek().kind in ("op", "cmd"):
            sign = _SIGNS[self.next().value]
        while True:
            term = self.product()
            if sign == "-":
                term = Apply("neg", (term,))
            elif sign != "+":
                term = Apply(sign, (term,))
            terms.append(term)
            token = self.peek()
            if token.kind not in ("op", "cmd") or token.value not in _SIGNS:
                break
            sign = _SIGNS[self.next().value]
        self.depth -= 1
        return terms[0] if len(terms) == 1 else Apply("add", tuple(terms))

    def product(self) -> Node:
        factors = [self.signed()]
        while True:
            token = self.peek()
            if token.kind == "op" and token.value == "*":
                self.at += 1
                factors.append(self.signed())
            elif token.kind == "op" and token.value == "/":
                self.at += 1
                factors.append(Apply("inv", (self.signed(),)))
            elif self.starts_atom(token):
                self.juxtaposed(factors, token)
            else:
                break
        return factors[0] if len(factors) == 1 else Apply("mul", tuple(factors))

    def juxtaposed(self, factors: list[Node], token: Token) -> None:
        """Multiply by what follows without a sign; a whole number before a fraction of numbers makes a mixed number."""
        previous = self.tokens[self.at - 1]
        whole = factors[-1] if isinstance(factors[-1], Number) and factors[-1].value.denominator == 1 else None
        if token.kind == "num":
            if (
                previous.kind == "num"
                and whole is not None
                and token.spaced
                and self.is_op("/", 1)
                and self.peek(2).kind == "num"
            ):  # 1 4/5
                top, bottom = _number(self.next().value), _number(self.peek(1).value)
                self.at += 2
                if bottom == 0 or "." in previous.value or self.is_op("^"):
                    raise Unreadable("a mixed number with denominator 0")
                factors[-1] = Number(whole.value + top / bottom)
                return
            raise Unreadable("a number behind a value")
        factor = self.power()
        if token.value == "frac" and previous.kind == "num" and whole is not None and len(factors) == 1:
            ratio = _plain_ratio(factor)
            if ratio is not None:
                factors[-1] = Number(whole.value + ratio)
                return
        factors.append(factor)

    def starts_atom(self, token: Token) -> bool:
        if token.kind in ("num", "letter"):
            return True
        if token.kind == "cmd":
            if token.value == "frac" and self.is_op("{", 1) and self.peek(2).kind == "text":
                return False
            return (
                token.value not in _RELATIONS
                and token.value not in _SIGNS
                and token.value not in ("cup", "cap", "setminus", "end", "circ")
            )
        if token.kind == "op":
            return token.value in ("(", "[", "{", r"\{") or (token.value == "|" and self.bars == 0)
        return False

    def signed(self) -> Node:
        negative = False
        while self.peek().kind == "op" and self.peek().value in ("+", "-"):
            negative ^= self.next().value == "-"
        node = self.power()
        return Apply("neg", (node,)) if negative else node

    def power(self) -> Node:
        base = self.atom()
        while True:
            if self.is_op("!"):
                self.at += 1
                if self.is_op("!"):
                    raise Unreadable("double factorial")
                base = Apply("factorial", (base,))
            elif self.is_op("'"):
                self.at += 1
                if not isinstance(base, Symbol):
                    raise Unreadable("a prime behind a value")
                base = Symbol(base.name + "'")
            elif self.is_op("^"):
                start = self.at
                if self.degree_sign():
                    self.at = start
                    return base
                self.at += 1
                base = Apply("pow", (base, self.script()))
            elif self.is_op("_"):
                base = self.subscripted(base)
            else:
                return base

    def script(self) -> Node:
        """What stands behind ``^``: a group, or one atom (``x^10`` is read as x to the tenth, as people mean it)."""
        self.enter()
        negative = self.is_op("-")
        self.at += negative
        node = self.atom()
        if self.is_op("^"):
            self.at += 1
            node = Apply("pow", (node, self.script()))
        self.depth -= 1
        return Apply("neg", (node,)) if negative else node

    def subscripted(self, base: Node) -> Node:
        self.at += 1
        words = {"two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9", "ten": "10",
                 "twelve": "12", "sixteen": "16", "hex": "16", "base": ""}  # fmt: skip
        if self.is_op("{"):
            end, depth = self.at + 1, 1
            while end < len(self.tokens) and depth:
                depth += {"{": 1, "}": -1}.get(self.tokens[end].value, 0) if self.tokens[end].kind == "op" else 0
                end += 1
            inner = [token.value for token in self.tokens[self.at + 1 : end - 1] if token.value not in ("(", ")")]
            self.at = end
        else:
            inner = [self.next().value]
        name = "".join(words.get(value, value) for value in inner)
        if isinstance(base, Symbol):
            return Symbol(f"{base.name}_{name}")
        if (
            isinstance(base, Number)
            and base.value.denominator == 1
            and base.value >= 0
            and name.isdigit()
            and 2 <= int(name[:4]) <= 36
        ):
            digits = str(base.value.numerator)
            if any(int(digit) >= int(name) for digit in digits):
                raise Unreadable("a digit too large for its base")
            return Number(base.value) if name == "10" else BaseNumber(digits, int(name))
        raise Unreadable("a subscript behind a value")

    # ---------------------------------------------------------------- atoms
    def atom(self) -> Node:
        self.enter()
        node = self.unchecked_atom()
        self.depth -= 1
        return node

    def unchecked_atom(self) -> Node:
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
        value = _number(token.value)
        if token.value.endswith(".") or "." not in token.value or not self.is_cmd("overline", "bar", "dot"):
            if not (token.value.endswith(".") and self.is_cmd("overline", "bar")):
                return Number(value)
        # a repeating decimal: 0.1\overline{6}
        self.at += 1
        self.expect("{")
        period = self.next()
        self.expect("}")
        if period.kind != "num" or not period.value.isdigit():
            raise Unreadable("a repeating part that is no number")
        places = len(token.value.split(".")[1])
        return Number(value + Fraction(int(period.value), (10 ** len(period.value) - 1) * 10**places))

    def letter(self, token: Token) -> Node:
        name = token.value
        if name == "e" or name == "i":
            return Constant(name)
        if name == "mathbb:R":
            infinity = Constant("infty")
            return Items("()", (Apply("neg", (infinity,)), infinity))
        follows = self.peek()
        if follows.kind == "op" and follows.value == "(" and not follows.spaced:
            inside = self.peek(1)
            if name in _APPLIED or (inside.kind == "num" and self.is_op(")", 2)):
                self.at += 1
                argument = self.list_of_values()
                self.expect(")")
                return Apply(f"call:{name}", argument.items if isinstance(argument, Items) else (argument,))
        return Symbol(name)

    def command(self, name: str) -> Node:
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
            if not token.value.isdigit() or len(token.value) > 2 or self.tokens[self.at - 1].value != "frac":
                raise Unreadable("digits behind \\frac")
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
                base = self.atom()
            else:
                exponent = self.script()
        if name in ("gcd", "lcm", "max", "min"):
            raise Unreadable(f"\\{name}")
        bracket = self.peek()
        if bracket.kind == "op" and bracket.value in ("(", "{", "[") or bracket.value == "|":
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
        inverse = isinstance(exponent, Apply) and exponent == Apply("neg", (Number(Fraction(1)),))
        if inverse and name in ("sin", "cos", "tan"):
            return Apply("arc" + name, (argument,))
        if base is not None:
            node = Apply("log", (base, argument))
        elif name in ("log", "ln"):
            node = Apply(name, (argument,))
        else:
            node = Apply(name, (argument,))
        return node if exponent is None else Apply("pow", (node, exponent))

    def bracketed(self, opening: str) -> Node:
        self.enter()
        bars, self.bars = self.bars, 0
        if opening == r"\{" and self.is_op(r"\}"):
            self.at += 1
            self.depth -= 1
            return Items("set", ())
        if opening == r"\{" and self.peek().kind == "letter" and (self.is_op("|", 1) or self.is_op(":", 1)):
            # a set by a condition: {x | x > 2}
            self.at += 2
            condition = self.relation()
            self.expect(r"\}")
            self.depth -= 1
            self.bars = bars
            if not isinstance(condition, Relation):
                raise Unreadable("a set by a condition that is no relation")
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
            return Items("set", node.items if listed and isinstance(node, Items) else (node,))
        if listed and isinstance(node, Items):
            return Items(opening + closing, node.items)
        if isinstance(node, Items) and node.kind == "ratio":
            return node
        if opening + closing == "()" or (opening + closing == "[]" and not isinstance(node, Relation | Items)):
            return node
        raise Unreadable(f"one value between {opening!r} and {closing!r}")

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
        self.expect("{")
        name = ""
        while not self.is_op("}"):
            name += self.next().value
        self.at += 1
        return name


def _number(text: str) -> Fraction:
    """A decimal or scientific literal, exactly; exponents beyond four digits are refused."""
    mantissa, _, exponent = text.lower().partition("e")
    if len(exponent.lstrip("+-0")) > 4:
        raise TooComplex("exponent too large")
    whole, _, decimals = mantissa.partition(".")
    value = Fraction(int((whole + decimals) or "0"), 10 ** len(decimals))
    return value * Fraction(10) ** int(exponent) if exponent else value


def _plain_ratio(node: Node) -> Fraction | None:
    """The value of ``\\frac{a}{b}`` with whole numbers a and b."""
    if isinstance(node, Apply) and node.op == "mul" and len(node.args) == 2:
        top, bottom = node.args
        if isinstance(top, Number) and isinstance(bottom, Apply) and bottom.op == "inv" and isinstance(bottom.args[0], Number):
            if bottom.args[0].value != 0 and top.value.denominator == bottom.args[0].value.denominator == 1:
                return top.value / bottom.args[0].value
    return None
