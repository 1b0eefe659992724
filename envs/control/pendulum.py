"""
Pendulum: have the pendulum up when the time is up.

Observation, float32 (3,):

=====  ======================  ==========
index  quantity                range
=====  ======================  ==========
0      cos θ (1 is upright)    [-1, 1]
1      sin θ                   [-1, 1]
2      angular velocity        ±8 rad/s
=====  ======================  ==========

Action, Box(-2, 2, (1,), float32): torque, N m.

Horizon: 1000 steps (``sppo_rl/Pendulum-v0``).

Success: cos θ > 0.8 after the last step. No episode ends earlier.

Dense reward: gymnasium's, ``−(θ² + 0.1 θ̇² + 0.001 torque²)`` before the step, with θ in [-π, π).

Untrained success rate: [.081, .107] for fresh ``MlpPolicy`` networks, [.087, .113] for uniformly random actions (95 %
intervals, 2,000 episodes each).

Source: dynamics, initial states and dense reward of gymnasium's ``Pendulum-v1``; horizon and success test of the
SPPO paper (arXiv 2604.08865, control experiments).
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.classic_control.pendulum import PendulumEnv, angle_normalize

from sppo_rl.envs.control.batch import NumpyBatch
from sppo_rl.envs.control.outcome import Ending, make_task

MIN_COS = 0.8
"""The success test's bound on cos θ."""

_GYM = PendulumEnv()
_MAX_SPEED = np.array(float(_GYM.max_speed))
_MAX_TORQUE = np.array(_GYM.max_torque, dtype=np.float32)
_STEP_S = np.array(_GYM.dt)
_GRAVITY = np.array(3 * _GYM.g / (2 * _GYM.l))
_INERTIA = np.array(3.0 / (_GYM.m * _GYM.l**2), dtype=np.float32)
_INITIAL = np.array([np.pi, 1.0])


def up(observation: np.ndarray) -> Any:
    """
    The success test.

    :param observation: (..., 3) last observations
    :return: (...) bool
    """
    return observation[..., 0] > MIN_COS


def success(end: Ending) -> bool:
    """
    :func:`up` for one episode.

    :param end: its last step
    """
    return bool(up(end.observation))


def make(horizon: int = 1000, dense: bool = False, render_mode: str | None = None) -> gym.Env:
    """
    Make one copy.

    :param horizon: steps
    :param dense: the dense twin
    :param render_mode: as in Gymnasium
    """
    return make_task(PendulumEnv(render_mode=render_mode), success, horizon, dense)


class PendulumBatch(NumpyBatch):
    """
    Pendulum in NumPy; equal to gymnasium's dynamics bit for bit for float32 actions.

    :param num_envs: number of copies
    :param horizon: steps
    :param dense: the dense twin
    """

    def __init__(self, num_envs: int, horizon: int = 1000, dense: bool = False):
        super().__init__(num_envs, _GYM.observation_space, _GYM.action_space, state_size=2, horizon=horizon, dense=dense)
        # The sine that an observation needs is the one that the next step needs.
        self._sin = np.zeros(num_envs)

    def _draw(self, generator: np.random.Generator) -> np.ndarray:
        return generator.uniform(low=-_INITIAL, high=_INITIAL)

    def _observe(self, state: np.ndarray) -> np.ndarray:
        observations = np.empty((state.shape[1], 3), dtype=np.float32)
        observations[:, 0] = np.cos(state[0])
        observations[:, 1] = np.sin(state[0])
        observations[:, 2] = state[1]
        return observations

    def _start(self, indices: np.ndarray, seeds: Any) -> np.ndarray:
        observations = super()._start(indices, seeds)
        self._sin[indices] = np.sin(self._state[0, indices])
        return observations

    def _advance(
        self, indices: np.ndarray, where: np.ndarray | slice, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        theta, speed = self._state[0, where], self._state[1, where]
        torque = np.minimum(np.maximum(actions[:, 0].astype(np.float32, copy=False), -_MAX_TORQUE), _MAX_TORQUE)
        rewards = -(angle_normalize(theta) ** 2 + 0.1 * speed**2 + 0.001 * torque**2) if self.dense else None
        speed = speed + (_GRAVITY * self._sin[where] + _INERTIA * torque) * _STEP_S
        speed = np.minimum(np.maximum(speed, -_MAX_SPEED), _MAX_SPEED)
        theta = theta + speed * _STEP_S
        sin = np.sin(theta)
        self._state[0, where], self._state[1, where], self._sin[where] = theta, speed, sin
        observations = np.empty((len(indices), 3), dtype=np.float32)
        observations[:, 0], observations[:, 1], observations[:, 2] = np.cos(theta), sin, speed
        return observations, np.zeros(len(indices), dtype=bool), rewards

    def _succeeded(self, indices: np.ndarray, observations: np.ndarray, terminated: np.ndarray) -> np.ndarray:
        return np.asarray(up(observations))
