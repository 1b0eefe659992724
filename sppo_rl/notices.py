"""What the engine tells its user while it trains: no success in sight or none any more, uneven groups, endless episodes."""

from __future__ import annotations

import re

import gymnasium as gym
import torch as th
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv

from sppo_rl.episodes import Tensors

EPISODES_BEFORE_NOTICE = 256
"""Episodes without a single success after which ``learn()`` says so."""
WORTH_LOSING = 0.5
"""Share of successes in an update whose loss is told: rarer ones stay away for hundreds of episodes by chance."""


class Notices:
    """What has been told so far: each method gives a message when there is something to tell, and never the same one twice."""

    # of the class: a model saved before there were such counters is loaded without them
    _best_share: float = 0.0
    _failures_in_a_row: int = 0

    def __init__(self) -> None:
        self._told_groups = False
        self._told_cut = False

    def outcomes(self, outcome: th.Tensor, env: VecEnv | None) -> str | None:
        """
        Take in the outcomes of an update: those of 0 and nothing else teach nothing.

        :param outcome: (S,)
        :param env: asked for its id, to name what helps
        :return: a message when :data:`EPISODES_BEFORE_NOTICE` have passed without a success, at the start of training or after updates
            that succeeded at least every second time
        """
        share = float((outcome != 0.0).float().mean())
        if share > 0.0:
            self._best_share = max(self._best_share, share)
            self._failures_in_a_row = 0
            return None
        before = self._failures_in_a_row
        self._failures_in_a_row += len(outcome)
        if not before < EPISODES_BEFORE_NOTICE <= self._failures_in_a_row:
            return None
        if self._best_share == 0.0:
            return f"not one success in {self._failures_in_a_row} episodes: there is nothing to learn from yet. {_what_helps(env)}"
        if self._best_share < WORTH_LOSING:
            return None
        return (
            f"not one success in the last {self._failures_in_a_row} episodes, where an update before had {self._best_share:.0%}: what had "
            "been learned is lost, and failures alone bring nothing back. Stop, load a checkpoint from before, and go on with a lower "
            "learning_rate; SPPO and PPO also with normalize_advantage=True, where it is off."
        )

    def groups(self, contexts: Tensors, group_size: int, greedy_contexts: Tensors | None = None) -> str | None:
        """
        Look whether episodes that are compared with each other began with the same observation.

        :param contexts: (S, *obs), groups one after another
        :param group_size: episodes in a group
        :param greedy_contexts: (S / group_size, *obs) of greedy roll-outs, one for each group
        :return: a message if they did not
        """
        if self._told_groups or not starts_differ(contexts, group_size, greedy_contexts):
            return None
        # the others' mean is a valid baseline even so, only a worse one
        self._told_groups = True
        return (
            "episodes that should start from the same state do not: the environment's first observation differs between two resets "
            "with the same seed, so the others of a group say little about an episode. Make reset(seed=…) reproducible, or use "
            "SPPO, which needs no groups."
        )

    def cut(self, max_episode_steps: int) -> str | None:
        """
        Hear that an episode was cut.

        :param max_episode_steps: where
        :return: a message the first time
        """
        if self._told_cut:
            return None
        self._told_cut = True
        return (
            f"an episode reached max_episode_steps={max_episode_steps} without ending; it is cut there and counts as ended "
            "with the return it has. Give the environment a shorter time limit, or pass a larger max_episode_steps."
        )


def env_id_of(env: VecEnv | None) -> str | None:
    """
    Say which registered environment a vectorised one is made of; ``None`` if it is of none.

    :param env: to ask
    """
    if env is None:
        return None
    if isinstance(env.unwrapped, SubprocVecEnv):
        # a spec may hold functions, which cannot be sent: the process asked would die of it. Gymnasium prints <Type<id>>
        printed = re.search(r"<([^<>\s]+)>", str(env.env_method("__str__", indices=0)[0]))
        return printed[1] if printed else None
    try:
        return getattr(env.get_attr("spec")[0], "id", None)
    except AttributeError:  # a VecEnv whose copies have no spec
        return None


def _what_helps(env: VecEnv | None) -> str:
    env_id = env_id_of(env)
    dense = env_id.replace("-v", "Dense-v") if env_id else None
    if env_id is not None and env_id.startswith("sppo_rl/") and dense in gym.registry:
        return (
            f'Start from the shipped prior, sppo_rl.zoo.load_prior("{env_id}"), or train on the shaped twin "{dense}" first.'
        )
    return "Start from a policy that succeeds now and then (behaviour cloning), or shape the reward at first."


def starts_differ(contexts: Tensors, group_size: int, greedy_contexts: Tensors | None = None) -> bool:
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


def _parts(contexts: Tensors) -> list[th.Tensor]:
    return list(contexts.values()) if isinstance(contexts, dict) else [contexts]
