"""The worker processes of the batched LunarLander: they end when they should, and never leave their parent waiting."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from sppo_rl import SPPO
from sppo_rl.envs.control.lunar_lander import LanderProcess, LunarLanderBatch


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


@pytest.fixture(autouse=True)
def interrupts_arrive() -> Iterator[None]:
    """A process that was started in the background may ignore them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt_at(call: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real interrupt before the n-th array that workers have sent is read."""
    reads = 0
    read = LanderProcess.read

    def interrupted(self: LanderProcess, *arguments: Any) -> np.ndarray:
        nonlocal reads
        reads += 1
        if reads == call:
            signal.raise_signal(signal.SIGINT)
        return read(self, *arguments)

    monkeypatch.setattr(LanderProcess, "read", interrupted)


def play(batch: LunarLanderBatch) -> list[np.ndarray]:
    """Reset to seeds 0 to 7, and a few steps."""
    everyone = np.arange(8)
    shown = [batch.reset_subset(everyone, range(8))]
    for step in range(5):
        observations, rewards, dones, _ = batch.step_subset(everyone, (everyone + step) % 4)
        shown += [observations, rewards, dones]
    return shown


# two workers answer a reset with one array each, a step with four each
@pytest.mark.parametrize("call", [1, 2, 3, 6, 7])
def test_after_an_interrupt_a_reset_gives_what_a_fresh_batch_gives(call: int, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = play(LunarLanderBatch(8, dense=True, num_workers=1))
    batch = LunarLanderBatch(8, dense=True, num_workers=2)
    before = pids(batch)
    with monkeypatch.context() as patch:
        interrupt_at(call, patch)
        with pytest.raises(KeyboardInterrupt):
            play(batch)
    assert all(gone(pid) for pid in before)
    for got, wanted in zip(play(batch), expected, strict=True):
        np.testing.assert_array_equal(got, wanted)
    assert len(pids(batch)) == 2
    batch.close()


def test_copies_that_lost_their_episode_cannot_be_stepped_before_a_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = LunarLanderBatch(4, num_workers=2)
    everyone = np.arange(4)
    batch.reset_subset(everyone, [0, 1, 2, 3])
    with monkeypatch.context() as patch:
        interrupt_at(2, patch)
        with pytest.raises(KeyboardInterrupt):
            batch.step_subset(everyone, np.zeros(4, dtype=np.int64))
    with pytest.raises(RuntimeError, match=r"copies \[0, 1, 2, 3\] cannot be stepped: .* Reset them"):
        batch.step_subset(everyone, np.zeros(4, dtype=np.int64))
    some = np.array([0, 3])
    batch.reset_subset(some, [0, 3])
    with pytest.raises(RuntimeError, match=r"copies \[1, 2\] cannot be stepped"):
        batch.step_subset(everyone, np.zeros(4, dtype=np.int64))
    assert batch.step_subset(some, np.zeros(2, dtype=np.int64))[0].shape == (2, 8)
    batch.close()


def test_training_goes_on_after_an_interrupt_as_it_would_have_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through ``learn()``, whose first episodes come from seeds: those after the interrupt are those of an undisturbed run."""
    outcomes = []
    for interrupted in (False, True):
        batch = LunarLanderBatch(4, horizon=50, dense=True, num_workers=2)
        model = SPPO("MlpPolicy", batch, n_episodes=4, n_epochs=1, seed=0, device="cpu")
        if interrupted:
            with monkeypatch.context() as patch:
                interrupt_at(20, patch)
                with pytest.raises(KeyboardInterrupt):
                    model.learn(1000)
        model.set_random_seed(0)
        model.learn(100)
        outcomes.append([episode["r"] for episode in model.ep_info_buffer])
        batch.close()
    assert outcomes[0] == outcomes[1]


def test_a_killed_worker_is_an_error_that_says_so() -> None:
    batch = LunarLanderBatch(4, num_workers=2)
    everyone = np.arange(4)
    batch.reset_subset(everyone, [0, 1, 2, 3])
    victim = pids(batch)[1]
    os.kill(victim, signal.SIGKILL)
    assert soon(lambda: gone(victim))
    with pytest.raises(RuntimeError, match=rf"worker 2 of 2 \(process {victim}\) is gone: killed by signal 9"):
        batch.step_subset(everyone, np.zeros(4, dtype=np.int64))
    batch.reset_subset(everyone, [0, 1, 2, 3])
    assert batch.step_subset(everyone, np.zeros(4, dtype=np.int64))[0].shape == (4, 8), "a reset starts new workers"
    batch.close()


def test_a_failing_worker_is_an_error_that_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    batch = LunarLanderBatch(4, num_workers=2)
    everyone = np.arange(4)
    batch.reset_subset(everyone, [0, 1, 2, 3])
    with pytest.raises(RuntimeError, match=r"worker 1 of 2 .* is gone: exit code 1"):
        batch.step_subset(everyone, np.full(4, 9))
    batch.close()
    assert "ValueError: LunarLander's actions are 0, 1, 2 and 3, got [9]" in capfd.readouterr().err
