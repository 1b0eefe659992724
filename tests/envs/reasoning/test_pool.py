"""The pool of workers: the same verdicts as in one process, and nothing that stops it."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from sppo_rl.envs.reasoning import VerifierPool, check

COMPARE = ".checker:compare_answers"


@pytest.fixture
def pool() -> Iterator[VerifierPool]:
    with VerifierPool(num_workers=2, time_limit=1.0) as made:
        yield made


def cases(count: int) -> tuple[list[str], list[str]]:
    responses = [rf"\boxed{{\frac{{{k}}}{{{k + 1}}}}}" if k % 3 else "no box" for k in range(count)]
    golds = [f"{k}/{k + 1 + (k % 5 == 0)}" for k in range(count)]
    return responses, golds


def test_same_verdicts_as_in_process(pool: VerifierPool) -> None:
    responses, golds = cases(60)
    assert pool.check_batch(responses, golds) == [check(r, g) for r, g in zip(responses, golds, strict=True)]
    assert pool.reasons["no_box"] == 20
    assert pool.check_batch([], []) == []
    with pytest.raises(ValueError, match="1 responses, but 2"):
        pool.check_batch(["a"], ["b", "c"])


def test_hung_dead_and_greedy_workers_stall_nothing(pool: VerifierPool) -> None:
    jobs = [(COMPARE, (str(k), f"{k}.0", False)) for k in range(20)]
    jobs[3] = ("time:sleep", (60,))
    jobs[7] = ("os:_exit", (1,))
    jobs[11] = ("builtins:bytearray", (4 << 30,))
    jobs[13] = ("os:abort", ())
    jobs[15] = ("builtins:int", ("x",))
    start = time.monotonic()
    results = pool.run(jobs)
    assert time.monotonic() - start < 15.0
    reasons = {k: results[k]["reason"] for k in (3, 7, 11, 13, 15)}
    assert reasons == {3: "timeout", 7: "worker_died", 11: "memory", 13: "worker_died", 15: "scorer_error"}
    assert all(results[k]["score"] == (0.0 if k in reasons else 1.0) for k in range(20))
    assert pool.restarts == 3
    assert pool.run(jobs[:1])[0]["reason"] == "correct"


def test_worker_that_died_while_idle_is_replaced(pool: VerifierPool) -> None:
    pool.run([(COMPARE, ("x", "x", False))] * 4)
    for worker in pool._workers:
        os.kill(worker.process.pid, signal.SIGKILL)
        worker.process.wait()
    responses, golds = cases(12)
    verdicts = pool.check_batch(responses, golds)
    # the job handed to a dead worker is lost and says so; the rest is judged
    lost = [verdict for verdict in verdicts if verdict.reason == "worker_died"]
    assert len(lost) <= 2
    again = pool.check_batch(responses, golds)
    assert again == [check(r, g) for r, g in zip(responses, golds, strict=True)]


def test_touches_no_signals_or_timers(pool: VerifierPool) -> None:
    numbers = (signal.SIGALRM, signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE)
    before = [signal.getsignal(number) for number in numbers], signal.getitimer(signal.ITIMER_REAL), os.getcwd()
    pool.run([("time:sleep", (60,)), (COMPARE, ("x", "x", False))])
    assert before == ([signal.getsignal(number) for number in numbers], signal.getitimer(signal.ITIMER_REAL), os.getcwd())


def test_from_several_threads(pool: VerifierPool) -> None:
    responses, golds = cases(30)
    expected = [check(r, g) for r, g in zip(responses, golds, strict=True)]
    found = []
    threads = [threading.Thread(target=lambda: found.append(pool.check_batch(responses, golds))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 4


def _in_child(pool: VerifierPool, queue: object) -> None:
    responses, golds = cases(9)
    verdicts = pool.check_batch(responses, golds)
    pool.close()
    queue.put([verdict.score for verdict in verdicts])  # type: ignore[attr-defined]


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_in_a_daemonic_child_process(pool: VerifierPool) -> None:
    responses, golds = cases(9)
    expected = [verdict.score for verdict in pool.check_batch(responses, golds)]
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_in_child, args=(pool, queue), daemon=True)
    child.start()
    assert queue.get(timeout=60) == expected
    child.join(10)
    # and the parent's own workers still belong to it
    assert [verdict.score for verdict in pool.check_batch(responses, golds)] == expected


def test_pickles_without_its_workers(pool: VerifierPool) -> None:
    pool.run([(COMPARE, ("x", "x", False))])
    copy = pickle.loads(pickle.dumps(pool))
    assert copy.num_workers == 2
    assert copy.time_limit == 1.0
    assert not copy._workers
    with copy:
        assert copy.run([(COMPARE, ("x", "x", False))])[0]["score"] == 1.0


def test_close_ends_the_workers(pool: VerifierPool) -> None:
    pool.run([(COMPARE, ("x", "x", False))] * 2)
    processes = [worker.process for worker in pool._workers]
    assert processes
    pool.close()
    assert all(process.poll() is not None for process in processes)


def test_workers_are_small(pool: VerifierPool) -> None:
    pool.run([(COMPARE, (r"\sqrt{2}", r"2^{1/2}", False))] * 4)
    for worker in pool._workers:
        status = f"/proc/{worker.process.pid}/status"
        if not os.path.exists(status):
            pytest.skip("no /proc here")
        with open(status, encoding="utf-8") as lines:
            peak = next(int(line.split()[1]) for line in lines if line.startswith("VmPeak"))
        assert peak < 512 * 1024


def test_says_so_when_workers_cannot_start() -> None:
    with (
        VerifierPool(num_workers=1, preload=("no_such_module_anywhere",)) as pool,
        pytest.raises(RuntimeError, match="no_such_module"),
    ):
        pool.run([(COMPARE, ("x", "x", False))])


@pytest.mark.parametrize("options", [{"num_workers": 0}, {"time_limit": 0.0}, {"memory_mb": 8}, {"mode": "loose"}])
def test_refuses_senseless_options(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must be"):
        VerifierPool(**options)  # type: ignore[arg-type]
