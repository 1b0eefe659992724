"""What the paper claims of SPPO and its rivals on control tasks, in figures from the results of control_comparison.sh.

Differences between SPPO and each rival, and between PPO + BCE and PPO (final success, sampled and greedy, and area under the curve), with
Welch's 95 % intervals over seeds; those from SPPO once more for the runs of tuned_comparison.py. For each algorithm: the episodes after
which a run first has half of the way from the prior's success to 1 behind it; the runs that ended below where they began; and how unsteady
they were. A run's deepest fall is the largest drop of sampled success from an earlier evaluation. Evaluations of 100 episodes differ by
chance alone, so beside the mean fall stands what steady runs would have shown: the best never-falling curve through each run's evaluations
(isotonic regression), with binomial noise added anew 1,000 times.

    python benchmarks/control_claims.py
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import isotonic_regression
from scipy.stats import t as student

from sppo_rl.zoo.results.aggregates import METRICS, score_matrices
from sppo_rl.zoo.results.rows import Row, read_results, runs_of

FOLDER = Path(__file__).resolve().parent / "results"
COMPARISONS = ("control_comparison", "control_rivals", "control_more_seeds")
"""Folders under it, with one for each task; together they have every run."""
TUNED = "tuned_comparison"
EVALUATION_EPISODES = 100
"""In each evaluation of control_comparison.sh."""
SIMULATIONS = 1000


def difference(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float, float]:
    """
    Difference of two means with Welch's 95 % interval.

    :param ours: one figure for each run
    :param theirs: likewise
    :return: difference, low, high
    """
    squares = [float(np.var(group, ddof=1)) / len(group) for group in (ours, theirs)]
    mean, spread = float(np.mean(ours) - np.mean(theirs)), sum(squares)
    if spread == 0.0:
        return mean, mean, mean
    freedom = spread**2 / sum(square**2 / (len(group) - 1) for square, group in zip(squares, (ours, theirs), strict=True))
    half = float(student.ppf(0.975, freedom)) * spread**0.5
    return mean, mean - half, mean + half


def deepest_fall(curve: Sequence[float] | np.ndarray) -> float:
    """
    Largest drop below an earlier value.

    :param curve: success at each evaluation
    """
    curve = np.asarray(curve)
    return float(np.max(np.maximum.accumulate(curve) - curve))


def falls_of_steady_runs(curves: Sequence[Sequence[float]], rng: np.random.Generator) -> np.ndarray:
    """
    Mean deepest fall of runs that never get worse and are evaluated as these were.

    :param curves: success of each run at each evaluation
    :param rng: draws the noise
    :return: (SIMULATIONS,)
    """
    falls = np.zeros(SIMULATIONS)
    for curve in curves:
        steady = np.clip(isotonic_regression(curve).x, 0.0, 1.0)
        seen = rng.binomial(EVALUATION_EPISODES, steady, size=(SIMULATIONS, len(steady))) / EVALUATION_EPISODES
        falls += [deepest_fall(one) for one in seen]
    return falls / len(curves)


def episodes_to_halfway(run: Sequence[Row]) -> int | None:
    """
    Episodes at the first evaluation with half of the way from the start's success to 1 behind it.

    :param run: its evaluations in order, the first before any training
    :return: ``None`` if there is none
    """
    level = 0.5 * (run[0]["success"] + 1.0)
    return next((int(row["episodes"]) for row in run if row["success"] >= level), None)


def figures(rows: Sequence[Row]) -> dict[str, list[dict[str, Any]]]:
    """
    Work everything out.

    :param rows: evaluations of one or more tasks
    """
    rng = np.random.default_rng(0)
    runs = runs_of(rows)
    of_the_loss, curves = [], []
    for env in dict.fromkeys(row["env"] for row in rows):
        for metric in METRICS:
            scores = score_matrices([row for row in rows if row["env"] == env], metric)
            of_the_loss.append(_row(env, metric, scores, "ppo-bce", "ppo"))
        for algo in (algo for of, algo in runs if of == env):
            each = [run for _, run in sorted(runs[env, algo].items())]
            success = [[row["success"] for row in run] for run in each]
            falls, chance = [deepest_fall(curve) for curve in success], falls_of_steady_runs(success, rng)
            curves.append(
                {
                    "env": env,
                    "algo": algo,
                    "final_success": [curve[-1] for curve in success],
                    "ended_below_start": sum(curve[-1] < curve[0] for curve in success),
                    "episodes_to_halfway": [episodes_to_halfway(run) for run in each],
                    "deepest_falls": [round(fall, 3) for fall in falls],
                    "deepest_fall_mean": round(float(np.mean(falls)), 3),
                    "steady_runs_fall_mean": round(float(chance.mean()), 3),
                    "steady_runs_fall_97.5%": round(float(np.quantile(chance, 0.975)), 3),
                }
            )
    return {"differences_from_sppo": differences_from_sppo(rows), "ppo_bce_from_ppo": of_the_loss, "curves": curves}


def differences_from_sppo(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """
    SPPO's difference from each rival on each task, in each measure.

    :param rows: evaluations of one or more tasks
    """
    found = []
    for env in dict.fromkeys(row["env"] for row in rows):
        for metric in METRICS:
            scores = score_matrices([row for row in rows if row["env"] == env], metric)
            found += [_row(env, metric, scores, "sppo", rival) for rival in scores if rival != "sppo"]
    return found


def _row(env: str, metric: str, scores: Mapping[str, np.ndarray], ours: str, theirs: str) -> dict[str, Any]:
    """The difference between two algorithms on one task; scores are (seeds, 1)."""
    values = difference(scores[ours][:, 0].tolist(), scores[theirs][:, 0].tolist())
    rounded = {name: round(value, 4) for name, value in zip(("difference", "low", "high"), values, strict=True)}
    return {"env": env, "rival": theirs, "metric": metric, **rounded}


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=FOLDER / "control_claims.json")
    arguments = parser.parse_args(words)
    folders = [folder for name in COMPARISONS for folder in sorted((FOLDER / name).iterdir())]
    rows = [row for folder in folders for row in read_results(folder)]
    tuned = [row for folder in sorted((FOLDER / TUNED).glob("*/tuned")) for row in read_results(folder)]
    found = {**figures(rows), "tuned_differences_from_sppo": differences_from_sppo(tuned)}
    lines = [
        f" {json.dumps(key)}: [\n" + ",\n".join(f"  {json.dumps(row)}" for row in of) + "\n ]" for key, of in found.items()
    ]
    text = "{\n" + ",\n".join([f' "command": {json.dumps("python benchmarks/control_claims.py")}', *lines]) + "\n}\n"
    arguments.out.write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
