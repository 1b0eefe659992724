"""
How well a critic that reads the prompt alone knows which prompts the policy solves.

Its prediction V of each prompt is held against avg@k, the share of k responses that were right. Two things stand beside it, without
which the figures say little: what the prompt's length alone would have predicted (long prompts are often the hard ones), and how well
anyone could have predicted avg@k, which is itself a sample (the ceiling).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sppo_rl.intervals import Estimate
from sppo_rl.llm.correlation import pearson, spearman
from sppo_rl.llm.metrics import mean_over_problems

_SPLITS = 200
"""Random halves that the ceiling is averaged over."""


class Bin(NamedTuple):
    """One row of a reliability table: the prompts whose prediction lies in an interval."""

    low: float
    """First prediction of the bin (included)."""
    high: float
    """End of the bin (excluded, but for the last one)."""
    prompts: int
    predicted: float
    """Mean prediction."""
    solved: Estimate
    """Mean avg@k, with an interval over prompts: see :func:`~sppo_rl.llm.metrics.mean_over_problems`."""


@dataclass(frozen=True)
class Calibration:
    """
    Figures of :func:`calibrate`; NaN where one does not exist (everything solved, nothing solved, k = 1).

    :param prompts: P
    :param samples: k
    :param pearson: correlation of V with avg@k
    :param spearman: the same of ranks
    :param length_pearson: correlation of minus the prompt's length with avg@k
    :param length_spearman: the same of ranks
    :param ceiling_pearson: correlation that the true chances of success would have with avg@k, from random halves of the responses
    :param ceiling_spearman: the same from the ranks of the halves, which is an approximation
    :param split_half: Spearman–Brown corrected correlation of the halves: the reliability of avg@k, whose root is the ceiling
    :param brier: mean of ``(V − outcome)²`` over all responses
    :param brier_noise: part of it that no prediction from the prompt can avoid, ``mean p (1 − p)``, estimated without bias
    :param brier_error: the rest, an unbiased estimate of ``mean (V − p)²``; may be slightly negative
    :param brier_constant: Brier score of predicting the mean outcome for every prompt
    :param table: reliability table, empty bins left out
    """

    prompts: int
    samples: int
    pearson: float
    spearman: float
    length_pearson: float
    length_spearman: float
    ceiling_pearson: float
    ceiling_spearman: float
    split_half: float
    brier: float
    brier_noise: float
    brier_error: float
    brier_constant: float
    table: tuple[Bin, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, lists and dictionaries for JSON; ``None`` in the place of NaN."""
        numbers = {name: value for name, value in asdict(self).items() if name != "table"}
        rows = [{**row._asdict(), "solved": row.solved.as_dict()} for row in self.table]
        return {**{n: None if isinstance(v, float) and math.isnan(v) else v for n, v in numbers.items()}, "table": rows}


def calibrate(predicted: np.ndarray, scores: np.ndarray, lengths: np.ndarray, bins: int = 10, seed: int = 0) -> Calibration:
    """
    Compare predictions with outcomes.

    For p̂ = avg@k of a prompt, ``mean (V − R)² = (V − p̂)² + p̂ (1 − p̂)`` over its k responses. The second term is k − 1 k-ths of
    p (1 − p) on average, which gives the two parts of the Brier score without bias.

    Example: V = .5 for two prompts with the outcomes 1, 1 and 1, 0. Brier is .25; noise is mean(0, 2 · ¼) = .25; error is 0. With more
    responses the error would show: an estimate is unbiased, not exact.

    :param predicted: (P,) V in [0, 1]
    :param scores: (P, k) outcomes of the responses in [0, 1]
    :param lengths: (P,) tokens of each prompt
    :param bins: rows of the reliability table, of equal width
    :param seed: of the random halves and of the intervals
    :raises ValueError: if shapes do not fit, or a prediction is no probability
    """
    predicted, scores = np.asarray(predicted, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    if scores.ndim != 2 or not len(predicted) == len(scores) == len(lengths):
        raise ValueError(
            f"Needed: V (P,), scores (P, k), lengths (P,); got {predicted.shape}, {scores.shape} and {np.shape(lengths)}."
        )
    if not len(predicted) or not ((predicted >= 0.0) & (predicted <= 1.0)).all():
        raise ValueError("Calibration needs at least one prompt, and predictions in [0, 1] (critic_loss='bce').")
    count, k = scores.shape
    solved = scores.mean(axis=1)
    shorter = -np.asarray(lengths, dtype=np.float64)
    brier = float(((predicted[:, None] - scores) ** 2).mean())
    # of binary outcomes the variance is p̂ (1 − p̂); written so that soft scores are covered as well
    noise = float(scores.var(axis=1, ddof=1).mean()) if k > 1 else math.nan
    halves = {
        name: np.nanmean(values) if not np.isnan(values).all() else math.nan
        for name, values in _split_halves(scores, seed).items()
    }
    reliability = {name: spearman_brown(r, k / (k // 2)) if k > 1 else math.nan for name, r in halves.items()}
    return Calibration(
        prompts=count,
        samples=k,
        pearson=pearson(predicted, solved),
        spearman=spearman(predicted, solved),
        length_pearson=pearson(shorter, solved),
        length_spearman=spearman(shorter, solved),
        ceiling_pearson=math.sqrt(reliability["pearson"]),
        ceiling_spearman=math.sqrt(reliability["spearman"]),
        split_half=reliability["pearson"],
        brier=brier,
        brier_noise=noise,
        brier_error=brier - noise,
        brier_constant=float(((scores - scores.mean()) ** 2).mean()),
        table=tuple(_reliability_table(predicted, solved, bins, seed)),
    )


def spearman_brown(correlation: float, factor: float) -> float:
    """
    Predict the reliability of a test that is longer by a factor (Spearman and Brown, 1910): ``m r / (1 + (m − 1) r)``.

    Example: halves that correlate with .5 make a whole (m = 2) of reliability 2/3. Halves that disagree do so by chance: they have
    reliability 0, and the formula a pole at ``r = −1 / (m − 1)``.

    :param correlation: r, of the short tests
    :param factor: m
    """
    if correlation <= 0.0:
        return 0.0
    return factor * correlation / (1.0 + (factor - 1.0) * correlation)


def _split_halves(scores: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Correlations of the means of two random halves of each prompt's responses, (splits,) each; of odd k one response stays out."""
    random = np.random.default_rng(seed)
    half = scores.shape[1] // 2
    found: dict[str, list[float]] = {"pearson": [math.nan], "spearman": [math.nan]}
    for _ in range(_SPLITS if half else 0):
        mixed = random.permuted(scores, axis=1)
        first, second = mixed[:, :half].mean(axis=1), mixed[:, half : 2 * half].mean(axis=1)
        found["pearson"].append(pearson(first, second))
        found["spearman"].append(spearman(first, second))
    return {name: np.array(values) for name, values in found.items()}


def _reliability_table(predicted: np.ndarray, solved: np.ndarray, bins: int, seed: int) -> list[Bin]:
    edges = np.linspace(0.0, 1.0, bins + 1)
    place = np.clip(np.searchsorted(edges, predicted, side="right") - 1, 0, bins - 1)
    rows = []
    for number in range(bins):
        inside = place == number
        if inside.any():
            low, high = float(edges[number]), float(edges[number + 1])
            estimate = mean_over_problems([solved[inside]], seed=seed)
            rows.append(Bin(low, high, int(inside.sum()), float(predicted[inside].mean()), estimate))
    return rows


def plot_calibration(result: Calibration, predicted: np.ndarray, scores: np.ndarray, path: str | Path) -> None:
    """
    Draw the reliability diagram: each prompt as a dot, each bin with its interval.

    :param result: of :func:`calibrate`
    :param predicted: (P,) V
    :param scores: (P, k) outcomes
    :param path: of the image; its ending chooses the format
    :raises ImportError: if matplotlib is not installed
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.0, 4.6), dpi=130, layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--", label="V = avg@k")
    axes.scatter(predicted, scores.mean(axis=1), s=9, alpha=0.35, color="C0", linewidths=0, label=f"{result.prompts} prompts")
    for row in result.table:
        axes.plot([row.predicted] * 2, [row.solved.low, row.solved.high], color="C1", linewidth=1.5)
    axes.plot(
        [row.predicted for row in result.table],
        [row.solved.value for row in result.table],
        "o-",
        color="C1",
        label="bins, 95 %",
    )
    axes.set(
        xlabel="V(prompt)", ylabel=f"avg@{result.samples}", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02),
        title=f"Pearson {result.pearson:.2f} (ceiling {result.ceiling_pearson:.2f}, length {result.length_pearson:.2f})",
    )  # fmt: skip
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, loc="upper left")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
