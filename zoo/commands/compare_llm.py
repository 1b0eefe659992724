"""Train variants of a language run x seeds, in parallel over the cores, and draw up the results.

  sppo-rl compare-llm --config chain_sum_tiny --algos sppo grpo ppo --seeds 5 -o language
  sppo-rl compare-llm --study benchmarks/language/equal_responses.yml --seeds 5 -o equal_responses

Every run is a process of its own with one thread, and its results are kept: the same command, given again after a kill, goes on from the
newest checkpoints. More seeds may be asked of the same folder later. Written to the folder: results.csv (every evaluation), table.md
(final pass@1 with bootstrap intervals over seeds, area under the curve, what was spent, and when each variant reached the reference's
best), plot_tokens.png, plot_prompts.png, plot_seconds.png and provenance.json (commands, commit, machine, date).
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from sppo_rl.atomic import write_atomically
from sppo_rl.zoo.commands import options
from sppo_rl.zoo.language.study import Study, load_study, study_of
from sppo_rl.zoo.language.table import COLUMNS, markdown
from sppo_rl.zoo.names import LABELS, UsageError
from sppo_rl.zoo.parallel.comparison import alone_in
from sppo_rl.zoo.parallel.jobs import Job, check_all, do_all
from sppo_rl.zoo.results import provenance
from sppo_rl.zoo.results.plots import plot_comparison
from sppo_rl.zoo.results.rows import Row, to_csv
from sppo_rl.zoo.results.tables import failed_runs

AXES = ("tokens", "prompts", "seconds")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """
    Add the options.

    :param parser: of this command
    """
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--study", type=Path, metavar="YML", help="a file with a configuration and its variants")
    what.add_argument("--config", metavar="YML", help="a configuration, compared under --algos as it is")
    parser.add_argument(
        "--algos", nargs="+", metavar="NAME", default=["sppo", "grpo", "ppo"], help="with --config (default: sppo grpo ppo)"
    )
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="seeds 0 to N-1 (default 5)")
    parser.add_argument("--reference", metavar="NAME", help="variant whose best the others are timed against (default: grpo)")
    options.add_jobs(parser)
    parser.add_argument(
        "--output", "-o", type=Path, default=Path("comparison_llm"), metavar="DIR", help="default: comparison_llm"
    )


def run(arguments: argparse.Namespace) -> int:
    """
    Compare.

    :param arguments: parsed
    :raises UsageError: if the options make no sense
    """
    options.check_counts(arguments)
    if arguments.study is not None:
        study = load_study(arguments.study)
    else:
        study = study_of(arguments.config, arguments.algos, arguments.output.name)
    reference = arguments.reference or ("grpo" if "grpo" in study.variants else next(iter(study.variants)))
    if reference not in study.variants:
        raise UsageError(f"{reference!r} takes no part: {', '.join(study.variants)} do.")
    check_all(list(_jobs(study, arguments.seeds, arguments.output).values()))
    return 1 if compare(study, arguments.seeds, arguments.output, arguments.jobs, reference, record=True) else 0


def compare(
    study: Study,
    seeds: int,
    folder: Path,
    processes: int,
    reference: str,
    console: Console | None = None,
    record: bool = False,
) -> int:
    """
    Do what is left of a comparison and write its results.

    :param study: what is compared
    :param seeds: how many
    :param folder: of the comparison
    :param processes: at a time
    :param reference: variant whose best the others are timed against
    :param console: shows the progress
    :param record: add this process's command to the folder's provenance
    :return: number of runs that failed
    :raises UsageError: if another process is at work on it
    """
    with alone_in(folder):
        if record:
            provenance.record(folder)
        return _compare(study, seeds, folder, processes, reference, console or Console())


def _compare(study: Study, seeds: int, folder: Path, processes: int, reference: str, console: Console) -> int:
    jobs = _jobs(study, seeds, folder)
    done = sum(job.result is not None for job in jobs.values())
    console.print(f"{len(jobs)} runs, {processes} at a time; {done} done before.", soft_wrap=True)
    broken: dict[Job, str] = {}

    def failures() -> list[tuple[str, str]]:
        found = [(job.name, job.failure or broken.get(job, "")) for job in jobs.values()]
        return [(name, problem) for name, problem in found if problem]

    def finished(job: Job, problem: str) -> None:
        if problem:
            broken[job] = problem
        console.print(f"{job.name}: {problem or job.failure or _describe(job)}", highlight=False, markup=False, soft_wrap=True)
        write_results(_collect(study, jobs), reference, folder, failures())

    do_all(list(jobs.values()), processes, console, finished)
    table = write_results(_collect(study, jobs), reference, folder, failures())
    console.print(table, highlight=False, markup=False, soft_wrap=True)
    console.print(f"Table, CSV and plots are in {folder}.", soft_wrap=True)
    return len(failures())


def write_results(rows: list[Row], reference: str, folder: Path, failures: Sequence[tuple[str, str]] = ()) -> str:
    """
    Write table, CSV and plots.

    :param rows: of all finished runs
    :param reference: variant whose best the others are timed against
    :param folder: of the comparison
    :param failures: name of a run that failed, and why
    :return: the table
    """
    write_atomically(folder / "results.csv", to_csv(COLUMNS, rows))
    table = markdown(rows, reference) + failed_runs(failures)
    write_atomically(folder / "table.md", table)
    if rows:
        for x in AXES:
            plot_comparison(rows, folder / f"plot_{x}.png", x)
    return table


def _jobs(study: Study, seeds: int, folder: Path) -> dict[tuple[str, int], Job]:
    """By variant and seed, in the order in which they are done."""
    return {(name, seed): _job(study, name, seed, folder) for seed in range(seeds) for name in study.variants}


def _job(study: Study, name: str, seed: int, folder: Path) -> Job:
    settings = {"kind": "language", "config": study.variants[name].as_dict(), "seed": seed}
    where = "".join(character if character.isalnum() else "_" for character in name)
    return Job(f"{LABELS.get(name, name)}, seed {seed}", folder / "runs" / where / f"seed_{seed}", settings)


def _collect(study: Study, jobs: Mapping[tuple[str, int], Job]) -> list[Row]:
    """Evaluations of all runs that are done, sorted by variant."""
    rows: list[Row] = []
    for (name, seed), job in sorted(jobs.items(), key=lambda item: (list(study.variants).index(item[0][0]), item[0][1])):
        if job.is_done:
            own: dict[str, Any] = {"env": study.name, "algo": name, "seed": seed}
            rows += [{**own, **row} for row in job.evaluations()]
    return rows


def _describe(job: Job) -> str:
    last = job.evaluations()[-1]
    return f"pass@1 {last['success']:.3f} sampled, {last['greedy_success']:.3f} greedy; {last['seconds']:.0f} s of training"
