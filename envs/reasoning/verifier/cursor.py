"""The position of a parser in its tokens, and the limits it keeps."""

from __future__ import annotations

from abc import ABC, abstractmethod

from .tokens import Token, TooComplex, Unreadable
from .tree import Node

MAX_DEPTH = 60
MAX_ITEMS = 64


class Cursor(ABC):
    """
    Looks at tokens and moves over them. The parser is written in layers, each a subclass of the one below; what a lower layer needs of a
    higher one is declared here.

    :param tokens: of one answer
    """

    def __init__(self, tokens: list[Token]):
        self.tokens = tokens
        self.at = 0
        self.depth = 0
        self.bars = 0
        """How many |…| are open."""
        self.mixed_at = -1
        """Where the last mixed number ended."""
        self.alternatives: Node | None = None
        """The values last read with "or" between them."""
        self.angle = False
        """Whether this is the argument of a trigonometric function, in which a degree sign belongs to its number."""

    def peek(self, offset: int = 0) -> Token:
        """Look at a token without moving."""
        index = self.at + offset
        return self.tokens[index] if index < len(self.tokens) else Token("end", "")

    def next(self) -> Token:
        """Take a token."""
        token = self.peek()
        if token.kind == "end":
            raise Unreadable("the answer breaks off")
        self.at += 1
        return token

    def expect(self, value: str) -> None:
        """Take a token that must be this one."""
        token = self.next()
        if token.kind != "op" or token.value != value:
            raise Unreadable(f"{value!r} expected, {token.value!r} found")

    def is_op(self, value: str, offset: int = 0) -> bool:
        """Tell whether an operator stands here."""
        token = self.peek(offset)
        return token.kind == "op" and token.value == value

    def is_cmd(self, *names: str) -> bool:
        """Tell whether one of these commands stands here."""
        token = self.peek()
        return token.kind == "cmd" and token.value in names

    def enter(self) -> None:
        """Go one level deeper; the caller takes it back."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise TooComplex(f"nested deeper than {MAX_DEPTH}")

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

    def any_degree_sign(self) -> bool:
        """Read a degree sign, raised or not, if it stands here."""
        if self.is_cmd("circ"):
            self.at += 1
            return True
        return self.is_op("^") and self.degree_sign()

    @abstractmethod
    def list_of_values(self) -> Node:
        """Read values with separators between them."""

    @abstractmethod
    def relation(self) -> Node:
        """Read one value, or values with relation signs between them."""

    @abstractmethod
    def set_expression(self) -> Node:
        """Read one value or set, or sets with ``∪``, ``∩`` and the like between them."""

    @abstractmethod
    def sum(self) -> Node:
        """Read terms with signs between them."""

    @abstractmethod
    def power(self) -> Node:
        """Read an atom with what stands behind it: powers, factorials, subscripts."""

    @abstractmethod
    def atom(self) -> Node:
        """Read a number, a name, a command with its arguments, or something in brackets."""
