"""Train algorithms x seeds on one or more tasks, in parallel over the cores, and draw up the results.

  sppo-rl compare --env sppo_rl/PrecisionCartPole200-v0 --algos sppo ppo sb3-ppo --seeds 5 --episodes 8000 -o cartpole
  sppo-rl compare --env sppo_rl/Hopper-v0 --algos sppo --seeds 3 --hyperparams sppo.advantage=standardized -o hopper

Every run is a process of its own, and its results are kept: the same command, given again after a kill, does what is left (exactly as
it would have been: this package's algorithms go on from a checkpoint, SB3's PPO starts its run anew). More seeds or algorithms may be
asked of the same folder later. All evaluations are on the same initial states. Written to the folder: results.csv (every evaluation),
summary.csv and table.md (final success with bootstrap intervals over seeds, area under the curve, seconds), plot.png, references.csv
(prior and untrained), provenance.json (commands, commit, machine, date). 'sppo-rl report' makes a page of one or more such folders.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from sppo_rl.callbacks import read_evaluations
from sppo_rl.zoo import options, provenance
from sppo_rl.zoo.hyperparameters import parse_overrides, read_entry
from sppo_rl.zoo.jobs import Job, do_all
from sppo_rl.zoo.names import LABELS, UsageError, algorithm_class, check_env_id, file_name
from sppo_rl.zoo.plots import plot_comparison
from sppo_rl.zoo.results import (
    COLUMNS,
    RETURNS,
    Row,
    describe_rates,
    markdown_table,
    summarize,
    summary_csv,
    to_csv,
    write_atomically,
)
from sppo_rl.zoo.runs import EVALUATIONS, RunSpec

REFERENCE_EPISODES = 500
"""Episodes, each way, for the lines 'prior' and 'untrained'."""
RESULT_COLUMNS = (*COLUMNS, *RETURNS.values())
"""Of results.csv."""
REFERENCE_COLUMNS = ("success", "greedy_success", "episodes", *RETURNS.values())
"""Of references.csv, behind task and policy."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """
    Add the options.

    :param parser: of this command
    """
    options.add_env(parser, several=True)
    parser.add_argument(
        "--algos",
        nargs="+",
        default=["sppo", "ppo", "sb3-ppo"],
        metavar="NAME",
        help=f"of {options.algorithms_help()} (default: sppo ppo sb3-ppo)",
    )
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="seeds 0 to N-1 (default 5)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--episodes", type=int, metavar="N", help="length of a run in episodes")
    length.add_argument("--timesteps", type=int, metavar="N", help="length in environment steps (default: the YAML files')")
    options.add_prior_choice(parser)
    options.add_hyperparameters(parser)
    options.add_conf_file(parser)
    options.add_evaluation(parser, n_episodes=200)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser.add_argument(
        "--jobs", "-j", type=int, default=cores, metavar="N", help="processes at a time (default: one for each core)"
    )
    parser.add_argument("--output", "-o", type=Path, default=Path("comparison"), metavar="DIR", help="default: comparison")
    parser.add_argument("--x", default="episodes", choices=("episodes", "timesteps", "seconds"), help="x axis of the plot")


def run(arguments: argparse.Namespace) -> int:
    """
    Compare.

    :param arguments: parsed
    """
    if arguments.seeds < 1 or arguments.jobs < 1:
        raise UsageError(f"--seeds and --jobs must be at least 1, got {arguments.seeds} and {arguments.jobs}.")
    overrides = overrides_by_algorithm(arguments.algos, parse_overrides(arguments.hyperparams))
    specs = [
        RunSpec(
            algo=algo,
            env_id=check_env_id(env_id),
            seed=seed,
            timesteps=arguments.timesteps,
            episodes=arguments.episodes,
            prior=arguments.prior,
            overrides=overrides[algo],
            entry=read_entry(algo, env_id, arguments.conf_file),
            eval_every=arguments.eval_every,
            eval_episodes=arguments.eval_episodes,
        ).check()
        for env_id in arguments.env
        for seed in range(arguments.seeds)
        for algo in arguments.algos
    ]
    provenance.record(arguments.output)
    failed = compare(specs, arguments.output, arguments.jobs, arguments.x)
    return 1 if failed else 0


def compare(
    specs: Sequence[RunSpec], folder: Path, processes: int, x: str = "episodes", console: Console | None = None
) -> int:
    """
    Do what is left of a comparison and write its results.

    :param specs: its runs
    :param folder: of the comparison
    :param processes: at a time
    :param x: x axis of the plot
    :param console: shows the progress
    :return: number of runs that failed
    """
    console = console or Console()
    runs = {_run_job(spec, folder): spec for spec in specs}
    envs = list(dict.fromkeys(spec.env_id for spec in specs))
    priors = {spec.env_id for spec in specs if spec.prior is not False}
    references = {(env_id, kind): _reference_job(env_id, kind, folder) for env_id in envs for kind in ("prior", "untrained")}
    wanted = [job for (env_id, kind), job in references.items() if kind == "untrained" or env_id in priors]
    jobs = [*wanted, *runs]
    done = sum(job.result is not None for job in jobs)
    console.print(
        f"{len(specs)} runs of {', '.join(envs)}, {processes} at a time; {done} of {len(jobs)} jobs done before.",
        soft_wrap=True,
    )
    broken: dict[Job, str] = {}

    def finished(job: Job, problem: str) -> None:
        if problem:
            broken[job] = problem
        console.print(f"{job.name}: {problem or _describe(job)}", highlight=False, soft_wrap=True)
        write_atomically(folder / "results.csv", to_csv(RESULT_COLUMNS, _collect(runs)))

    do_all(jobs, processes, console, finished)
    rows = _collect(runs)
    failures = {job: (job.result or {}).get("error") or broken.get(job, "") for job in runs}
    failures = {job: problem for job, problem in failures.items() if problem}
    counts: dict[tuple[str, str], int] = {}
    for job in failures:
        key = (runs[job].env_id, runs[job].algo)
        counts[key] = counts.get(key, 0) + 1
    measured = _measured(envs, references)
    summaries = summarize(rows, counts)
    table = markdown_table(summaries, measured)
    if failures:
        table += "\nFailed:\n\n" + "".join(f"- {job.name}: {problem}\n" for job, problem in failures.items())
    write_atomically(folder / "results.csv", to_csv(RESULT_COLUMNS, rows))
    write_atomically(folder / "summary.csv", summary_csv(summaries))
    write_atomically(folder / "references.csv", _references_csv(measured))
    write_atomically(folder / "table.md", table)
    if rows:
        plot_comparison(rows, folder / "plot.png", x, measured)
    console.print(table, highlight=False, markup=False, soft_wrap=True)
    console.print(f"Table, CSV and plot are in {folder}: table.md, summary.csv, results.csv, plot.png", soft_wrap=True)
    return len(failures)


def overrides_by_algorithm(algos: Sequence[str], overrides: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """
    Sort out for which algorithm an override is meant: ``sppo.n_epochs`` for one, ``n_epochs`` for all.

    :param algos: names on the command line
    :param overrides: as typed
    :raises UsageError: if one names an algorithm that takes no part
    """
    sorted_out: dict[str, dict[str, Any]] = {}
    for algo in algos:
        algorithm_class(algo)
        sorted_out[algo] = {key: value for key, value in overrides.items() if "." not in key}
    for key, value in overrides.items():
        algo, dot, name = key.partition(".")
        if dot and algo not in sorted_out:
            raise UsageError(f"{key!r} is meant for {algo!r}, which takes no part: {', '.join(algos)} do.")
        if dot:
            sorted_out[algo][name] = value
    return sorted_out


def _run_job(spec: RunSpec, folder: Path) -> Job:
    # the hyperparameters are written down so that a change of the YAML files is noticed
    settings = {"kind": "run", **asdict(spec), "hyperparameters": spec.hyperparameters().as_dict()}
    where = folder / "runs" / file_name(spec.env_id) / spec.algo / f"seed_{spec.seed}"
    return Job(f"{LABELS[spec.algo]}, {spec.env_id}, seed {spec.seed}", where, settings)


def _reference_job(env_id: str, kind: str, folder: Path) -> Job:
    settings = {"kind": kind, "env_id": env_id, "n_episodes": REFERENCE_EPISODES, "seed": 0}
    return Job(f"{kind} policy, {env_id}", folder / "runs" / file_name(env_id) / kind, settings)


def _collect(runs: Mapping[Job, RunSpec]) -> list[Row]:
    """Evaluations of all runs that are done."""
    return [
        {"env": spec.env_id, "algo": spec.algo, "seed": spec.seed, **row}
        for job, spec in runs.items()
        if (job.result or {}).get("status") == "done"
        for row in read_evaluations(job.folder / EVALUATIONS)
    ]


def _describe(job: Job) -> str:
    result = job.result or {}
    if result["status"] == "failed":
        return f"failed: {result['error']}"
    if result["status"] == "absent":
        return "there is none"
    reached = result if "success" in result else read_evaluations(job.folder / EVALUATIONS)[-1]
    measure = "return" if np.isnan(reached["success"]) else "success"
    trained = f"; {reached['seconds']:.1f} s of training" if "seconds" in reached else ""
    return f"{measure} {describe_rates(reached)}{trained}"


def _measured(envs: Sequence[str], references: Mapping[tuple[str, str], Job]) -> dict[str, dict[str, dict[str, float]]]:
    """Environment → kind → success rates, where they were measured."""
    measured: dict[str, dict[str, dict[str, float]]] = {env_id: {} for env_id in envs}
    for (env_id, kind), job in references.items():
        result = job.result
        if result is not None and result["status"] == "done":
            # folders from before returns were measured have none
            measured[env_id][kind] = {name: result.get(name, float("nan")) for name in REFERENCE_COLUMNS}
    return measured


def _references_csv(measured: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    rows = [{"env": env, "policy": kind, **rates} for env, kinds in measured.items() for kind, rates in kinds.items()]
    return to_csv(("env", "policy", *REFERENCE_COLUMNS), rows)
