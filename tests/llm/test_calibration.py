"""Calibration and the tail effect on synthetic critics whose figures are known."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("transformers", reason="needs the [llm] extra")

from sppo_rl.llm.calibration import calibrate, plot_calibration, spearman_brown
from sppo_rl.llm.correlation import area_under_curve, pearson, ranks, spearman
from sppo_rl.llm.tail import tail_effect


def test_ranks_share_ties() -> None:
    assert ranks(np.array([3, 1, 3, 0])).tolist() == [3.5, 2.0, 3.5, 1.0]


def test_correlations_worked_by_hand() -> None:
    x, y = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 3.0, 2.0, 10.0])
    # deviations: (-1.5, -.5, .5, 1.5) and (-3, -1, -2, 6): 13 / sqrt(5 · 50)
    assert pearson(x, y) == pytest.approx(13 / math.sqrt(250))
    # ranks differ by (0, 1, -1, 0): 1 − 6 · 2 / (4 · 15)
    assert spearman(x, y) == pytest.approx(0.8)
    assert math.isnan(pearson(x, np.ones(4)))


def test_area_under_curve_is_the_share_of_pairs_in_order() -> None:
    random = np.random.default_rng(0)
    values, right = random.integers(0, 5, 40), random.random(40) < 0.4
    pairs = [(a > b) + 0.5 * (a == b) for a in values[right] for b in values[~right]]
    assert area_under_curve(values, right) == pytest.approx(np.mean(pairs))
    assert math.isnan(area_under_curve(values, np.ones(40, dtype=bool)))


def beta_prompts(count: int, k: int, a: float, b: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    chance = random.beta(a, b, count)
    return chance, (random.random((count, k)) < chance[:, None]).astype(float)


def test_ceiling_is_what_the_true_chances_reach() -> None:
    """Beta-binomial outcomes: the reliability of avg@k is k / (k + a + b), and its root the correlation of p with avg@k."""
    a, b, k = 1.0, 2.0, 8
    chance, scores = beta_prompts(20_000, k, a, b)
    result = calibrate(chance, scores, np.arange(20_000))
    assert result.split_half == pytest.approx(k / (k + a + b), abs=0.01)
    assert result.ceiling_pearson == pytest.approx(result.pearson, abs=0.01)
    assert result.ceiling_spearman == pytest.approx(result.spearman, abs=0.02)
    assert abs(result.length_pearson) < 0.03


def test_ceiling_with_an_odd_number_of_responses() -> None:
    a, b, k = 1.0, 1.0, 5
    chance, scores = beta_prompts(20_000, k, a, b)
    assert calibrate(chance, scores, np.ones(20_000)).split_half == pytest.approx(k / (k + a + b), abs=0.015)


def test_brier_score_falls_into_noise_and_error() -> None:
    """p uniform: noise is mean p (1 − p) = 1/6; a critic that is off by .1 everywhere has the error .01; .5 for all has 1/12."""
    chance, scores = beta_prompts(20_000, 4, 1.0, 1.0)
    lengths = np.ones(20_000)
    shifted = np.where(chance < 0.5, chance + 0.1, chance - 0.1)
    result = calibrate(shifted, scores, lengths)
    assert result.brier == pytest.approx(((shifted[:, None] - scores) ** 2).mean())
    assert [result.brier_noise, result.brier_error] == pytest.approx([1 / 6, 0.01], abs=0.004)
    ignorant = calibrate(np.full(20_000, 0.5), scores, lengths)
    assert ignorant.brier_error == pytest.approx(1 / 12, abs=0.004)
    assert ignorant.brier == pytest.approx(ignorant.brier_constant, abs=1e-3)
    assert math.isnan(ignorant.pearson), "a constant has no correlation"


def test_length_is_a_predictor_of_its_own() -> None:
    chance, scores = beta_prompts(2_000, 16, 1.0, 1.0)
    result = calibrate(np.full(2_000, 0.5), scores, lengths=(1000 * (1 - chance)).astype(int))
    assert result.length_pearson == pytest.approx(result.ceiling_pearson, abs=0.02)


def test_reliability_table_by_hand() -> None:
    predicted = np.array([0.05, 0.09, 0.1, 1.0])
    scores = np.array([[0, 0], [1, 0], [1, 1], [1, 1]], dtype=float)
    low, second, last = calibrate(predicted, scores, np.ones(4)).table
    assert (low.prompts, low.predicted, low.solved.value) == (2, pytest.approx(0.07), 0.25)
    assert (second.low, second.prompts, second.solved.value) == (pytest.approx(0.1), 1, 1.0)
    assert (last.high, last.prompts) == (1.0, 1)


def test_one_response_to_a_prompt_has_no_ceiling() -> None:
    result = calibrate(np.array([0.2, 0.9]), np.array([[0.0], [1.0]]), np.array([5, 3]))
    assert math.isnan(result.ceiling_pearson)
    assert math.isnan(result.brier_noise)
    assert result.as_dict()["ceiling_pearson"] is None
    assert result.pearson == pytest.approx(1.0)


def test_spearman_brown() -> None:
    assert spearman_brown(0.5, 2.0) == pytest.approx(2 / 3)


@pytest.mark.parametrize("correlation", [0.0, -0.5, -1.0, -1.0 + 2.0**-53])
def test_halves_that_disagree_have_no_reliability(correlation: float) -> None:
    assert spearman_brown(correlation, 2.0) == 0.0


def test_prompts_of_which_half_the_responses_are_right_have_no_ceiling_above_0() -> None:
    """Whatever is right in one half of two responses is wrong in the other: r = −1 in every split."""
    result = calibrate(np.linspace(0.1, 0.9, 20), np.tile([0.0, 1.0], (20, 1)), np.arange(20))
    assert (result.split_half, result.ceiling_pearson, result.ceiling_spearman) == (0.0, 0.0, 0.0)


def test_a_bin_of_one_prompt_has_no_interval(tmp_path: Path) -> None:
    predicted, scores = np.array([0.05, 0.55, 0.58]), np.array([[0, 1], [0, 1], [1, 1]], dtype=float)
    result = calibrate(predicted, scores, np.ones(3))
    lone, pair = result.table
    assert np.isnan(lone.solved[1:]).all()
    assert pair.solved.low < pair.solved.high
    written = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert written["table"][0]["solved"] == {"value": 0.5, "low": None, "high": None}
    pytest.importorskip("matplotlib", reason="needs the [zoo] extra")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot_calibration(result, predicted, scores, tmp_path / "critic.svg")


def test_predictions_must_be_probabilities() -> None:
    with pytest.raises(ValueError, match=r"predictions in \[0, 1\]"):
        calibrate(np.array([0.2, 1.3]), np.zeros((2, 2)), np.ones(2))
    with pytest.raises(ValueError, match=r"scores \(P, k\)"):
        calibrate(np.array([0.2]), np.zeros((2, 2)), np.ones(2))


def test_the_plot_shows_every_prompt(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the [zoo] extra")
    chance, scores = beta_prompts(50, 4, 1.0, 1.0)
    plot_calibration(calibrate(chance, scores, np.ones(50)), chance, scores, tmp_path / "plots" / "critic.svg")
    drawn = (tmp_path / "plots" / "critic.svg").read_text()
    scatter = drawn[drawn.index('<g id="PathCollection_1">') :]
    assert scatter[: scatter.index("</g>\n    <g id=")].count("<use") >= 50


# ---------------------------------------------------------------- tail effect


def responses(count: int, read_from: float, seed: int = 0) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """
    A critic that knows each prompt's difficulty from the start, and reads the outcome off the response from some place on.
    """
    random = np.random.default_rng(seed)
    values, right, prompts = [], [], []
    for prompt in range(count):
        chance = random.uniform(0.1, 0.9)
        for _ in range(8):
            outcome = bool(random.random() < chance)
            length = int(random.integers(20, 60))
            place = np.arange(length) / (length - 1)
            values.append(np.where(place >= read_from, float(outcome), chance))
            right.append(outcome)
            prompts.append(prompt)
    return values, np.array(right), np.array(prompts)


def test_a_critic_of_the_prompt_alone_shows_no_tail_effect() -> None:
    points = tail_effect(*responses(60, read_from=2.0))
    assert [point.position for point in points] == pytest.approx(np.linspace(0, 1, 11))
    assert all(point.auc == (0.5, 0.5, 0.5) for point in points)
    assert all(abs(point.gap) < 1e-12 and math.isnan(point.correlation) for point in points)
    assert points[-1].pooled_auc > 0.7, "pooled over prompts it would look like knowledge of the outcome"


def test_reading_the_answer_shows_where_it_is_read() -> None:
    points = tail_effect(*responses(60, read_from=0.75))
    for point in points:
        reads = point.position > 0.75
        assert point.auc.value == (1.0 if reads else 0.5)
        assert point.gap == pytest.approx(1.0 if reads else 0.0)
        if reads:
            assert point.correlation == pytest.approx(1.0)


def test_noise_lowers_the_area_as_it_should() -> None:
    """Right and wrong values are normal, one standard deviation apart: AUC = Φ(1/√2) = .760."""
    random = np.random.default_rng(3)
    right = np.tile([True, False], 2000)
    values = [np.array([outcome + random.normal()]) for outcome in right]
    first, last = tail_effect(values, right, np.repeat(np.arange(200), 20), positions=2)
    assert first.auc == last.auc, "a response of one token has one value"
    assert first.auc.value == pytest.approx(0.760, abs=0.02)
    assert first.auc.low < 0.760 < first.auc.high
    assert first.auc.high - first.auc.low < 0.06


def test_what_cannot_be_compared_is_refused() -> None:
    one = [np.ones(3)] * 4
    with pytest.raises(ValueError, match="None of 2 prompts has both"):
        tail_effect(one, np.array([True, True, False, False]), np.array([0, 0, 1, 1]))
    with pytest.raises(ValueError, match="without tokens"):
        tail_effect([np.ones(0)], np.array([True]), np.array([0]))
    with pytest.raises(ValueError, match="do not fit"):
        tail_effect(one, np.array([True]), np.array([0]))
