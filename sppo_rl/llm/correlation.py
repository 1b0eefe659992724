"""Ranks, correlations and the area under the ROC curve; NaN where a side is constant or empty and the statistic does not exist."""

from __future__ import annotations

import math

import numpy as np


def ranks(values: np.ndarray) -> np.ndarray:
    """
    Rank values from 1 up; equal ones share the mean of their ranks.

    Example: 3, 1, 3, 0 have the ranks 3.5, 2, 3.5, 1.

    :param values: (n,)
    :return: (n,) float64
    """
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    shared: np.ndarray = (last - (counts - 1) / 2.0)[inverse]
    return shared


def pearson(x: np.ndarray, y: np.ndarray) -> float:
    """
    Give Pearson's correlation.

    :param x: (n,)
    :param y: (n,)
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if len(x) < 2 or np.ptp(x) == 0.0 or np.ptp(y) == 0.0:
        return math.nan
    dx, dy = x - x.mean(), y - y.mean()
    return float(dx @ dy / math.sqrt(dx @ dx) / math.sqrt(dy @ dy))


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """
    Give Spearman's rank correlation, ties included.

    :param x: (n,)
    :param y: (n,)
    """
    return pearson(ranks(x), ranks(y))


def area_under_curve(values: np.ndarray, right: np.ndarray) -> float:
    """
    Give the chance that a right one has a higher value than a wrong one, equal values counting half (Mann and Whitney's U).

    Example: right ones at 3 and 2, wrong ones at 2 and 1: of four pairs three are in order and one is equal, so 3.5 / 4.

    :param values: (n,)
    :param right: (n,) bool
    """
    right = np.asarray(right, dtype=bool)
    above, below = int(right.sum()), int((~right).sum())
    if not above or not below:
        return math.nan
    return float((ranks(values)[right].sum() - above * (above + 1) / 2.0) / (above * below))
