"""Gold answers as data sets write them: an answer, a whole solution that ends in one, or a list that holds one."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sppo_rl.envs.reasoning.verifier.extract import last_box

if TYPE_CHECKING:
    from sppo_rl.envs.reasoning.problems import Problem

LONGEST = 200
"""Characters; the longest gold answer of the named data sets has 53."""


def gold_answer(value: Any) -> str:
    r"""
    Take the answer out of what a data set gives as one.

    A list of one element stands for that element (OlympiadBench). Of a worked solution what follows the last ``####`` counts (GSM8K), or
    else the content of its last ``\boxed{…}`` (MATH, NuminaMath). ``None`` and a list of nothing are no answer: an empty text. Everything
    else stays as it is.

    Example: ``"48 + 24 = 72\n#### 72"``, ``r"So it is $\boxed{72}$."`` and ``["72"]`` all give ``"72"``.

    :param value: of the answer's column
    """
    value = value.tolist() if hasattr(value, "tolist") else value
    while isinstance(value, list | tuple) and len(value) == 1:
        (value,) = value
    if value is None or (isinstance(value, list | tuple) and not value):
        return ""
    text = str(value)
    _, marker, behind = text.rpartition("####")
    if marker:
        text = behind.strip()
    box, reason = last_box(text)
    if reason == "empty_box":
        return ""
    return text if box is None else box.strip()


def warn_of_unlikely_golds(problems: Sequence[Problem]) -> None:
    """
    Point out gold answers that no response will match: empty ones, texts of several lines, or very long ones.

    :param problems: those with a scorer of their own are not looked at
    """
    unlikely = [p for p in problems if p.scorer is None and _is_unlikely(p.answer)]
    if unlikely:
        first = unlikely[0]
        warnings.warn(
            f"{len(unlikely)} of {len(problems)} gold answers are empty, have several lines or more than {LONGEST} characters, such as "
            f"that of problem {first.id!r}: {_shown(first.answer)}. The verifier compares final answers and would never reward these. "
            "Give rows with the answer alone ('72'), behind '####' or in a \\boxed{}, or leave these out.",
            UserWarning,
            stacklevel=3,
        )


def _is_unlikely(gold: str | None) -> bool:
    text = (gold or "").strip()
    return not text or "\n" in text or len(text) > LONGEST


def _shown(gold: str | None) -> str:
    return repr(gold) if gold is None or len(gold) <= 60 else f"{gold[:60]!r}…"
