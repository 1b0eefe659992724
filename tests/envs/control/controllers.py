"""Hand-written controllers that reach the goal of each control task, and ones that fail."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from gymnasium.envs.box2d.lunar_lander import LunarLander, heuristic

Controller = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""(n, *obs) observations and a generator → (n, *act) actions."""


def balance(observations: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    lean = observations @ np.array([0.05, 0.1, 1.0, 0.3])
    return (lean > 0).astype(np.int64)


def push_anywhere(observations: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 2, len(observations))


def swing(observations: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.where(observations[:, 1:2] >= 0, 1, -1).astype(np.float32)


def idle(observations: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(-0.1, 0.1, (len(observations), 1)).astype(np.float32)


def swing_up(observations: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    cos, sin, speed = observations.T
    energy = 0.5 * speed**2 / 3 + 5 * (cos - 1)
    pumping = -np.sign(speed + 1e-9) * np.sign(energy) * 2
    holding = -10 * np.arctan2(sin, cos) - 2 * speed
    return np.clip(np.where(cos > 0.9, holding, pumping), -2, 2).astype(np.float32)[:, None]


def land(observations: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.array([heuristic(_LANDER, observation) for observation in observations])


_LANDER = LunarLander()


def fall(observations: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 4, len(observations))


def flail(observations: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(-1, 1, (len(observations), 3)).astype(np.float32)


_GAIT = np.array(
    [
        [-0.4, -3.61, -0.03, -0.1, 0.02, 0.07, 0.08, -0.13, -0.16, -0.06, 0.01],
        [-0.17, -1.49, -0.19, -0.63, -0.09, -0.27, 0.02, -0.04, 0.0, -0.14, 0.01],
        [3.05, -0.25, 0.11, 0.21, -0.21, -0.28, -0.19, -0.23, 0.14, 0.22, 0.04],
    ]
)
_BIAS = np.array([0.15, 0.14, -2.93])


def hop(observations: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A linear policy found by random search on the dense twin; it goes ahead without falling."""
    return np.clip(observations @ _GAIT.T + _BIAS, -1, 1).astype(np.float32)
