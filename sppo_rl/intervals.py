"""Figures with their intervals."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple


class Estimate(NamedTuple):
    """A figure and its 95 % interval; NaN ends where nothing says how far it can be trusted."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float | None]:
        """Its fields for JSON, which has no NaN: ``None`` in its place."""
        return {name: None if math.isnan(number) else number for name, number in self._asdict().items()}


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """
    Give the Wilson score interval of a proportion; it holds near 0 and 1 too, where the normal interval collapses.

    Example: 8 successes in 10 with ``confidence=0.95`` (z = 1.96) give a centre of (0.8 + z²/20) / (1 + z²/10) = 0.717 and a
    half-width of 0.227: [0.490, 0.943].

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).

    :param successes: how many of them
    :param n: number of trials, at least 1
    :param confidence: coverage, between 0 and 1
    :return: lower and upper end
    :raises ValueError: if the counts make no proportion, or the confidence lies outside (0, 1)
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"A proportion needs 0 ≤ successes ≤ n and n ≥ 1, got {successes} of {n}.")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}.")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    rate = successes / n
    scale = 1.0 + z * z / n
    centre = (rate + z * z / (2 * n)) / scale
    half = z / scale * (rate * (1.0 - rate) / n + z * z / (4 * n * n)) ** 0.5
    # with 0 or n successes one end is exactly 0 or 1, which rounding misses by a hair
    return (centre - half if successes else 0.0), (centre + half if successes < n else 1.0)
