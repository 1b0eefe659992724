"""Plots of a report that go over all tasks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from sppo_rl.zoo.names import LABELS
from sppo_rl.zoo.results.aggregates import METRICS, Estimate
from sppo_rl.zoo.results.plots import COLOURS


def plot_profiles(profiles: Mapping[str, tuple[np.ndarray, np.ndarray]], thresholds: np.ndarray, path: Path) -> None:
    """
    Draw performance profiles: the higher a line, the more runs are that good.

    :param profiles: algorithm → fractions (n,), and their intervals (2, n)
    :param thresholds: (n,)
    :param path: of the image
    """
    figure = Figure(figsize=(6.0, 4.0), dpi=130, layout="constrained")
    panel = figure.subplots()
    for algo, (fractions, (low, high)) in profiles.items():
        (line,) = panel.plot(thresholds, fractions, color=COLOURS.get(algo), label=LABELS.get(algo, algo))
        panel.fill_between(thresholds, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
    panel.set(xlabel="final success τ", ylabel="fraction of runs above τ", ylim=(-0.03, 1.03), xlim=(0, 1))
    panel.grid(alpha=0.25)
    panel.legend(fontsize=8)
    figure.savefig(path)


def plot_intervals(estimates: Mapping[str, Mapping[str, Estimate]], path: Path) -> None:
    """
    Draw interquartile means with their intervals, one panel for each metric.

    :param estimates: metric → algorithm → estimate
    :param path: of the image
    """
    algos = list(next(iter(estimates.values())))
    figure = Figure(figsize=(3.4 * len(estimates), 0.8 + 0.35 * len(algos)), dpi=130, layout="constrained")
    panels = figure.subplots(1, len(estimates), squeeze=False, sharey=True)[0]
    for panel, (metric, of_metric) in zip(panels, estimates.items(), strict=True):
        for height, (algo, (value, low, high)) in enumerate(of_metric.items()):
            panel.plot([low, high], [height, height], color=COLOURS.get(algo), linewidth=8, alpha=0.4, solid_capstyle="butt")
            panel.plot(value, height, "|", color="black", markersize=11)
        panel.set(title=METRICS[metric], yticks=range(len(algos)), yticklabels=[LABELS.get(algo, algo) for algo in algos])
        panel.set_ylim(len(algos) - 0.5, -0.5)
        panel.title.set_fontsize(9)
        panel.grid(alpha=0.25, axis="x")
    figure.savefig(path)
