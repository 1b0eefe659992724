"""Registers the ``sppo_rl/…`` environment ids; imports no simulator."""

from __future__ import annotations

from typing import NamedTuple

import gymnasium as gym

from sppo_rl.envs.control.catalog import TASKS
from sppo_rl.vec_env import register_batched


def register_envs() -> None:
    """Register every ``sppo_rl/…`` id with Gymnasium, and its batched form; calling it again changes nothing."""
    for task in TASKS:
        for env_id, dense in ((task.outcome_id, False), (task.dense_id, True)):
            if env_id not in gym.registry:
                gym.register(env_id, entry_point=f"{task.module}:make", kwargs={"horizon": task.horizon, "dense": dense})
            register_batched(env_id, f"{task.module}:{task.batch}", horizon=task.horizon, dense=dense)


class EnvSummary(NamedTuple):
    """
    One registered id, in words.

    :param id: Gymnasium id
    :param horizon: steps after which an episode ends at the latest
    :param reward: ``"outcome"`` (0 until the end, then 0.0 or 1.0) or ``"dense"`` (shaped, for training experts)
    :param success: the success test
    :param observation: observation space, in short
    :param action: action space, in short
    """

    id: str
    horizon: int
    reward: str
    success: str
    observation: str
    action: str


def list_envs() -> list[EnvSummary]:
    """List every registered ``sppo_rl/…`` id: the outcome tasks first, then their dense twins."""
    return [
        EnvSummary(env_id, task.horizon, reward, task.success, task.observation, task.action)
        for reward in ("outcome", "dense")
        for task in TASKS
        for env_id in [task.outcome_id if reward == "outcome" else task.dense_id]
    ]
