"""Evaluation: exactly n episodes, each from a seed of its own, for the algorithms here and for Stable-Baselines3's.

Every algorithm evaluated with the same ``seed`` meets the same initial states. As many episodes are started as are wanted, and
all of them are finished, so nothing favours short ones. No generator that training draws from is touched: a run gives the same
weights with and without evaluation.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.distributions import StateDependentNoiseDistribution
from stable_baselines3.common.env_util import is_wrapped, make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecEnv,
    VecNormalize,
    VecTransposeImage,
    is_vecenv_wrapped,
    unwrap_vec_normalize,
)

from sppo_rl.collection import LONGEST_EPISODE, Sampler, collect_episodes
from sppo_rl.episodes import Arrays
from sppo_rl.intervals import Estimate as Estimate  # it has been imported from here
from sppo_rl.intervals import wilson_interval
from sppo_rl.numpy_actor import NumpyActor
from sppo_rl.sequence_policy import SequencePolicy
from sppo_rl.vec_env import BatchedVecEnv, has_batched_form, has_batched_method, in_batched_form, make_batched

BATCHED_COPIES = 64
"""
Copies of a batched environment made for an evaluation, at most. OpenBLAS spreads a 64-wide layer over threads from 65 rows on,
which costs up to ten times the layer itself on a busy machine.
"""
ORDINARY_COPIES = 8
"""Copies of an environment without a batched form."""


@dataclass(frozen=True)
class Evaluation:
    """
    What n episodes gave, in the order of their seeds.

    :param outcomes: (n,) float32, undiscounted returns
    :param lengths: (n,) int64, environment steps
    :param successes: (n,) bool, ``info["is_success"]`` at the end of each (False where only others report it), or ``None`` if none does
    :param response_tokens: (n,) int64, ``info["response_tokens"]`` of each, or ``None`` if episodes are not made of tokens
    """

    outcomes: np.ndarray
    lengths: np.ndarray
    successes: np.ndarray | None
    response_tokens: np.ndarray | None = None

    @property
    def mean_return(self) -> float:
        """Mean undiscounted return."""
        return float(self.outcomes.mean(dtype=np.float64))

    @property
    def mean_length(self) -> float:
        """Mean number of environment steps."""
        return float(self.lengths.mean())

    @property
    def success_rate(self) -> float:
        """Share of successful episodes; NaN if the task reports no success."""
        return float("nan") if self.successes is None else float(self.successes.mean())

    def success_interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """
        Give the Wilson interval of the success rate.

        :param confidence: its coverage
        :return: lower and upper end; NaN, NaN if the task reports no success
        """
        if self.successes is None:
            return float("nan"), float("nan")
        return wilson_interval(int(self.successes.sum()), len(self.successes), confidence)


def evaluation_seeds(n_episodes: int, seed: int) -> np.ndarray:
    """
    Draw the reset seeds of an evaluation; a longer evaluation begins with the seeds of a shorter one.

    :param n_episodes: how many
    :param seed: of the evaluation
    :return: (n_episodes,) int64
    """
    return np.random.default_rng(seed).integers(2**31 - 1, size=n_episodes)


def evaluate(
    model: BaseAlgorithm, env: str | gym.Env | VecEnv, n_episodes: int = 100, deterministic: bool = False, seed: int = 0
) -> Evaluation:
    """
    Play exactly ``n_episodes`` episodes, each to its end and each from its own seed.

    :param model: an algorithm of this package, or one of SB3's without a recurrent state
    :param env: an id or an environment (in its batched form where it has one), or a ``VecEnv``. It must not be the one that an
        unfinished collection of the model is stepping. What was made from an id is closed afterwards.
    :param n_episodes: how many
    :param deterministic: the most likely actions instead of samples
    :param seed: of initial states and of the sampled actions
    :return: outcomes, lengths and successes. An episode is cut after the model's ``max_episode_steps`` (10,000 where it has none), with a
        warning.
    :raises ValueError: if ``n_episodes`` is not positive
    """
    if n_episodes < 1:
        raise ValueError(f"n_episodes must be at least 1, got {n_episodes}.")
    seed = int(seed)  # neither Python's generator nor Gymnasium takes NumPy's numbers
    venv = make_evaluation_env(model, env, n_episodes, seed)
    with _generators_untouched(seed, model.action_space), _policy_untouched(model), _statistics_frozen(venv):
        try:
            return _play(model, venv, evaluation_seeds(n_episodes, seed), deterministic, np.random.default_rng([seed, 1]))
        finally:
            if isinstance(env, str):
                venv.close()


def make_evaluation_env(model: BaseAlgorithm, env: str | gym.Env | VecEnv, n_episodes: int, seed: int = 0) -> VecEnv:
    """
    Make or wrap an environment as the model's training environment is: images transposed, observations normalised.

    :param model: the model to be evaluated
    :param env: id, environment or ``VecEnv``
    :param n_episodes: no more copies than this are made, from an id or by an environment that offers its batched form
    :param seed: of what the copies that an environment makes share, such as the order of problems
    :return: what :func:`evaluate` steps; an environment that is ready is returned as it is
    """
    seed = int(seed)
    with _generators_untouched(seed, model.action_space):
        venv = _as_vec_env(env, n_episodes, seed)
        trained = model.get_vec_normalize_env()
        if trained is None or is_vecenv_wrapped(venv, VecNormalize):
            return model._wrap_env(venv, verbose=0)
        if is_vecenv_wrapped(trained.venv, VecTransposeImage):
            venv = model._wrap_env(venv, verbose=0)
        normalized = VecNormalize(
            venv, training=False, norm_obs=trained.norm_obs, norm_reward=False, clip_obs=trained.clip_obs,
            epsilon=trained.epsilon, norm_obs_keys=trained.norm_obs_keys,
        )  # fmt: skip
        # shared, not copied: a later evaluation on the same environment sees the statistics of that moment
        if trained.norm_obs:
            normalized.obs_rms = trained.obs_rms
        return model._wrap_env(normalized, verbose=0)


def _as_vec_env(env: str | gym.Env | VecEnv, n_episodes: int, seed: int) -> VecEnv:
    """Copies of the environment, as many as :func:`make_evaluation_env` says."""
    if has_batched_method(env):
        batch: BatchedVecEnv = in_batched_form(env, min(n_episodes, BATCHED_COPIES))
        # earlier resets of the environment must not decide which problems an evaluation poses
        batch.seed(seed)
        return batch
    if isinstance(env, VecEnv):
        return env
    if not isinstance(env, str):
        monitored = env if is_wrapped(env, Monitor) else Monitor(env)
        return DummyVecEnv([lambda: monitored])
    if has_batched_form(env):
        return make_batched(env, min(n_episodes, BATCHED_COPIES))
    return make_vec_env(env, n_envs=min(n_episodes, ORDINARY_COPIES), seed=seed)


def _play(model: BaseAlgorithm, env: VecEnv, seeds: np.ndarray, deterministic: bool, rng: np.random.Generator) -> Evaluation:
    """Play the seeds in rounds of one episode for each copy, which bounds the memory and gives each episode its own seed."""
    outcomes, lengths, infos, cut = [], [], [], 0
    limit = getattr(model, "max_episode_steps", LONGEST_EPISODE)
    reset_noise = _noise_resetter(model, env.num_envs)
    sample, to_env = _sampler(model, rng, deterministic)
    for first in range(0, len(seeds), env.num_envs):
        round_seeds = seeds[first : first + env.num_envs]
        ending: dict[int, dict[str, Any]] = {}
        steps = 0

        def on_step(step: dict[str, Any], ending: dict[int, dict[str, Any]] = ending) -> bool:
            nonlocal steps, cut
            steps += 1
            cut += step["num_cut"]
            for copy, info in zip(step["env_indices"][step["dones"]], step["finished_infos"], strict=True):
                ending[int(copy)] = info
            if model.sde_sample_freq > 0 and steps % model.sde_sample_freq == 0:
                reset_noise()
            return True

        reset_noise()
        episodes = collect_episodes(env, sample, to_env, round_seeds, on_step, limit, same_start=True)
        assert episodes is not None
        outcomes.append(episodes.outcome)
        lengths.append(np.bincount(episodes.sequence, minlength=len(round_seeds)))
        infos += [ending[copy] for copy in range(len(round_seeds))]
    if cut:
        warnings.warn(
            f"{cut} of {len(infos)} episodes of an evaluation were not over after {limit:,} steps and were cut there, with the return they "
            "had. Set max_episode_steps on the model to let them go on.",
            stacklevel=3,
        )
    # some tasks report a success and say nothing of a failure
    reported = any("is_success" in info for info in infos)
    in_tokens = all("response_tokens" in info for info in infos)
    return Evaluation(
        outcomes=np.concatenate(outcomes),
        lengths=np.concatenate(lengths),
        successes=np.array([bool(info.get("is_success", False)) for info in infos]) if reported else None,
        response_tokens=np.array([int(info["response_tokens"]) for info in infos]) if in_tokens else None,
    )


def _sampler(
    model: BaseAlgorithm, rng: np.random.Generator, deterministic: bool
) -> tuple[Sampler, Callable[[np.ndarray], np.ndarray]]:
    """The function that chooses actions, and the one that makes them ready for the environment."""
    policy = model.policy
    if isinstance(policy, SequencePolicy):
        return policy.make_sampler(rng, deterministic), policy.to_env
    space = model.action_space
    fast = NumpyActor.of(policy, rng, deterministic) if isinstance(policy, ActorCriticPolicy) else None
    if fast is not None:
        actor = fast

        def clip(actions: np.ndarray) -> np.ndarray:
            if isinstance(space, spaces.Box):
                return np.clip(actions.reshape((-1, *space.shape)), space.low, space.high)
            return actions

        # only Box spaces of one dtype and Discrete get here: NumpyActor knows no squashed head
        return lambda observations, copies: actor(observations), clip

    def sample(observations: Arrays, copies: np.ndarray) -> np.ndarray:
        return model.predict(observations, deterministic=deterministic)[0]

    return sample, lambda actions: actions


def _noise_resetter(model: BaseAlgorithm, num_envs: int) -> Callable[[], None]:
    """Draws new exploration matrices for a policy with gSDE; does nothing for any other."""
    if getattr(model, "use_sde", False):
        return lambda: model.policy.reset_noise(num_envs)  # type: ignore[operator]
    return lambda: None


@contextmanager
def _generators_untouched(seed: int, action_space: spaces.Space) -> Iterator[None]:
    """
    Give the global generators of PyTorch, NumPy and Python back as they were, and that of the model's action space, from which DQN
    explores; all are seeded in between.
    """
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    exploration = action_space.np_random.bit_generator
    exploration_state = exploration.state
    with th.random.fork_rng():
        th.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        random.seed(seed)
        exploration.state = np.random.default_rng(seed).bit_generator.state
        try:
            yield
        finally:
            exploration.state = exploration_state
            np.random.set_state(numpy_state)  # noqa: NPY002
            random.setstate(python_state)


@contextmanager
def _policy_untouched(model: BaseAlgorithm) -> Iterator[None]:
    """Evaluate in evaluation mode; give back the mode and gSDE's exploration matrices."""
    policy, training = model.policy, model.policy.training
    distribution = getattr(policy, "action_dist", None)
    noise = vars(distribution).copy() if isinstance(distribution, StateDependentNoiseDistribution) else None
    policy.set_training_mode(False)
    try:
        yield
    finally:
        policy.set_training_mode(training)
        if noise is not None:
            vars(distribution).update(noise)


@contextmanager
def _statistics_frozen(env: VecEnv) -> Iterator[None]:
    """Keep ``VecNormalize`` from learning from the evaluation's episodes."""
    normalizer = unwrap_vec_normalize(env)
    if normalizer is None:
        yield
        return
    training, normalizer.training = normalizer.training, False
    try:
        yield
    finally:
        normalizer.training = training
