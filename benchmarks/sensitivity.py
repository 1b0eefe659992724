"""How much each hyperparameter decided in the searches of tuned_comparison.py.

A trial's rank in its own study (0 for the worst of the twenty, 1 for the best, ties share) makes tasks and algorithms comparable. For each
value of a hyperparameter: the mean rank of the trials that had it. A search draws the values that did well more often, so counts differ,
and a value may owe its rank to what it was drawn with: this says where to look first, not what causes what.

    python benchmarks/sensitivity.py
    python benchmarks/sensitivity.py Hopper
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

from sppo_rl.zoo.names import LABELS

FOLDER = Path(__file__).resolve().parent / "results" / "tuned_comparison"
TRIALS = "trials.csv"
RATES = (1e-4, 3.2e-4, 1e-3, 3.2e-3, 1e-2)
"""Ends of the bands of learning rates, two to a decade."""
SEARCHED = (
    "learning_rate", "n_epochs", "n_minibatches", "clip_range", "ent_coef", "max_grad_norm", "critic_learning_rate", "critic_init",
    "normalize_advantage", "advantage", "gae_lambda", "vf_coef", "group_size",
)  # fmt: skip
NOT_IN_BANDS = ("vf_coef",)
"""Drawn from a range, by one algorithm: no table has it."""

Trial = Mapping[str, str]
"""A row of ``trials.csv``; empty where a study does not search a hyperparameter, or the starting point lies outside the space."""


def write_trials(studies: Path, algos: Sequence[str], path: Path) -> None:
    """
    Write the finished trials of a task.

    :param studies: folder with the journal of each algorithm's search
    :param algos: names on the command line
    :param path: of the file; its folder is made
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalStorage

    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, ("algo", "trial", "success", *SEARCHED), restval="", lineterminator="\n")
        writer.writeheader()
        for algo in algos:
            storage = JournalStorage(JournalFileBackend(str(studies / f"{algo}.log")))
            for trial in optuna.load_study(study_name="tune", storage=storage).trials:
                if trial.value is not None:
                    drawn = {name: _cell(value) for name, value in trial.params.items()}
                    writer.writerow({"algo": algo, "trial": trial.number, "success": round(trial.value, 4), **drawn})


def _cell(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def read_trials(folder: Path = FOLDER) -> dict[str, list[Trial]]:
    """
    Read all trials that were kept.

    :param folder: with a folder for each task
    :return: task → trials
    """
    found: dict[str, list[Trial]] = {}
    for path in sorted(folder.glob(f"*/{TRIALS}")):
        with open(path, newline="") as file:
            found[path.parent.name] = list(csv.DictReader(file))
    return found


def ranked(trials: Iterable[Trial]) -> list[tuple[Trial, float]]:
    """
    Rank each trial among those of its algorithm.

    :param trials: of one task
    :return: each with its rank, 0 to 1
    """
    by_algorithm: dict[str, list[Trial]] = {}
    for trial in trials:
        by_algorithm.setdefault(trial["algo"], []).append(trial)
    found: list[tuple[Trial, float]] = []
    for study in by_algorithm.values():
        ranks = (rankdata([float(trial["success"]) for trial in study]) - 1.0) / max(len(study) - 1, 1)
        found += zip(study, ranks.tolist(), strict=True)
    return found


def shown(name: str, value: str) -> str:
    """
    Give the value or, of a learning rate, the band that it lies in.

    :param name: of the hyperparameter
    :param value: as ``trials.csv`` has it
    """
    if not name.endswith("learning_rate"):
        return value
    band = int(np.clip(np.searchsorted(RATES, float(value), side="right") - 1, 0, len(RATES) - 2))
    return f"{RATES[band]:g} to {RATES[band + 1]:g}"


def mean_ranks(trials: Sequence[tuple[Trial, float]]) -> dict[tuple[str, str], tuple[int, float]]:
    """
    Average the ranks of the trials that have a value.

    :param trials: with their ranks
    :return: (hyperparameter, value) → trials, mean rank
    """
    groups: dict[tuple[str, str], list[float]] = {}
    for trial, rank in trials:
        for name in SEARCHED:
            if trial[name] and name not in NOT_IN_BANDS:
                groups.setdefault((name, shown(name, trial[name])), []).append(rank)
    order = sorted(groups, key=lambda key: (SEARCHED.index(key[0]), _size(key[1]), key[1]))
    return {key: (len(groups[key]), float(np.mean(groups[key]))) for key in order}


def _size(value: str) -> float:
    try:
        return float(value.split()[0])
    except ValueError:
        return 0.0


def table(tasks: Mapping[str, Sequence[Trial]], in_columns: Mapping[str, Collection[str]]) -> list[list[str]]:
    """
    Put the mean ranks into a table.

    :param tasks: task → trials
    :param in_columns: heading → algorithms whose trials count
    :return: hyperparameter, value, and for each column ``mean rank (trials)``, empty where there is none
    """
    pooled = [pair for trials in tasks.values() for pair in ranked(trials)]
    columns = [mean_ranks([pair for pair in pooled if pair[0]["algo"] in algos]) for algos in in_columns.values()]
    rows = []
    for name, value in mean_ranks(pooled):
        cells = [column.get((name, value)) for column in columns]
        rows.append([f"`{name}`", value, *(f"{cell[1]:.2f} ({cell[0]})" if cell else "" for cell in cells)])
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", metavar="TASK", help="all that have trials, unless some are named")
    kept = read_trials()
    tasks = {task: kept[task] for task in parser.parse_args().tasks or kept}
    columns = {"all": LABELS.keys(), "SPPO": ["sppo"]}
    print(f"{', '.join(tasks)}\n\n| hyperparameter | value | {' | '.join(columns)} |\n| --- | --- |{' --- |' * len(columns)}")
    for row in table(tasks, columns):
        print(f"| {' | '.join(row)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
