"""The verdict on one response: extract the answer, compare it with the gold answer, say why."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from .compare import Comparison
from .extract import extract_answer
from .numerics import Undefined, symbols_of
from .parser import parse
from .spelling import canonical_string, tidy, without_grouping_commas
from .tokens import TooComplex, Unreadable, is_wordlike
from .tree import Items, Node, Symbol

MODES = ("strict", "lenient")
SHOWN = 300
"""Characters of an answer that a verdict shows."""
_TEXT_COMMAND = re.compile(r"\\(?:text|mbox|textbf|textit|textrm|mathrm|mathbf|mathit|emph|operatorname)\s*\{([^{}]{0,200})\}")
_ARTICLE = re.compile(r"^(?:an?|the)\s+(?=[a-z]{3})", re.IGNORECASE)
_LETTERS = re.compile(r"[A-Za-z][A-Za-z ,]{0,200}[A-Za-z]")
_VECTOR = r"\\(?:mathbf|boldsymbol|bm|vec|hat|overrightarrow)\s{0,3}(?:\{[^{}]{1,20}\}|[a-zA-Z])"
_CROSS_PRODUCT = re.compile(rf"{_VECTOR}\s{{0,3}}\\times\s{{0,3}}{_VECTOR}")
_INTEGER = re.compile(r"[+-]?[0-9]{1,300}(?:\.0{0,20})?")


@dataclass(frozen=True)
class Verdict:
    """
    What the verifier says about one response.

    ``reason`` is one of ``correct``, ``wrong``; ``no_box``, ``unclosed_box``, ``empty_box``, ``box_inside_thinking`` (no answer to
    judge); ``unreadable`` (no mathematics that the grammar covers), ``too_complex`` (over a size or work limit);
    ``malformed_gold`` (the gold answer itself cannot be read); from the pool also ``timeout`` and ``worker_died``.
    """

    score: float
    """1.0 or 0.0"""
    reason: str
    extracted: str | None = None
    """The answer found, at most :data:`SHOWN` characters of it."""


def verify(response: str, gold: str, mode: str = "strict") -> float:
    """
    Tell whether a response ends in the right answer.

    Never raises for what a model may write, runs no code from it, and is bounded in time and memory by limits on sizes and on work, not
    by timers: signal handlers, timers, recursion limit and working directory stay as they are, and any thread or process may call it.

    :param response: the whole text of the response, reasoning included
    :param gold: the right answer, without a box; LaTeX or plain
    :param mode: ``"strict"`` or ``"lenient"``
    :return: 1.0 or 0.0
    :raises ValueError: if the mode is unknown
    :raises TypeError: if response or gold is no string
    """
    return check(response, gold, mode).score


def check(response: str, gold: str, mode: str = "strict") -> Verdict:
    """
    Judge a response, with the reason; see :func:`verify`.

    :param response: the whole text of the response
    :param gold: the right answer
    :param mode: ``"strict"`` or ``"lenient"``
    :return: the verdict
    :raises ValueError: if the mode is unknown
    :raises TypeError: if response or gold is no string
    """
    if mode not in MODES:
        raise ValueError(f"mode must be one of {MODES}, got {mode!r}.")
    if not isinstance(response, str) or not isinstance(gold, str):
        raise TypeError(f"response and gold must be strings, got {type(response).__name__} and {type(gold).__name__}.")
    answer, reason = extract_answer(response, mode)
    if answer is None:
        return Verdict(0.0, reason)
    correct, reason = compare_answers(answer, gold, lenient=mode == "lenient")
    return Verdict(float(correct), reason, answer.strip()[:SHOWN])


def compare_answers(answer: str, gold: str, lenient: bool = False) -> tuple[bool, str]:
    """
    Compare an extracted answer with the gold answer.

    :param answer: content of a box
    :param gold: the right answer
    :param lenient: accept what strict mode leaves open
    :return: whether they are the same, and a reason as in :class:`Verdict`
    """
    if not is_well_formed(gold):
        return False, "malformed_gold"
    try:
        answer, gold = tidy(answer), tidy(gold)
        if not answer:
            return False, "empty_box"
        if _INTEGER.fullmatch(answer) and _INTEGER.fullmatch(gold):
            # the commonest case, without a parser
            same = int(answer.partition(".")[0]) == int(gold.partition(".")[0])
            return same, "correct" if same else "wrong"
        if canonical_string(answer) == canonical_string(gold) or _same_letters(answer, gold):
            return True, "correct"
        if _CROSS_PRODUCT.search(gold):
            # the grammar reads products that may be turned round
            return False, "wrong"
        return _compare_trees(answer, gold, lenient)
    except TooComplex:
        return False, "too_complex"
    except RecursionError:
        # the caller's own stack was nearly full: the parser's depth is limited to a few hundred frames
        return False, "too_complex"


def is_well_formed(gold: str) -> bool:
    """
    Tell whether a gold answer is complete: not empty, its braces and environments balanced, nothing cut off.

    :param gold: a gold answer
    """
    gold = gold.strip()
    depth = 0
    for match in re.finditer(r"\\.|[{}]", gold, re.DOTALL):
        depth += {"{": 1, "}": -1}.get(match.group(), 0)
        if depth < 0:
            return False
    unfinished = re.search(r"\\(?:frac|sqrt|text|left|right)\s*$|[-+*/^_=\\(\[]$", gold)
    return bool(gold) and depth == 0 and unfinished is None and gold.count(r"\begin") == gold.count(r"\end")


def _compare_trees(answer: str, gold: str, lenient: bool) -> tuple[bool, str]:
    try:
        gold_tree = _gold_tree(gold)
    except Unreadable:
        return (True, "correct") if _words(answer) == _words(gold) != "" else (False, "wrong")
    if _is_wording(gold_tree) or is_wordlike(gold):
        same = _words(answer) == _words(gold)
        return same, "correct" if same else "wrong"
    ungrouped = without_grouping_commas(answer)
    readings = [(ungrouped, False)]
    if ungrouped != answer:
        readings.append((answer, False))
    if not symbols_of(gold_tree):
        readings.append((ungrouped, True))
    reason = "unreadable"
    for reading, letter_units in readings:
        try:
            if Comparison(lenient).same(gold_tree, parse(reading, letter_units)):
                return True, "correct"
            reason = "wrong"
        except (Unreadable, Undefined):
            continue
    return False, reason


@lru_cache(maxsize=4096)
def _gold_tree(gold: str) -> Node:
    return parse(without_grouping_commas(gold))


def _is_wording(node: Node) -> bool:
    """Whether an answer is in words, or a list of words."""
    if isinstance(node, Items):
        return bool(node.items) and all(_is_wording(item) for item in node.items)
    return isinstance(node, Symbol) and node.name.startswith("word:")


def _same_letters(answer: str, gold: str) -> bool:
    """
    Whether a gold of bare letters is the answer but for markup: ``\\text{SSS}`` for ``SSS``, ``yes`` for ``Yes``. Its letters may be a
    product, so case counts unless they are words.
    """
    if _LETTERS.fullmatch(gold) is None:
        return False
    if any(is_wordlike(word) for word in re.split("[ ,]+", gold)):
        return _words(answer) == _words(gold)
    return _without_markup(answer) == _without_markup(gold)


def _words(text: str) -> str:
    """An answer in words without markup, case, white space, quotation marks and final full stop; order is kept."""
    text = _without_markup(_ARTICLE.sub("", _without_text_commands(text).strip())).replace("'", "").strip("{}.")
    return text.lower() if len(text) > 1 else text


def _without_text_commands(text: str) -> str:
    previous = None
    while previous != text:
        previous, text = text, _TEXT_COMMAND.sub(r"\1", text)
    return text


def _without_markup(text: str) -> str:
    text = re.sub(r"\\[ ,;!]|[\s\"`$~]|\\(?:left|right|quad)(?![a-zA-Z])", "", _without_text_commands(text))
    return text.strip("{}.")
