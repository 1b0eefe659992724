"""
Precision CartPole: hold the pole within half a degree of upright when the time is up.

Observation, float32 (4,):

=====  =====================  ==============================
index  quantity               unit and range
=====  =====================  ==============================
0      cart position x        m; beyond ±2.4 the episode ends
1      cart velocity          m/s
2      pole angle θ           rad; beyond ±12° the episode ends
3      pole angular velocity  rad/s
=====  =====================  ==============================

Action, Discrete(2): 0 pushes the cart left, 1 pushes it right, with 10 N for 0.02 s.

Horizon: 1000 steps (``sppo_rl/PrecisionCartPole-v0``), or the paper's 200 (``sppo_rl/PrecisionCartPole200-v0``).

Success: the episode reaches the horizon and abs(θ) ≤ 0.5° there. A fallen pole or a lost cart fails.

Dense reward: at each step ``0.5 (1 − abs(θ)/12°)``, and 0.5 more while abs(θ) ≤ 0.5°; so at most 1 per step.

Untrained success rate: [.000, .002] for fresh ``MlpPolicy`` networks, [.000, .002] for uniformly random actions (95 %
intervals, 2,000 episodes each).

Source: dynamics, initial states and limits of gymnasium's ``CartPole-v1``; horizon and success test of the SPPO paper
(arXiv 2604.08865, control experiments).
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleEnv

from sppo_rl.envs.control.batch import NumpyBatch
from sppo_rl.envs.control.outcome import Ending, make_task

MAX_ANGLE = float(np.deg2rad(0.5))
"""Tolerance of the success test, rad."""

_GYM = CartPoleEnv()
# Constants as arrays: NumPy would otherwise make one of each Python number at every operation, which costs half as much again.
_STEP_S = np.array(_GYM.tau)
_GRAVITY = np.array(_GYM.gravity)
_LENGTH = np.array(_GYM.length)
_POLE_MASS = np.array(_GYM.masspole)
_TOTAL_MASS = np.array(_GYM.total_mass)
_POLE_MASS_LENGTH = np.array(_GYM.polemass_length)
_FOUR_THIRDS = np.array(4.0 / 3.0)
_FORCES = np.array([-_GYM.force_mag, _GYM.force_mag])
_LIMITS = np.array([[_GYM.x_threshold], [_GYM.theta_threshold_radians]])


def upright(observation: np.ndarray, fallen: Any) -> Any:
    """
    The success test.

    :param observation: (..., 4) last observations
    :param fallen: (...) bool, whether the dynamics ended the episode
    :return: (...) bool
    """
    return np.logical_not(fallen) & (np.abs(observation[..., 2]) <= MAX_ANGLE)


def success(end: Ending) -> bool:
    """
    :func:`upright` for one episode.

    :param end: its last step
    """
    return bool(upright(end.observation, end.terminated))


def dense_reward(before: np.ndarray, action: Any, observation: np.ndarray, terminated: Any) -> Any:
    """
    Closeness to upright, with a bonus inside the tolerance.

    :param before: (..., 4) observation before the step; not used
    :param action: the action; not used
    :param observation: (..., 4) observation after the step
    :param terminated: whether the pole fell; not used
    :return: (...) in [0, 1]
    """
    angle = np.abs(observation[..., 2])
    return 0.5 * np.maximum(1.0 - angle / _GYM.theta_threshold_radians, 0.0) + 0.5 * (angle <= MAX_ANGLE)


def make(horizon: int = 1000, dense: bool = False, render_mode: str | None = None) -> gym.Env:
    """
    Make one copy.

    :param horizon: steps
    :param dense: the dense twin
    :param render_mode: as in Gymnasium
    """
    return make_task(CartPoleEnv(render_mode=render_mode), success, horizon, dense, dense_reward)


class CartPoleBatch(NumpyBatch):
    """
    Precision CartPole in NumPy; equal to gymnasium's dynamics bit for bit.

    :param num_envs: number of copies
    :param horizon: steps
    :param dense: the dense twin
    """

    def __init__(self, num_envs: int, horizon: int = 1000, dense: bool = False):
        super().__init__(num_envs, _GYM.observation_space, _GYM.action_space, state_size=4, horizon=horizon, dense=dense)

    def _draw(self, generator: np.random.Generator) -> np.ndarray:
        return generator.uniform(low=-0.05, high=0.05, size=(4,))

    def _observe(self, state: np.ndarray) -> np.ndarray:
        return state.T.astype(np.float32, order="C")

    def _advance(
        self, indices: np.ndarray, where: np.ndarray | slice, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        state = self._state[:, where]
        theta, theta_dot = state[2], state[3]
        cos, sin = np.cos(theta), np.sin(theta)
        # Gymnasium's own expressions, in its own order of operations: that is what makes the two agree to the last bit.
        temp = (_FORCES[actions] + _POLE_MASS_LENGTH * np.square(theta_dot) * sin) / _TOTAL_MASS
        lever = _LENGTH * (_FOUR_THIRDS - _POLE_MASS * np.square(cos) / _TOTAL_MASS)
        acceleration = np.empty((2, len(indices)))
        theta_acceleration = np.divide(_GRAVITY * sin - cos * temp, lever, out=acceleration[1])
        np.subtract(temp, _POLE_MASS_LENGTH * theta_acceleration * cos / _TOTAL_MASS, out=acceleration[0])
        state[0::2] += _STEP_S * state[1::2]
        state[1::2] += _STEP_S * acceleration
        if where is indices:  # then state is a copy, not a view
            self._state[:, where] = state
        observations = self._observe(state)
        beyond = np.abs(state[0::2]) > _LIMITS
        rewards = dense_reward(observations, actions, observations, None) if self.dense else None
        return observations, beyond[0] | beyond[1], rewards

    def _succeeded(self, indices: np.ndarray, observations: np.ndarray, terminated: np.ndarray) -> np.ndarray:
        return np.asarray(upright(observations, terminated))
