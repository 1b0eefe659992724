"""Learning from whole episodes: what SB3's ``OnPolicyAlgorithm`` is for a fixed number of steps."""

from __future__ import annotations

import importlib
import io
import pathlib
import sys
import time
import warnings
from abc import abstractmethod
from typing import Any, ClassVar, TypeVar, cast

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule
from stable_baselines3.common.utils import safe_mean
from stable_baselines3.common.vec_env import VecEnv

from sppo_rl.callbacks import ProgressBar
from sppo_rl.collection import collect_episodes
from sppo_rl.episodes import EpisodeArrays, EpisodeBatch, as_tensors, first_observations
from sppo_rl.estimators import AdvantageEstimator
from sppo_rl.notices import Notices
from sppo_rl.policies import CnnPolicy, MlpPolicy, MultiInputPolicy, SequencePolicy
from sppo_rl.schedules import as_schedule
from sppo_rl.vec_env import has_batched_form, has_batched_method, in_batched_form, make_batched

SelfEpisodicAlgorithm = TypeVar("SelfEpisodicAlgorithm", bound="EpisodicAlgorithm")


class EpisodicAlgorithm(BaseAlgorithm):
    """
    Plays ``n_episodes`` episodes to their end, hands them to :meth:`train` as one batch, and begins again.

    The parameters are explained in :class:`~sppo_rl.algorithm.SequenceAlgorithm`, which adds the training.
    """

    policy: SequencePolicy
    estimator: AdvantageEstimator
    """Says which episodes it needs: greedy ones besides, or none."""
    _rng: np.random.Generator
    """Of initial states, actions and minibatches."""
    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": MlpPolicy,
        "CnnPolicy": CnnPolicy,
        "MultiInputPolicy": MultiInputPolicy,
    }

    def __init__(
        self,
        policy: str | type[BasePolicy],
        env: GymEnv | str | None,
        learning_rate: float | str | Schedule,
        n_episodes: int,
        group_size: int,
        max_episode_steps: int,
        use_sde: bool,
        sde_sample_freq: int,
        stats_window_size: int,
        tensorboard_log: str | None,
        policy_kwargs: dict[str, Any] | None,
        verbose: int,
        seed: int | None,
        device: th.device | str,
    ):
        # what is no number of episodes is named when the model is set up
        named = isinstance(n_episodes, int | np.integer) and not isinstance(n_episodes, bool)
        copies = max(n_episodes, 1) if named else 1
        env = _in_own_form(env, copies)
        super().__init__(
            policy=policy,
            env=env,
            learning_rate=as_schedule("learning_rate", learning_rate) if isinstance(learning_rate, str) else learning_rate,
            policy_kwargs=policy_kwargs,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            device=device,
            support_multi_env=True,
            seed=seed,
            use_sde=use_sde,
            sde_sample_freq=sde_sample_freq,
            supported_action_spaces=(spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary),
        )
        self.n_episodes = n_episodes
        self.group_size = group_size
        self.max_episode_steps = max_episode_steps
        # without a seed: from PyTorch's global generator, which SB3's set_random_seed seeds
        self._rng = np.random.default_rng(th.randint(2**31 - 1, (4,)).tolist())
        self._notices = Notices()
        self._class_names = [ancestor.__name__ for ancestor in type(self).__mro__]
        """Saved with the model, so that loading can tell whose file it is."""
        self.num_episodes = 0
        """Episodes so far, greedy ones included."""
        self.episode_budget: int | None = None
        """Episodes after which a callback ends this call of ``learn()``; schedules then follow episodes. Set when training starts."""
        self.num_tokens = 0
        """Tokens of all responses so far, greedy ones included; 0 where episodes are not made of tokens."""
        self._tells_success = False
        """Whether an episode has reported ``is_success``."""
        self._from_a_file = False
        """Whether the model was loaded and has not seen a batch since."""
        self.interrupted = False
        """Whether a callback stopped the last collection, so that its episodes were not trained on."""

    def set_random_seed(self, seed: int | None = None) -> None:
        """
        Seed everything random, as SB3 does, and what draws initial states, actions and minibatches.

        :param seed: ``None`` leaves all as it is
        """
        super().set_random_seed(seed)
        if seed is not None:
            self._rng = np.random.default_rng(seed)

    def set_env(self, env: GymEnv | str, force_reset: bool = True) -> None:
        """
        Go on with another environment, which is taken as in the constructor. A ``VecEnv`` must have as many copies as the present one, as
        Stable-Baselines3 asks; of the others as many are made as there are episodes in an update.

        :param env: environment, or its id
        :param force_reset: reset it before training
        """
        made = _in_own_form(env, self.n_episodes)
        if isinstance(made, str):
            made = gym.make(made)
        before = self.n_envs
        if not isinstance(env, VecEnv):
            self.n_envs = made.num_envs if isinstance(made, VecEnv) else 1
        try:
            super().set_env(made, force_reset)
        except (ValueError, AssertionError):
            self.n_envs = before
            raise

    def _get_policy_from_name(self, policy_name: str) -> type[BasePolicy]:
        if policy_name == "TransformerPolicy":
            # transformers takes seconds to import, and only language models need it
            try:
                policy: type[BasePolicy] = importlib.import_module("sppo_rl.llm").TransformerPolicy
            except ModuleNotFoundError as error:
                if error.name != "transformers":
                    raise
                raise ImportError("'TransformerPolicy' needs transformers: pip install 'sppo-rl[llm]'.") from error
            return policy
        return super()._get_policy_from_name(policy_name)

    @abstractmethod
    def _make_batch(self, arrays: EpisodeArrays, greedy: th.Tensor | None) -> EpisodeBatch:
        """Add log-probabilities and values, those from before the update, to what was played."""

    @abstractmethod
    def train(self, batch: EpisodeBatch) -> None:
        """
        Update the policy on the episodes of one collection.

        :param batch: with log-probabilities and values from before the update
        """

    # ---------------------------------------------------------------- learn

    def learn(
        self: SelfEpisodicAlgorithm,
        total_timesteps: int = 1_000_000,
        callback: MaybeCallback = None,
        log_interval: int | None = 1,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfEpisodicAlgorithm:
        """
        Train; updates go on until ``total_timesteps`` environment steps are reached (the last update is finished).

        :param total_timesteps: environment steps, those of greedy roll-outs included
        :param callback: SB3 callback(s), called after every step of the vectorised environment
        :param log_interval: updates between two dumps of the log; ``None`` for none
        :param tb_log_name: name of the run for TensorBoard; the class's name by default
        :param reset_num_timesteps: start counting at 0; ``False`` goes on where the last call stopped
        :param progress_bar: show one
        :raises ValueError: on NaN or infinite losses, or outcomes outside [0, 1] with ``critic_loss="bce"``
        """
        total_timesteps, callback = self._setup_learn(
            total_timesteps, callback, reset_num_timesteps, tb_log_name or type(self).__name__, progress_bar
        )
        assert self.env is not None
        self.episode_budget = None
        if reset_num_timesteps:
            self.num_tokens = self.num_episodes = 0
        callback.on_training_start(locals(), globals())
        iteration = 0
        while self.num_timesteps < total_timesteps:
            started = time.perf_counter()
            batch = self._collect(callback)
            self.interrupted = batch is None
            if batch is None:
                break
            collected = time.perf_counter()
            iteration += 1
            # the last update may overshoot: a schedule of the user's own must not see negative progress
            self._update_current_progress_remaining(min(self.num_timesteps, total_timesteps), total_timesteps)
            self.train(batch)
            self.logger.record("time/collect_seconds", collected - started)
            self.logger.record("time/update_seconds", time.perf_counter() - collected)
            self._tell(self._notices.outcomes(batch.outcome, self.env))
            if log_interval is not None and iteration % log_interval == 0:
                self.dump_logs(iteration)
        callback.on_training_end()
        return self

    def _update_current_progress_remaining(self, num_timesteps: int, total_timesteps: int) -> None:
        if self.episode_budget is not None:
            # the last update may overshoot
            num_timesteps, total_timesteps = min(self.num_episodes, self.episode_budget), self.episode_budget
        super()._update_current_progress_remaining(num_timesteps, total_timesteps)

    def _excluded_save_params(self) -> list[str]:
        # of a call of learn(), not of the model
        return [*super()._excluded_save_params(), "episode_budget"]

    def _init_callback(self, callback: MaybeCallback, progress_bar: bool = False) -> BaseCallback:
        together = super()._init_callback(callback, progress_bar=False)
        if not progress_bar:
            return together
        return super()._init_callback([together, ProgressBar()])

    def dump_logs(self, iteration: int = 0) -> None:
        """
        Write the log.

        :param iteration: updates since ``learn()`` was called
        """
        assert self.ep_info_buffer is not None
        assert self.ep_success_buffer is not None
        elapsed = max((time.time_ns() - self.start_time) / 1e9, sys.float_info.epsilon)
        self.logger.record("time/iterations", iteration, exclude="tensorboard")
        if self.ep_info_buffer:
            self.logger.record("rollout/ep_rew_mean", safe_mean([info["r"] for info in self.ep_info_buffer]))
            self.logger.record("rollout/ep_len_mean", safe_mean([info["l"] for info in self.ep_info_buffer]))
        if self.ep_success_buffer:
            self.logger.record("rollout/success_rate", safe_mean(self.ep_success_buffer))
        self.logger.record("time/fps", int((self.num_timesteps - self._num_timesteps_at_start) / elapsed))
        self.logger.record("time/time_elapsed", int(elapsed), exclude="tensorboard")
        self.logger.record("time/total_timesteps", self.num_timesteps, exclude="tensorboard")
        self.logger.record("time/episodes", self._episode_num)
        if self.num_tokens:
            self.logger.record("time/tokens", self.num_tokens)
        self.logger.dump(step=self.num_timesteps)

    # ---------------------------------------------------------------- collect

    def _collect(self, callback: BaseCallback) -> EpisodeBatch | None:
        """Play the episodes of one update; ``None`` if a callback stopped it."""
        assert self.env is not None
        self.policy.set_training_mode(False)
        callback.on_rollout_start()
        if self.use_sde:
            cast(ActorCriticPolicy, self.policy).reset_noise(self.env.num_envs)
        contexts = self._rng.integers(2**31 - 1, size=self.n_episodes // self.group_size)
        seeds = np.repeat(contexts, self.group_size)
        grouped = self.group_size > 1 or self.estimator.greedy_rollout
        arrays = self._play(seeds, callback, same_start=grouped)
        if arrays is None:
            return None
        greedy = greedy_contexts = None
        if self.estimator.greedy_rollout:
            # the greedy episode of a context is the same for its whole group
            played = self._play(contexts, callback, same_start=True, deterministic=True)
            if played is None:
                return None
            greedy = as_tensors(played.outcome).repeat_interleave(self.group_size)
            greedy_contexts = as_tensors(first_observations(played))
        self.policy.sampling_ended()
        batch = self._make_batch(arrays, greedy)
        if grouped:
            normalize = self.get_vec_normalize_env()
            # running statistics move between two resets: they may show equal states as different observations
            if normalize is None or not normalize.norm_obs:
                self._tell(self._notices.groups(batch.contexts, self.group_size, greedy_contexts))
        callback.update_locals({**locals(), "infos": [], "dones": np.zeros(0, dtype=bool)})
        callback.on_rollout_end()
        return batch

    def _play(
        self, seeds: np.ndarray, callback: BaseCallback, same_start: bool, deterministic: bool = False
    ) -> EpisodeArrays | None:
        assert self.env is not None
        env, steps = self.env, 0

        def on_step(step: dict[str, Any]) -> bool:
            nonlocal steps
            steps += 1
            self.num_timesteps += len(step["env_indices"])
            if step["finished_infos"]:
                self._count(step["finished_infos"], deterministic)
            if step["num_cut"]:
                self._tell(self._notices.cut(self.max_episode_steps))
            if self.use_sde and self.sde_sample_freq > 0 and steps % self.sde_sample_freq == 0:
                cast(ActorCriticPolicy, self.policy).reset_noise(env.num_envs)
            step["self"] = self
            callback.update_locals(step)
            return callback.on_step()

        return collect_episodes(
            env,
            self.policy.make_sampler(self._rng, deterministic),
            self.policy.to_env,
            seeds,
            on_step,
            self.max_episode_steps,
            same_start=same_start,
        )

    def _count(self, infos: list[dict[str, Any]], greedy: bool) -> None:
        """Count finished episodes, and their tokens where the environment tells them."""
        self._tells_success |= any("is_success" in info for info in infos)
        if self._tells_success:
            # some tasks report a success and say nothing of a failure
            infos = [{"is_success": False, **info} for info in infos]
        self.num_episodes += len(infos)
        if not greedy:
            self._episode_num += len(infos)
            self._update_info_buffer(infos, np.ones(len(infos), dtype=bool))
        responses = [info for info in infos if "response_tokens" in info]
        self.num_tokens += sum(info["response_tokens"] for info in responses)
        if not greedy:
            for info in responses:
                self.logger.record_mean("rollout/response_length", info["response_tokens"])
                if "response_truncated" in info:
                    self.logger.record_mean("rollout/truncated", float(info["response_truncated"]))

    def _tell(self, message: str | None) -> None:
        if message is not None:
            warnings.warn(f"{type(self).__name__}: {message}", UserWarning, stacklevel=3)

    @classmethod
    def load(
        cls: type[SelfEpisodicAlgorithm],
        path: str | pathlib.Path | io.BufferedIOBase,
        env: GymEnv | str | None = None,
        device: th.device | str = "auto",
        custom_objects: dict[str, Any] | None = None,
        print_system_info: bool = False,
        force_reset: bool = True,
        **kwargs: Any,
    ) -> SelfEpisodicAlgorithm:
        """
        Load a model as SB3 does; environments are taken as in the constructor (an id, or one with a method ``batched``).

        A file of another algorithm is loaded with a warning: its settings and counters come with it. What cannot be has to be named, such
        as ``GRPO.load(path, group_size=8)`` for a file of an ``SPPO`` without groups.

        :param path: file or file-like
        :param env: environment to go on with, or its id; ``None`` for prediction alone
        :param device: where the model computes
        :param custom_objects: take the place of saved attributes
        :param print_system_info: print the systems that saved and that load
        :param force_reset: reset the environment before training
        :param kwargs: attributes to change
        """
        # whose copies are counted by the saved n_episodes
        later = isinstance(env, str) or has_batched_method(env)
        given = None if later else cast(GymEnv | None, env)
        model = super().load(path, given, device, custom_objects, print_system_info, force_reset, **kwargs)
        saved_by = model._class_names[0]
        if cls.__name__ not in model._class_names and saved_by not in [ancestor.__name__ for ancestor in cls.__mro__]:
            warnings.warn(
                f"The file was saved by {saved_by} and is loaded as {cls.__name__}, with {saved_by}'s settings. Load it with "
                f"{saved_by}.load, unless you mean to go on with another algorithm.",
                UserWarning,
                stacklevel=2,
            )
        model._from_a_file = True
        model._class_names = [ancestor.__name__ for ancestor in cls.__mro__]
        if later:
            assert env is not None
            model.set_env(env, force_reset)
            if model.seed is not None and model.env is not None:
                model.env.seed(model.seed)
        return model


def _in_own_form(env: GymEnv | str | None, copies: int) -> Any:
    """An id that has a batched form, or an environment with a method ``batched``, as that many copies; any other as it is."""
    if isinstance(env, str) and has_batched_form(env):
        return make_batched(env, copies)
    return in_batched_form(env, copies)
