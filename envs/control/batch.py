"""What the batched forms of the control tasks share: the clock, the outcome, and dynamics written in NumPy."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.utils.seeding import np_random

from sppo_rl.cores import usable_cores
from sppo_rl.vec_env import BatchedVecEnv

_UNFINISHED: dict[str, Any] = {}
"""The info of every copy whose episode goes on."""


class TaskBatch(BatchedVecEnv):
    """
    A batch of copies of one control task: counts steps, judges the episodes that end, pays the outcome or the dense reward.

    Subclasses write the dynamics (:meth:`_start`, :meth:`_advance`) and the success test (:meth:`_succeeded`).

    :param num_envs: number of copies
    :param observation_space: of one copy
    :param action_space: of one copy
    :param horizon: steps after which an episode ends at the latest
    :param dense: pay the dense reward instead of the outcome
    :raises ValueError: if the horizon is below 1
    """

    def __init__(
        self, num_envs: int, observation_space: spaces.Space, action_space: spaces.Space, *, horizon: int, dense: bool = False
    ):
        super().__init__(num_envs, observation_space, action_space)
        if horizon < 1:
            raise ValueError(f"horizon must be 1 or more steps, got {horizon!r}.")
        self.horizon = horizon
        self.dense = dense
        self._steps = np.zeros(num_envs, dtype=np.int64)
        self._last_step = np.array(horizon)

    @abstractmethod
    def _start(self, indices: np.ndarray, seeds: Sequence[int | None]) -> np.ndarray:
        """
        Put copies into an initial state.

        :param indices: (n,) the copies
        :param seeds: n seeds
        :return: (n, *obs) first observations
        """

    @abstractmethod
    def _advance(
        self, indices: np.ndarray, where: np.ndarray | slice, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """
        Apply the dynamics once.

        :param indices: (n,) the copies
        :param where: the same copies as an index: a slice, which gives views, where they are all
        :param actions: (n, *act)
        :return: observations (n, *obs), fresh; whether the dynamics ended the episode, (n,) bool; dense rewards (n,), or None
            if the task is not dense
        """

    @abstractmethod
    def _succeeded(self, indices: np.ndarray, observations: np.ndarray, terminated: np.ndarray) -> np.ndarray:
        """
        Judge finished episodes.

        :param indices: (m,) their copies
        :param observations: (m, *obs) their last observations
        :param terminated: (m,) whether the dynamics, rather than the clock, ended them
        :return: (m,) bool
        """

    def reset_subset(self, indices: np.ndarray, seeds: Sequence[int | None]) -> np.ndarray:
        """
        Start a new episode in some copies.

        :param indices: (n,) int, the copies to reset
        :param seeds: n seeds: a number gives the state that ``gym.make(id).reset(seed=…)`` gives, None draws on
        :return: (n, *obs) first observations
        :raises ValueError: if there are more or fewer seeds than copies
        """
        if len(seeds) != len(indices):
            raise ValueError(
                f"reset_subset needs one seed (or None) for each copy, got {len(seeds)} for {len(indices)} copies."
            )
        self._steps[indices] = 0
        return self._start(indices, seeds)

    def step_subset(
        self, indices: np.ndarray, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """
        Step some copies.

        :param indices: (n,) int, strictly increasing
        :param actions: (n, *act)
        :return: observations, rewards, dones, infos as in :meth:`BatchedVecEnv.step_subset`
        """
        n = len(indices)
        where = slice(None) if n == self.num_envs else indices
        observations, terminated, dense_rewards = self._advance(indices, where, actions)
        self._steps[where] += 1
        dones = self._steps[where] >= self._last_step
        dones |= terminated
        rewards = np.zeros(n, dtype=np.float32) if dense_rewards is None else dense_rewards.astype(np.float32)
        infos = [_UNFINISHED] * n
        finished = dones.nonzero()[0]
        if finished.size:
            successes = self._succeeded(indices[finished], observations[finished], terminated[finished])
            if dense_rewards is None:
                rewards[finished] = successes
            for i, is_success in zip(finished.tolist(), successes.tolist(), strict=True):
                infos[i] = {"is_success": is_success, "TimeLimit.truncated": False}
        return observations, rewards, dones, infos


class NumpyBatch(TaskBatch):
    """
    A :class:`TaskBatch` whose state is one array and whose dynamics are a few NumPy expressions over all copies.

    The state is held as (variables, copies), so that each variable is a contiguous row. Each copy has its own generator, the
    one Gymnasium would make for its seed.

    :param num_envs: number of copies
    :param observation_space: of one copy
    :param action_space: of one copy
    :param state_size: number of state variables
    :param horizon: steps
    :param dense: pay the dense reward instead of the outcome
    """

    def __init__(
        self,
        num_envs: int,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        *,
        state_size: int,
        horizon: int,
        dense: bool = False,
    ):
        super().__init__(num_envs, observation_space, action_space, horizon=horizon, dense=dense)
        self._state = np.zeros((state_size, num_envs), dtype=np.float64)
        self._generators: list[np.random.Generator | None] = [None] * num_envs

    @abstractmethod
    def _draw(self, generator: np.random.Generator) -> np.ndarray:
        """
        Draw one initial state.

        :param generator: the copy's own
        :return: (variables,)
        """

    @abstractmethod
    def _observe(self, state: np.ndarray) -> np.ndarray:
        """
        Turn states into observations.

        :param state: (variables, n)
        :return: (n, *obs), fresh
        """

    def _start(self, indices: np.ndarray, seeds: Sequence[int | None]) -> np.ndarray:
        for i, seed in zip(indices, seeds, strict=True):
            self._state[:, i] = self._draw(generator_of(self._generators, i, seed))
        return self._observe(self._state[:, indices])


def generator_of(generators: list[np.random.Generator | None], i: int, seed: int | None) -> np.random.Generator:
    """
    The generator that ``env.reset(seed=seed)`` would draw from: a new one for a seed, else the copy's own.

    :param generators: one for each copy, None where none has been made yet
    :param i: the copy
    :param seed: a seed, or None
    """
    generator = generators[i]
    if seed is not None or generator is None:
        generator = generators[i] = np_random(None if seed is None else int(seed))[0]
    return generator


def worker_count(asked: int | None, num_envs: int) -> int:
    """
    The number of threads or processes to use: what was asked for, or the cores at hand, and no more than there are copies.

    :param asked: None for the cores that this process may use
    :param num_envs: number of copies
    :raises ValueError: if less than 1 is asked for
    """
    if asked is not None and asked < 1:
        raise ValueError(f"num_workers must be 1 or more (or None for one for each core), got {asked!r}.")
    return min(asked or usable_cores(), num_envs)
