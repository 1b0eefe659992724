"""Turns the text of an answer (LaTeX or plain) into tokens.

The text is model output: nothing of it is ever evaluated as code, the patterns take linear time, and long answers are refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import ClassVar, NamedTuple

from .units import BARE_UNITS, word_set

MAX_CHARS = 3000
MAX_TOKENS = 600
MAX_DIGITS = 1000
MAX_TEXT_DEPTH = 6


class TooComplex(Exception):
    """The answer exceeds a size limit of the verifier."""


class Unreadable(Exception):
    """The answer is not mathematics that the verifier's grammar covers."""


class Token(NamedTuple):
    """
    One token: ``kind`` is ``num``, ``letter``, ``cmd`` (a LaTeX command or a named function, without backslash), ``text`` or ``op``.
    """

    kind: str
    value: str
    spaced: bool = False
    """White space stood before it."""


_START = Token("start", "")

_TOKEN = re.compile(
    r"(?P<space>\s+|~)"
    r"|(?P<number>\d+(?:\.\d*)?(?:[eE][+-]?\d+(?![\da-zA-Z]))?|\.\d+(?:[eE][+-]?\d+(?![\da-zA-Z]))?)"
    r"|\\(?P<command>[a-zA-Z]+\*?)"
    r"|(?P<pair>\\[^a-zA-Z])"
    r"|(?P<letters>[a-zA-Z]+)"
    r"|(?P<double>\*\*|<=|>=|!=|==)"
    r"|(?P<sign>[-+*/^_=<>(),;:.|!'%{}\[\]&])"
    r"|(?P<quote>[$\"])",
    re.ASCII,
)
_UNCOUNTED = ("space", "quote", "pair")
"""Kinds of token behind which the limit is not checked: it is checked behind the next one of another kind."""

_PAIRS = {
    r"\{": ("op", r"\{"), r"\}": ("op", r"\}"), r"\|": ("op", "|"), r"\\": ("op", r"\\"), r"\%": ("op", "%"), r"\$": ("text", "$"),
}  # fmt: skip
"""The tokens that a backslash makes of what is no letter."""
_SPACES = frozenset({r"\,", r"\;", r"\:", r"\ "})
_INVISIBLE_PAIRS = _SPACES | {r"\!", r"\(", r"\)", r"\[", r"\]", r"\/", "\\\n", r"\>"}
_ROW_GAP = re.compile(r"\[-?[\d.]{1,6}(?:pt|em|ex|mm|cm)\]")
_INVISIBLE = word_set(
    "left right big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr displaystyle textstyle scriptstyle limits nolimits quad qquad "
    "hfill boxed mathopen mathclose middle thinspace medspace thickspace space allowbreak nobreak hspace vspace "
    "tiny small normalsize large Large LARGE huge Huge color textcolor"
)
_SAME_COMMAND = {
    "dfrac": "frac", "tfrac": "frac", "cfrac": "frac", "dbinom": "binom", "tbinom": "binom", "leq": "le", "geq": "ge", "leqslant": "le",
    "geqslant": "ge", "neq": "ne", "lt": "<", "gt": ">", "to": "rightarrow", "ast": "*", "times": "*", "cdot": "*", "div": "/",
    "lbrace": r"\{", "rbrace": r"\}", "lbrack": "[", "rbrack": "]", "lparen": "(",
    "langle": "(", "rangle": ")", "rparen": ")", "vert": "|", "lvert": "|", "rvert": "|",
    "varnothing": "emptyset", "infin": "infty", "infinity": "infty", "oo": "infty", "inf": "infty", "Inf": "infty", "degree": "circ",
    "varphi": "phi", "varepsilon": "epsilon", "vartheta": "theta", "asin": "arcsin", "acos": "arccos", "atan": "arctan",
    "simeq": "approx", "thickapprox": "approx", "doteq": "approx", "colon": ":", "mid": "|", "land": "wedge", "backslash": "setminus",
    "lg": "log10", "sqrtsign": "sqrt", "percent": "%", "slash": "/", "notin": "nin", "minus": "-", "union": "cup", "cosec": "csc",
    "Re": "Re", "Im": "Im", "ge*": "ge", "operatorname*": "operatorname", "plusmn": "pm", "bigcup": "cup",
    "**": "^", "<=": "le", ">=": "ge", "!=": "ne", "==": "=",
}  # fmt: skip
_TEXT_COMMANDS = word_set(
    "text mbox textbf textit textrm textsf texttt textnormal emph mathrm mathbf mathit mathsf mathtt operatorname hbox bf rm bm "
    "boldsymbol mathbb mathcal mathscr mathfrak textsc underline"
)
_DELIMITERS = ("left", "right", "middle")
_WITH_ARGUMENT = ("hspace", "vspace", "color", "textcolor")
_ALPHABETS = ("mathbb", "mathcal", "mathscr", "mathfrak")
_BOLD = ("mathbf", "boldsymbol", "bm", "bf")
_OF_VARIABLES = ("mathbf", "mathit", "boldsymbol", "bm")
_NEVER_A_UNIT = frozenset("eixyzkn")
_BRACES = re.compile(r"\\.|[{}]", re.DOTALL)
"""Braces; those behind a backslash are taken with it."""
_FORMULA = re.compile(r"[\\^_=+]")
_FULL_STOP = re.compile(r"[a-zA-Z]{2}\.$|^[a-zA-Z]\.$")
"""As in "students." and "B."; the point of "3." is that of a number."""
_NAMES = word_set(
    "sqrt cbrt sin cos tan cot sec csc arcsin arccos arctan asin acos atan sinh cosh tanh ln log exp pi infty infinity oo inf Inf "
    "abs alpha beta gamma delta theta lambda sigma omega phi rho tau epsilon union cosec"
)
# "oo" inside a run of letters is a word's
_NAME_OR_LETTER = re.compile("|".join(sorted((name for name in _NAMES if name != "oo"), key=len, reverse=True)) + "|[a-zA-Z]")
_CONNECTIVES = frozenset({"and", "or"})
_LETTER_UNITS = frozenset("mshgJNKWVACL")
_VOWELS = re.compile("[aeiouAEIOU]")
_SHORT_WORDS = word_set(
    "yes no odd all one two six ten red mon tue wed thu fri sat sun jan feb mar apr may jun jul aug sep oct nov dec"
)


def is_wordlike(run: str) -> bool:
    """
    Tell whether a run of letters that may be a product of symbols, such as ``yes`` or ``abc``, is rather a word.

    :param run: letters
    """
    return run.isalpha() and (_is_word(run) or run.lower() in _SHORT_WORDS)


def _is_word(run: str) -> bool:
    return (
        len(run) >= 4
        and _VOWELS.search(run) is not None
        and not any(name in run for name in ("sqrt", "sin", "cos", "tan", "log", "pi"))
    )


def tokenize(text: str, letter_units: bool = False) -> list[Token]:
    """
    Split a tidied answer into tokens.

    :param text: result of :func:`.spelling.tidy`
    :param letter_units: read a letter such as ``m`` that stands apart behind a number as a unit, not as a variable
    :return: at most ``MAX_TOKENS`` tokens
    :raises TooComplex: if there are more, or a number has more than ``MAX_DIGITS`` digits
    :raises Unreadable: if a character belongs to no token
    """
    tokens: list[Token] = []
    _Scanner(text, tokens).scan()
    if letter_units:
        _letters_as_units(tokens)
    return tokens


def _letters_as_units(tokens: list[Token]) -> None:
    """Turn the letters of ``5 m/s`` into words, from the first one that stands apart behind a value."""
    for k, token in enumerate(tokens):
        if token.kind == "letter" and token.value in _LETTER_UNITS:
            previous = tokens[k - 1] if k else token
            apart = token.spaced and _ends_value(previous)
            if apart or previous.kind == "text" or (previous.value in ("/", "*") and k > 1 and tokens[k - 2].kind == "text"):
                tokens[k] = token._replace(kind="text")


def _ends_value(token: Token) -> bool:
    return token.kind == "num" or token.value in (")", "}")


def _ends_value_or_unit(token: Token) -> bool:
    """Whether a unit may follow, as ``s`` follows ``5 m /``."""
    return token.kind in ("num", "text") or token.value in (")", "}", "/")


class _Scanner:
    """
    Cuts a text into tokens, with one reader for each kind that ``_TOKEN`` tells apart. A reader says whether white space stands before
    what follows.

    :param text: what is cut up
    :param tokens: gets the tokens
    :param in_text: whether this is the content of a ``\\text{…}``, in which letters are words
    :param depth: how many such commands this stands in
    """

    def __init__(self, text: str, tokens: list[Token], in_text: bool = False, depth: int = 0):
        if depth > MAX_TEXT_DEPTH:
            raise TooComplex("text commands nested too deep")
        self.text = text
        self.tokens = tokens
        self.in_text = in_text
        self.depth = depth
        self.at = 0
        self.spaced = False
        """Whether white space stands before what is read."""

    def scan(self) -> None:
        """Append the tokens of the text."""
        text, tokens, readers = self.text, self.tokens, self._READERS
        while self.at < len(text):
            match = _TOKEN.match(text, self.at)
            if match is None:
                raise Unreadable(f"character {text[self.at]!r}")
            self.at = match.end()
            kind = match.lastgroup or ""
            self.spaced = readers[kind](self, match.group(kind))
            if len(tokens) > MAX_TOKENS and kind not in _UNCOUNTED:
                raise TooComplex(f"more than {MAX_TOKENS} tokens")

    def _add(self, kind: str, value: str) -> None:
        self.tokens.append(Token(kind, value, self.spaced))

    def _add_command(self, name: str) -> None:
        """Append a command, or the operator that it stands for."""
        name = _SAME_COMMAND.get(name, name)
        self._add("cmd" if name.isalnum() else "op", name)

    def _last(self) -> Token:
        return self.tokens[-1] if self.tokens else _START

    # ---------------------------------------------------------------- readers
    def _space(self, value: str) -> bool:
        return True

    def _quote(self, value: str) -> bool:
        return self.spaced

    def _number(self, value: str) -> bool:
        if len(value) > MAX_DIGITS:
            raise TooComplex(f"a number of {len(value)} digits")
        self._add("num", value)
        return False

    def _sign(self, value: str) -> bool:
        self._add("op", value)
        return False

    def _double(self, value: str) -> bool:
        """Two characters that are one sign, but for those of ``5!=120``."""
        if value == "!=" and not self.spaced and _ends_value(self._last()):
            self._add("op", "!")
            self._add("op", "=")
        else:
            self._add_command(value)
        return False

    def _pair(self, value: str) -> bool:
        """A backslash with what is no letter: a sign, a line break with the gap behind it, or spacing."""
        if value in _PAIRS:
            self._add(*_PAIRS[value])
        elif value not in _INVISIBLE_PAIRS:
            raise Unreadable(value)
        gap = _ROW_GAP.match(self.text, self.at) if value == r"\\" else None
        self.at = gap.end() if gap else self.at
        return self.spaced or value in _SPACES

    def _command(self, name: str) -> bool:
        if name in _TEXT_COMMANDS:
            content = self._argument()
            self._text_command(name, content)
            return content.endswith((" ", "~"))
        if name not in _INVISIBLE:
            self._add_command(name)
        elif name in _DELIMITERS and self.text.startswith(".", self.at):
            self.at += 1
        elif name in _WITH_ARGUMENT:
            self._argument()
        return False

    def _letters(self, run: str) -> bool:
        """A word, a named function, a unit, or a product of names and one-letter symbols."""
        if run.lower() in _CONNECTIVES:
            self._add("text", run.lower())
        elif run in _NAMES:
            self._add_command(run)
        elif self._is_text(run):
            self._add("text", run)
        else:
            for factor in _NAME_OR_LETTER.findall(run):
                self._add("letter" if len(factor) == 1 else "cmd", _SAME_COMMAND.get(factor, factor))
                self.spaced = False
        return False

    _READERS: ClassVar[dict[str, Callable[[_Scanner, str], bool]]] = {
        "space": _space,
        "quote": _quote,
        "number": _number,
        "sign": _sign,
        "double": _double,
        "pair": _pair,
        "command": _command,
        "letters": _letters,
    }

    # ---------------------------------------------------------------- letters and text
    def _is_text(self, run: str) -> bool:
        """Whether letters are a word or a unit, and no product."""
        if self.in_text:
            return len(run) > 1 or _ends_value_or_unit(self._last())
        return _is_word(run) or (run in BARE_UNITS and self._may_have_bare_unit(run))

    def _may_have_bare_unit(self, unit: str) -> bool:
        last = self._last()
        return _ends_value(last) or last.value == "/" or (last.value == "pi" and unit != "mg")

    def _text_command(self, command: str, content: str) -> None:
        """Append what a ``\\text{…}``-like command holds: a symbol, words, or mathematics set upright."""
        content = content.strip().strip("~").strip()
        if _FULL_STOP.search(content):
            content = content[:-1]
        if command in _ALPHABETS:
            self._add("letter", f"{command}:{content}" if content.isalpha() else content)
        elif len(content) == 1 and content.isascii() and content.isalpha():
            self._add("text" if self._is_upright_unit(command, content) else "letter", content)
        else:
            start = len(self.tokens)
            in_text = command not in _BOLD or not _FORMULA.search(content)
            _Scanner(content, self.tokens, in_text, self.depth + 1).scan()
            if len(self.tokens) > start and self.spaced:
                self.tokens[start] = self.tokens[start]._replace(spaced=True)

    def _is_upright_unit(self, command: str, letter: str) -> bool:
        """Whether an upright letter is a unit, as ``\\mathrm{m}`` behind a number, and not the letter itself, as ``\\mathrm{e}``."""
        if letter in _NEVER_A_UNIT or command in _OF_VARIABLES:
            return False
        before = [token.value for token in self.tokens[-2:]]
        above = before == ["frac", "{"] and len(self.tokens) > 2
        below = before == ["}", "{"] and len(self.tokens) > 2 and self.tokens[-3].kind == "text"
        return above or below or _ends_value_or_unit(self._last())

    def _argument(self) -> str:
        """Read the ``{…}`` (or the single character) that follows a command."""
        text, start = self.text, self.at
        while text.startswith(" ", start):
            start += 1
        if start >= len(text):
            raise Unreadable("a command without its argument")
        if text[start] != "{":
            self.at = start + 1
            return text[start]
        depth = 0
        for mark in _BRACES.finditer(text, start):
            depth += {"{": 1, "}": -1}.get(mark.group(), 0)
            if depth == 0:
                self.at = mark.end()
                return text[start + 1 : mark.start()]
        raise Unreadable("unbalanced braces")
