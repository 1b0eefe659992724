"""Spellings: brings the text of an answer into plain LaTeX, and two answers that differ in spelling alone into the same string."""

from __future__ import annotations

import re

from .tokens import MAX_CHARS, TooComplex

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

_SPACES = (r"\,", r"\;", r"\:", r"\ ", r"\!")


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
