"""Batched environments: vectorised copies that can be reset by seed and stepped in part.

An ordinary SB3 ``VecEnv`` steps every copy at every call, so a collector that wants one whole episode from each copy goes on
stepping the finished ones. A :class:`BatchedVecEnv` steps only the copies it is asked for.
"""

from __future__ import annotations

import importlib
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

_BATCHED_FORMS: dict[str, tuple[str, dict[str, Any]]] = {}
"""Environment id → ("module:callable", keyword arguments)."""


def register_batched(env_id: str, entry_point: str, **kwargs: Any) -> None:
    """
    Say how the batched form of a registered environment id is made.

    :param env_id: a Gymnasium id, such as ``"sppo_rl/Pendulum-v0"``
    :param entry_point: ``"module:callable"``; called as ``callable(num_envs, **kwargs)`` and imported only then
    :param kwargs: passed on to the callable
    """
    _BATCHED_FORMS[env_id] = (entry_point, kwargs)


def has_batched_form(env_id: str) -> bool:
    """
    Tell whether :func:`make_batched` knows this id.

    :param env_id: a Gymnasium id
    """
    return _plain(env_id) in _BATCHED_FORMS


def _plain(env_id: str) -> str:
    """Drop the module that Gymnasium allows before an id, as in ``"sppo_rl:sppo_rl/Pendulum-v0"``."""
    return env_id.rpartition(":")[2]


def make_batched(env_id: str, num_envs: int, **kwargs: Any) -> BatchedVecEnv:
    """
    Make the batched form of an environment: the same task as ``gym.make(env_id)``, ``num_envs`` copies at a time.

    :param env_id: a Gymnasium id with a batched form
    :param num_envs: number of copies
    :param kwargs: options of that batched form (for instance ``num_workers``)
    :return: an SB3 ``VecEnv``
    :raises ValueError: if the id has no batched form or ``num_envs`` is not positive
    """
    if not has_batched_form(env_id):
        known = ", ".join(sorted(_BATCHED_FORMS)) or "none"
        raise ValueError(
            f"{env_id!r} has no batched form. Ids that have one: {known}. "
            "For any other environment use stable_baselines3.common.env_util.make_vec_env."
        )
    if num_envs < 1:
        raise ValueError(f"num_envs must be at least 1, got {num_envs}.")
    entry_point, registered = _BATCHED_FORMS[_plain(env_id)]
    module, name = entry_point.split(":")
    venv: BatchedVecEnv = getattr(importlib.import_module(module), name)(num_envs, **{**registered, **kwargs})
    venv.spec = gym.registry.get(_plain(env_id))
    return venv


def has_batched_method(env: Any) -> bool:
    """
    Tell whether an environment object offers its batched form: a Gymnasium environment with a method ``batched(num_envs)``.

    :param env: anything; a wrapper around such an environment does not count
    """
    return isinstance(env, gym.Env) and callable(getattr(env, "batched", None))


def in_batched_form(env: Any, num_envs: int) -> Any:
    """
    Use an environment object in its batched form where it offers one.

    :param env: an environment, a ``VecEnv``, an id or ``None``
    :param num_envs: number of copies
    :return: a :class:`BatchedVecEnv`, or ``env`` itself
    """
    return env.batched(num_envs) if has_batched_method(env) else env


class BatchedVecEnv(VecEnv):
    """
    A ``VecEnv`` whose copies can be reset one by one from a seed and stepped in part.

    Subclasses write :meth:`reset_subset` and :meth:`step_subset`; the SB3 interface (auto-reset, seeds, ``terminal_observation``,
    episode statistics) is built on them here.

    :param num_envs: number of copies
    :param observation_space: of one copy
    :param action_space: of one copy
    """

    render_mode: str | None = None
    spec: EnvSpec | None = None
    """Gymnasium's registration of the task, where :func:`make_batched` made the batch from an id."""

    def __init__(self, num_envs: int, observation_space: spaces.Space, action_space: spaces.Space):
        super().__init__(num_envs, observation_space, action_space)
        self._everyone = np.arange(num_envs)
        self._pending_actions: np.ndarray | None = None
        self._returns = np.zeros(num_envs, dtype=np.float64)
        self._lengths = np.zeros(num_envs, dtype=np.int64)

    @abstractmethod
    def reset_subset(self, indices: np.ndarray, seeds: Sequence[int | None]) -> np.ndarray:
        """
        Start a new episode in some copies.

        :param indices: (n,) int, the copies to reset
        :param seeds: n seeds; a number gives the initial state that ``gym.make(id).reset(seed=…)`` gives, ``None`` draws on from
            the copy's own generator
        :return: (n, *obs) first observations, a fresh array
        """

    @abstractmethod
    def step_subset(
        self, indices: np.ndarray, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """
        Step some copies; never resets. Stepping a copy whose episode is over is an error of the caller.

        :param indices: (n,) int, strictly increasing, the copies to step
        :param actions: (n, *act), one action for each of them
        :return: observations (n, *obs), a fresh array; rewards (n,) float32; dones (n,) bool; n info dictionaries: those of finished
            episodes hold ``is_success`` where the task has a success test and ``TimeLimit.truncated``; the others may be one shared
            empty dictionary, which must not be written to
        """

    def reset(self) -> VecEnvObs:
        """
        Start a new episode in every copy, from the seeds set by :meth:`seed` where there are any.

        :return: (num_envs, *obs)
        """
        observations = self.reset_subset(self._everyone, self._seeds)
        self._returns[:] = 0.0
        self._lengths[:] = 0
        self._reset_seeds()
        self._reset_options()
        return observations

    def step_async(self, actions: np.ndarray) -> None:
        """
        Keep the actions for :meth:`step_wait`.

        :param actions: (num_envs, *act)
        """
        self._pending_actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """
        Step every copy; those whose episode ends are reset at once, as SB3's vectorised environments do.

        :return: observations, rewards, dones, infos; the info of a finished episode holds ``terminal_observation`` and the
            statistics of SB3's ``Monitor`` under ``episode``
        """
        assert self._pending_actions is not None, "step_wait() before step_async()"
        observations, rewards, dones, shared_infos = self.step_subset(self._everyone, self._pending_actions)
        infos = [dict(info) for info in shared_infos]
        self._returns += rewards
        self._lengths += 1
        finished = np.flatnonzero(dones)
        if finished.size:
            for i in finished:
                infos[i]["terminal_observation"] = observations[i].copy()
                infos[i]["episode"] = {"r": float(self._returns[i]), "l": int(self._lengths[i]), "t": 0.0}
            observations[finished] = self.reset_subset(finished, [None] * len(finished))
            self._returns[finished] = 0.0
            self._lengths[finished] = 0
        return observations, rewards, dones, infos

    def close(self) -> None:
        """Release what the copies hold; nothing by default."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """
        Read an attribute of the batch, once for each copy asked for.

        :param attr_name: name of the attribute
        :param indices: copies
        :raises AttributeError: if there is no such attribute
        """
        return [getattr(self, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """
        Set an attribute of the whole batch: copies have none of their own.

        :param attr_name: name of the attribute
        :param value: its new value
        :param indices: must mean all copies
        :raises ValueError: if only some copies are meant
        """
        if len(list(self._get_indices(indices))) != self.num_envs:
            raise ValueError(f"{attr_name!r} belongs to the whole batch: it cannot be set for copies {indices} alone.")
        setattr(self, attr_name, value)

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        """
        Call a method of the batch, once for each copy asked for.

        :param method_name: name of the method
        :param method_args: its arguments
        :param indices: copies
        :param method_kwargs: its keyword arguments
        """
        method = getattr(self, method_name)
        return [method(*method_args, **method_kwargs) for _ in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        """
        Tell SB3 that episode statistics are there (as if by ``Monitor``), and that no other wrapper is.

        :param wrapper_class: a Gymnasium wrapper class
        :param indices: copies
        """
        return [wrapper_class is Monitor] * len(list(self._get_indices(indices)))
