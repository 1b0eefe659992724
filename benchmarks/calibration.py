"""How well SPPO's critic knows which prompts the policy solves: V(s) against avg@64 on 200 held-out prompts (the paper's Fig. 7).

    python benchmarks/calibration.py --seeds 0 1 2

On the tiny language task. Runs are those of language_comparison.sh, trained where they are not there (2.5 minutes of one core each);
responses, 2 minutes more for each run, are kept in runs/calibration, so that the same command goes on after a kill. Beside V stand what the
prompt's length alone would have predicted, and the ceiling: avg@64 is a sample itself, and nothing correlates with it better than the true
chances of success would. ``before`` is the critic that training begins with: it says .5 of every prompt, so it has no correlation.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from trained import (
    RESULTS,
    add_arguments,
    after_training,
    before_training,
    held_out,
    prompt_values,
    respond_with,
    train,
    write_result,
)

from sppo_rl.envs.reasoning.bandit import ReasoningTask
from sppo_rl.llm.benchmarking import respond_into_file
from sppo_rl.llm.calibration import Calibration, calibrate, plot_calibration
from sppo_rl.llm.correlation import pearson, spearman
from sppo_rl.llm.loading import fingerprint
from sppo_rl.llm.policy import TransformerPolicy
from sppo_rl.zoo.language import runs as language_runs
from sppo_rl.zoo.results import provenance

HOPELESS, SURE = 0.1, 0.9
"""Prompts that at most, or at least, this share of responses solves."""
BATCH = 256
"""Responses sampled side by side."""
RESAMPLES = 2000
FIGURES = ("pearson", "spearman", "brier", "length_pearson", "length_spearman", "ceiling_pearson", "ceiling_spearman")


def scores_of(policy: TransformerPolicy, task: ReasoningTask, k: int, path: Path) -> np.ndarray:
    """(P, k) outcomes of k responses to each problem; goes on with the file where there is one."""
    total, done = len(task.problems) * k, 0

    def show(records: list[Any]) -> None:
        nonlocal done
        done += len(records)
        print(f"\r{path.stem}: {done:,} of {total:,} responses", end="" if done < total else "\n", file=sys.stderr, flush=True)

    settings = {"model": fingerprint(policy.model), "temperature": policy.temperature}
    records = respond_into_file(path, settings, task, respond_with(policy), k, BATCH, 0, show)
    return np.array([record["score"] for record in records]).reshape(-1, k)


def intervals(values: np.ndarray, solved: np.ndarray, lengths: np.ndarray) -> dict[str, list[float]]:
    """95 % percentile bootstrap over prompts: of the correlations, and of how much they exceed those of the length."""
    rng = np.random.default_rng(0)
    found: dict[str, list[float]] = {}
    for _ in range(RESAMPLES):
        rows = rng.integers(len(values), size=len(values))
        for name, of in (("pearson", pearson), ("spearman", spearman)):
            r = of(values[rows], solved[rows])
            found.setdefault(f"{name}_interval", []).append(r)
            found.setdefault(f"{name}_beyond_length_interval", []).append(r - of(-lengths[rows], solved[rows]))
    return {name: [float(quantile) for quantile in np.quantile(drawn, [0.025, 0.975])] for name, drawn in found.items()}


def describe(
    policy: TransformerPolicy, task: ReasoningTask, scores: np.ndarray
) -> tuple[dict[str, Any], Calibration, np.ndarray]:
    """One row of the result."""
    values = prompt_values(policy, task)
    lengths = np.array([len(ids) for ids in task.encoded])
    result = calibrate(values, scores, lengths)
    solved = scores.mean(axis=1)
    row: dict[str, Any] = {"avg": float(solved.mean()), "value_mean": float(values.mean())}
    for name, chosen in (("hopeless", solved <= HOPELESS), ("sure", solved >= SURE)):
        row[f"{name}_prompts"] = int(chosen.sum())
        row[f"value_of_{name}"] = float(values[chosen].mean()) if chosen.any() else None
    row |= result.as_dict()
    if np.ptp(values):
        row |= {f"{name}_beyond_length": row[name] - row[f"length_{name}"] for name in ("pearson", "spearman")}
        row |= intervals(values, solved, lengths)
    return row, result, values


def measure(folder: Path, task: ReasoningTask, k: int, work: Path, plot: Path | None = None) -> dict[str, Any]:
    """V against avg@k at the end of a run."""
    config, seed = language_runs.read_config(folder)
    policy = after_training(folder)
    scores = scores_of(policy, task, k, work / f"after_{config.responses}_seed_{seed}.jsonl")
    row, result, values = describe(policy, task, scores)
    if plot is not None:
        plot_calibration(result, values, scores, plot)
    return {"seed": seed, "when": "after", **row}


def measure_before(folder: Path, task: ReasoningTask, k: int, work: Path) -> dict[str, Any]:
    """The same at the start, which is the prior whatever the seed."""
    config, seed = language_runs.read_config(folder)
    policy = before_training(config, seed)
    return {"seed": None, "when": "before", **describe(policy, task, scores_of(policy, task, k, work / "before.jsonl"))[0]}


def over_seeds(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation of each figure."""
    found = {}
    for name in (
        *FIGURES,
        "brier_noise",
        "brier_error",
        "brier_constant",
        "avg",
        "value_mean",
        "value_of_hopeless",
        "value_of_sure",
    ):
        values = [row[name] for row in rows if row[name] is not None]
        found[name] = {
            "mean": statistics.mean(values) if values else None,
            "std": statistics.stdev(values) if len(values) > 1 else None,
        }
    return found


def line(row: dict[str, Any]) -> str:
    """For people."""

    def number(name: str) -> str:
        return "–" if row[name] is None else f"{row[name]:.3f}"

    who = "before" if row["when"] == "before" else f"after, seed {row['seed']}"
    return (
        f"{who}: avg@{row['samples']} {row['avg']:.3f}; Pearson {number('pearson')} (length {number('length_pearson')}, ceiling "
        f"{number('ceiling_pearson')}), Spearman {number('spearman')}, Brier {row['brier']:.4f} (constant {row['brier_constant']:.4f}, "
        f"noise {row['brier_noise']:.4f}); V of hopeless prompts {number('value_of_hopeless')} ({row['hopeless_prompts']}), of sure ones "
        f"{number('value_of_sure')} ({row['sure_prompts']})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, seeds=3)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--k", type=int, default=64, help="responses to each prompt")
    parser.add_argument("--work", type=Path, default=Path("runs/calibration"), metavar="DIR", help="keeps the responses")
    parser.add_argument("--out", type=Path, default=RESULTS / "calibration.json")
    arguments = parser.parse_args()
    th.set_num_threads(1)
    folders = train(["sppo"], arguments.seeds, arguments.runs, arguments.responses, arguments.jobs)
    config, _ = language_runs.read_config(next(iter(folders.values())))
    task = held_out(config, arguments.prompts)
    rows = [measure_before(next(iter(folders.values())), task, arguments.k, arguments.work)]
    print(line(rows[0]), flush=True)
    for number, folder in enumerate(folders.values()):
        plot = None if number else arguments.out.with_suffix(".png")
        rows.append(measure(folder, task, arguments.k, arguments.work, plot))
        print(line(rows[-1]), flush=True)
    task.close()
    result = {
        **provenance.describe(["python", "benchmarks/calibration.py", *sys.argv[1:]]),
        "responses_of_training": config.responses,
        "prompts": len(task.problems),
        "k": arguments.k,
        "hopeless_up_to": HOPELESS,
        "sure_from": SURE,
        "after_over_seeds": over_seeds(rows[1:]),
        "rows": rows,
    }
    write_result(arguments.out, result)


if __name__ == "__main__":
    main()
