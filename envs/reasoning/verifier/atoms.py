"""The layer of the parser that reads numbers, commands, brackets and matrices."""

from __future__ import annotations

from fractions import Fraction

from .arithmetic import read_number
from .cursor import MAX_ITEMS
from .functions import FUNCTIONS, GREEK, REALS, Functions
from .tokens import Token, TooComplex, Unreadable
from .tree import Apply, Constant, Items, Matrix, Node, Number, Relation, SetOp, Symbol
from .units import word_set

_CONSTANTS = {"pi": "pi", "infty": "infty"}
_CLOSING = {"(": (")", "]"), "[": ("]", ")"), r"\{": (r"\}",), "{": ("}",)}
_CLOSERS = frozenset(closing for pairs in _CLOSING.values() for closing in pairs)
_BARS = ("|", ":")
_ENVIRONMENTS = ("pmatrix", "bmatrix", "Bmatrix", "matrix", "smallmatrix", "array", "vmatrix")
_ACCENTS = word_set(
    "overline bar vec hat tilde widehat overrightarrow overleftrightarrow dot ddot angle triangle measuredangle"
)


class Atoms(Functions):
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
        if name in FUNCTIONS:
            return self.function(name)
        if name == "emptyset":
            return Items("set", ())
        if name in GREEK:
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
        return node if opening == "{" else self.between(opening, closing, node)

    def between(self, opening: str, closing: str, node: Node) -> Node:
        """Tell what values in brackets are: a tuple or an interval, a set, a value."""
        listed = isinstance(node, Items) and node.kind == "list"
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
        """A matrix, or an array without its column letters; a determinant is refused."""
        name = self.environment_name()
        if name not in _ENVIRONMENTS:
            raise Unreadable(f"environment {name}")
        if name == "array":
            self.skip_columns()
        rows = self.rows()
        if self.environment_name() != name or len({len(entries) for entries in rows}) != 1 or name == "vmatrix":
            raise Unreadable("a matrix whose rows differ in length")
        return Matrix(tuple(rows))

    def skip_columns(self) -> None:
        """Read over the ``{cc}`` of an array."""
        if not self.is_op("{"):
            raise Unreadable("an array without columns")
        while not self.is_op("}"):
            self.at += 1
            if self.peek().kind == "end":
                raise Unreadable("an array that breaks off")
        self.at += 1

    def rows(self) -> list[tuple[Node, ...]]:
        """Read the entries of a matrix, and the ``\\end`` behind them."""
        rows: list[tuple[Node, ...]] = []
        row: list[Node] = []
        while not self.is_cmd("end"):
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
        return rows

    def environment_name(self) -> str:
        """Read the name behind ``\\begin`` or ``\\end``."""
        self.expect("{")
        name = ""
        while not self.is_op("}"):
            name += self.next().value
        self.at += 1
        return name
