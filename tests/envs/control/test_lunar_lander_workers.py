"""The worker processes of the batched LunarLander: they end when they should, and never leave their parent waiting."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import pytest

from sppo_rl.envs.control.lunar_lander import LunarLanderBatch


def gone(pid: int) -> bool:
    """Whether a process has ended (a zombie has: its parent has just not asked)."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def soon(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def pids(batch: LunarLanderBatch) -> list[int]:
    return [worker.pid for worker in batch._workers]


def test_one_worker_is_no_process_and_more_are_never_more_than_the_copies() -> None:
    assert pids(LunarLanderBatch(4, num_workers=1)) == []
    batch = LunarLanderBatch(2, num_workers=5)
    assert len(pids(batch)) == 2
    batch.close()


def test_workers_end_with_close_and_with_the_batch() -> None:
    batch = LunarLanderBatch(2, num_workers=2)
    closed = pids(batch)
    assert not any(gone(pid) for pid in closed)
    batch.close()
    assert all(gone(pid) for pid in closed)
    batch = LunarLanderBatch(2, num_workers=2)
    dropped = pids(batch)
    del batch
    gc.collect()
    assert soon(lambda: all(gone(pid) for pid in dropped))


def test_workers_end_when_their_parent_is_killed() -> None:
    # A script without an `if __name__ == "__main__"`, as the ten-line examples are.
    script = (
        "import time\n"
        "from sppo_rl.envs.control.lunar_lander import LunarLanderBatch\n"
        "batch = LunarLanderBatch(4, num_workers=2)\n"
        "batch.reset()\n"
        "print(*[worker.pid for worker in batch._workers], flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    workers = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(workers) == 2
    assert not any(gone(pid) for pid in workers)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert soon(lambda: all(gone(pid) for pid in workers))


def test_an_interrupt_is_left_to_the_parent() -> None:
    batch = LunarLanderBatch(2, num_workers=2)
    batch.reset()
    for pid in pids(batch):
        os.kill(pid, signal.SIGINT)
    time.sleep(0.1)
    assert batch.step(np.zeros(2, dtype=np.int64))[0].shape == (2, 8)
    batch.close()


def test_a_killed_worker_is_an_error_that_says_so() -> None:
    batch = LunarLanderBatch(4, num_workers=2)
    everyone = np.arange(4)
    batch.reset_subset(everyone, [0, 1, 2, 3])
    victim = pids(batch)[1]
    os.kill(victim, signal.SIGKILL)
    assert soon(lambda: gone(victim))
    with pytest.raises(RuntimeError, match=rf"worker 2 of 2 \(process {victim}\) is gone: killed by signal 9"):
        batch.step_subset(everyone, np.zeros(4, dtype=np.int64))
    batch.close()


def test_a_failing_worker_is_an_error_that_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    batch = LunarLanderBatch(4, num_workers=2)
    everyone = np.arange(4)
    batch.reset_subset(everyone, [0, 1, 2, 3])
    with pytest.raises(RuntimeError, match=r"worker 1 of 2 .* is gone: exit code 1"):
        batch.step_subset(everyone, np.full(4, 9))
    batch.close()
    assert "ValueError: LunarLander's actions are 0, 1, 2 and 3, got [9]" in capfd.readouterr().err
