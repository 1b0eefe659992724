"""avg@k, pass@k, maj@k and intervals against numbers worked by hand, counting, and closed forms."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

pytest.importorskip("transformers", reason="needs the [llm] extra")

from sppo_rl.evaluation import wilson_interval
from sppo_rl.llm.metrics import NO_ANSWER, answer_classes, majority_right, mean_over_problems, pass_at_k


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_pass_at_k_is_the_share_of_subsets_with_a_right_response(k: int) -> None:
    n = 5
    for c in range(n + 1):
        subsets = list(combinations([True] * c + [False] * (n - c), k))
        assert pass_at_k(np.array([c]), n, k)[0] == pytest.approx(np.mean([any(subset) for subset in subsets]))


def test_pass_at_k_of_many_samples_does_not_overflow() -> None:
    # C(2000, 1000) has 600 digits; one right response is among half of them with chance 1/2
    assert pass_at_k(np.array([1]), 2000, 1000)[0] == pytest.approx(0.5)


def test_pass_at_k_takes_different_numbers_of_samples() -> None:
    assert pass_at_k(np.array([1, 1]), np.array([2, 4]), 2) == pytest.approx([1.0, 0.5])


@pytest.mark.parametrize(("right", "samples", "k"), [(1, 4, 5), (5, 4, 2), (-1, 4, 2), (1, 4, 0)])
def test_pass_at_k_refuses_what_makes_no_sense(right: int, samples: int, k: int) -> None:
    with pytest.raises(ValueError, match=r"right responses|needs at least"):
        pass_at_k(np.array([right]), samples, k)


def by_value(pairs: list[tuple[str, str]]) -> list[bool]:
    return [eval(a, {}) == eval(b, {}) for a, b in pairs]


def test_classes_join_answers_that_say_the_same() -> None:
    answers = [["1/2", "7", None, "0.5", "7"], ["3", "4", "5", "6/2", "8/2"]]
    right = np.array([[False, True, False, False, True], [False] * 5])
    assert answer_classes(answers, right, by_value).tolist() == [[0, 1, NO_ANSWER, 0, 1], [0, 1, 2, 0, 1]]


def test_each_wrong_text_is_compared_once_with_each_leader() -> None:
    asked: list[tuple[str, str]] = []

    def different(pairs: list[tuple[str, str]]) -> list[bool]:
        asked.extend(pairs)
        return [False] * len(pairs)

    answers = [["a", "b", " a", "c", "right", "b"]]
    right = np.array([[False, False, False, False, True, False]])
    assert answer_classes(answers, right, different).tolist() == [[0, 1, 0, 3, 4, 1]]
    assert asked == [("b", "a"), ("c", "a"), ("c", "b")]


@pytest.mark.parametrize(
    ("classes", "right", "solved"),
    [
        ([0, 1, 1, 3], [False, True, True, False], True),
        ([0, 0, 2, 3], [False, False, True, False], False),
        # a tie goes to the answer that came first
        ([0, 1, 0, 1], [True, False, True, False], True),
        ([0, 1, 0, 1], [False, True, False, True], False),
        # silence is no vote
        ([NO_ANSWER, NO_ANSWER, NO_ANSWER, 3], [False, False, False, True], True),
        ([NO_ANSWER] * 4, [False] * 4, False),
    ],
)
def test_majority(classes: list[int], right: list[bool], solved: bool) -> None:
    assert majority_right(np.array([classes]), np.array([right])).tolist() == [solved]


def test_interval_over_problems_is_the_normal_one_where_that_holds() -> None:
    scores = np.random.default_rng(1).integers(0, 17, 800) / 16
    estimate = mean_over_problems([scores])
    half = 1.96 * scores.std() / np.sqrt(len(scores))
    assert estimate.value == pytest.approx(scores.mean())
    assert [estimate.low, estimate.high] == pytest.approx([scores.mean() - half, scores.mean() + half], abs=0.1 * half)


def test_problems_are_resampled_within_their_data_set() -> None:
    """Two data sets that differ only from each other: nothing varies within them, so the mean of both has no spread."""
    estimate = mean_over_problems([np.full(10, 0.2), np.full(500, 0.6)])
    assert estimate == pytest.approx((0.4, 0.4, 0.4)), "and the small one counts as much as the large one"


def test_interval_of_the_mean_over_data_sets_adds_their_variances() -> None:
    random = np.random.default_rng(2)
    parts = [random.random(60), random.random(240)]
    estimate = mean_over_problems(parts)
    half = 1.96 * np.sqrt(parts[0].var() / 60 + parts[1].var() / 240) / 2
    assert (estimate.high - estimate.low) / 2 == pytest.approx(half, rel=0.08)


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_an_interval_without_any_spread_is_wilsons(score: float) -> None:
    estimate = mean_over_problems([np.full(30, score)])
    assert estimate[1:] == wilson_interval(30 * int(score), 30)
    assert estimate.high - estimate.low > 0.1


@pytest.mark.parametrize("scores", [[0.5], [0.5, 0.25]])
def test_one_problem_in_each_data_set_tells_nothing_of_the_spread(scores: list[float]) -> None:
    estimate = mean_over_problems([np.array([score]) for score in scores])
    assert estimate.value == pytest.approx(np.mean(scores))
    assert np.isnan(estimate[1:]).all()
    assert estimate.as_dict() == {"value": estimate.value, "low": None, "high": None}, "JSON has no NaN"
    with_two = mean_over_problems([np.array([0.25, 0.5]), *(np.array([score]) for score in scores)])
    assert with_two.low < with_two.value < with_two.high


def test_one_problem_that_all_or_none_solve_has_wilsons_interval() -> None:
    assert mean_over_problems([np.ones(1)]) == (1.0, *wilson_interval(1, 1))


def test_no_problems_no_mean() -> None:
    for scores in ([], [np.zeros(3), np.zeros(0)]):
        with pytest.raises(ValueError, match="a problem in each"):
            mean_over_problems(scores)
