"""Runs jobs of a comparison in processes of their own, a few at a time, with live progress."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from sppo_rl.atomic import write_atomically
from sppo_rl.callbacks import read_evaluations
from sppo_rl.zoo.names import UsageError
from sppo_rl.zoo.parallel.worker import JOB, RESULT, ROWS
from sppo_rl.zoo.reading import read_mapping
from sppo_rl.zoo.running.folders import CHECKPOINTS, EVALUATIONS

LOG = "log.txt"
RUNS = ("run", "language")
"""Kinds of jobs that leave evaluations."""


@dataclass(frozen=True, eq=False)
class Job:
    """
    One process's work.

    :param name: for people
    :param folder: where it works
    :param settings: what ``job.json`` holds
    """

    name: str
    folder: Path
    settings: Mapping[str, Any]

    @property
    def result(self) -> dict[str, Any] | None:
        """What it has left, or ``None`` if it is not finished."""
        path = self.folder / RESULT
        return read_mapping(path, "Delete it, and the same command does the job again.") if path.exists() else None

    @property
    def is_done(self) -> bool:
        """Whether it is finished and did not fail."""
        return (self.result or {}).get("status") == "done"

    @property
    def failure(self) -> str:
        """Why it failed, and what makes it run again; empty if it did not fail."""
        error = (self.result or {}).get("error", "")
        return f"{error} (to try it again, delete {self.folder / RESULT})" if error else ""

    def evaluations(self) -> list[dict[str, float]]:
        """
        Read the evaluations of a run that is done.

        :raises UsageError: if the file has lost some
        """
        path = self.folder / EVALUATIONS
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        rows = read_evaluations(path) if text else []
        # runs from before the evaluations were counted say nothing of it
        count = (self.result or {}).get(ROWS)
        if not rows or not text.endswith("\n") or len(rows) != (count or len(rows)):
            lacks = "is cut, empty or missing" if count is None else f"has {len(rows)} of {count} evaluations"
            raise UsageError(
                f"{path} {lacks}, and the run is done. Copy the file again, or delete {self.folder}, and the same command does the run "
                "again."
            )
        return rows

    def check(self) -> None:
        """
        Check that an earlier job in the same folder had the same settings, unless it had not come to anything yet, and is whole.

        :raises UsageError: if it had others; names one
        """
        path = self.folder / JOB
        left = (self.folder / RESULT, self.folder / EVALUATIONS, *(self.folder / CHECKPOINTS).glob("*.zip"))
        if not path.exists() or not any(file.exists() for file in left):
            return
        earlier = read_mapping(path, f"Copy it again, or delete {self.folder}, and the same command does the job again.")
        settings = json.loads(json.dumps(self.settings))
        for key in {**earlier, **settings}:
            if earlier.get(key) != settings.get(key):
                raise UsageError(
                    f"{self.folder} was made with {key} = {earlier.get(key)}, and now it is {settings.get(key)}. Choose another folder "
                    "with -o, or delete this one."
                )
        if self.is_done and settings.get("kind") in RUNS:
            self.evaluations()

    def prepare(self) -> None:
        """Write the settings down for the process."""
        write_atomically(self.folder / JOB, json.dumps(self.settings, indent=1))


def check_all(jobs: Sequence[Job]) -> None:
    """
    Check that the jobs may be done; writes nothing.

    :param jobs: to be done beside each other
    :raises UsageError: if two share a folder, or an earlier job with other settings has left something in one
    """
    owners: dict[Path, Job] = {}
    for job in jobs:
        other = owners.setdefault(job.folder, job)
        if other is not job:
            raise UsageError(
                f"{other.name!r} and {job.name!r} would work in the same folder, {job.folder}. Rename one, or leave it out."
            )
        job.check()


def do_all(jobs: Sequence[Job], processes: int, console: Console, finished: Callable[[Job, str], None]) -> None:
    """
    Do the jobs that are not finished yet. A job that breaks does not keep the others from being done.

    :param jobs: in the order of their importance
    :param processes: at a time; each gets its share of the cores
    :param console: shows the progress
    :param finished: called with each job and ``""``, or with what went wrong in a process that left no result
    :raises UsageError: as :func:`check_all`, before anything is written
    """
    check_all(jobs)
    for job in jobs:
        job.prepare()
    waiting = [job for job in jobs if job.result is None]
    slots: queue.Queue[list[int]] = queue.Queue()
    for share in shares_of_cores(processes):
        slots.put(share)
    running: set[subprocess.Popen[str]] = set()
    stop = threading.Event()
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, refresh_per_second=4) as progress, ThreadPoolExecutor(processes) as pool:
        overall = progress.add_task("all", total=len(jobs), completed=len(jobs) - len(waiting), note="")

        def work(job: Job) -> str:
            if stop.is_set():
                return "interrupted"
            share = slots.get()
            bar = progress.add_task(job.name, total=None, note="")
            try:
                return _work(job, share, running, lambda **state: progress.update(bar, **state))
            finally:
                progress.remove_task(bar)
                slots.put(share)

        futures = {pool.submit(work, job): job for job in waiting}
        try:
            for future in as_completed(futures):
                problem = future.result()
                progress.advance(overall)
                finished(futures[future], problem)
        except BaseException:
            stop.set()
            for process in list(running):
                process.terminate()
            raise


def _work(job: Job, cores: list[int], running: set[subprocess.Popen[str]], update: Callable[..., None]) -> str:
    """Do one job; returns what went wrong, if anything did."""
    # one thread for each of the libraries that would otherwise start as many as there are cores
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "SPPO_CORES": ",".join(map(str, cores))}
    with open(job.folder / LOG, "a", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "sppo_rl.zoo.parallel.worker", str(job.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            encoding="utf-8",
            errors="replace",
            env=environment,
        )
        running.add(process)
        assert process.stdout is not None
        for line in process.stdout:
            state = _state(line)
            if state is not None:
                note = "" if state["success"] != state["success"] else f"success {state['success']:.2f}"
                update(completed=state["done"], total=state["total"], note=note)
        code = process.wait()
        running.discard(process)
        assert process.stdin is not None
        process.stdin.close()
    if code == 0 and job.result is not None:
        return ""
    lines = (job.folder / LOG).read_text(encoding="utf-8", errors="replace").strip().splitlines()
    how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
    return f"{how}: {lines[-1] if lines else 'no message'} (see {job.folder / LOG})"


def _state(line: str) -> dict[str, float] | None:
    """What a worker reports in a line of its output; ``None`` if something else, such as an environment, printed that line."""
    try:
        state = json.loads(line)
    except (ValueError, RecursionError):
        return None
    is_report = isinstance(state, dict) and state.keys() == {"done", "total", "success"}
    return state if is_report and all(isinstance(value, int | float) for value in state.values()) else None


def shares_of_cores(processes: int) -> list[list[int]]:
    """
    Divide the cores that this process may use.

    :param processes: at a time
    :return: cores for each; with more processes than cores, some share one
    """
    if not hasattr(os, "sched_getaffinity"):
        return [[] for _ in range(processes)]
    cores = sorted(os.sched_getaffinity(0))
    if processes >= len(cores):
        return [[cores[number % len(cores)]] for number in range(processes)]
    return [cores[number::processes] for number in range(processes)]
