"""Runs of named variants of algorithms on one task, side by side: what the scripts share that change one thing at a time."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch as th

from sppo_rl.atomic import write_atomically
from sppo_rl.callbacks import read_evaluations
from sppo_rl.zoo.names import file_name
from sppo_rl.zoo.results import control_table, provenance
from sppo_rl.zoo.results.plots import plot_comparison
from sppo_rl.zoo.results.rows import COLUMNS, Row, summarize, summary_csv, to_csv
from sppo_rl.zoo.running.folders import EVALUATIONS, LAST_MODEL
from sppo_rl.zoo.running.runs import RunSpec, run
from sppo_rl.zoo.settings.hyperparameters import read_entry

Variants = Mapping[str, tuple[str, dict[str, Any]]]
"""Name → algorithm, and the hyperparameters that differ from its starting point."""
HERE = Path(__file__).resolve().parent
STARTING_POINTS = HERE / "hyperparams"


def add_arguments(parser: argparse.ArgumentParser, name: str, seeds: int | None) -> None:
    """
    Add the options that these scripts share.

    :param parser: of the script
    :param name: of the folders of runs and of results
    :param seeds: how many by default; ``None`` for all that a study has
    """
    parser.add_argument("--seeds", type=int, default=seeds, help=f"how many (default {'all' if seeds is None else seeds})")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--work", type=Path, default=Path("runs") / name, help="folder of the runs; what is there is kept")
    parser.add_argument("--out", type=Path, default=HERE / "results" / name, help="folder of the results")


def compare_variants(
    variants: Variants,
    env_id: str,
    seeds: Iterable[int],
    *,
    episodes: int,
    eval_every: int,
    eval_episodes: int,
    work: Path,
    out: Path,
    jobs: int,
    command: list[str],
) -> None:
    """
    Train every variant with every seed, in processes of one thread each, and write results, summary, table, plot and provenance.

    :param variants: what to train
    :param env_id: the task; training starts from its prior
    :param seeds: of the runs
    :param episodes: of each run
    :param eval_every: episodes between evaluations
    :param eval_episodes: of each evaluation
    :param work: folder of the runs; what was done there before is kept
    :param out: folder of the results
    :param jobs: processes
    :param command: words for the provenance
    """
    specs = {
        (name, seed): RunSpec(
            algo,
            env_id,
            seed=seed,
            episodes=episodes,
            overrides=overrides,
            entry=read_entry(algo, env_id, STARTING_POINTS),
            eval_every=eval_every,
            eval_episodes=eval_episodes,
        ).check()
        for name, (algo, overrides) in variants.items()
        for seed in seeds
    }
    folders = [work / file_name(name) / f"seed_{seed}" for name, seed in specs]
    rows: list[Row] = []
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for (name, seed), done in zip(specs, pool.map(_evaluations, specs.values(), folders), strict=True):
            print(f"{name}, seed {seed}: success {done[-1]['success']:.3f}", flush=True)
            rows += [{"env": env_id, "algo": name, "seed": seed, **row} for row in done]
    out.mkdir(parents=True, exist_ok=True)
    provenance.record(out, command)
    summaries = summarize(rows)
    write_atomically(out / "results.csv", to_csv(COLUMNS, rows))
    write_atomically(out / "summary.csv", summary_csv(summaries))
    write_atomically(out / "table.md", control_table.markdown(summaries))
    plot_comparison(rows, out / "plot.png")


def _evaluations(spec: RunSpec, folder: Path) -> list[Row]:
    """Of one run, which is trained unless it was before."""
    th.set_num_threads(1)
    if not (folder / LAST_MODEL).exists():
        run(spec, folder, resume=True)
    return read_evaluations(folder / EVALUATIONS)
