"""Turns the text of an answer (LaTeX or plain) into tokens.

The text is model output: nothing of it is ever evaluated as code, the patterns take linear time, and long answers are refused.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from .units import BARE_UNITS, word_set

MAX_CHARS = 3000
MAX_TOKENS = 600
MAX_DIGITS = 1000


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


_SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n", strict=True))
_SUBSCRIPTS = dict(zip("₀₁₂₃₄₅₆₇₈₉", "0123456789", strict=True))
_SUPERSCRIPT_RUN = re.compile("[" + "".join(_SUPERSCRIPTS) + "]+")
_SUBSCRIPT_RUN = re.compile("[" + "".join(_SUBSCRIPTS) + "]+")
_CHARACTERS = {
    "−": "-", "–": "-", "—": "-", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "∙": r"\cdot ", "÷": "/", "∕": "/", "⁄": "/",
    "√": r"\sqrt ", "∞": r"\infty ", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "≈": r"\approx ", "∪": r"\cup ", "∩": r"\cap ",
    "∈": r"\in ", "∅": r"\emptyset ", "ℝ": r"\mathbb{R}", "°": r"^\circ ", "º": r"^\circ ", "±": r"\pm ", "∓": r"\mp ",
    "½": r"\frac{1}{2}", "⅓": r"\frac{1}{3}", "⅔": r"\frac{2}{3}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}", "⅛": r"\frac{1}{8}",
    "⅕": r"\frac{1}{5}", "π": r"\pi ", "α": r"\alpha ", "β": r"\beta ", "γ": r"\gamma ", "δ": r"\delta ", "θ": r"\theta ",
    "λ": r"\lambda ", "μ": r"\mu ", "σ": r"\sigma ", "φ": r"\phi ", "ω": r"\omega ", "ρ": r"\rho ", "τ": r"\tau ", "ε": r"\epsilon ",
    "¢": r"\text{cents}", "⋃": r"\cup ",
    "£": r"\text{pounds}", "€": r"\text{euros}", "¥": r"\text{yen}", "′": "'", "’": "'", "“": '"', "”": '"', "，": ",", "（": "(",
    "）": ")", "：": ":", "；": ";", "＝": "=", "％": "%", "＋": "+", "－": "-",
    "\u00a0": " ", "\u2009": " ", "\u202f": " ", "\u2003": " ", "\u2002": " ", "\u3000": " ",
    "\u200b": "", "\u200c": "", "\u200d": "", "\u2060": "", "\ufeff": "", "\u2061": "", "\u2062": "", "\u00ad": "",
}  # fmt: skip
_TRANSLATE = str.maketrans(_CHARACTERS)

# no number begins with a group of 0: 0,125 has a decimal comma
_THOUSANDS_MARK = re.compile(r"(?:(?<=[1-9])|(?<=\d\d))(?:,\s?\\!|\{,\}|\\,|\\!|\\;|~)\s?(?=\d{3}(?!\d))")
_GROUPED_BY_SPACE = re.compile(r"^\s*-?[1-9]\d{0,2}(?: \d{3})+\s*$")
_GROUPED_BY_COMMA = re.compile(r"(?<![\d.,])[1-9]\d{0,2}(?:,\d{3}){1,300}(?![\d,]*\d)")
_EMPHASIS = re.compile(r"^\s*(\*{1,3}|_{2,3}|`{1,3})(.{1,2900}?)\1\s*$", re.DOTALL)

_TOKEN = re.compile(
    r"(?P<space>\s+)"
    r"|(?P<num>\d+(?:\.\d*)?(?:[eE][+-]?\d+(?![\da-zA-Z]))?|\.\d+(?:[eE][+-]?\d+(?![\da-zA-Z]))?)"
    r"|\\(?P<cmd>[a-zA-Z]+\*?)"
    r"|(?P<pair>\\[^a-zA-Z])"
    r"|(?P<letters>[a-zA-Z]+)"
    r"|(?P<stars>\*\*|<=|>=|!=|==)"
    r"|(?P<op>[-+*/^_=<>(),;:.|!'%{}\[\]&~$\"])",
    re.ASCII,
)

_SPACES = (r"\,", r"\;", r"\:", r"\ ", r"\!")
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
}  # fmt: skip
_TEXT_COMMANDS = word_set(
    "text mbox textbf textit textrm textsf texttt textnormal emph mathrm mathbf mathit mathsf mathtt operatorname hbox bf rm bm "
    "boldsymbol mathbb mathcal mathscr mathfrak textsc underline"
)
_NAMES = word_set(
    "sqrt cbrt sin cos tan cot sec csc arcsin arccos arctan asin acos atan sinh cosh tanh ln log exp pi infty infinity oo inf Inf "
    "abs alpha beta gamma delta theta lambda sigma omega phi rho tau epsilon union cosec"
)
_CONNECTIVES = frozenset({"and", "or"})
_LETTER_UNITS = frozenset("mshgJNKWVACL")
_LONGEST_NAME = max(map(len, _NAMES))
_VOWELS = re.compile("[aeiouAEIOU]")
_SHORT_WORDS = word_set(
    "yes no odd all one two six ten red mon tue wed thu fri sat sun jan feb mar apr may jun jul aug sep oct nov dec"
)


def tidy(text: str) -> str:
    """
    Replace typographic characters by their LaTeX, drop zero-width ones, emphasis marks and thousands marks that cannot be a list.

    :param text: the content of a box, or a gold answer
    :return: the same answer in plain LaTeX
    :raises TooComplex: if it is longer than ``MAX_CHARS``
    """
    if len(text) > MAX_CHARS:
        raise TooComplex(f"{len(text)} characters")
    text = _SUPERSCRIPT_RUN.sub(lambda m: "^{" + "".join(map(_SUPERSCRIPTS.get, m.group())) + "}", text)  # type: ignore[arg-type]
    text = _SUBSCRIPT_RUN.sub(lambda m: "_{" + "".join(map(_SUBSCRIPTS.get, m.group())) + "}", text)  # type: ignore[arg-type]
    text = text.translate(_TRANSLATE).strip()
    while text.endswith(r"\\"):
        text = text[:-2].rstrip()
    emphasised = _EMPHASIS.match(text)
    if emphasised:
        text = emphasised.group(2).strip()
    text = re.sub(r"(?<![a-zA-Z\\])np\.log(?![a-z0-9])", "ln", text)
    text = re.sub(r"(?<![a-zA-Z\\])np\.(?=[a-z])", "", text)
    text = _without_tail(text)
    text = re.sub(r"(?:(?<!\\left)(?<!\\right)\.|\\\.|。)$", "", text)
    text = _without_tail(text)
    text = _THOUSANDS_MARK.sub("", text)
    if _GROUPED_BY_SPACE.match(text):
        text = text.replace(" ", "")
    return text


def _without_tail(text: str) -> str:
    """Drop the commas, semicolons and spaces at the end, each of one or two characters, so that this takes linear time."""
    end = len(text)
    while end:
        if text[end - 2 : end] in _SPACES or (text[end - 1] == "\\" and text[end - 2 : end] != r"\\"):
            end -= 2 if text[end - 2 : end] in _SPACES else 1
        elif text[end - 1] in " \t\n~,;":
            end -= 1
        else:
            break
    return text[:end]


def without_grouping_commas(text: str) -> str:
    """
    Read ``58,500`` as one number; inside brackets, as in ``(100,200)``, a comma separates.

    :param text: a tidied answer
    :return: the answer with the commas of well-formed thousands groups removed
    """

    def joined(match: re.Match[str]) -> str:
        before = match.string[: match.start()]
        opened = before.count("(") + before.count("[") + before.count(r"\{")
        closed = before.count(")") + before.count("]") + before.count(r"\}")
        return match.group().replace(",", "") if opened <= closed else match.group()

    return _GROUPED_BY_COMMA.sub(joined, text)


def canonical_string(text: str) -> str:
    """
    Reduce an answer to a string in which only spelling is lost: spacing, sizes of delimiters, dollar signs, ``dfrac``.

    :param text: a tidied answer
    :return: two answers with the same canonical string are the same answer
    """
    text = re.sub(r"\\(?:left|right|displaystyle|bigl|bigr|Bigl|Bigr|big|Big)(?![a-zA-Z])", "", text)
    text = re.sub(r"\\[dtc]frac(?![a-zA-Z])", r"\\frac", text)
    text = re.sub(r"\\!", "", text)
    text = re.sub(r"(?<!\\)\$|\\[()]", "", text)
    text = re.sub(r"\\[,;: ]|~|\\quad|\\qquad|\s", " ", text)
    return re.sub(r" +", " ", re.sub(r"(?<![A-Za-z0-9]) +| +(?![A-Za-z0-9])", "", text)).strip()


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

    :param text: result of :func:`tidy`
    :param letter_units: read a letter such as ``m`` that stands apart behind a number as a unit, not as a variable
    :return: at most ``MAX_TOKENS`` tokens
    :raises TooComplex: if there are more, or a number has more than ``MAX_DIGITS`` digits
    :raises Unreadable: if a character belongs to no token
    """
    tokens: list[Token] = []
    _scan(text, tokens, in_text=False, depth=0)
    if letter_units:
        _letters_as_units(tokens)
    return tokens


def _letters_as_units(tokens: list[Token]) -> None:
    """Turn the letters of ``5 m/s`` into words, from the first one that stands apart behind a value."""
    for k, token in enumerate(tokens):
        if token.kind == "letter" and token.value in _LETTER_UNITS:
            previous = tokens[k - 1] if k else token
            apart = token.spaced and (previous.kind == "num" or previous.value in ("}", ")"))
            if apart or previous.kind == "text" or (previous.value in ("/", "*") and k > 1 and tokens[k - 2].kind == "text"):
                tokens[k] = token._replace(kind="text")


def _scan(text: str, tokens: list[Token], in_text: bool, depth: int) -> None:
    """Append the tokens of ``text``; inside ``\\text{…}`` letters are words."""
    position, spaced = 0, False
    if depth > 6:
        raise TooComplex("text commands nested too deep")
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise Unreadable(f"character {text[position]!r}")
        position, space_behind = match.end(), False
        kind, value = match.lastgroup, match.group(match.lastgroup or 0)
        if kind == "space":
            spaced = True
            continue
        if kind == "num":
            if len(value) > MAX_DIGITS:
                raise TooComplex(f"a number of {len(value)} digits")
            tokens.append(Token("num", value, spaced))
        elif kind == "cmd":
            if value in _TEXT_COMMANDS:
                content, position = _argument(text, position)
                _scan_text_command(value, content, tokens, spaced, depth)
                space_behind = content.endswith((" ", "~"))
            elif value not in _INVISIBLE:
                value = _SAME_COMMAND.get(value, value)
                tokens.append(Token("cmd" if value.isalnum() else "op", value, spaced))
            elif value in ("left", "right", "middle") and text[position : position + 1] == ".":
                position += 1
            elif value in ("hspace", "vspace", "color", "textcolor"):
                position = _argument(text, position)[1]
        elif kind == "pair":
            if value in (r"\{", r"\}", r"\|"):
                tokens.append(Token("op", value if value != r"\|" else "|", spaced))
            elif value == r"\\":
                tokens.append(Token("op", r"\\", spaced))
                skip = re.compile(r"\[-?[\d.]{1,6}(?:pt|em|ex|mm|cm)\]").match(text, position)
                position = skip.end() if skip else position
            elif value == r"\%":
                tokens.append(Token("op", "%", spaced))
            elif value == r"\$":
                tokens.append(Token("text", "$", spaced))
            elif value not in (r"\!", r"\,", r"\;", r"\:", r"\ ", r"\(", r"\)", r"\[", r"\]", r"\/", "\\\n", r"\>"):
                raise Unreadable(value)
            spaced = spaced or value in (r"\,", r"\;", r"\:", r"\ ")
            continue
        elif kind == "letters":
            _scan_letters(value, tokens, spaced, in_text)
        elif value == "!=" and not spaced and tokens and (tokens[-1].kind == "num" or tokens[-1].value in (")", "}")):
            # 5!=120
            tokens += [Token("op", "!"), Token("op", "=")]
        elif kind == "stars":
            value = {"**": "^", "<=": "le", ">=": "ge", "!=": "ne", "==": "="}[value]
            tokens.append(Token("cmd" if value.isalpha() else "op", value, spaced))
        elif value not in ("$", "~", '"'):
            tokens.append(Token("op", value, spaced))
        else:
            spaced = spaced or value == "~"
            continue
        spaced = space_behind
        if len(tokens) > MAX_TOKENS:
            raise TooComplex(f"more than {MAX_TOKENS} tokens")


def _argument(text: str, position: int) -> tuple[str, int]:
    """Read the ``{…}`` (or the single character) that follows a command."""
    while position < len(text) and text[position] == " ":
        position += 1
    if position >= len(text):
        raise Unreadable("a command without its argument")
    if text[position] != "{":
        return text[position], position + 1
    depth, start = 0, position + 1
    while position < len(text):
        if text[position] == "\\":
            position += 1
        elif text[position] == "{":
            depth += 1
        elif text[position] == "}":
            depth -= 1
            if depth == 0:
                return text[start:position], position + 1
        position += 1
    raise Unreadable("unbalanced braces")


def _scan_text_command(command: str, content: str, tokens: list[Token], spaced: bool, depth: int) -> None:
    """Append what a ``\\text{…}``-like command holds: a symbol, words, or mathematics set upright."""
    content = content.strip().strip("~").strip()
    if re.search(r"[a-zA-Z]{2}\.$|^[a-zA-Z]\.$", content):
        # "students.", "B."
        content = content[:-1]
    if command in ("mathbb", "mathcal", "mathscr", "mathfrak"):
        tokens.append(Token("letter", f"{command}:{content}" if content.isalpha() else content, spaced))
        return
    if len(content) == 1 and content.isascii() and content.isalpha():
        # A single upright letter is a unit after a number (\mathrm{m}), and the letter itself elsewhere (\mathrm{e}).
        before = [token.value for token in tokens[-2:]]
        follows_value = bool(tokens) and (tokens[-1].kind in ("num", "text") or before[-1] in ("}", ")", "/"))
        below_unit = len(tokens) > 2 and before == ["}", "{"] and tokens[-3].kind == "text"
        after_value = follows_value or below_unit or (before == ["frac", "{"] and len(tokens) > 2)
        upright_unit = after_value and content not in "eixyzkn" and command not in ("mathbf", "mathit", "boldsymbol", "bm")
        tokens.append(Token("text" if upright_unit else "letter", content, spaced))
        return
    start = len(tokens)
    in_text = command not in ("mathbf", "boldsymbol", "bm", "bf") or not re.search(r"[\\^_=+]", content)
    _scan(content, tokens, in_text, depth + 1)
    if len(tokens) > start:
        tokens[start] = tokens[start]._replace(spaced=spaced or tokens[start].spaced)


def _scan_letters(run: str, tokens: list[Token], spaced: bool, in_text: bool) -> None:
    """Append a run of letters: a word, a named function, a unit, or a product of one-letter symbols."""
    if run in _CONNECTIVES or run.lower() in _CONNECTIVES:
        tokens.append(Token("text", run.lower(), spaced))
    elif run in _NAMES:
        tokens.append(Token("cmd", _SAME_COMMAND.get(run, run), spaced))
    elif (
        in_text
        and len(run) == 1
        and not (tokens and (tokens[-1].kind in ("num", "text") or tokens[-1].value in ("}", ")", "/")))
    ):
        tokens.append(Token("letter", run, spaced))
    elif (
        in_text
        or (
            len(run) >= 2
            and run in BARE_UNITS
            and tokens
            and (
                tokens[-1].kind == "num"
                or tokens[-1].value in (")", "}", "/", "text")
                or (tokens[-1].value == "pi" and run != "mg")
            )
        )
        or _is_word(run)
    ):
        tokens.append(Token("text", run, spaced))
    else:
        start = 0
        while start < len(run):
            for size in range(min(_LONGEST_NAME, len(run) - start), 0, -1):
                name = run[start : start + size]
                if size == 1 or (size > 2 and name in _NAMES) or name in ("pi", "ln"):
                    break
            tokens.append(Token("letter" if size == 1 else "cmd", _SAME_COMMAND.get(name, name) if size > 1 else name, spaced))
            spaced = False
            start += size
