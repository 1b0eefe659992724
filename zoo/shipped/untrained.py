"""Networks that have learned nothing: what priors, and the runs that start from them, are seen against."""

from __future__ import annotations

from collections.abc import Iterator

import gymnasium as gym

from sppo_rl.sppo import SPPO

UNTRAINED_NETWORKS = 10
"""Fresh networks among which a rate is measured: one alone may happen to be good or bad."""


def untrained_networks(env_id: str) -> Iterator[SPPO]:
    """
    Make fresh networks, of seeds 0, 1, …: as many as :data:`UNTRAINED_NETWORKS`.

    :param env_id: a Gymnasium id
    """
    policy = "MultiInputPolicy" if _has_dict_observations(env_id) else "MlpPolicy"
    for seed in range(UNTRAINED_NETWORKS):
        yield SPPO(policy, env_id, n_episodes=1, seed=seed, device="cpu")


def _has_dict_observations(env_id: str) -> bool:
    env = gym.make(env_id)
    try:
        return isinstance(env.observation_space, gym.spaces.Dict)
    finally:
        env.close()
