"""
MountainCar: drive an underpowered car out of a valley to the flag before the time is up.

Observation, float32 (2,):

=====  ============  ===========
index  quantity      range
=====  ============  ===========
0      position x    [-1.2, 0.6]
1      velocity      ±0.07
=====  ============  ===========

Action, Box(-1, 1, (1,), float32): engine force, to the right where positive.

Horizon: 1000 steps (``sppo_rl/MountainCar-v0``).

Success: the car reaches the flag at x ≥ 0.45, which ends the episode.

Dense reward: the mechanical energy gained in the step, as a share of what it takes from the valley's floor to the
flag; minus 0.001 for the step; plus 1 at the flag. The shares of an episode add up to its gain, so swaying to no
purpose earns nothing.

Untrained success rate: [.010, .021] for fresh ``MlpPolicy`` networks, [.001, .005] for uniformly random actions (95 %
intervals, 2,000 episodes each).

Source: dynamics, initial states and flag of gymnasium's ``MountainCarContinuous-v0``; horizon and success test of
the SPPO paper (arXiv 2604.08865, control experiments). The dense reward is this project's: gymnasium's own only
punishes force until the flag is reached, which teaches standing still.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.classic_control.continuous_mountain_car import Continuous_MountainCarEnv

from sppo_rl.envs.control.batch import NumpyBatch
from sppo_rl.envs.control.outcome import Ending, make_task

_GYM = Continuous_MountainCarEnv()
_GRAVITY = 0.0025
# Constants as arrays: NumPy would otherwise make one of each Python number at every operation.
_GRAVITY_TERM = np.array(_GRAVITY)
_ONE = np.array(1.0, dtype=np.float32)
_ZERO = np.array(0.0, dtype=np.float32)
_THREE = np.array(3.0, dtype=np.float32)
_POWER = np.array(_GYM.power, dtype=np.float32)
_MAX_SPEED = np.array(_GYM.max_speed, dtype=np.float32)
_LEFT_END = np.array(_GYM.min_position, dtype=np.float32)
_RIGHT_END = np.array(_GYM.max_position, dtype=np.float32)
_FLAG = np.array(_GYM.goal_position, dtype=np.float32)
_GOAL_VELOCITY = np.array(_GYM.goal_velocity, dtype=np.float32)


def _height_energy(position: Any) -> Any:
    """Potential energy for unit mass; its slope is gymnasium's gravity term ``0.0025 cos 3x``."""
    return _GRAVITY / 3.0 * np.sin(3.0 * position)


_CLIMB = float(_height_energy(_GYM.goal_position)) + _GRAVITY / 3.0
"""Energy from the floor of the valley to the flag."""


def success(end: Ending) -> bool:
    """
    Whether the flag was reached: nothing else ends an episode before the horizon.

    :param end: its last step
    """
    return end.terminated


def dense_reward(before: np.ndarray, action: Any, observation: np.ndarray, terminated: Any) -> Any:
    """
    Energy gained, time lost, flag reached.

    :param before: (..., 2) observation before the step
    :param action: the action; not used
    :param observation: (..., 2) observation after the step
    :param terminated: (...) bool, whether the flag was reached
    :return: (...)
    """
    start, end = before.astype(np.float64), observation.astype(np.float64)
    gain = _height_energy(end[..., 0]) - _height_energy(start[..., 0]) + 0.5 * (end[..., 1] ** 2 - start[..., 1] ** 2)
    return gain / _CLIMB - 0.001 + 1.0 * terminated


def make(horizon: int = 1000, dense: bool = False, render_mode: str | None = None) -> gym.Env:
    """
    Make one copy.

    :param horizon: steps
    :param dense: the dense twin
    :param render_mode: as in Gymnasium
    """
    return make_task(Continuous_MountainCarEnv(render_mode=render_mode), success, horizon, dense, dense_reward)


class MountainCarBatch(NumpyBatch):
    """
    MountainCar in NumPy; equal to gymnasium's dynamics bit for bit for float32 actions inside the action space.

    :param num_envs: number of copies
    :param horizon: steps
    :param dense: the dense twin
    """

    def __init__(self, num_envs: int, horizon: int = 1000, dense: bool = False):
        # Rows: position, velocity, and 3 × position, rounded as gymnasium rounds it.
        super().__init__(num_envs, _GYM.observation_space, _GYM.action_space, state_size=3, horizon=horizon, dense=dense)

    def _draw(self, generator: np.random.Generator) -> np.ndarray:
        position = generator.uniform(low=-0.6, high=-0.4)
        return np.array([position, 0.0, 3.0 * position])

    def _observe(self, state: np.ndarray) -> np.ndarray:
        return state[:2].T.astype(np.float32, order="C")

    def _advance(
        self, indices: np.ndarray, where: np.ndarray | slice, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        state = self._state[:, where]
        before = self._observe(state) if self.dense else None
        # Gymnasium starts in float64 and goes on in float32: its state is rounded after each step. The rows here are float64
        # that hold those values; rounding the float64 sum of two float32 numbers gives their float32 sum.
        force = np.minimum(np.maximum(actions[:, 0].astype(np.float32, copy=False), -_ONE), _ONE)
        velocity = state[1].astype(np.float32)
        velocity += force * _POWER - (_GRAVITY_TERM * np.cos(state[2])).astype(np.float32)
        velocity = np.minimum(np.maximum(velocity, -_MAX_SPEED), _MAX_SPEED)
        position = (state[0] + velocity).astype(np.float32)
        position = np.minimum(np.maximum(position, _LEFT_END), _RIGHT_END)
        np.maximum(velocity, _ZERO, out=velocity, where=position == _LEFT_END)
        state[0], state[1], state[2] = position, velocity, _THREE * position
        if where is indices:  # then state is a copy, not a view
            self._state[:, where] = state
        observations = np.empty((len(indices), 2), dtype=np.float32)
        observations[:, 0], observations[:, 1] = position, velocity
        terminated = (position >= _FLAG) & (velocity >= _GOAL_VELOCITY)
        rewards = None if before is None else dense_reward(before, actions, observations, terminated)
        return observations, terminated, rewards

    def _succeeded(self, indices: np.ndarray, observations: np.ndarray, terminated: np.ndarray) -> np.ndarray:
        return terminated
