"""Outcome tasks: any Gymnasium environment whose episode is judged once, at its end."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs
from gymnasium.wrappers import TimeLimit


class Ending(NamedTuple):
    """
    What a success test is given to judge: the last step of an episode.

    :param env: the environment without its wrappers, for what neither the observation nor ``info`` shows
    :param observation: the last observation
    :param terminated: whether the environment itself ended the episode (a fall, a crash, a goal); False when the clock ran out
    :param info: the environment's own ``info`` of the last step
    """

    env: gym.Env
    observation: Any
    terminated: bool
    info: dict[str, Any]


SuccessTest = Callable[[Ending], bool]
DenseReward = Callable[[Any, Any, Any, bool], float]


class OutcomeWrapper(gym.Wrapper, RecordConstructorArgs):
    """
    Turn an environment into an outcome task: reward 0 until the episode's last step, then 1.0 for success and 0.0 for failure.

    The time limit is part of the task, so an episode that reaches it has *ended* (``terminated=True``) and is judged like any
    other; nothing is ever truncated, and nothing bootstraps. A ``TimeLimit`` inside ``env`` is taken out: ``horizon`` is the
    only clock. (Where the environment truncates by itself, that ends the episode too.) The last step's ``info`` holds
    ``is_success``.

    Your own verifiable task in five lines::

        import gymnasium as gym
        from sppo_rl import SPPO
        from sppo_rl.envs import OutcomeWrapper

        env = OutcomeWrapper(gym.make("Acrobot-v1"), success=lambda end: end.terminated, horizon=500)
        SPPO("MlpPolicy", env).learn()

    A lambda does for one process; for ``pickle`` and worker processes give a function that stands in a module.

    :param env: any Gymnasium environment
    :param success: called once for each episode with its :class:`Ending`; True means success
    :param horizon: the number of steps after which an episode ends at the latest
    :raises TypeError: if ``success`` cannot be called, or returns something that is neither True nor False
    :raises ValueError: if ``horizon`` is not a positive whole number
    """

    def __init__(self, env: gym.Env, success: SuccessTest, horizon: int = 1000):
        if not callable(success):
            raise TypeError(f"success must be a function that takes an Ending and returns True or False, got {success!r}.")
        if isinstance(horizon, bool) or not isinstance(horizon, int | np.integer) or horizon < 1:
            raise ValueError(f"horizon must be a whole number of steps, 1 or more, got {horizon!r}.")
        RecordConstructorArgs.__init__(self, success=success, horizon=int(horizon))
        gym.Wrapper.__init__(self, _without_time_limit(env))
        self.horizon = int(horizon)
        self._success = success
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """
        Start an episode.

        :param seed: as in Gymnasium
        :param options: as in Gymnasium
        :return: first observation and ``info``
        """
        observation, info = self.env.reset(seed=seed, options=options)
        self._steps = 0
        return observation, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """
        Take one step; the episode's last one is judged.

        :param action: as in the wrapped environment
        :return: observation, reward, whether the episode is over, False, and ``info`` (with ``is_success`` on the last step)
        """
        observation, own_reward, terminated, truncated, info = self.env.step(action)
        self._steps += 1
        over = bool(terminated or truncated or self._steps >= self.horizon)
        is_success = False
        if over:
            is_success = _as_bool(self._success(Ending(self.unwrapped, observation, bool(terminated), info)))
            info = {**info, "is_success": is_success}
        reward = self._reward(action, observation, float(own_reward), bool(terminated), is_success)
        return observation, reward, over, False, info

    def _reward(self, action: Any, observation: Any, own_reward: float, terminated: bool, is_success: bool) -> float:
        """The reward of one step; ``is_success`` is False on all but the last."""
        return 1.0 if is_success else 0.0


class DenseWrapper(OutcomeWrapper):
    """
    The dense twin of an outcome task: the same episodes and the same ``is_success``, with a reward at every step.

    Experts are trained on it; it says nothing about the verified task but what ``is_success`` says.

    :param env: any Gymnasium environment
    :param success: as for :class:`OutcomeWrapper`
    :param horizon: as for :class:`OutcomeWrapper`
    :param dense_reward: ``(observation before the step, action, observation after it, terminated) → reward``; None keeps the
        environment's own reward
    """

    def __init__(self, env: gym.Env, success: SuccessTest, horizon: int = 1000, dense_reward: DenseReward | None = None):
        super().__init__(env, success, horizon)
        RecordConstructorArgs.__init__(self, success=success, horizon=int(horizon), dense_reward=dense_reward)
        self._dense_reward = dense_reward
        self._before: Any = None
        """The observation before the step: a copy, since environments may change the one that they gave."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """
        Start an episode.

        :param seed: as in Gymnasium
        :param options: as in Gymnasium
        :return: first observation and ``info``
        """
        observation, info = super().reset(seed=seed, options=options)
        self._before = deepcopy(observation)
        return observation, info

    def _reward(self, action: Any, observation: Any, own_reward: float, terminated: bool, is_success: bool) -> float:
        if self._dense_reward is None:
            return own_reward
        reward = float(self._dense_reward(self._before, action, observation, terminated))
        self._before = deepcopy(observation)
        return reward


def make_task(
    env: gym.Env, success: SuccessTest, horizon: int, dense: bool, dense_reward: DenseReward | None = None
) -> OutcomeWrapper:
    """
    Wrap an environment as an outcome task or as its dense twin.

    :param env: the environment
    :param success: the success test
    :param horizon: steps
    :param dense: whether the dense twin is wanted
    :param dense_reward: its reward; None keeps the environment's own
    """
    if dense:
        return DenseWrapper(env, success, horizon, dense_reward)
    return OutcomeWrapper(env, success, horizon)


def _without_time_limit(env: gym.Env) -> gym.Env:
    """Take every ``TimeLimit`` out of a chain of wrappers."""
    while isinstance(env, TimeLimit):
        env = env.env
    outer = env
    while isinstance(outer, gym.Wrapper):
        while isinstance(outer.env, TimeLimit):
            outer.env = outer.env.env
        outer = outer.env
    return env


def _as_bool(verdict: Any) -> bool:
    if isinstance(verdict, bool | np.bool_):
        return bool(verdict)
    raise TypeError(f"The success test must return True or False, got {verdict!r} ({type(verdict).__name__}).")
