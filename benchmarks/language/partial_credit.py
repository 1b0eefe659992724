"""A soft reward for sums written out, as a configuration's ``reward`` names it; for ``soft_rewards.yml``."""

from __future__ import annotations

import re
from itertools import accumulate, takewhile
from typing import Any


def partial_credit(prompts: list[str], completions: list[str], answer: list[str], **columns: Any) -> list[float]:
    """
    1 for a right answer; otherwise half of the share of running totals that are right from the first one on.

    :param prompts: such as ``"38+12-65="``
    :param completions: such as ``"38+12:8+2=10,3+1+1=5>50;50-65:…>-15;\\boxed{-15}"``
    :param answer: such as ``"-15"``
    :param columns: of the problems; not looked at
    """
    return [_credit(*of) for of in zip(prompts, completions, answer, strict=True)]


def _credit(prompt: str, completion: str, answer: str) -> float:
    boxed = re.findall(r"\\boxed\{(-?\d+)\}", completion)
    if boxed and int(boxed[-1]) == int(answer):
        return 1.0
    _, *totals = accumulate(int(term) for term in re.findall(r"[+-]?\d+", prompt))
    given = [int(total) for total in re.findall(r">(-?\d+)", completion)]
    right = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(totals, given, strict=False)))
    return 0.5 * right / len(totals)
