"""Whole episodes: the batch that estimators and losses read, and the buffer that collection fills."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias, cast

import numpy as np
import torch as th
from gymnasium import spaces

Arrays: TypeAlias = np.ndarray | dict[str, np.ndarray]
Tensors: TypeAlias = th.Tensor | dict[str, th.Tensor]


class EpisodeBatch(NamedTuple):
    """
    S whole sequences = M environment steps of K decisions each; steps lie sequence after sequence, in time order.

    Control: K = 1. Language: M = S, K = token budget. Tensors stay on the CPU; the engine moves chunks to the device.
    """

    contexts: Tensors
    """(S, *obs) all that a prompt-level critic may see."""
    observations: Tensors
    """(M, *obs)"""
    actions: th.Tensor
    """(M, *act) as the policy sampled them, before clipping to the action space."""
    mask: th.Tensor
    """(M, K) bool, decisions that the policy sampled."""
    old_log_prob: th.Tensor
    """(M, K) nats, under the policy that sampled: by the training code, or by a sampler that computes what it does (``sampler_trains``)."""
    sampler_log_prob: th.Tensor | None
    """(M, K) nats as the sampler reported them, if it does; 0 where masked."""
    sequence: th.Tensor
    """(M,) int64 in [0, S), non-decreasing."""
    rewards: th.Tensor
    """(M,) float32, one for each environment step."""
    outcome: th.Tensor
    """(S,) float32, the return of the sequence, never discounted."""
    values: th.Tensor | None
    """(S,) or (M, K), in outcome units (a probability, never a logit), before the update."""
    group: th.Tensor
    """(S,) int64, sequences that share a context share a number."""
    greedy_outcome: th.Tensor | None
    """(S,) outcome of the greedy roll-out from the same context, for estimators that ask for one."""
    reference_log_prob: th.Tensor | None = None
    """(M, K) nats under the policy that training began with, for estimators that ask for them."""

    @property
    def lengths(self) -> th.Tensor:
        """(S,) int64, environment steps in each sequence."""
        return th.bincount(self.sequence, minlength=self.outcome.shape[0])


class EpisodeArrays(NamedTuple):
    """Finished episodes as they left the environment; fields as in :class:`EpisodeBatch`."""

    observations: Arrays
    actions: np.ndarray
    rewards: np.ndarray
    sequence: np.ndarray
    outcome: np.ndarray
    log_prob: np.ndarray | None = None
    """(M, K) as the sampler reported them, if it does."""


def take(arrays: Any, index: Any) -> Any:
    """
    Index an array or tensor, or each one of a dictionary of them.

    :param arrays: array, tensor or dictionary of them
    :param index: anything that indexes their first dimension
    """
    if isinstance(arrays, dict):
        return {key: value[index] for key, value in arrays.items()}
    return arrays[index]


def to_device(tensors: Any, device: th.device) -> Any:
    """
    Move a tensor, or each one of a dictionary of them.

    :param tensors: tensor or dictionary of tensors
    :param device: where to
    """
    if isinstance(tensors, dict):
        return {key: value.to(device) for key, value in tensors.items()}
    return tensors.to(device)


def first_observations(episodes: EpisodeArrays) -> Arrays:
    """
    Take the observation that each episode began with.

    :param episodes: S whole episodes
    :return: (S, *obs)
    """
    starts = np.flatnonzero(np.diff(episodes.sequence, prepend=-1))
    observations: Arrays = take(episodes.observations, starts)
    return observations


def put(target: Arrays, index: Any, values: Arrays) -> None:
    """
    Write rows of an array, or of each one of a dictionary of them.

    :param target: written in place
    :param index: anything that indexes the first dimension
    :param values: rows
    """
    if isinstance(target, dict):
        assert isinstance(values, dict)
        for key, array in target.items():
            array[index] = values[key]
    else:
        target[index] = values


def concatenate(parts: list[Any]) -> Any:
    """
    Concatenate arrays, or dictionaries of arrays, along their first dimension.

    :param parts: at least one
    """
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], dict):
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    return np.concatenate(parts)


def as_tensors(arrays: Any) -> Any:
    """
    Wrap arrays as CPU tensors without copying.

    :param arrays: array or dictionary of arrays
    """
    if isinstance(arrays, dict):
        return {key: th.as_tensor(value) for key, value in arrays.items()}
    return th.as_tensor(arrays)


class EpisodeBuffer:
    """
    Steps of several environment copies, written as they come, read as whole episodes.

    Storage is time-major and grows by doubling, so its size follows the episodes' real lengths.

    :param observation_space: of one copy
    :param action_space: of one copy
    :param num_envs: number of copies
    """

    def __init__(self, observation_space: spaces.Space, action_space: spaces.Space, num_envs: int):
        self._num_envs = num_envs
        self._capacity = 0
        self._steps = 0
        shape, dtype = action_space.shape, action_space.dtype
        assert shape is not None
        self._observation_space = observation_space
        self._observations: Arrays
        """Made with the first step, whose dtype may be another than the space's: see :func:`_storage`."""
        # a Gaussian policy samples float32 whatever the space's precision
        action_dtype = np.float32 if isinstance(action_space, spaces.Box) else dtype
        self._actions = np.empty((0, num_envs, *shape), dtype=action_dtype)
        self._rewards = np.empty((0, num_envs), dtype=np.float32)
        self._ends = np.empty((0, num_envs), dtype=bool)
        self._active = np.empty((0, num_envs), dtype=bool)
        self._log_prob: np.ndarray | None = None

    def add(
        self,
        index: np.ndarray | slice,
        observations: Arrays,
        actions: np.ndarray,
        rewards: np.ndarray,
        ends: np.ndarray,
        log_prob: np.ndarray | None = None,
    ) -> None:
        """
        Add one step of some copies.

        :param index: which copies, (n,) int, or a slice for all
        :param observations: (n, *obs) what the policy saw
        :param actions: (n, *act) what it sampled
        :param rewards: (n,)
        :param ends: (n,) bool, whether the episode ended with this step
        :param log_prob: (n, K) nats, from samplers that tell them; then with every step
        """
        if not self._capacity:
            self._observations = _storage(self._observation_space, observations, self._num_envs)
        if self._steps == self._capacity:
            self._grow()
        t = self._steps
        if isinstance(self._observations, dict):
            assert isinstance(observations, dict)
            for key, array in self._observations.items():
                array[t, index] = observations[key]
        else:
            self._observations[t, index] = observations
        self._actions[t, index] = actions.reshape((-1, *self._actions.shape[2:]))
        self._rewards[t, index] = rewards
        self._ends[t, index] = ends
        if log_prob is not None:
            if self._log_prob is None:
                self._log_prob = np.empty((self._capacity, self._num_envs, log_prob.shape[1]), dtype=np.float32)
            self._log_prob[t, index] = log_prob
        if not isinstance(index, slice):
            self._active[t] = False
        self._active[t, index] = True
        self._steps += 1

    def _grow(self) -> None:
        self._capacity = max(64, 2 * self._capacity)

        def enlarge(array: np.ndarray) -> np.ndarray:
            larger = np.empty((self._capacity, *array.shape[1:]), dtype=array.dtype)
            larger[: self._steps] = array[: self._steps]
            return larger

        if isinstance(self._observations, dict):
            self._observations = {key: enlarge(array) for key, array in self._observations.items()}
        else:
            self._observations = enlarge(self._observations)
        self._actions, self._rewards = enlarge(self._actions), enlarge(self._rewards)
        self._ends, self._active = enlarge(self._ends), enlarge(self._active)
        if self._log_prob is not None:
            self._log_prob = enlarge(self._log_prob)

    def finish(self) -> EpisodeArrays:
        """
        Read the episodes: those of the first copy in the order they were played, then those of the second, and so on.

        :return: all steps, sequence after sequence
        :raises RuntimeError: if a copy's last episode has not ended
        """
        active = self._active[: self._steps].T

        def ragged(array: np.ndarray) -> np.ndarray:
            rows: np.ndarray = array[: self._steps].swapaxes(0, 1)[active]
            return rows

        ends = ragged(self._ends)
        owner = np.repeat(np.arange(self._num_envs), active.sum(axis=1))
        last_of_owner = np.append(owner[1:] != owner[:-1], True)
        if not ends[last_of_owner].all():
            unfinished = owner[last_of_owner][~ends[last_of_owner]].tolist()
            raise RuntimeError(f"The last episode of environment copies {unfinished} has not ended.")
        rewards = ragged(self._rewards)
        starts = np.append(0, np.flatnonzero(ends)[:-1] + 1)
        if isinstance(self._observations, dict):
            observations: Arrays = {key: ragged(array) for key, array in self._observations.items()}
        else:
            observations = ragged(self._observations)
        return EpisodeArrays(
            observations=observations,
            actions=ragged(self._actions),
            rewards=rewards,
            sequence=np.cumsum(ends) - ends,
            outcome=np.add.reduceat(rewards.astype(np.float64), starts).astype(np.float32),
            log_prob=None if self._log_prob is None else ragged(self._log_prob),
        )


def _storage(space: spaces.Space, observations: Arrays, num_envs: int) -> Arrays:
    """Room for no steps yet, in the space's dtype; in the observations' own where whole numbers have become others (``VecNormalize``)."""
    if isinstance(space, spaces.Dict):
        assert isinstance(observations, dict)
        return {key: cast(np.ndarray, _storage(part, observations[key], num_envs)) for key, part in space.spaces.items()}
    assert isinstance(observations, np.ndarray)
    assert space.dtype is not None
    dtype = space.dtype if np.can_cast(observations.dtype, space.dtype, "same_kind") else observations.dtype
    return np.empty((0, num_envs, *(space.shape or ())), dtype=dtype)
