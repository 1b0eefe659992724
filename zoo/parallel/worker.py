"""One job of a comparison, in a process of its own: ``python -m sppo_rl.zoo.parallel.worker FOLDER`` does what ``FOLDER/job.json`` says.

Prints its progress as JSON lines and leaves ``result.json``, whose presence means that the job need not be done again. It ends with its
parent: a comparison that is killed leaves no process behind that would write into a folder the next one uses.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch as th

from sppo_rl.atomic import write_atomically
from sppo_rl.evaluation import evaluate
from sppo_rl.zoo.running.callback import RunCallback
from sppo_rl.zoo.running.runs import RunSpec, run
from sppo_rl.zoo.shipped.prior import load_prior
from sppo_rl.zoo.shipped.untrained import untrained_networks

JOB = "job.json"
RESULT = "result.json"
ROWS = "evaluations"
"""Key of a run's result: how many rows its evaluations have, by which a file that was cut later is known."""


class Report(RunCallback):
    """
    Prints how far the run is, twice a second.

    :param total: length of the run
    :param unit: ``"timesteps"`` or ``"episodes"``
    """

    def __init__(self, total: int, unit: str = "timesteps"):
        super().__init__()
        self.total, self.unit = total, unit
        self._last = 0.0

    def _on_step(self) -> bool:
        if time.monotonic() - self._last > 0.5:
            self._last = time.monotonic()
            success = self.evaluation.rows[-1]["success"] if self.evaluation.rows else float("nan")
            print(json.dumps({"done": self.evaluation.done(self.unit), "total": self.total, "success": success}), flush=True)
        return True


def main(folder: Path) -> None:
    """
    Do a job.

    :param folder: with its ``job.json``
    """
    th.set_num_threads(1)
    job = json.loads((folder / JOB).read_text(encoding="utf-8"))
    kind = job.pop("kind")
    if kind == "run":
        job.pop("hyperparameters")
        result = train(RunSpec(**job), folder)
    elif kind == "language":
        result = train_language(job["config"], job["seed"], folder)
    else:
        result = measure(job["env_id"], kind, job["n_episodes"], job["seed"])
    write_atomically(folder / RESULT, json.dumps(result))


def train(spec: RunSpec, folder: Path) -> dict[str, Any]:
    """
    Train, or go on from the newest checkpoint in the folder.

    :param spec: of the run
    :param folder: of the run
    :return: ``status``; ``error`` where the run failed (NaN losses, or settings that cannot be), else :data:`ROWS`
    """
    try:
        _, evaluation = run(spec, folder, [Report(spec.length, spec.unit)], resume=True)
    except ValueError as error:
        return {"status": "failed", "error": str(error)}
    return {"status": "done", ROWS: len(evaluation.rows)}


def train_language(settings: dict[str, Any], seed: int, folder: Path) -> dict[str, Any]:
    """
    Train a language model, or go on from the newest checkpoint in the folder.

    :param settings: of a :class:`~sppo_rl.zoo.language.config.LanguageConfig`
    :param seed: of the run
    :param folder: of the run
    :return: as :func:`train`
    """
    # these import transformers, which control tasks can do without
    from sppo_rl.zoo.language import runs as language_runs
    from sppo_rl.zoo.language.config import config_of

    config = config_of(settings)
    try:
        _, evaluation = language_runs.run(config, seed, folder, [Report(config.responses)], resume=True)
    except ValueError as error:
        return {"status": "failed", "error": str(error)}
    return {"status": "done", ROWS: len(evaluation.rows)}


def measure(env_id: str, kind: str, n_episodes: int, seed: int) -> dict[str, Any]:
    """
    Measure the prior or untrained networks.

    :param env_id: a Gymnasium id
    :param kind: ``"prior"`` or ``"untrained"``
    :param n_episodes: in all, each way
    :param seed: of the evaluation
    :return: ``status``, ``success`` and ``greedy_success`` (NaN where the task reports none), ``mean_return``, ``greedy_mean_return``,
        ``episodes``; for a prior that does not exist ``status`` is ``"absent"``
    """
    if kind == "prior":
        try:
            models = [load_prior(env_id)]
        except FileNotFoundError:
            return {"status": "absent"}
    else:
        models = list(untrained_networks(env_id))
    each = max(n_episodes // len(models), 1)
    sampled, greedy = (
        [evaluate(model, env_id, each, deterministic, seed + k) for k, model in enumerate(models)]
        for deterministic in (False, True)
    )
    return {
        "status": "done",
        "success": _mean_rate([found.success_rate for found in sampled]),
        "greedy_success": _mean_rate([found.success_rate for found in greedy]),
        "mean_return": float(np.mean([found.mean_return for found in sampled])),
        "greedy_mean_return": float(np.mean([found.mean_return for found in greedy])),
        "episodes": each * len(models),
    }


def _mean_rate(rates: list[float]) -> float:
    """NaN where no network reports success; beside one that does, the others have none."""
    return float(np.mean(rates if np.isnan(rates).all() else np.nan_to_num(rates)))


def _end_with_parent() -> None:
    """The parent holds the other end of our standard input and never writes: reading ends when it is gone."""

    def wait() -> None:
        # unbuffered: a thread that waits inside a buffered reader makes the interpreter's own ending fail
        os.read(sys.stdin.fileno(), 1)
        with contextlib.suppress(OSError):
            os.write(2, b"The process that started this job is gone (standard input is closed), so the job ends.\n")
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _take_cores() -> None:
    """Stay on this job's share of the cores, so that jobs beside each other take comparable times."""
    cores = [int(core) for core in os.environ.get("SPPO_CORES", "").split(",") if core]
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)


if __name__ == "__main__":
    _end_with_parent()
    _take_cores()
    warnings.simplefilter("default")
    main(Path(sys.argv[1]))
