"""Tables and files that ``sppo-rl evaluate`` gives for language models."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sppo_rl.envs.reasoning.bandit import ReasoningTask
from sppo_rl.envs.reasoning.benchmarks import Loaded
from sppo_rl.intervals import Estimate
from sppo_rl.llm.benchmarking import Outcomes, Scores, summarise
from sppo_rl.llm.calibration import calibrate, plot_calibration
from sppo_rl.llm.critic import PromptCritic

MEAN = "mean"
"""How tables and files call the mean over several benchmarks; none of them may be called so."""


def summary_rows(found: Mapping[str, Outcomes]) -> dict[str, Scores]:
    """
    Sum up each benchmark, and the mean over them where there are several.

    :param found: name → outcomes
    """
    rows = {name: summarise([part]) for name, part in found.items()}
    if len(rows) > 1:
        rows[MEAN] = summarise(list(found.values()))
    return rows


def as_json(rows: Mapping[str, Scores], sets: Mapping[str, Loaded], tasks: Mapping[str, ReasoningTask]) -> dict[str, Any]:
    """
    Give the results for ``summary.json``.

    :param rows: name → scores
    :param sets: name → problems and what was left out
    :param tasks: name → problems that fit
    """
    benchmarks = {
        name: {**rows[name].as_dict(), "malformed_golds": sets[name].malformed, "too_long": tasks[name].dropped}
        for name in sets
    }
    return {"benchmarks": benchmarks, **({MEAN: rows[MEAN].as_dict()} if MEAN in rows else {})}


def table_cells(
    rows: Mapping[str, Scores], sets: Mapping[str, Loaded], tasks: Mapping[str, ReasoningTask]
) -> tuple[list[str], list[list[str]]]:
    """
    Put the results into words.

    :param rows: name → scores
    :param sets: name → problems and what was left out
    :param tasks: name → problems that fit
    :return: headings, and the cells of each row
    """
    k = next(iter(rows.values())).k
    headings = ["benchmark", "problems", f"avg@{k}", f"pass@{k}", f"maj@{k}", "tokens", "cut", "answered"]
    cells = []
    for name, scores in rows.items():
        left_out = len(sets[name].malformed) + tasks[name].dropped if name in sets else 0
        problems = f"{scores.problems}" + (f" (+{left_out})" if left_out else "")
        estimates = [_estimate(estimate) for estimate in (scores.avg, scores.passed, scores.majority)]
        rest = [f"{scores.tokens:.0f}", _short(scores.truncated), _short(scores.answered)]
        cells.append([name, problems, *estimates, *rest])
    return headings, cells


def _estimate(estimate: Estimate | None) -> str:
    return "–" if estimate is None else f"{_short(estimate.value)} [{_short(estimate.low)}, {_short(estimate.high)}]"


def _short(value: float) -> str:
    """.250, 1.000, -.500; a dash for a statistic that does not exist."""
    return "–" if math.isnan(value) else f"{value:.3f}".replace("0.", ".", 1) if abs(value) < 0.9995 else f"{value:.3f}"


def verdicts(rows: Mapping[str, Scores]) -> str:
    """
    Say how often the verifier gave which reason.

    :param rows: name → scores
    """
    reasons: dict[str, int] = {}
    for name, scores in rows.items():
        for reason, count in scores.reasons.items() if name != MEAN else ():
            reasons[reason] = reasons.get(reason, 0) + count
    return (
        "Verdicts: "
        + ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items(), key=lambda item: -item[1]))
        + "."
    )


def calibration_report(source: Path, found: Mapping[str, Outcomes], tasks: Mapping[str, ReasoningTask], folder: Path) -> str:
    """
    Hold the critic's predictions against avg@k over all benchmarks; writes ``calibration.json`` and ``calibration.png``.

    :param source: the critic's folder
    :param found: name → outcomes
    :param tasks: name → problems
    :param folder: where to
    :return: the figures in words
    """
    prompts = [ids for task in tasks.values() for ids in task.encoded]
    predicted = PromptCritic.load(source).predict_solvability(prompts)
    scores = np.concatenate([part.scores for part in found.values()])
    result = calibrate(predicted, scores, np.array([len(ids) for ids in prompts]))
    (folder / "calibration.json").write_text(json.dumps(result.as_dict(), indent=1) + "\n", encoding="utf-8")
    plot_calibration(result, predicted, scores, folder / "calibration.png")
    lines = [
        f"{name} {_short(value)} (ceiling {_short(ceiling)}, minus length {_short(length)})"
        for name, value, ceiling, length in (
            ("Pearson", result.pearson, result.ceiling_pearson, result.length_pearson),
            ("Spearman", result.spearman, result.ceiling_spearman, result.length_spearman),
        )
    ]
    brier = f"Brier {_short(result.brier)} (noise {_short(result.brier_noise)}, error {_short(result.brier_error)}"
    return (
        f"V(prompt) against avg@{result.samples} of {result.prompts} prompts: {', '.join(lines)}, {brier}; a constant has "
        f"{_short(result.brier_constant)})."
    )
