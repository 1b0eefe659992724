"""A comparison of control runs: its jobs, what was done in its folder before, and the results that are drawn up of both."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from sppo_rl.atomic import write_atomically
from sppo_rl.zoo.names import ALGORITHMS, LABELS, file_name
from sppo_rl.zoo.parallel.jobs import Job, do_all
from sppo_rl.zoo.parallel.worker import JOB
from sppo_rl.zoo.reading import read_mapping
from sppo_rl.zoo.results import control_table, provenance
from sppo_rl.zoo.results.plots import plot_comparison
from sppo_rl.zoo.results.rows import COLUMNS, RETURNS, Row, reports_success, summarize, summary_csv, to_csv
from sppo_rl.zoo.results.tables import failed_runs
from sppo_rl.zoo.running.folders import alone
from sppo_rl.zoo.running.runs import RunSpec

REFERENCE_EPISODES = 500
"""Episodes, each way, for the lines 'prior' and 'untrained'."""
RESULT_COLUMNS = (*COLUMNS, *RETURNS.values())
"""Of results.csv."""
REFERENCE_COLUMNS = ("success", "greedy_success", "episodes", *RETURNS.values())
"""Of references.csv, behind task and policy."""
COMMON = ("timesteps", "episodes", "prior", "eval_every", "eval_episodes", "eval_seed", "device")
"""Settings that all runs of one comparison share; the rest belongs to an algorithm on a task."""


def alone_in(folder: Path) -> AbstractContextManager[None]:
    """
    Keep a second comparison of either kind off a folder: both would write into the same runs.

    :param folder: of the comparison
    """
    work, instead = f"the comparison in {folder}", ", or choose another folder with -o"
    return alone(folder / "compare.lock", work, "sppo-rl compare", instead)


def compare(
    specs: Sequence[RunSpec],
    folder: Path,
    processes: int,
    x: str = "episodes",
    console: Console | None = None,
    record: bool = False,
) -> int:
    """
    Do what is left of a comparison and write its results.

    :param specs: its runs
    :param folder: of the comparison
    :param processes: at a time
    :param x: x axis of the plot
    :param console: shows the progress
    :param record: add this process's command to the folder's provenance
    :return: number of runs that failed
    :raises UsageError: if another process is at work on it, or a file in the folder is damaged
    """
    with alone_in(folder):
        if record:
            provenance.record(folder)
        return _compare(specs, folder, processes, x, console or Console())


def _compare(specs: Sequence[RunSpec], folder: Path, processes: int, x: str, console: Console) -> int:
    references, asked = jobs_of(specs, folder)
    jobs = [*references, *asked]
    envs = list(dict.fromkeys(spec.env_id for spec in specs))
    done = sum(job.result is not None for job in jobs)
    _say(console, f"{len(specs)} runs of {', '.join(envs)}, {processes} at a time; {done} of {len(jobs)} jobs done before.")
    earlier, others = _earlier_jobs(asked, folder)
    # what is damaged is said before hours of training
    _collect(earlier)
    if earlier:
        _say(console, f"{len(earlier)} more runs were done before; they are in the results, too.")
    if others:
        left_out = f"{len(others)} runs in the folder were done with other settings ({others[0]})."
        _say(console, f"{left_out} They are left out of the results.")
    runs = [*asked, *earlier]
    broken: dict[Job, str] = {}

    def finished(job: Job, problem: str) -> None:
        if problem:
            broken[job] = problem
        _say(console, f"{job.name}: {problem or _describe(job)}")
        write_atomically(folder / "results.csv", to_csv(RESULT_COLUMNS, _collect(runs)))

    do_all(jobs, processes, console, finished)
    failures = {job: job.failure or broken.get(job, "") for job in runs}
    failures = {job: problem for job, problem in failures.items() if problem}
    _say(console, _write_results(runs, failures, folder, x))
    _say(console, f"Table, CSV and plot are in {folder}: table.md, summary.csv, results.csv, plot.png")
    return sum(job in failures for job in asked)


def _say(console: Console, text: str) -> None:
    """Names and folders may hold brackets, which are no markup."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def _write_results(runs: Sequence[Job], failures: Mapping[Job, str], folder: Path, x: str) -> str:
    """Write all files of a comparison; returns the table. ``failures``: why those runs failed that did."""
    rows = _collect(runs)
    measured = _measured(list(dict.fromkeys(job.settings["env_id"] for job in runs)), folder, rows)
    counts = Counter((job.settings["env_id"], job.settings["algo"]) for job in failures)
    summaries = summarize(rows, counts)
    table = control_table.markdown(summaries, measured)
    table += failed_runs((job.name, problem) for job, problem in failures.items())
    write_atomically(folder / "results.csv", to_csv(RESULT_COLUMNS, rows))
    write_atomically(folder / "summary.csv", summary_csv(summaries))
    write_atomically(folder / "references.csv", _references_csv(measured))
    write_atomically(folder / "table.md", table)
    if rows:
        plot_comparison(rows, folder / "plot.png", x, measured)
    return table


def jobs_of(specs: Sequence[RunSpec], folder: Path) -> tuple[list[Job], list[Job]]:
    """
    Give the jobs of a comparison.

    :param specs: its runs
    :param folder: of the comparison
    :return: the references that runs are seen against, and the runs
    """
    priors = {spec.env_id for spec in specs if spec.prior is not False}
    references = [
        _reference_job(env_id, kind, folder)
        for env_id in dict.fromkeys(spec.env_id for spec in specs)
        for kind in ("prior", "untrained")
        if kind == "untrained" or env_id in priors
    ]
    return references, [_run_job(spec, folder) for spec in specs]


def _run_job(spec: RunSpec, folder: Path) -> Job:
    # the hyperparameters are written down so that a change of the YAML files is noticed
    settings = {"kind": "run", **asdict(spec), "hyperparameters": spec.hyperparameters().as_dict()}
    where = folder / "runs" / file_name(spec.env_id) / spec.algo / f"seed_{spec.seed}"
    return Job(_name_of(settings), where, settings)


def _name_of(settings: Mapping[str, Any]) -> str:
    return f"{LABELS[settings['algo']]}, {settings['env_id']}, seed {settings['seed']}"


def _reference_job(env_id: str, kind: str, folder: Path) -> Job:
    settings = {"kind": kind, "env_id": env_id, "n_episodes": REFERENCE_EPISODES, "seed": 0}
    return Job(f"{kind} policy, {env_id}", folder / "runs" / file_name(env_id) / kind, settings)


def _earlier_jobs(asked: Sequence[Job], folder: Path) -> tuple[list[Job], list[str]]:
    """Finished runs in the folder that are not asked for now: those that belong to the comparison, and why each other one does not."""
    here = {job.folder for job in asked}
    expected = {(job.settings["env_id"], job.settings["algo"]): _shared(job.settings) for job in asked}
    # of an algorithm or a task that is not asked for now, what all runs of one command have in common
    common = {name: asked[0].settings[name] for name in COMMON}
    earlier, others = [], []
    for path in folder.glob(f"runs/*/*/seed_*/{JOB}"):
        if path.parent in here:
            continue
        settings = read_mapping(path, f"Copy it again, or delete {path.parent}.")
        if settings.get("kind") != "run" or settings["algo"] not in ALGORITHMS:
            continue
        job = Job(_name_of(settings), path.parent, settings)
        if job.result is None:
            continue
        wants = expected.get((settings["env_id"], settings["algo"]), common)
        differing = [name for name, value in wants.items() if settings.get(name) != value]
        if differing:
            others.append(f"{job.name}: {differing[0]} = {settings.get(differing[0])}")
        else:
            earlier.append(job)
    algos, envs = (list(dict.fromkeys(job.settings[name] for job in asked)) for name in ("algo", "env_id"))
    algos, envs = [*algos, *ALGORITHMS], [*envs, *sorted({job.settings["env_id"] for job in earlier})]
    earlier.sort(key=lambda job: (envs.index(job.settings["env_id"]), job.settings["seed"], algos.index(job.settings["algo"])))
    return earlier, sorted(others)


def _shared(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What runs of one algorithm on one task have in common, as their files give it back."""
    shared: dict[str, Any] = json.loads(json.dumps({name: value for name, value in settings.items() if name != "seed"}))
    return shared


def _collect(runs: Sequence[Job]) -> list[Row]:
    """Evaluations of all runs that are done."""
    return [
        {**{column: job.settings[name] for column, name in (("env", "env_id"), ("algo", "algo"), ("seed", "seed"))}, **row}
        for job in runs
        if job.is_done
        for row in job.evaluations()
    ]


def _describe(job: Job) -> str:
    result = job.result or {}
    if result["status"] == "failed":
        return f"failed: {job.failure}"
    if result["status"] == "absent":
        return "there is none"
    reached = result if "success" in result else job.evaluations()[-1]
    measure = "return" if np.isnan(reached["success"]) else "success"
    trained = f"; {reached['seconds']:.1f} s of training" if "seconds" in reached else ""
    return f"{measure} {control_table.describe_rates(reached)}{trained}"


def _measured(envs: Sequence[str], folder: Path, rows: Sequence[Row]) -> dict[str, dict[str, dict[str, float]]]:
    """Environment → kind → success rates, where they were measured."""
    measured: dict[str, dict[str, dict[str, float]]] = {env_id: {} for env_id in envs}
    for env_id, kind in product(envs, ("prior", "untrained")):
        result = _reference_job(env_id, kind, folder).result
        if result is not None and result["status"] == "done":
            # folders from before returns were measured have none
            rates = {name: result.get(name, float("nan")) for name in REFERENCE_COLUMNS}
            if reports_success(row for row in rows if row["env"] == env_id):
                # a policy that never succeeds may have said nothing of it
                rates |= {name: float(np.nan_to_num(rates[name])) for name in ("success", "greedy_success")}
            measured[env_id][kind] = rates
    return measured


def _references_csv(measured: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    rows = [{"env": env, "policy": kind, **rates} for env, kinds in measured.items() for kind, rates in kinds.items()]
    return to_csv(("env", "policy", *REFERENCE_COLUMNS), rows)
