"""A pool of worker processes that judges batches of responses, with a hard time limit for each.

The comparison is bounded by itself (see :mod:`.evaluate`); the pool adds what no limit inside a process can give: a worker that hangs
or dies is killed and replaced, its response scores 0 with a reason, and the rest of the batch goes on. Workers are plain
subprocesses that talk through pipes, so a pool works in threads, in daemonic processes and beside CUDA, and touches no signals.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import selectors
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sppo_rl.cores import usable_cores

from .checker import MODES, SHOWN, Verdict, compare_answers
from .extract import extract_answer
from .tokens import MAX_CHARS
from .worker import HEADER

Job = tuple[str, tuple[Any, ...]]
"""What to call, as :func:`.worker.resolve` reads it, and its arguments; it returns a score and a reason."""

_START_LIMIT = 120.0
"""Seconds a worker may take to start; the imports of a heavy scorer are included."""
_MAX_FAILED_STARTS = 3


class _Worker:
    """One process and the job it has."""

    def __init__(self, memory_mb: int, self_destruct: float, modules: Sequence[str]):
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the worker
        command = [
            sys.executable,
            "-P",
            str(Path(__file__).with_name("worker.py")),
            str(memory_mb),
            str(self_destruct),
            *modules,
        ]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            bufsize=0,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        )
        self.ready = False
        self.job: int | None = None
        self.deadline = time.monotonic() + _START_LIMIT
        self.received = b""

    def fileno(self) -> int:
        assert self.process.stdout is not None
        return self.process.stdout.fileno()

    def send(self, number: int, job: Job, time_limit: float) -> None:
        """Hand over a job; a worker that died while idle is noticed when its reply is read."""
        encoded = pickle.dumps(job)
        self.job, self.deadline = number, time.monotonic() + time_limit
        assert self.process.stdin is not None
        data = memoryview(HEADER.pack(len(encoded)) + encoded)
        try:
            while data:
                data = data[self.process.stdin.write(data) :]
        except BrokenPipeError:
            pass

    def receive(self) -> dict[str, Any] | None:
        """
        Read what has come; the whole reply once it is there.

        :return: the reply, or ``None`` if more must come
        :raises EOFError: if the worker died
        """
        data = os.read(self.fileno(), 1 << 16)
        if not data:
            raise EOFError
        self.received += data
        if len(self.received) < HEADER.size:
            return None
        size = HEADER.size + HEADER.unpack_from(self.received)[0]
        if len(self.received) < size:
            return None
        content, self.received = json.loads(self.received[HEADER.size : size]), self.received[size:]
        return dict(content)

    def last_words(self) -> str:
        """The end of what the worker wrote to its standard error."""
        self.errors.seek(0)
        return self.errors.read()[-2000:].decode(errors="replace")

    def abandon(self) -> None:
        """Close our ends of the pipes."""
        for stream in (self.process.stdin, self.process.stdout, self.errors):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def kill(self) -> None:
        """End the process and reap it."""
        self.process.kill()
        self.process.wait()
        self.abandon()


def _kill_all(workers: list[_Worker], owner: int) -> None:
    """End the workers; in a forked child, which does not own them, do nothing."""
    if os.getpid() == owner:
        while workers:
            workers.pop().kill()


class VerifierPool:
    """
    Judges batches of responses in worker processes.

    May be used from several threads (batches take turns), after a fork (the child starts workers of its own), and may be pickled
    (the copy starts workers of its own).

    :param num_workers: processes; ``None`` takes one for each core at hand, eight at most
    :param time_limit: seconds for one response; a worker that needs longer is killed and replaced
    :param memory_mb: address space of a worker, MiB
    :param mode: ``"strict"`` or ``"lenient"``, see :func:`~.checker.verify`
    :param preload: modules that workers import before their first job (a scorer's), so that its time limit does not pay for it
    :raises ValueError: if an argument is out of range
    """

    def __init__(
        self,
        num_workers: int | None = None,
        time_limit: float = 2.0,
        memory_mb: int = 512,
        mode: str = "strict",
        preload: Sequence[str] = (),
    ):
        if mode not in MODES:
            raise ValueError(f"mode must be one of {MODES}, got {mode!r}.")
        if num_workers is not None and num_workers < 1:
            raise ValueError(f"num_workers must be at least 1, got {num_workers}.")
        if time_limit <= 0.0 or memory_mb < 64:
            raise ValueError(f"time_limit must be positive and memory_mb at least 64, got {time_limit} and {memory_mb}.")
        self.num_workers = num_workers or min(8, usable_cores())
        self.time_limit = time_limit
        self.memory_mb = memory_mb
        self.mode = mode
        self.preload = tuple(preload)
        self.reasons: Counter[str] = Counter()
        """How often each reason was given, over the life of the pool."""
        self.restarts = 0
        """Workers replaced because they hung or died."""
        self._adopt()

    def _adopt(self) -> None:
        """Become the property of this process: no workers yet, a lock that nobody holds."""
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._workers: list[_Worker] = []
        self._finalizer = weakref.finalize(self, _kill_all, self._workers, self._owner)

    def __getstate__(self) -> dict[str, Any]:
        keep = ("num_workers", "time_limit", "memory_mb", "mode", "preload", "reasons", "restarts")
        return {name: getattr(self, name) for name in keep}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._adopt()

    def __enter__(self) -> VerifierPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers; a later batch starts new ones."""
        _kill_all(self._workers, self._owner)

    # ---------------------------------------------------------------- batches
    def check_batch(self, responses: Sequence[str], golds: Sequence[str]) -> list[Verdict]:
        """
        Judge responses.

        :param responses: texts of the model
        :param golds: the right answer of each
        :return: a verdict for each, in order
        :raises ValueError: if the two lengths differ
        """
        if len(responses) != len(golds):
            raise ValueError(f"{len(responses)} responses, but {len(golds)} gold answers.")
        verdicts: list[Verdict | None] = []
        jobs: list[Job] = []
        waiting: list[tuple[int, str]] = []
        for response, gold in zip(responses, golds, strict=True):
            answer, reason = extract_answer(response, self.mode)
            if answer is None:
                verdicts.append(Verdict(0.0, reason))
            elif len(answer) > MAX_CHARS or (answer.strip() + gold.strip()).isdigit():
                # no work to be done, or next to none
                correct, reason = compare_answers(answer, gold, self.mode == "lenient")
                verdicts.append(Verdict(float(correct), reason, answer.strip()[:SHOWN]))
            else:
                waiting.append((len(verdicts), answer.strip()[:SHOWN]))
                verdicts.append(None)
                jobs.append((".checker:compare_answers", (answer, gold, self.mode == "lenient")))
        for (place, extracted), result in zip(waiting, self.run(jobs), strict=True):
            verdicts[place] = Verdict(result["score"], result["reason"], extracted)
        judged = [verdict for verdict in verdicts if verdict is not None]
        self.reasons.update(verdict.reason for verdict in judged)
        return judged

    def run(self, jobs: Sequence[Job]) -> list[dict[str, Any]]:
        """
        Run jobs in the workers.

        :param jobs: functions that return a score and a reason, with arguments that can be pickled
        :return: for each job its reply, with ``score`` and ``reason``: ``timeout`` or ``worker_died`` where there was none, ``memory`` or
            ``scorer_error`` (with ``error``) where the function raised
        :raises RuntimeError: if workers cannot be started at all
        """
        if os.getpid() != self._owner:
            for worker in self._workers:
                worker.abandon()
            self._adopt()
        with self._lock:
            try:
                return self._run(jobs)
            except BaseException:
                # an interrupt in the middle of a batch: replies would be taken for those of the next
                _kill_all(self._workers, self._owner)
                raise

    def _run(self, jobs: Sequence[Job]) -> list[dict[str, Any]]:
        results: list[dict[str, Any] | None] = [None] * len(jobs)
        pending = deque(range(len(jobs)))
        failed_starts = 0
        with selectors.DefaultSelector() as selector:
            for worker in self._workers:
                selector.register(worker, selectors.EVENT_READ, worker)
            while pending or any(worker.job is not None for worker in self._workers):
                while len(self._workers) < min(self.num_workers, len(pending) + sum(w.job is not None for w in self._workers)):
                    worker = _Worker(self.memory_mb, 2.0 * self.time_limit + 5.0, self.preload)
                    self._workers.append(worker)
                    selector.register(worker, selectors.EVENT_READ, worker)
                for worker in self._workers:
                    if worker.ready and worker.job is None and pending:
                        number = pending.popleft()
                        worker.send(number, jobs[number], self.time_limit)
                active = [worker for worker in self._workers if worker.job is not None or not worker.ready]
                wait = max(0.0, min(worker.deadline for worker in active) - time.monotonic())
                for key, _ in selector.select(wait):
                    worker = key.data
                    try:
                        content = worker.receive()
                    except EOFError:
                        failed_starts = self._bury(worker, selector, results, "worker_died", failed_starts)
                        continue
                    if content is None:
                        continue
                    if not worker.ready:
                        worker.ready, failed_starts = True, 0
                    elif worker.job is not None:
                        results[worker.job], worker.job = content, None
                now = time.monotonic()
                for worker in [w for w in self._workers if (w.job is not None or not w.ready) and w.deadline <= now]:
                    failed_starts = self._bury(worker, selector, results, "timeout", failed_starts)
        return [result for result in results if result is not None]

    def _bury(
        self,
        worker: _Worker,
        selector: selectors.BaseSelector,
        results: list[dict[str, Any] | None],
        reason: str,
        failed_starts: int,
    ) -> int:
        """Kill a worker that hung or died; its job, if it had one, scores 0. Returns the number of failed starts in a row."""
        selector.unregister(worker)
        self._workers.remove(worker)
        worker.process.kill()
        worker.process.wait()
        if not worker.ready:
            failed_starts += 1
            if failed_starts >= _MAX_FAILED_STARTS:
                raise RuntimeError(
                    f"Verifier workers do not start ({reason}). Their last words: {worker.last_words() or 'none'}"
                )
        worker.abandon()
        self.restarts += 1
        if worker.job is not None:
            results[worker.job] = {"score": 0.0, "reason": reason}
        return failed_starts
