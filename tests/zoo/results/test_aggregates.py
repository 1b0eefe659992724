"""rliable's figures as this package feeds them, on numbers worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from rliable.library import get_interval_estimates
from rliable.metrics import probability_of_improvement

from sppo_rl.zoo.results import aggregates
from sppo_rl.zoo.results.aggregates import (
    interquartile_means,
    performance_profiles,
    probabilities_of_improvement,
    score_matrices,
)


def rows_of(finals: dict[tuple[str, str], dict[int, float]]) -> list[dict]:
    """Runs of two evaluations: 0 at the start, and what is given after 10 episodes (of ``long``: 20)."""
    rows = []
    for (env, algo), seeds in finals.items():
        for seed, final in seeds.items():
            common = {"env": env, "algo": algo, "seed": seed, "seconds": 1.0}
            end = 20.0 if algo == "long" else 10.0
            rows.append({**common, "episodes": 0.0, "timesteps": 0.0, "success": 0.0, "greedy_success": 0.0})
            rows.append({**common, "episodes": end, "timesteps": end, "success": final, "greedy_success": 1.0})
    return rows


def test_scores_are_runs_by_tasks_of_the_algorithms_that_ran_on_all():
    rows = rows_of(
        {
            ("A", "sppo"): {1: 0.4, 0: 0.2, 2: 0.9},
            ("B", "sppo"): {0: 0.5, 1: 0.6},
            ("A", "ppo"): {0: 0.1},
        }
    )
    scores = score_matrices(rows, "success")
    assert list(scores) == ["sppo"]
    np.testing.assert_array_equal(scores["sppo"], [[0.2, 0.5], [0.4, 0.6]])
    np.testing.assert_array_equal(score_matrices(rows, "success", ["A"])["ppo"], [[0.1]])
    assert (score_matrices(rows, "greedy_success")["sppo"] == 1.0).all()


def test_the_area_ends_where_the_shortest_run_of_the_task_ends():
    scores = score_matrices(rows_of({("A", "sppo"): {0: 0.4}, ("A", "long"): {0: 0.4}}), "area")
    # from 0 to .4 over 10 episodes: mean .2; from 0 to .4 over 20, of which the first 10 count: mean .1
    assert scores["sppo"][0, 0] == pytest.approx(0.2)
    assert scores["long"][0, 0] == pytest.approx(0.1)


def test_interquartile_mean_is_that_of_the_middle_half():
    # of eight, the two lowest and the two highest go
    values = np.array([[0.0, 1.0], [0.1, 0.9], [0.3, 0.5], [0.4, 0.6]])
    got = interquartile_means({"sppo": values})["sppo"]
    assert got.value == pytest.approx((0.3 + 0.4 + 0.5 + 0.6) / 4)
    assert 0.0 <= got.low < got.value < got.high <= 1.0


def test_the_bootstrap_draws_within_tasks():
    # no spread within a task, much between: a bootstrap over all runs would give an interval, a stratified one does not
    got = interquartile_means({"sppo": np.array([[0.2, 0.8]] * 6)})["sppo"]
    assert (got.low, got.high) == pytest.approx((got.value, got.value))


def test_one_run_has_no_interval():
    got = interquartile_means({"sppo": np.array([[0.3]])})["sppo"]
    assert got.value == pytest.approx(0.3)
    assert np.isnan(got.low)
    assert np.isnan(got.high)


def test_probability_of_improvement_counts_pairs():
    one, other = np.array([[0.5], [0.9], [0.9]]), np.array([[0.5], [0.7]])
    # .5 against .5 and .7: a half and a loss; .9 wins twice, twice: (0.5 + 0 + 4) / 6
    got = probabilities_of_improvement({"sppo": one, "ppo": other}, "sppo")
    assert list(got) == ["ppo"]
    assert got["ppo"].value == pytest.approx(0.75)
    assert got["ppo"].low < 0.75 < got["ppo"].high


def test_probability_of_improvement_is_that_of_rliable(monkeypatch):
    monkeypatch.setattr(aggregates, "REPEATS", 50)
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 4, (5, 3)) / 4, rng.integers(0, 4, (6, 3)) / 4
    got = probabilities_of_improvement({"sppo": one, "ppo": other}, "sppo")["ppo"]
    np.random.seed(0)  # noqa: NPY002
    values, intervals = get_interval_estimates(
        {"ppo": (one, other)}, lambda x, y: np.array([probability_of_improvement(x, y)]), reps=50
    )
    assert (got.value, got.low, got.high) == pytest.approx((values["ppo"][0], *intervals["ppo"][:, 0]))


def test_profiles_are_fractions_above_the_threshold():
    fractions, intervals = performance_profiles({"sppo": np.array([[0.2, 0.6], [0.4, 0.8]])}, np.array([0.0, 0.4, 0.7, 1.0]))[
        "sppo"
    ]
    np.testing.assert_allclose(fractions, [1.0, 0.5, 0.25, 0.0])
    assert intervals.shape == (2, 4)
    assert (intervals[0] <= fractions).all()
    assert (intervals[1] >= fractions).all()


def test_intervals_repeat_and_leave_the_global_generator_alone():
    scores = {"sppo": np.random.default_rng(0).uniform(size=(5, 3))}
    np.random.seed(7)  # noqa: NPY002
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(7)  # noqa: NPY002
    first = interquartile_means(scores)
    assert np.random.random() == expected  # noqa: NPY002
    assert interquartile_means(scores) == first
