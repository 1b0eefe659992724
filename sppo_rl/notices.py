"""What the engine tells its user while it trains: no success in sight, groups that do not start alike."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import torch as th
from stable_baselines3.common.vec_env import VecEnv

EPISODES_BEFORE_NOTICE = 256
"""Episodes without a single success after which ``learn()`` says so."""


class SuccessWatch:
    """Counts episodes until the first one pays anything: outcomes of 0 and nothing else teach nothing."""

    def __init__(self) -> None:
        self.any_success = False
        self.episodes = 0

    def see(self, outcome: th.Tensor, env: VecEnv | None) -> str | None:
        """
        Take in the outcomes of an update.

        :param outcome: (S,)
        :param env: asked for its id, to name what helps
        :return: what to tell the user, once, when :data:`EPISODES_BEFORE_NOTICE` have passed without a success
        """
        if self.any_success:
            return None
        self.any_success = bool((outcome != 0.0).any())
        before = self.episodes
        self.episodes += len(outcome)
        if self.any_success or not before < EPISODES_BEFORE_NOTICE <= self.episodes:
            return None
        return f"not one success in {self.episodes} episodes: there is nothing to learn from yet. {_what_helps(env)}"


def _what_helps(env: VecEnv | None) -> str:
    try:
        spec = env.get_attr("spec")[0] if env is not None else None
    except AttributeError:  # a VecEnv whose copies have no spec
        spec = None
    env_id = getattr(spec, "id", None)
    dense = env_id.replace("-v", "Dense-v") if env_id else None
    if env_id is not None and env_id.startswith("sppo_rl/") and dense in gym.registry:
        return (
            f'Start from the shipped prior, sppo_rl.zoo.load_prior("{env_id}"), or train on the shaped twin "{dense}" first.'
        )
    return "Start from a policy that succeeds now and then (behaviour cloning), or shape the reward at first."


def starts_differ(contexts: Any, group_size: int, greedy_contexts: Any = None) -> bool:
    """
    Tell whether episodes that are compared with each other began with different observations.

    :param contexts: (S, *obs), groups one after another
    :param group_size: episodes in a group
    :param greedy_contexts: (S / group_size, *obs) of greedy roll-outs, one for each group
    """
    parts = _parts(contexts)
    group = th.arange(len(parts[0])) // group_size
    references = [part[::group_size] for part in parts] if greedy_contexts is None else _parts(greedy_contexts)
    return not all(th.equal(part, reference[group]) for part, reference in zip(parts, references, strict=True))


def _parts(contexts: Any) -> list[th.Tensor]:
    return list(contexts.values()) if isinstance(contexts, dict) else [contexts]
