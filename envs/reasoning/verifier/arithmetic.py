"""The layer of the parser that reads sums, products, signs, powers and subscripts."""

from __future__ import annotations

from fractions import Fraction

from .cursor import Cursor
from .tokens import Token, TooComplex, Unreadable
from .tree import Apply, BaseNumber, Constant, Node, Number, Symbol

RELATIONS = {
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
_SIGNS = {"+": "+", "-": "-", "pm": "plusminus", "mp": "minusplus"}
_NO_FACTORS = frozenset({"cup", "cap", "setminus", "end", "circ", "over", "choose", "rfloor", "rceil"})
"""Commands that begin no factor: they stand between or behind values."""
_BASE_WORDS = {
    "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9", "ten": "10",
    "twelve": "12", "sixteen": "16", "hex": "16", "base": "",
}  # fmt: skip


class Arithmetic(Cursor):
    """Sums of products of powers."""

    def sum(self) -> Node:
        """Read terms with signs between them."""
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
        """Read factors, with or without a sign between them."""
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
        previous, last = self.tokens[self.at - 1], factors[-1]
        outer, whole = _whole_number(last) if previous.kind == "num" else ("", None)
        if token.kind == "num":
            if whole is not None and token.spaced and self.is_op("/", 1) and self.peek(2).kind == "num":  # 1 4/5
                factors[-1] = self.mixed(outer, whole + self.slashed(previous))
                return
            if not self.ends_factor(last):
                raise Unreadable("a number behind a value")
        start = self.at
        factor = self.power()
        stacked = self.stacked_since(start)
        ratio = _plain_ratio(factor) if stacked else None
        if whole is not None and ratio is not None:
            if outer == "inv":
                raise Unreadable("division by a number that may be a mixed one")
            factors[-1] = self.mixed(outer, whole + ratio)
            return
        if token.value == "{" and not stacked and isinstance(last, Number) and self.first_inside(start).kind == "num":
            raise Unreadable("digits in braces behind digits, which are set as one number")
        factors.append(factor)

    def stacked_since(self, start: int) -> bool:
        """Tell whether what was read from a place on is ``\\frac…``, or braces that hold a fraction."""
        first = self.tokens[start].value
        return first == "frac" or (
            first == "{" and any(token.value in ("frac", "over") for token in self.tokens[start : self.at])
        )

    def slashed(self, whole: Token) -> Fraction:
        """Read the ``4/5`` of ``1 4/5``."""
        top, bottom = (read_number(self.peek(offset).value) for offset in (0, 2))
        self.at += 3
        if bottom == 0 or "." in whole.value or self.is_op("^"):
            raise Unreadable("a mixed number with denominator 0")
        return top / bottom

    def mixed(self, outer: str, value: Fraction) -> Node:
        """Make a mixed number that ends here; the sign or the division sign before its whole part belongs to all of it."""
        self.mixed_at = self.at
        return Apply(outer, (Number(value),)) if outer else Number(value)

    def ends_factor(self, last: Node) -> bool:
        """
        Tell whether what stands before a number is a factor that no digit can belong to: ``3!``, ``(n+1)``, ``2^{n}``, ``\\frac{3}{2}``,
        ``\\binom52``. Digits behind a number, a name or bare braces may be set as one with it.

        :param last: the factor
        """
        if isinstance(last, Apply) and last.op in ("neg", "inv"):
            last = last.args[0]
        if not isinstance(last, Apply) or self.at == self.mixed_at:
            return False
        if self.peek().value in ("0", "1") and not self.is_op("!", 1):
            # nobody multiplies by these: a slip, or a digit of something else
            return False
        previous = self.tokens[self.at - 1]
        if previous.kind == "op" and previous.value in ("!", ")"):
            return True
        command, arguments = self.command_behind()
        if command.kind == "cmd" and command.value in ("frac", "binom"):
            return arguments == 2
        takes_one = command.value == "^" or (command.kind == "cmd" and command.value == "sqrt")
        return takes_one and arguments == 1 and previous.value == "}"

    def command_behind(self) -> tuple[Token, int]:
        """Go back over two arguments at most, groups or single digits (``\\frac{1}2``): what stands before them, and how many there are."""
        at, arguments = self.at - 1, 0
        while arguments < 2 and at >= 0:
            token = self.tokens[at]
            if token.value == "}":
                at = self.opening(at)
            elif token.kind != "num" or len(token.value) != 1:
                break
            at -= 1
            arguments += 1
        return self.tokens[at] if at >= 0 else Token("end", ""), arguments

    def opening(self, closing: int) -> int:
        """Find the brace that is closed at a place."""
        depth, at = 1, closing
        while depth and at:
            at -= 1
            if self.tokens[at].kind == "op":
                depth += {"}": 1, "{": -1}.get(self.tokens[at].value, 0)
        return at

    def first_inside(self, at: int) -> Token:
        """Look behind the opening braces that stand at a place."""
        while self.tokens[at].value == "{":
            at += 1
        return self.tokens[at]

    def starts_atom(self, token: Token) -> bool:
        """Tell whether a token begins another factor."""
        if token.kind in ("num", "letter"):
            return True
        if token.kind == "cmd":
            if token.value == "frac" and self.is_op("{", 1) and self.peek(2).kind == "text":
                return False
            return token.value not in RELATIONS and token.value not in _SIGNS and token.value not in _NO_FACTORS
        if token.kind == "op":
            return token.value in ("(", "[", "{", r"\{") or (token.value == "|" and self.bars == 0)
        return False

    def signed(self) -> Node:
        """Read a factor that may have signs before it."""
        negative = False
        while self.peek().kind == "op" and self.peek().value in ("+", "-"):
            negative ^= self.next().value == "-"
        node = self.power()
        return Apply("neg", (node,)) if negative else node

    def power(self) -> Node:
        """Read an atom with what stands behind it."""
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
            elif self.angle and self.any_degree_sign():
                base = degrees(base)
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
        """Read ``_…``: part of a name, or the base of a number."""
        name = self.subscript()
        if isinstance(base, Symbol):
            return Symbol(f"{base.name}_{name}")
        whole = isinstance(base, Number) and base.value.denominator == 1 and base.value >= 0
        if isinstance(base, Number) and whole and name.isdigit() and 2 <= int(name[:4]) <= 36:
            digits = str(base.value.numerator)
            if any(int(digit) >= int(name) for digit in digits):
                raise Unreadable("a digit too large for its base")
            return Number(base.value) if name == "10" else BaseNumber(digits, int(name))
        raise Unreadable("a subscript behind a value")

    def subscript(self) -> str:
        """Read what stands behind ``_``: a group without its brackets, or one token; bases written as words become digits."""
        self.at += 1
        inner = [self.next()]
        if inner[0].kind == "op" and inner[0].value == "{":
            depth, start = 1, self.at
            while self.at < len(self.tokens) and depth:
                depth += self.is_op("{") - self.is_op("}")
                self.at += 1
            inner = [token for token in self.tokens[start : self.at - 1] if token.value not in ("(", ")")]
        return "".join(_BASE_WORDS.get(token.value, token.value) for token in inner)


def degrees(angle: Node) -> Node:
    """
    Turn an angle that is written in degrees into radians.

    :param angle: its tree
    """
    return Apply("mul", (angle, Constant("pi"), Number(Fraction(1, 180))))


def read_number(text: str) -> Fraction:
    """
    Read a decimal or scientific literal, exactly.

    :param text: such as ``"12.5"`` or ``"4.4e7"``
    :raises TooComplex: if the exponent has more than four digits
    """
    mantissa, _, exponent = text.lower().partition("e")
    if len(exponent.lstrip("+-0")) > 4:
        raise TooComplex("exponent too large")
    whole, _, decimals = mantissa.partition(".")
    value = Fraction(int((whole + decimals) or "0"), 10 ** len(decimals))
    return value * Fraction(10) ** int(exponent) if exponent else value


def _whole_number(node: Node) -> tuple[str, Fraction | None]:
    """Split a whole number, as may begin a mixed number, into the sign or the division sign before it and its value."""
    outer = node.op if isinstance(node, Apply) and node.op in ("neg", "inv") else ""
    inner = node.args[0] if isinstance(node, Apply) and outer else node
    return outer, inner.value if isinstance(inner, Number) and inner.value.denominator == 1 else None


def _plain_ratio(node: Node) -> Fraction | None:
    """The value of ``\\frac{a}{b}`` with whole numbers a and b."""
    if not (isinstance(node, Apply) and node.op == "mul" and len(node.args) == 2):
        return None
    top, inverse = node.args
    bottom = inverse.args[0] if isinstance(inverse, Apply) and inverse.op == "inv" else None
    if not isinstance(top, Number) or not isinstance(bottom, Number) or bottom.value == 0:
        return None
    return top.value / bottom.value if top.value.denominator == bottom.value.denominator == 1 else None
