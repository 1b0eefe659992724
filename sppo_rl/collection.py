"""Collection: N episodes are started and the same N are finished.

Taking the first N episodes that finish would favour the short ones, which on tasks where failures end early hides most successes.
So every environment copy has a fixed quota. A :class:`~sppo_rl.vec_env.BatchedVecEnv` is stepped only where an episode is still
running; an ordinary ``VecEnv`` has to be stepped as a whole, and what its copies do beyond their quota is thrown away. It can only be
reset as a whole, too: a copy whose episode was cut waits with the rest of its quota until all others are done.

Every update begins with a reset from seeds drawn by the algorithm's own generator. So a run depends on its seed alone, episodes of
a group start from the same state, and a checkpoint between two updates needs no environment state.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, unwrap_vec_normalize
from threadpoolctl import ThreadpoolController

from sppo_rl.episodes import Arrays, EpisodeArrays, EpisodeBuffer, concatenate, put, take
from sppo_rl.vec_env import BatchedVecEnv

LONGEST_EPISODE = 10_000
"""Steps; an episode ends here at the latest where neither the environment nor ``max_episode_steps`` states a limit."""


class Sampled(NamedTuple):
    """Actions of a sampler that also tells their log-probabilities, because it is not the code that trains."""

    actions: np.ndarray
    """(n, *act) as sampled."""
    log_prob: np.ndarray
    """(n, K) float32 nats, 0 where nothing was decided."""


Sampler = Callable[[Arrays, np.ndarray], np.ndarray | Sampled]
"""Observations (n, *obs) and the n environment copies they come from → actions (n, *act) as sampled."""
StepHook = Callable[[dict[str, Any]], bool]
"""Called after every step with the local variables that SB3's callbacks read; ``False`` stops the collection."""


def collect_episodes(
    env: VecEnv,
    sample: Sampler,
    to_env: Callable[[np.ndarray], np.ndarray],
    seeds: np.ndarray,
    on_step: StepHook,
    max_episode_steps: int,
    same_start: bool = False,
) -> EpisodeArrays | None:
    """
    Play one episode for each seed.

    :param env: vectorised environment of any kind
    :param sample: chooses actions
    :param to_env: turns sampled actions into what the environment takes (clipping, scaling)
    :param seeds: (N,) int64, one for each episode
    :param on_step: see :data:`StepHook`
    :param max_episode_steps: an episode that lasts longer is cut there and counts as ended
    :param same_start: whether episodes with equal seeds must start alike. A batched environment always does so; in an
        ordinary one it takes a reset before every episode, and copies wait for each other.
    :return: the N episodes in the order of their seeds (but for those that had to wait in an ordinary environment because others were
        cut, which come last), or ``None`` if ``on_step`` stopped the collection
    """
    count = len(seeds)
    at_once = count if isinstance(env, BatchedVecEnv) or not same_start else env.num_envs
    waiting = [seeds[first : first + at_once] for first in range(0, count, at_once)]
    parts = []
    while waiting:
        round_seeds = waiting.pop(0)
        quota = np.full(env.num_envs, len(round_seeds) // env.num_envs)
        quota[: len(round_seeds) % env.num_envs] += 1
        kind = _BatchedRound if isinstance(env, BatchedVecEnv) else _OrdinaryRound
        player = kind(env, round_seeds, quota, max_episode_steps)
        # the networks see a few dozen rows: BLAS threads would spend their time waiting for each other
        with _blas().limit(limits=1, user_api="blas"):
            part = player.play(sample, to_env, on_step)
        if part is None:
            return None
        parts.append(part)
        if player.postponed:
            waiting.append(np.array(player.postponed))
    if len(parts) == 1:
        return parts[0]
    offsets = np.cumsum([0] + [len(part.outcome) for part in parts[:-1]])
    return EpisodeArrays(
        observations=concatenate([part.observations for part in parts]),
        actions=concatenate([part.actions for part in parts]),
        rewards=concatenate([part.rewards for part in parts]),
        sequence=concatenate([part.sequence + offset for part, offset in zip(parts, offsets, strict=True)]),
        outcome=concatenate([part.outcome for part in parts]),
        log_prob=None if parts[0].log_prob is None else concatenate([part.log_prob for part in parts]),
    )


@cache
def _blas() -> ThreadpoolController:
    """Find the libraries once: it takes milliseconds."""
    return ThreadpoolController()


class _Round(ABC):
    """Plays each copy's quota of episodes once; subclasses know how copies are reset and stepped."""

    def __init__(self, env: Any, seeds: np.ndarray, quota: np.ndarray, max_episode_steps: int):
        self.env = env
        self.remaining = quota.copy()
        self.max_episode_steps = max_episode_steps
        # copy i plays the seeds first[i], first[i] + 1, …
        self.next_seed = np.cumsum(quota) - quota
        self.end = np.cumsum(quota)
        self.seeds = seeds
        self.postponed: list[int] = []
        """Seeds of episodes that this round cannot start."""
        self.lengths = np.zeros(env.num_envs, dtype=np.int64)
        self.returns = np.zeros(env.num_envs, dtype=np.float64)
        self.observations: Arrays

    @abstractmethod
    def reset(self) -> None:
        """Start the first episode of every copy that has a quota."""

    @abstractmethod
    def step(
        self, index: np.ndarray, actions: np.ndarray, to_env: Callable[[np.ndarray], np.ndarray]
    ) -> tuple[Arrays, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Step the copies of ``index``."""

    @abstractmethod
    def restart(self, index: np.ndarray, cut: np.ndarray) -> None:
        """Start the next episode of the copies of ``index``; ``cut`` says which of them the environment has not ended itself."""

    def play(self, sample: Sampler, to_env: Callable[[np.ndarray], np.ndarray], on_step: StepHook) -> EpisodeArrays | None:
        env = self.env
        buffer = EpisodeBuffer(env.observation_space, env.action_space, env.num_envs)
        self.reset()
        index = self.remaining.nonzero()[0]
        while index.size:
            everyone = index.size == env.num_envs
            rows: Any = slice(None) if everyone else index
            observations = take(self.observations, rows)
            drawn = sample(observations, index)
            actions, log_prob = drawn if isinstance(drawn, Sampled) else (drawn, None)
            new_observations, rewards, dones, infos = self.step(index, actions, to_env)
            self.lengths[rows] += 1
            self.returns[rows] += rewards
            ends = dones | (self.lengths[rows] >= self.max_episode_steps)
            buffer.add(rows, observations, actions, rewards, ends, log_prob)
            if everyone and not isinstance(new_observations, dict):
                self.observations = new_observations
            else:
                put(self.observations, rows, new_observations)
            finished = ends.nonzero()[0]
            if finished.size:
                infos = list(infos)
                for k in finished:
                    infos[k] = self._with_statistics(infos[k], int(index[k]))
            proceed = on_step(
                {
                    "new_obs": new_observations,
                    "actions": actions,
                    "rewards": rewards,
                    "dones": ends,
                    "infos": infos,
                    "env_indices": index,
                    "finished_infos": [infos[k] for k in finished],
                    "num_cut": int((~dones[finished]).sum()) if finished.size else 0,
                }
            )
            if not proceed:
                return None
            if finished.size:
                copies = index[finished]
                self.remaining[copies] -= 1
                self.lengths[copies] = 0
                self.returns[copies] = 0.0
                again = self.remaining[copies] > 0
                if again.any():
                    self.restart(copies[again], ~dones[finished][again])
                index = self.remaining.nonzero()[0]
        return buffer.finish()

    def _with_statistics(self, info: dict[str, Any], copy: int) -> dict[str, Any]:
        """Give the info of a finished episode what SB3's ``Monitor`` would have written, where no Monitor has."""
        if "episode" in info:
            return info
        return {**info, "episode": {"r": float(self.returns[copy]), "l": int(self.lengths[copy]), "t": 0.0}}


class _BatchedRound(_Round):
    """Every episode from its own seed; only running copies are stepped."""

    env: BatchedVecEnv

    def reset(self) -> None:
        copies = np.flatnonzero(self.remaining)
        first = self.env.reset_subset(copies, self.seeds[self.next_seed[copies]].tolist())
        self.next_seed[copies] += 1
        if len(copies) == self.env.num_envs:
            self.observations = first
        else:
            self.observations = _empty_rows(first, self.env.num_envs)
            put(self.observations, copies, first)

    def step(
        self, index: np.ndarray, actions: np.ndarray, to_env: Callable[[np.ndarray], np.ndarray]
    ) -> tuple[Arrays, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        return self.env.step_subset(index, to_env(actions))

    def restart(self, index: np.ndarray, cut: np.ndarray) -> None:
        put(self.observations, index, self.env.reset_subset(index, self.seeds[self.next_seed[index]].tolist()))
        self.next_seed[index] += 1


class _OrdinaryRound(_Round):
    """A reset from the seeds at the start, SB3's auto-reset after that; finished copies are stepped along."""

    env: VecEnv

    def reset(self) -> None:
        # SB3's VecEnv hands these to its copies at the next reset; a subclass that skips its constructor has none to hand out
        pending = getattr(self.env.unwrapped, "_seeds", [])
        if len(pending) == self.env.num_envs:
            # idle copies as well: they are stepped along, and wrappers such as VecNormalize learn from what they show
            for copy in range(self.env.num_envs):
                pending[copy] = int(self.seeds[self.next_seed[copy] % len(self.seeds)])
        observations: Any = self.env.reset()
        self.observations = (
            {key: value.copy() for key, value in observations.items()} if isinstance(observations, dict) else observations
        )
        self.actions = _any_action(self.env.action_space, self.env.num_envs)
        self.normalize: VecNormalize | None = unwrap_vec_normalize(self.env)

    def step(
        self, index: np.ndarray, actions: np.ndarray, to_env: Callable[[np.ndarray], np.ndarray]
    ) -> tuple[Arrays, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        chosen = to_env(actions)
        if len(index) < self.env.num_envs:
            # a copy beyond its quota repeats its last action; nobody reads what comes of it. Always a new array: environments may keep
            # the row that they were given the step before.
            repeated = self.actions.astype(np.result_type(self.actions, chosen))
            repeated[index] = chosen.reshape((-1, *repeated.shape[1:]))
            chosen = repeated
        self.actions = chosen
        observations, rewards, dones, infos = self.env.step(self.actions)
        if not infos:  # some VecEnvs give none while no episode has ended
            infos = [{}] * self.env.num_envs
        if self.normalize is not None and self.normalize.norm_reward:
            # the outcome is never normalised
            rewards = self.normalize.get_original_reward()
        if len(index) == self.env.num_envs:
            return observations, rewards, dones, infos  # type: ignore[return-value]
        return take(observations, index), rewards[index], dones[index], [infos[k] for k in index]

    def restart(self, index: np.ndarray, cut: np.ndarray) -> None:
        """The environment has reset itself, but for copies that were cut: what they have left is for a round of its own."""
        for copy in index[cut]:
            self.postponed += self.seeds[self.end[copy] - self.remaining[copy] : self.end[copy]].tolist()
            self.remaining[copy] = 0


def _any_action(space: spaces.Space, count: int) -> np.ndarray:
    """An action that the space allows, (count, *act), for copies whose action does not matter."""
    action = np.zeros(space.shape or (), dtype=space.dtype)
    if isinstance(space, spaces.Box):
        action = np.clip(action, space.low, space.high)
    return np.repeat(action[None], count, axis=0)


def _empty_rows(example: Arrays, count: int) -> Arrays:
    """Zeros like ``example``, with another number of rows."""
    if isinstance(example, dict):
        return {key: np.zeros((count, *value.shape[1:]), dtype=value.dtype) for key, value in example.items()}
    return np.zeros((count, *example.shape[1:]), dtype=example.dtype)
