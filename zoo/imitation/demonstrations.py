"""Demonstrations: stage two of the paper's priors. Noisy episodes of an expert, of which only the successful ones are kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from gymnasium import spaces

from sppo_rl.collection import Sampler, collect_episodes
from sppo_rl.envs import make_batched
from sppo_rl.episodes import EpisodeArrays

Expert = Callable[[np.ndarray], np.ndarray]
"""Observations (n, *obs) → actions (n, *act); keeps no state."""

MAX_COPIES = 256


class Demonstrations(NamedTuple):
    """
    The steps of successful episodes, one episode after another.

    :param observations: (n, *obs) as the environment gave them
    :param actions: (n, *act) as the demonstrator sampled them, noise included and not clipped
    :param episode: (n,) int64, which successful episode a step belongs to
    :param successes: number of episodes kept
    :param attempts: number of episodes played
    """

    observations: np.ndarray
    actions: np.ndarray
    episode: np.ndarray
    successes: int
    attempts: int


def demonstrate(env_id: str, expert: Expert, attempts: int, noise: float = 0.0, seed: int = 0) -> Demonstrations:
    """
    Let an expert play and keep the episodes that pass the task's own success test.

    A demonstrator without noise visits only the states that an expert visits, and cloning it teaches a certainty from which no
    exploration is left. So noise is put on its actions and recorded with them: a policy fitted to the record by maximum likelihood
    explores as the demonstrator did, and has seen how it gets back.

    :param env_id: an outcome task with a batched form
    :param expert: chooses actions
    :param attempts: episodes to play, each from its own seed
    :param noise: for a Box of actions the standard deviation of Gaussian noise, in units of the action; for a Discrete one the share of
        actions that are replaced by one drawn uniformly
    :param seed: of initial states and noise
    :return: the successful episodes; none, if there were none
    :raises ValueError: if ``attempts`` is not positive, or ``noise`` is negative or, as a share, above 1
    """
    if attempts < 1:
        raise ValueError(f"attempts must be at least 1 episode, got {attempts}.")
    env = make_batched(env_id, min(attempts, MAX_COPIES))
    try:
        rng = np.random.default_rng(seed)
        sample, to_env = _noisy(expert, env.action_space, noise, rng)
        seeds = rng.integers(2**31 - 1, size=attempts)
        # the tasks end by their own clock, long before this cap
        episodes = collect_episodes(env, sample, to_env, seeds, lambda step: True, max_episode_steps=1_000_000)
    finally:
        env.close()
    assert episodes is not None
    return keep_successes(episodes)


def keep_successes(episodes: EpisodeArrays) -> Demonstrations:
    """
    Drop every episode of an outcome task that did not end with the reward of success, 1.

    :param episodes: whole episodes of an outcome task
    """
    succeeded = episodes.outcome == 1.0
    steps = succeeded[episodes.sequence]
    number = np.cumsum(succeeded) - 1
    assert isinstance(episodes.observations, np.ndarray)
    return Demonstrations(
        observations=episodes.observations[steps],
        actions=episodes.actions[steps],
        episode=number[episodes.sequence[steps]],
        successes=int(succeeded.sum()),
        attempts=len(succeeded),
    )


def _noisy(
    expert: Expert, space: spaces.Space, noise: float, rng: np.random.Generator
) -> tuple[Sampler, Callable[[np.ndarray], np.ndarray]]:
    """The demonstrator's sampler, and what its actions become on their way to the environment."""
    if noise < 0.0 or (isinstance(space, spaces.Discrete) and noise > 1.0):
        raise ValueError(f"noise must be a standard deviation ≥ 0, or for discrete actions a share in [0, 1]; got {noise}.")
    if isinstance(space, spaces.Box):
        low, high = space.low, space.high

        def sample(observations: np.ndarray, copies: np.ndarray) -> np.ndarray:
            actions = expert(observations).astype(np.float32)
            return actions + np.float32(noise) * rng.standard_normal(actions.shape, dtype=np.float32)

        return sample, lambda actions: np.clip(actions, low, high)  # type: ignore[return-value]
    assert isinstance(space, spaces.Discrete), f"no demonstrations for the action space {space}"
    choices = int(space.n)

    def pick(observations: np.ndarray, copies: np.ndarray) -> np.ndarray:
        actions = expert(observations)
        at_random = rng.random(len(actions)) < noise
        return np.where(at_random, rng.integers(choices, size=len(actions)), actions)

    return pick, lambda actions: actions  # type: ignore[return-value]
