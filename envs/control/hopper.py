"""
Hopper: a one-legged robot has to be on its foot, and more than a metre ahead, when the time is up.

Observation, float64 (11,), as gymnasium gives it:

=====  ==================================================  ==============
index  quantity                                            unit
=====  ==================================================  ==============
0      height of the torso                                 m
1      angle of the torso                                  rad
2–4    angles of thigh, leg and foot joints                rad
5–6    forward and upward velocity of the torso            m/s, in ±10
7–10   angular velocities of torso, thigh, leg and foot    rad/s, in ±10
=====  ==================================================  ==============

Action, Box(-1, 1, (3,), float32): torques at thigh, leg and foot joints; held for 0.008 s.

Horizon: 1000 steps (``sppo_rl/Hopper-v0``).

Success: the episode reaches the horizon, with the torso at x > 1.0 m. A fall, as gymnasium defines it, ends the
episode earlier and fails.

Dense reward: gymnasium's: 1 for being healthy, plus forward velocity, minus 0.001 × the sum of squared torques.

Untrained success rate: [.000, .002] for fresh ``MlpPolicy`` networks, [.000, .002] for uniformly random actions (95 %
intervals, 2,000 episodes each).

Source: model, dynamics, initial states, fall and dense reward of gymnasium's ``Hopper-v5``; horizon and success
test of the SPPO paper (arXiv 2604.08865, control experiments).
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
from gymnasium.envs.mujoco.hopper_v5 import HopperEnv

from sppo_rl.envs.control.batch import TaskBatch, generator_of, worker_count
from sppo_rl.envs.control.outcome import Ending, make_task

MIN_DISTANCE = 1.0
"""The success test's bound on x, m."""


def ahead(x: Any, fallen: Any) -> Any:
    """
    The success test.

    :param x: (...) positions after the last step, m
    :param fallen: (...) bool
    :return: (...) bool
    """
    return np.logical_not(fallen) & (np.asarray(x) > MIN_DISTANCE)


def success(end: Ending) -> bool:
    """
    :func:`ahead` for one episode.

    :param end: its last step
    """
    return bool(ahead(end.info["x_position"], end.terminated))


def make(horizon: int = 1000, dense: bool = False, render_mode: str | None = None) -> gym.Env:
    """
    Make one copy.

    :param horizon: steps
    :param dense: the dense twin
    :param render_mode: as in Gymnasium
    """
    return make_task(HopperEnv(render_mode=render_mode), success, horizon, dense)


class HopperBatch(TaskBatch):
    """
    Hopper on MuJoCo itself, its copies spread over threads; equal to gymnasium's dynamics bit for bit.

    MuJoCo releases the interpreter lock while it steps, so threads run side by side.

    :param num_envs: number of copies
    :param horizon: steps
    :param dense: the dense twin
    :param num_workers: number of threads, the calling one among them; None takes one for each core at hand
    :raises ValueError: if ``num_workers`` is less than 1
    """

    def __init__(self, num_envs: int, horizon: int = 1000, dense: bool = False, num_workers: int | None = None):
        self._gym = HopperEnv()
        super().__init__(num_envs, self._gym.observation_space, self._gym.action_space, horizon=horizon, dense=dense)
        self._model = self._gym.model
        self._data = [mujoco.MjData(self._model) for _ in range(num_envs)]
        # Views of each copy's memory, looked up once: the attributes of MjData are slow to reach.
        self._qpos = [data.qpos for data in self._data]
        self._qvel = [data.qvel for data in self._data]
        self._ctrl = [data.ctrl for data in self._data]
        self._generators: list[np.random.Generator | None] = [None] * num_envs
        self._state = np.zeros((num_envs, self._model.nq + self._model.nv))
        self.num_workers = worker_count(num_workers, num_envs)
        self._pool = ThreadPoolExecutor(self.num_workers - 1, "hopper") if self.num_workers > 1 else None
        if self._pool is not None:
            weakref.finalize(self, self._pool.shutdown, wait=False)

    def _start(self, indices: np.ndarray, seeds: Sequence[int | None]) -> np.ndarray:
        nq, scale = self._model.nq, self._gym._reset_noise_scale
        for i, seed in zip(indices.tolist(), seeds, strict=True):
            generator = generator_of(self._generators, i, seed)
            mujoco.mj_resetData(self._model, self._data[i])
            self._qpos[i][:] = self._gym.init_qpos + generator.uniform(low=-scale, high=scale, size=nq)
            self._qvel[i][:] = self._gym.init_qvel + generator.uniform(low=-scale, high=scale, size=self._model.nv)
            mujoco.mj_forward(self._model, self._data[i])
            self._state[i, :nq] = self._qpos[i]
            self._state[i, nq:] = self._qvel[i]
        return self._observe(self._state[indices])

    def _observe(self, state: np.ndarray) -> np.ndarray:
        nq = self._model.nq
        observations = state[:, 1:].copy()
        velocities = observations[:, nq - 1 :]
        np.minimum(np.maximum(velocities, -10.0, out=velocities), 10.0, out=velocities)
        return observations

    def _simulate(self, copies: list[int], actions: np.ndarray) -> None:
        """Step some copies, one after the other, in the calling thread."""
        nq, model, frames = self._model.nq, self._model, self._gym.frame_skip
        for i, action in zip(copies, actions, strict=True):
            self._ctrl[i][:] = action
            mujoco.mj_step(model, self._data[i], nstep=frames)
            row = self._state[i]
            row[:nq] = self._qpos[i]
            row[nq:] = self._qvel[i]

    def _advance(
        self, indices: np.ndarray, where: np.ndarray | slice, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        x_before = self._state[where, 0].copy()
        copies = indices.tolist()
        share = -(-len(copies) // self.num_workers)
        others = []
        if self._pool is not None:
            for start in range(share, len(copies), share):
                part = slice(start, start + share)
                others.append(self._pool.submit(self._simulate, copies[part], actions[part]))
        self._simulate(copies[:share], actions[:share])
        for other in others:
            other.result()
        state = self._state[where]
        healthy = self._healthy(state)
        rewards = None
        if self.dense:
            forward = (state[:, 0] - x_before) / self._gym.dt
            effort = 1e-3 * np.sum(np.square(actions), axis=1)
            rewards = forward + healthy - effort
        return self._observe(state), ~healthy, rewards

    def _healthy(self, state: np.ndarray) -> np.ndarray:
        hopper = self._gym
        (low, high), (low_z, high_z), (low_angle, high_angle) = (
            hopper._healthy_state_range,
            hopper._healthy_z_range,
            hopper._healthy_angle_range,
        )
        inner = state[:, 2:]
        z, angle = state[:, 1], state[:, 2]
        healthy = ((low < inner) & (inner < high)).all(axis=1)
        healthy &= (low_z < z) & (z < high_z) & (low_angle < angle) & (angle < high_angle)
        return np.asarray(healthy)

    def _succeeded(self, indices: np.ndarray, observations: np.ndarray, terminated: np.ndarray) -> np.ndarray:
        return np.asarray(ahead(self._state[indices, 0], terminated))

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()
        super().close()
