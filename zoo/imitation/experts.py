"""Experts: stage one of the paper's priors.

An expert maps a batch of observations (n, \\*obs) to actions (n, \\*act) and keeps no state. CartPole, MountainCar, LunarLander
and Pendulum have scripts, written down here with the physics behind them; Hopper has a network trained on the dense twin of its task.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sppo_rl.baselines import PPO
from sppo_rl.zoo.imitation.demonstrations import Expert, demonstrate

MAX_EXPERT_STEPS = 1_000_000
"""Environment steps after which :func:`train_expert` gives up."""
STEPS_BETWEEN_CHECKS = 20_000


def cartpole(observations: np.ndarray) -> np.ndarray:
    """
    Push towards the side to which a weighted sum of the state leans; a switching line for pole and cart together.

    The line looks at where the pole will be in a quarter of a second, ``θ + 0.25 ω``. The small weights on the cart's position and
    velocity make the pole lean against the drift, so that the cart comes back to the middle.

    :param observations: (n, 4)
    :return: (n,) int64, 0 or 1
    """
    lean = observations @ np.array([0.05, 0.2, 1.0, 0.25])
    return (lean > 0.0).astype(np.int64)


def mountain_car(observations: np.ndarray) -> np.ndarray:
    """
    Push with full force in the direction of motion, which adds energy at every step.

    :param observations: (n, 2)
    :return: (n, 1) float32, -1 or 1
    """
    return np.where(observations[:, 1:] >= 0.0, 1.0, -1.0).astype(np.float32)


def pendulum(observations: np.ndarray) -> np.ndarray:
    """
    Swing up by energy shaping, then balance by proportional-derivative control.

    Per unit of inertia the energy is ``E = ω²/2 + 15 (cos θ - 1)``, 0 at rest upright (gymnasium's pendulum: g = 10, l = 1), and
    torque u changes it by 3 u ω: a torque along ω while E < 0 and against it while E > 0 brings the pendulum to the orbit through
    the top. Near it (within 26° and below 3 rad/s) the torque ``-(10 θ + 2 ω)`` holds it. (Åström and Furuta, "Swinging up a pendulum by
    energy control", Automatica 36, 2000.)

    :param observations: (n, 3)
    :return: (n, 1) float32, N m, in [-2, 2]
    """
    cos, sin, speed = observations.T
    energy = 0.5 * speed**2 + 15.0 * (cos - 1.0)
    swing = -energy * np.where(speed >= 0.0, 1.0, -1.0)
    balance = -(10.0 * np.arctan2(sin, cos) + 2.0 * speed)
    near = (cos > 0.9) & (np.abs(speed) < 3.0)
    return np.clip(np.where(near, balance, swing), -2.0, 2.0)[:, None].astype(np.float32)


def lunar_lander(observations: np.ndarray) -> np.ndarray:
    """
    Tilt against the drift, fall along a height profile, let go of the sideways engines once a leg is down.

    The wanted tilt is ``0.7 x + v_x``, at most 0.4 rad; the side engines follow it by proportional-derivative control. The main
    engine fires while the fall is faster than ``0.1 + 0.5 y``, less ``0.5 abs(x)`` so that the lander waits above while it is
    off to the side; after touch-down it only brakes falls faster than 0.1. Where both are wanted, the larger error wins.

    :param observations: (n, 8)
    :return: (n,) int64, 0 to 3
    """
    x, height, speed_x, speed_y, angle, spin, left_leg, right_leg = observations.T
    down = (left_leg > 0.5) | (right_leg > 0.5)
    tilt = np.clip(0.7 * x + speed_x, -0.4, 0.4)
    turn = np.where(down, 0.0, 0.5 * (tilt - angle) - spin)
    fall = np.where(down, 0.1, 0.1 + 0.5 * np.maximum(height, 0.0) - 0.5 * np.abs(x))
    lift = -speed_y - fall
    side = np.where(turn > 0.05, 1, np.where(turn < -0.05, 3, 0))
    return np.where((lift > 0.0) & (lift > np.abs(turn)), 2, side).astype(np.int64)


def train_expert(env_id: str, noise: float, success: float, seed: int, report: Callable[[str], None] = print) -> Expert:
    """
    Train an expert on the dense twin of a task with this package's PPO, until it passes as a demonstrator.

    The expert is the network's mean action. Training ends at the first check, one every :data:`STEPS_BETWEEN_CHECKS` environment
    steps, at which it passes the outcome task's own test at the wanted rate with the demonstrator's noise on its actions.

    :param env_id: an outcome task with continuous actions
    :param noise: of the demonstrator, see :func:`~sppo_rl.zoo.imitation.demonstrations.demonstrate`
    :param success: wanted success rate of the demonstrator, over 50 episodes
    :param seed: of the training and the checks
    :param report: is told how it goes
    :raises ValueError: if the rate is not reached within :data:`MAX_EXPERT_STEPS`
    """
    model = PPO(
        "MlpPolicy", env_id.replace("-v", "Dense-v"), gamma=0.99, gae_lambda=0.95, learning_rate=1e-3, n_episodes=16, batch_size=4,
        n_epochs=8, policy_kwargs={"log_std_init": -0.5}, seed=seed, device="cpu",
    )  # fmt: skip

    def expert(observations: np.ndarray) -> np.ndarray:
        return model.predict(observations, deterministic=True)[0]

    best = 0.0
    while model.num_timesteps < MAX_EXPERT_STEPS:
        model.learn(STEPS_BETWEEN_CHECKS, reset_num_timesteps=False)
        trial = demonstrate(env_id, expert, 50, noise, seed)
        rate = trial.successes / trial.attempts
        best = max(best, rate)
        report(f"expert: {model.num_timesteps:,} steps of dense reward, succeeds at {rate:.2f} with noise {noise:g}")
        if rate >= success:
            return expert
    raise ValueError(
        f"the expert for {env_id} reached a success rate of {best:.2f} in {model.num_timesteps:,} steps, not {success:g}. "
        "Try another seed."
    )
