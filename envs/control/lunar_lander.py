"""
LunarLander: be down on the pad, in one piece, when the episode ends.

Observation, float32 (8,):

=====  ==================================  =============================
index  quantity                            unit
=====  ==================================  =============================
0      horizontal position x               half widths of the view
1      height above the pad y              half heights of the view
2–3    horizontal and vertical velocity    scaled, see gymnasium
4      angle                               rad
5      angular velocity                    0.4 rad/s
6–7    left and right leg touch ground     1 or 0
=====  ==================================  =============================

Action, Discrete(4): 0 nothing, 1 left engine, 2 main engine, 3 right engine.

Horizon: 1000 steps (``sppo_rl/LunarLander-v0``). A crash, leaving the view (abs(x) ≥ 1) or coming to rest ends the
episode earlier.

Success: when the episode ends at least one leg touches the ground, abs(x) < 0.4, and the lander has not crashed
(its body never touched the ground). The paper does not ask for the last; without it crashing on the pad is a way to
win. One leg is enough because gymnasium's contact flags go out when a leg that rests on two pieces of ground leaves
one of them: of 220 landings of gymnasium's ``heuristic`` that came to rest with abs(x) < 0.4, 144 showed both
flags, 48 one, and 28 none (these count as failures).

Dense reward: gymnasium's: closer, slower and more upright is better, fuel costs, −100 for a crash, +100 for coming
to rest.

Untrained success rate: [.000, .003] for fresh ``MlpPolicy`` networks, [.000, .002] for uniformly random actions (95 %
intervals, 2,000 episodes each).

Source: dynamics, initial states, ends and dense reward of gymnasium's ``LunarLander-v3`` (discrete, no wind);
horizon and success test of the SPPO paper (arXiv 2604.08865, control experiments), made stricter as said.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.box2d.lunar_lander import LunarLander

from sppo_rl.envs.control import lunar_lander_worker
from sppo_rl.envs.control.batch import TaskBatch, worker_count
from sppo_rl.envs.control.lunar_lander_worker import OBSERVATION_SIZE, LanderCopies
from sppo_rl.envs.control.outcome import Ending, make_task

MAX_X = 0.4
"""The success test's bound on abs(x)."""


def landed(observation: np.ndarray, crashed: Any) -> Any:
    """
    The success test.

    :param observation: (..., 8) last observations
    :param crashed: (...) bool, whether the lander's body touched the ground
    :return: (...) bool
    """
    contact = (observation[..., 6] > 0.5) | (observation[..., 7] > 0.5)
    return contact & (np.abs(observation[..., 0]) < MAX_X) & np.logical_not(crashed)


def success(end: Ending) -> bool:
    """
    :func:`landed` for one episode.

    :param end: its last step
    """
    assert isinstance(end.env, LunarLander)
    return bool(landed(end.observation, end.env.game_over))


def make(horizon: int = 1000, dense: bool = False, render_mode: str | None = None) -> gym.Env:
    """
    Make one copy.

    :param horizon: steps
    :param dense: the dense twin
    :param render_mode: as in Gymnasium
    """
    return make_task(LunarLander(render_mode=render_mode), success, horizon, dense)


class LunarLanderBatch(TaskBatch):
    """
    Gymnasium's LunarLander, its copies spread over worker processes (Box2D holds the interpreter lock).

    An exception while workers have something to answer, such as an interrupt from the keyboard, ends them and all episodes; the next reset
    starts new ones.

    :param num_envs: number of copies
    :param horizon: steps
    :param dense: the dense twin
    :param num_workers: number of processes; 1 steps the copies in the calling process; None takes one for each core at hand
    :raises ValueError: if ``num_workers`` is less than 1
    """

    def __init__(self, num_envs: int, horizon: int = 1000, dense: bool = False, num_workers: int | None = None):
        model = LunarLander()
        super().__init__(num_envs, model.observation_space, model.action_space, horizon=horizon, dense=dense)
        self._crashed = np.zeros(num_envs, dtype=bool)
        self.num_workers = worker_count(num_workers, num_envs)
        self._local: LanderCopies | None = None
        self._workers: list[LanderProcess] = []
        self._lost = np.zeros(num_envs, dtype=bool)
        """Copies whose episode ended with their worker and that have not been reset since."""
        if self.num_workers == 1:
            self._local = LanderCopies(num_envs)
        else:
            self._start_workers()

    def _start_workers(self) -> None:
        # Copy i lives in worker i mod num_workers, as number i // num_workers there.
        self._workers = [
            LanderProcess(len(range(w, self.num_envs, self.num_workers)), f"{w + 1} of {self.num_workers}")
            for w in range(self.num_workers)
        ]

    def _end_workers(self) -> None:
        self._lost[:] = True
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.close()

    @contextlib.contextmanager
    def _answered_in_full(self) -> Iterator[None]:
        """End the workers if an exception leaves an answer unread: the next command would take it for its own."""
        try:
            yield
        except BaseException:
            self._end_workers()
            raise

    def _start(self, indices: np.ndarray, seeds: Sequence[int | None]) -> np.ndarray:
        for seed in seeds:
            if seed is not None and seed < 0:
                raise ValueError(f"A seed must be 0 or more, got {seed}.")
        numbers = np.array([-1 if seed is None else seed for seed in seeds], dtype=np.int64)
        if self._local is not None:
            return self._local.reset(indices, numbers)
        if not self._workers:
            self._start_workers()
        observations = np.empty((len(indices), OBSERVATION_SIZE), dtype=np.float32)
        with self._answered_in_full():
            for worker, rows in self._send(b"r", indices, numbers):
                observations[rows] = worker.read(len(rows), np.float32, OBSERVATION_SIZE)
        self._lost[indices] = False
        return observations

    def _advance(
        self, indices: np.ndarray, where: np.ndarray | slice, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        n = len(indices)
        if self._local is not None:
            observations, rewards, terminated, crashed = self._local.step(indices, actions)
        else:
            lost = indices[self._lost[indices]]
            if lost.size:
                raise RuntimeError(
                    f"LunarLander's copies {lost.tolist()} cannot be stepped: their episodes ended when an exception or close() ended the "
                    "worker processes. Reset them first."
                )
            observations = np.empty((n, OBSERVATION_SIZE), dtype=np.float32)
            rewards = np.empty(n, dtype=np.float32)
            terminated = np.empty(n, dtype=bool)
            crashed = np.empty(n, dtype=bool)
            with self._answered_in_full():
                for worker, rows in self._send(b"s", indices, actions):
                    observations[rows] = worker.read(len(rows), np.float32, OBSERVATION_SIZE)
                    rewards[rows] = worker.read(len(rows), np.float32)
                    terminated[rows] = worker.read(len(rows), np.bool_)
                    crashed[rows] = worker.read(len(rows), np.bool_)
        self._crashed[where] = crashed
        return observations, terminated, rewards if self.dense else None

    def _send(self, command: bytes, indices: np.ndarray, arguments: np.ndarray) -> list[tuple[LanderProcess, np.ndarray]]:
        """Send each worker its part of a command; returns who answers for which rows."""
        owners = indices % self.num_workers
        parts = []
        for w, worker in enumerate(self._workers):
            rows = np.flatnonzero(owners == w)
            if rows.size:
                worker.send(command, indices[rows] // self.num_workers, arguments[rows])
                parts.append((worker, rows))
        return parts

    def _succeeded(self, indices: np.ndarray, observations: np.ndarray, terminated: np.ndarray) -> np.ndarray:
        return np.asarray(landed(observations, self._crashed[indices]))

    def close(self) -> None:
        """End the worker processes; a reset would start new ones."""
        self._end_workers()
        super().close()


class LanderProcess:
    """
    A worker process with some copies; ends with this object, with :meth:`close`, and with the calling process.

    :param n: number of copies
    :param name: what errors call it
    """

    def __init__(self, n: int, name: str):
        self._name = name
        # -P: the folder of the program, with its cartpole.py and pendulum.py, does not belong on the import path.
        self._process = subprocess.Popen(
            [sys.executable, "-P", lunar_lander_worker.__file__, str(n)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._finalizer = weakref.finalize(self, _stop, self._process)

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def send(self, command: bytes, copies: np.ndarray, arguments: np.ndarray) -> None:
        """
        Send a command; :meth:`read` its answer before the next.

        :param command: as :mod:`.lunar_lander_worker` lists them
        :param copies: (n,) int
        :param arguments: (n,) int
        :raises RuntimeError: if the process is gone
        """
        assert self._process.stdin is not None
        message = np.concatenate(([len(copies)], copies, arguments)).astype(np.int64)
        try:
            self._process.stdin.write(command + message.tobytes())
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError) as error:
            raise self._gone() from error

    def read(self, n: int, dtype: Any, width: int | None = None) -> np.ndarray:
        """
        Read one array of an answer; waits for it.

        :param n: number of rows
        :param dtype: of its elements
        :param width: number of columns; None for an array of one dimension
        :raises RuntimeError: if the process is gone
        """
        assert self._process.stdout is not None
        size = n * (width or 1) * np.dtype(dtype).itemsize
        data = self._process.stdout.read(size)
        if len(data) < size:
            raise self._gone()
        array = np.frombuffer(data, dtype=dtype)
        return array if width is None else array.reshape(n, width)

    def _gone(self) -> RuntimeError:
        code = self._process.wait(timeout=10)
        how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        return RuntimeError(
            f"LunarLander worker {self._name} (process {self.pid}) is gone: {how}. What it had to say is on the error stream. "
            "All episodes are lost: reset the environment (num_workers=1 shows an error where it happens)."
        )

    def close(self) -> None:
        """End the process; closing again does nothing."""
        self._finalizer()


def _stop(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError):  # it may be gone already
        process.stdin.close()
    process.stdout.close()
    process.terminate()
    process.wait()
