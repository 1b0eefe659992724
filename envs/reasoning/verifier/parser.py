"""Reads tokens into the tree of an answer: a recursive-descent parser with a fixed depth limit.

The grammar, loosest binding first: list (``,`` ``;`` and, or) → relation (``=`` ``<`` ``∈``) → set operation (``∪``) → value with its
unit → sum → product (explicit, or by juxtaposition) → sign → power → atom. Conditions on one unknown that are
joined by "and" or "or" make a set, not a list.
"""

from __future__ import annotations

from fractions import Fraction
from functools import reduce

from .arithmetic import RELATIONS
from .atoms import Atoms
from .cursor import MAX_ITEMS
from .tokens import Token, TooComplex, Unreadable, tokenize
from .tree import Apply, Constant, Items, Labelled, Node, Number, Quantity, Relation, SetOp, Symbol
from .units import DEGREE, MULTIPLIERS, Unit, canonical_unit

_CHOICES = frozenset("ABCDEF")
_CONDITIONS = frozenset({"<", "<=", ">", ">=", "!=", "in", "="})
_OPERATORS = frozenset({"+", "-", "*", "/", "^", "=", ",", "cup"})


def parse(text: str, letter_units: bool = False) -> Node:
    """
    Read an answer.

    :param text: result of :func:`~.spelling.tidy`
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
    if len(tokens) < 4 or not tokens[3].spaced:
        return None
    opening, letter, closing, following = (token.value for token in tokens[:4])
    if opening != "(" or closing != ")" or letter not in _CHOICES or following in _OPERATORS or _names_a_choice(tokens[3:]):
        return None
    return letter, tokens[3:]


def _names_a_choice(tokens: list[Token]) -> bool:
    """Whether a choice letter stands alone here: in ``(C) or (B)`` and ``(C) B`` neither choice is the value of the other."""
    bounds = Token("end", "")
    padded = [bounds, *tokens, bounds]
    return any(
        letter.value in _CHOICES and not _in_expression(before, letter) and not _in_expression(behind, behind)
        for before, letter, behind in zip(padded, padded[1:], padded[2:], strict=False)
    )


def _in_expression(neighbour: Token, second: Token) -> bool:
    """Whether a neighbour of a letter makes it part of an expression such as ``2A``; a space between the two parts them."""
    return (neighbour.kind in ("letter", "num") and not second.spaced) or neighbour.value in ("+", "-", "*", "^", "_", "'")


def _joined_conditions(items: list[Node], connectives: list[str]) -> Node | None:
    """
    Join conditions on one unknown: "and" keeps what meets both, "or" what meets either, "and" binds closer; a comma before "and" or
    "or" stands for that word. ``None`` where the items are a list: without such a word, or values instead of conditions.
    """
    words = set(connectives) - {","}
    if not words or not _on_one_unknown(items):
        return None
    if "," in connectives and (len(words) > 1 or (words == {"or"} and connectives[-1] == ",")):
        raise Unreadable("conditions joined by commas, and, or")
    alternatives = [items[0]]
    for connective, item in zip(connectives, items[1:], strict=True):
        if connective == "and" or (connective == "," and "and" in words):
            alternatives[-1] = SetOp("cap", alternatives[-1], item)
        else:
            alternatives.append(item)
    return reduce(lambda left, right: SetOp("cup", left, right), alternatives)


def _on_one_unknown(items: list[Node]) -> bool:
    """Whether all items are relations that bound the same symbol, not all of them equations."""
    common: set[str] | None = None
    for item in items:
        if not isinstance(item, Relation) or not set(item.ops) <= _CONDITIONS:
            return False
        bounded = {member.name for member in item.members if isinstance(member, Symbol)}
        common = bounded if common is None else common & bounded
    return bool(common) and any(isinstance(item, Relation) and item.ops != ("=",) for item in items)


class _Parser(Atoms):
    """The uppermost layer: lists, relations, set operations, and values with units."""

    # ---------------------------------------------------------------- lists, relations, sets
    def whole(self) -> Node:
        node = self.list_of_values()
        if self.peek().kind != "end":
            raise Unreadable(f"unexpected {self.peek().value!r}")
        return node

    def list_of_values(self) -> Node:
        items = [self.relation()]
        if self.is_cmd("over", "choose"):
            return self.stacked(items[0])
        connectives: list[str] = []
        while connective := self.separator():
            connectives.append(connective)
            items.append(self.relation())
            if len(items) > MAX_ITEMS:
                raise TooComplex(f"more than {MAX_ITEMS} items")
        if len(items) == 1:
            return items[0]
        conditions = _joined_conditions(items, connectives)
        if conditions is None and "or" in connectives:
            # alternatives have no order: "2 or 4" is no point and no interval
            self.alternatives = Items("set", tuple(items))
            return self.alternatives
        return conditions or Items("list", tuple(items))

    def stacked(self, upper: Node) -> Node:
        """``{a \\over b}`` and ``{n \\choose k}``: TeX sets all that stands before the command above all that follows."""
        name = self.next().value
        lower = self.relation()
        if not isinstance(upper, Number | Constant | Symbol | Apply) or not isinstance(
            lower, Number | Constant | Symbol | Apply
        ):
            raise Unreadable(f"\\{name} between something else than values")
        return Apply("binom", (upper, lower)) if name == "choose" else Apply("mul", (upper, Apply("inv", (lower,))))

    def separator(self) -> str:
        """Read a comma or semicolon, "and" or "or", or both; the word counts. Nothing is read where none of them stands."""
        found = ""
        if self.is_op(",") or self.is_op(";"):
            self.at += 1
            found = ","
        if self.peek().kind == "text" and self.peek().value in ("and", "or"):
            found = self.next().value
        return found

    def relation(self) -> Node:
        if self.is_op("=") or self.is_cmd("approx"):
            # "= 5": the left side was left out
            self.at += 1
        members, ops = [self.applied_name() or self.set_expression()], []
        while True:
            token = self.peek()
            name = RELATIONS.get(token.value) if token.kind in ("op", "cmd") else None
            if name is None:
                break
            self.at += 1
            if name in ("<", ">") and self.is_op("="):
                self.at += 1
                name += "="
            ops.append(name)
            members.append(self.set_expression())
        if self.is_op(":") and ops in ([], ["="]):
            members[-1] = self.ratio(members[-1])
            if not ops and self.is_op("="):
                # a : b = 3 : 2
                self.at += 1
                ops.append("=")
                members.append(self.ratio(self.sum()))
        return members[0] if not ops else Relation(tuple(ops), tuple(members))

    def ratio(self, first: Node) -> Node:
        """Read the rest of ``3:2``, or of the time ``2:05``."""
        terms, kind = [first], "ratio"
        while self.is_op(":"):
            self.at += 1
            token = self.peek()
            if token.kind == "num" and token.value.startswith("0") and token.value.isdigit() and len(token.value) > 1:
                kind = "clock"
            terms.append(self.sum())
        return Items(kind, tuple(terms))

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
        while unit == DEGREE and (self.is_op("+") or self.is_op("-")):
            # 180° - 120°
            negative = self.next().value == "-"
            term, unit = self.unit_behind(self.product())
            if unit != DEGREE:
                raise Unreadable("degrees and something else in a sum")
            value = Apply("add", (value, Apply("neg", (term,)) if negative else term))
        return Quantity(value, unit) if unit else value

    def unit_behind(self, value: Node) -> tuple[Node, Unit]:
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
            elif self.any_degree_sign():
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
