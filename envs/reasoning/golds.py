"""Gold answers as data sets write them: an answer, a whole solution that ends in one, or a list that holds one."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sppo_rl.envs.reasoning.verifier.checker import is_well_formed
from sppo_rl.envs.reasoning.verifier.extract import last_box

if TYPE_CHECKING:
    from sppo_rl.envs.reasoning.problems import Problem

LONGEST = 200
"""Characters; the longest gold answer of the named data sets has 53."""


def gold_answer(value: Any) -> str:
    r"""
    Take the answer out of what a data set gives as one.

    A list of one element stands for that element (OlympiadBench), one of several for all of them: ``["1", "2"]`` is ``"1, 2"``. Of a
    worked solution what follows the last ``####`` counts (GSM8K), or else the content of its last ``\boxed{…}`` (MATH, NuminaMath).
    ``None`` and a list of nothing are no answer: an empty text. Everything else stays as it is.

    Example: ``"48 + 24 = 72\n#### 72"``, ``r"So it is $\boxed{72}$."`` and ``["72"]`` all give ``"72"``.

    :param value: of the answer's column
    """
    value = value.tolist() if hasattr(value, "tolist") else value
    while isinstance(value, list | tuple) and len(value) == 1:
        (value,) = value
    if value is None or (isinstance(value, list | tuple) and not value):
        return ""
    if isinstance(value, list | tuple):
        return ", ".join(_without_dollars(gold_answer(element).strip()) for element in value)
    text = str(value)
    _, marker, behind = text.rpartition("####")
    if marker:
        text = behind.strip()
    box, reason = last_box(text)
    if reason == "empty_box":
        return ""
    return text if box is None else box.strip()


def _without_dollars(text: str) -> str:
    return text[1:-1].strip() if len(text) > 2 and text[0] == text[-1] == "$" and text[-2] != "\\" else text


def warn_of_unlikely_golds(problems: Sequence[Problem]) -> None:
    """
    Point out gold answers that no response will match: empty ones, texts of several lines, very long ones, or ones that are cut off.

    :param problems: those with a scorer of their own are not looked at
    """
    unlikely = [p for p in problems if p.scorer is None and _is_unlikely(p.answer)]
    if unlikely:
        first = unlikely[0]
        warnings.warn(
            f"{len(unlikely)} of {len(problems)} gold answers are empty, cut off, have several lines or more than {LONGEST} characters, "
            f"such as that of problem {first.id!r}: {_shown(first.answer)}. The verifier compares final answers and would never reward "
            "these. Give rows with the answer alone ('72'), behind '####' or in a \\boxed{}, or leave these out.",
            UserWarning,
            stacklevel=3,
        )


def _is_unlikely(gold: str | None) -> bool:
    text = (gold or "").strip()
    return not is_well_formed(text) or "\n" in text or len(text) > LONGEST


def _shown(gold: str | None) -> str:
    return repr(gold) if gold is None or len(gold) <= 60 else f"{gold[:60]!r}…"
