"""Figures over runs and tasks after Agarwal et al. 2021 (arXiv 2108.13264), computed by rliable.

Scores of an algorithm are a matrix (runs, tasks). Its bootstrap is stratified: runs are drawn anew within each task.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from sppo_rl.intervals import Estimate
from sppo_rl.zoo.results.rows import Row, area_under_curve, column_of, runs_of

METRICS = {
    "success": "final success, sampled",
    "greedy_success": "final success, greedy",
    "area": "area under the curve",
}
"""What a run is judged by → how a heading writes it."""
REPEATS = 2000
"""Bootstrap samples."""

Scores = dict[str, np.ndarray]
"""Algorithm → (runs, tasks), values in [0, 1]; mean returns where a task reports no success."""


def score_matrices(rows: Sequence[Row], metric: str, tasks: Sequence[str] | None = None) -> Scores:
    """
    Judge every run of those algorithms that ran on all tasks.

    Where an algorithm has more runs on one task than on another, those of the lowest seeds count.

    :param rows: of results files
    :param metric: of :data:`METRICS`; the area is that up to the episodes of the task's shortest run
    :param tasks: environment ids; ``None`` for all in the rows
    :return: algorithm → (runs, tasks)
    """
    runs = runs_of(rows)
    tasks = list(dict.fromkeys(env for env, _ in runs)) if tasks is None else tasks
    scores = {}
    for algo in dict.fromkeys(algo for _, algo in runs):
        if not all((task, algo) in runs for task in tasks):
            continue
        columns = [_judge(runs, task, algo, metric) for task in tasks]
        count = min(len(column) for column in columns)
        scores[algo] = np.array([column[:count] for column in columns]).T
    return scores


def _judge(runs: Mapping[tuple[str, str], dict[int, list[Row]]], task: str, algo: str, metric: str) -> list[float]:
    """One number for each run, lowest seed first."""
    seeds = [run for _, run in sorted(runs[task, algo].items())]
    of_task = [row for (env, _), of in runs.items() if env == task for run in of.values() for row in run]
    if metric != "area":
        return [run[-1][column_of(of_task, metric)] for run in seeds]
    end = min(run[-1]["episodes"] for (env, _), of in runs.items() if env == task for run in of.values())
    return [area_under_curve(run, end, column_of(of_task, "success")) for run in seeds]


def interquartile_means(scores: Scores) -> dict[str, Estimate]:
    """
    Average the middle half of all runs and tasks.

    :param scores: algorithm → (runs, tasks)
    """
    from rliable.metrics import aggregate_iqm

    return _estimates(scores, lambda matrix: np.array([aggregate_iqm(matrix)]))


def probabilities_of_improvement(scores: Scores, reference: str) -> dict[str, Estimate]:
    """
    Estimate how likely a run of one algorithm beats a run of another on a task taken at random; a tie counts half.

    :param scores: algorithm → (runs, tasks)
    :param reference: the one that may improve
    :return: each other algorithm → P(reference > other)
    """

    # rliable's own function asks for a rank test of every sample, which takes hundreds of times as long
    def better(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.array([0.5 + 0.5 * np.sign(one[:, None] - other[None]).mean()])

    pairs = {algo: (scores[reference], matrix) for algo, matrix in scores.items() if algo != reference}
    return _estimates(pairs, better)


def performance_profiles(scores: Scores, thresholds: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """
    Give the fraction of runs above each threshold.

    :param scores: algorithm → (runs, tasks)
    :param thresholds: (n,)
    :return: algorithm → fractions (n,), and their 95 % intervals (2, n)
    """
    from rliable.library import create_performance_profile

    # the same as rliable's own function, for all thresholds at once
    def above(matrix: np.ndarray, levels: np.ndarray) -> np.ndarray:
        return np.asarray((matrix[:, :, None] > levels).mean(axis=(0, 1)))

    with _seeded():
        profiles, intervals = create_performance_profile(scores, thresholds, custom_profile_func=above, reps=REPEATS)
    return {algo: (profiles[algo], intervals[algo]) for algo in scores}


def _estimates(scores: Mapping[str, Any], function: Callable[..., np.ndarray]) -> dict[str, Estimate]:
    from rliable.library import get_interval_estimates

    if not scores:
        return {}
    with _seeded():
        values, intervals = get_interval_estimates(dict(scores), function, reps=REPEATS)
    return {
        key: Estimate(float(values[key][0]), *(map(float, intervals[key][:, 0]) if _spread(matrix) else (np.nan, np.nan)))
        for key, matrix in scores.items()
    }


def _spread(scores: Any) -> bool:
    """Whether there is more than one run to draw from."""
    return min(len(matrix) for matrix in (scores if isinstance(scores, tuple) else (scores,))) > 1


@contextmanager
def _seeded() -> Iterator[None]:
    """rliable's bootstrap draws from NumPy's global generator: give it a seed, and leave no trace."""
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002
