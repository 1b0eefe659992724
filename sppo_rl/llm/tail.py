"""
The tail effect of a token-level critic, measured within prompts (SPPO, arXiv 2604.08865, Fig. 1).

Near its end a response shows its answer, and a critic that reads it there predicts the outcome well: right responses lose their
advantage, wrong ones keep blame for the tail alone. Over responses to different prompts a critic that only knows which prompts are easy
looks just as informed, so right and wrong responses to the same prompt are compared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sppo_rl.intervals import Estimate
from sppo_rl.llm.correlation import area_under_curve, pearson
from sppo_rl.llm.metrics import mean_over_problems


class TailPoint(NamedTuple):
    """What the values at one place of the responses tell about their outcomes."""

    position: float
    """0 is before the first token, where only the prompt was read, 1 before the last one."""
    auc: Estimate
    """Chance that a right response has the higher value of a right and a wrong one to the same prompt; mean over prompts, interval by
    bootstrap over prompts."""
    correlation: float
    """Of value and outcome, both as differences from their prompt's mean."""
    gap: float
    """Mean value of right responses minus that of wrong ones, mean over prompts."""
    pooled_auc: float
    """The same as ``auc`` over all responses, whatever their prompt: confounded by difficulty, for comparison."""


def tail_effect(
    values: Sequence[np.ndarray], right: np.ndarray, prompts: np.ndarray, positions: int = 11, seed: int = 0
) -> list[TailPoint]:
    """
    Tell how well the values before each token separate right from wrong responses to the same prompt.

    The value at relative position x of a response of T tokens is the one before token ``round(x (T − 1))``. Prompts to which all responses
    are right, or all wrong, have nothing to compare and count in ``pooled_auc`` only. A critic that reads the prompt alone has an AUC of
    exactly .5 everywhere.

    :param values: for each of M responses (T,) values before each of its tokens
    :param right: (M,) bool
    :param prompts: (M,) int, which prompt each response answers
    :param positions: places from 0 to 1, at equal distances
    :param seed: of the intervals
    :return: one point for each place
    :raises ValueError: if shapes do not fit, a response has no token, or no prompt has both right and wrong responses
    """
    right, prompts = np.asarray(right, dtype=bool), np.asarray(prompts)
    if not len(values) == len(right) == len(prompts):
        raise ValueError(f"Values of {len(values)} responses, {len(right)} outcomes and {len(prompts)} prompts do not fit.")
    if not all(len(row) for row in values):
        raise ValueError("A response without tokens has no values.")
    if positions < 2:
        raise ValueError(f"positions must be at least 2 (start and end), got {positions}.")
    members = [np.flatnonzero(prompts == prompt) for prompt in np.unique(prompts)]
    mixed = [rows for rows in members if right[rows].any() and not right[rows].all()]
    if not mixed:
        raise ValueError(
            f"None of {len(members)} prompts has both right and wrong responses: sample more responses, or take prompts of medium "
            "difficulty."
        )
    points = []
    for position in np.linspace(0.0, 1.0, positions):
        now = np.array([row[round(position * (len(row) - 1))] for row in values], dtype=np.float64)
        areas = np.array([area_under_curve(now[rows], right[rows]) for rows in mixed])
        gaps = [now[rows][right[rows]].mean() - now[rows][~right[rows]].mean() for rows in mixed]
        centred = [(now[rows] - now[rows].mean(), right[rows] - right[rows].mean()) for rows in mixed]
        value_part, outcome_part = (np.concatenate(part) for part in zip(*centred, strict=True))
        # rounding leaves differences of 1e-17 where all values of a prompt are equal
        flat = np.abs(value_part).max() <= 1e-12 * max(1.0, np.abs(now).max())
        points.append(
            TailPoint(
                position=float(position),
                auc=mean_over_problems([areas], seed=seed),
                correlation=math.nan if flat else pearson(value_part, outcome_part),
                gap=float(np.mean(gaps)),
                pooled_auc=area_under_curve(now, right),
            )
        )
    return points
