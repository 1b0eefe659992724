"""The engine that SPPO and its rivals share: compute advantages of whole episodes, and train."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, cast

import torch as th
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule

from sppo_rl.batches import batch_metrics, make_batch
from sppo_rl.collection import LONGEST_EPISODE
from sppo_rl.episodes import EpisodeArrays, EpisodeBatch, as_tensors
from sppo_rl.episodic import EpisodicAlgorithm
from sppo_rl.estimators import AdvantageEstimator
from sppo_rl.losses import LossAggregation, require_finite, truncated_importance
from sppo_rl.parameters import check_parameters, check_spaces
from sppo_rl.policies import as_sequence_policy
from sppo_rl.reference import copy_of
from sppo_rl.schedules import as_schedule
from sppo_rl.updates import ActorUpdate, CriticUpdate
from sppo_rl.value_scale import CriticInit, CriticLoss, choose_units, initial_value

FloatOrSchedule = float | str | Schedule


class SequenceAlgorithm(EpisodicAlgorithm):
    """
    Policy optimisation on whole episodes; the estimator makes it SPPO, PPO, GRPO, RLOO or ReMax.

    An update plays ``n_episodes`` episodes to their end, computes one advantage for each (or one for each decision) and trains for
    ``n_epochs`` on PPO's clipped surrogate. Where SB3's ``PPO`` has a parameter of the same name, it means the same.

    :param policy: ``"MlpPolicy"``, ``"CnnPolicy"``, ``"MultiInputPolicy"``, ``"TransformerPolicy"`` (:mod:`sppo_rl.llm`), a
        :class:`~sppo_rl.sequence_policy.SequencePolicy` class, or a subclass of SB3's ``ActorCriticPolicy``
    :param env: an environment, a ``VecEnv``, or an id. An id with a batched form (see :func:`~sppo_rl.vec_env.make_batched`) is made
        in that form with ``n_episodes`` copies, and so is an environment with a method ``batched(num_envs)``
        (``MathReasoningEnv``); everything else is used as SB3 uses it. ``None`` only for loading.
    :param learning_rate: of the actor: a number, a function of the remaining progress, or ``"lin_3e-4"``
    :param critic_learning_rate: of the critic; ``None`` for the actor's
    :param n_episodes: whole episodes in one update
    :param batch_size: episodes in a minibatch; ``None`` for all
    :param n_epochs: passes over the episodes in one update
    :param clip_range: ε of the clipped surrogate, a number or schedule
    :param clip_range_vf: PPO's clipping of the value change for a squared-error critic, in outcome units; ``None`` for none
    :param ent_coef: weight of the entropy bonus
    :param max_grad_norm: gradients are clipped to this norm, actor and critic each on its own
    :param target_kl: the actor's epochs end when the approximate KL divergence exceeds 1.5 times this; ``None`` for no limit
    :param critic_loss: ``"bce"`` for outcomes in [0, 1], ``"mse"`` on normalised returns for any; ``"auto"`` uses ``"bce"`` as long as
        all outcomes lie in [0, 1]
    :param critic_init: what the critic predicts before its first update: a number in outcome units, ``"first_batch"`` for the mean
        outcome of the first update's episodes, or ``None`` for the network's own initialisation (near .5 with ``"bce"``)
    :param critic_warmup: number of first updates that train the critic alone
    :param group_size: episodes that start from the same state
    :param loss_aggregation: see :func:`~sppo_rl.losses.decision_weights`
    :param skip_zero_advantage: leave sequences with an advantage of exactly 0 out of the actor's passes. The gradient is the same
        when ``ent_coef`` is 0, and with an entropy bonus nothing is left out.
    :param importance_cap: weigh each decision's surrogate by the policy's probability over that of the sampler, at most this
        (:func:`~sppo_rl.losses.truncated_importance`); for samplers that report theirs, which a language model's generator does.
        ``None`` for no correction
    :param max_episode_steps: a longer episode is cut there, with a warning, whatever limit the environment has, and counts as
        ended with the return it has
    :param use_sde: gSDE exploration as in SB3
    :param sde_sample_freq: environment steps between new gSDE matrices; -1 for once an update
    :param stats_window_size: episodes in the running means under ``rollout/``
    :param tensorboard_log: folder for TensorBoard, or ``None``
    :param policy_kwargs: passed to the policy
    :param verbose: 0 silent, 1 information, 2 debug
    :param seed: of everything random: weights, actions, initial states, minibatches
    :param device: ``"auto"``, ``"cpu"``, ``"cuda"``
    :param _init_setup_model: whether to build the networks on construction
    :raises ValueError: if a parameter is out of its range; the message names it and the value seen
    """

    gamma: float = 1.0
    """An outcome is never discounted; only PPO lets its user choose."""

    def __init__(
        self,
        policy: str | type[BasePolicy],
        env: GymEnv | str | None,
        learning_rate: FloatOrSchedule = 1e-3,
        critic_learning_rate: FloatOrSchedule | None = None,
        n_episodes: int = 16,
        batch_size: int | None = None,
        n_epochs: int = 4,
        clip_range: FloatOrSchedule = 0.2,
        clip_range_vf: FloatOrSchedule | None = None,
        ent_coef: float = 0.0,
        max_grad_norm: float = 0.5,
        target_kl: float | None = None,
        critic_loss: CriticLoss = "auto",
        critic_init: CriticInit = None,
        critic_warmup: int = 0,
        group_size: int = 1,
        loss_aggregation: LossAggregation = "decision-mean",
        skip_zero_advantage: bool = True,
        importance_cap: float | None = None,
        max_episode_steps: int = LONGEST_EPISODE,
        use_sde: bool = False,
        sde_sample_freq: int = -1,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: th.device | str = "auto",
        _init_setup_model: bool = True,
    ):
        super().__init__(
            policy,
            env,
            learning_rate,
            n_episodes=n_episodes,
            group_size=group_size,
            max_episode_steps=max_episode_steps,
            use_sde=use_sde,
            sde_sample_freq=sde_sample_freq,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            policy_kwargs=policy_kwargs,
            verbose=verbose,
            seed=seed,
            device=device,
        )
        self.critic_learning_rate = critic_learning_rate
        self.batch_size = batch_size
        self.n_epochs = n_epochs
        self.clip_range: Any = clip_range
        self.clip_range_vf: Any = clip_range_vf
        self.ent_coef = ent_coef
        self.max_grad_norm = max_grad_norm
        self.target_kl = target_kl
        self.critic_loss = critic_loss
        self.critic_init = critic_init
        self.critic_warmup = critic_warmup
        self.loss_aggregation = loss_aggregation
        self.skip_zero_advantage = skip_zero_advantage
        self.importance_cap = importance_cap
        if _init_setup_model:
            self._setup_model()

    # ---------------------------------------------------------------- set-up

    def _setup_model(self) -> None:
        """Check the parameters, seed everything and build the networks."""
        if not hasattr(self, "observation_space"):
            raise ValueError(
                f"{type(self).__name__} needs an environment or its id, got env=None; without one a model can only be loaded "
                f"({type(self).__name__}.load)."
            )
        self.estimator = self._make_estimator()
        check_parameters(self)
        check_spaces(self.observation_space, self.action_space)
        if isinstance(self.learning_rate, str):
            # given to load(), which does not go through the constructor
            self.learning_rate = as_schedule("learning_rate", self.learning_rate)
        self._setup_lr_schedule()
        critic_rate = self.learning_rate if self.critic_learning_rate is None else self.critic_learning_rate
        self.critic_lr_schedule = as_schedule("critic_learning_rate", critic_rate)
        # like SB3's PPO: after construction they are schedules
        self.clip_range = as_schedule("clip_range", self.clip_range)
        if self.clip_range_vf is not None:
            self.clip_range_vf = as_schedule("clip_range_vf", self.clip_range_vf)
        self.set_random_seed(self.seed)
        policy_class = as_sequence_policy(self.policy_class)
        kwargs = policy_class.complete_kwargs(self.policy_kwargs, self.env, self.estimator.critic != "none")
        self.policy = policy_class(
            self.observation_space, self.action_space, self.lr_schedule, use_sde=self.use_sde, **kwargs
        ).to(self.device)
        self.policy.check_critic(self.estimator.critic)
        self.policy_kwargs = self.policy.rebuild_kwargs(kwargs)
        self.reference = copy_of(self.policy.actor_parameters()) if self.estimator.reference else th.zeros(0)
        """The actor's weights when training began, for estimators that ask for them."""

    @abstractmethod
    def _make_estimator(self) -> AdvantageEstimator:
        """Make the estimator from the parameters; it computes advantages and says which critic it needs."""

    def _setup_learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        reset_num_timesteps: bool = True,
        tb_log_name: str = "run",
        progress_bar: bool = False,
    ) -> tuple[int, Any]:
        if self.estimator.reference and (self._n_updates == 0 or not len(self.reference)):
            # weights may have been loaded since construction: a prior, say, or a model that was trained without a reference
            self.reference = copy_of(self.policy.actor_parameters())
        return super()._setup_learn(total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar)

    # ---------------------------------------------------------------- the batch

    def _make_batch(self, arrays: EpisodeArrays, greedy: th.Tensor | None) -> EpisodeBatch:
        outcome = as_tensors(arrays.outcome)
        require_finite("rollout/outcome", outcome)
        self._choose_value_scale(outcome)
        reference = self.reference if self.estimator.reference else None
        return make_batch(self.policy, arrays, self.estimator.critic, self.group_size, greedy, reference)

    def _choose_value_scale(self, outcome: th.Tensor) -> None:
        """Decide between probabilities and normalised returns from the outcomes seen, and give the critic its initial value."""
        if self.estimator.critic == "none":
            return
        scale = self.policy.value_scale
        was_probability = scale.is_probability
        trained = bool(self._n_updates and self.policy.critic_optimizer.state)
        message = choose_units(scale, self.critic_loss, outcome, trained, self._from_a_file)
        if message:
            self._tell(message)
        self._from_a_file = False
        anew = scale.is_probability and not was_probability
        if (self._n_updates == 0 or anew) and self.critic_init is not None:
            self.policy.set_initial_value(initial_value(self.critic_init, outcome, scale.is_probability))

    # ---------------------------------------------------------------- train

    def train(self, batch: EpisodeBatch) -> None:
        """
        Update actor and critic on the episodes of one collection.

        :param batch: with log-probabilities and values from before the update
        """
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        self._update_critic_learning_rate()
        clip_range = self.clip_range(self._current_progress_remaining)
        advantages, targets = self.estimator(batch)
        scale = self.policy.value_scale
        if self.estimator.in_outcome_units and not scale.is_probability:
            advantages = advantages / scale.std.cpu()
        require_finite("train/advantages", advantages)
        actor = ActorUpdate(
            self.policy, batch, self._corrected(advantages, batch), clip_range, self.ent_coef, self.max_grad_norm, self.loss_aggregation,
            skip_zero_advantage=self.skip_zero_advantage and self.ent_coef == 0.0,
        )  # fmt: skip
        critic = None
        if targets is not None:
            clip_range_vf = self.clip_range_vf and self.clip_range_vf(self._current_progress_remaining)
            critic = CriticUpdate(self.policy, batch, targets, self.max_grad_norm, clip_range_vf)
        num_sequences = len(batch.outcome)
        size = self.batch_size or num_sequences
        train_actor = critic is None or self._n_updates >= self.critic_warmup
        kl_limit = float("inf") if self.target_kl is None else 1.5 * self.target_kl
        for _ in range(self.n_epochs):
            order = th.arange(num_sequences) if size >= num_sequences else th.as_tensor(self._rng.permutation(num_sequences))
            for sequences in order.split(size):
                if train_actor:
                    # beyond the limit the critic goes on: its loss does not depend on how far the actor has moved
                    train_actor = actor.step(sequences, kl_limit) <= kl_limit
                    actor.release()
                if critic is not None:
                    critic.step(sequences)
                    critic.release()
        self._n_updates += 1
        self._log_training(batch, advantages, actor, critic, clip_range)

    def _corrected(self, advantages: th.Tensor, batch: EpisodeBatch) -> th.Tensor:
        """(S,) or (M, K): weighed by truncated importance. The surrogate of w A is w times that of A, for w of 0 or more."""
        if self.importance_cap is None:
            return advantages
        if batch.sampler_log_prob is None:
            raise ValueError(
                f"importance_cap={self.importance_cap} needs the sampler's log-probabilities, but {type(self.policy).__name__} samples "
                "with the policy itself and reports none. Leave importance_cap at None."
            )
        each = advantages if advantages.ndim == 2 else advantages[batch.sequence].unsqueeze(1)
        return each * truncated_importance(batch.old_log_prob, batch.sampler_log_prob, self.importance_cap)

    def _update_critic_learning_rate(self) -> None:
        if self.estimator.critic == "none":
            return
        rate = self.critic_lr_schedule(self._current_progress_remaining)
        self.logger.record("train/critic_learning_rate", rate)
        for group in self.policy.critic_optimizer.param_groups:
            group["lr"] = rate

    def _log_training(
        self, batch: EpisodeBatch, advantages: th.Tensor, actor: ActorUpdate, critic: CriticUpdate | None, clip_range: float
    ) -> None:
        metrics = batch_metrics(
            batch, advantages, self.policy.value_scale.is_probability and self.estimator.critic == "context"
        )
        if self.policy.sampler_trains():
            metrics |= actor.gap()
        for name, value in metrics.items():
            self.logger.record(name, value)
        for name, value in {**actor.means(), **(critic.means() if critic else {})}.items():
            self.logger.record(f"train/{name}", value)
        if hasattr(self.policy, "log_std"):
            self.logger.record("train/std", th.exp(cast(th.Tensor, self.policy.log_std)).mean().item())
        self.logger.record("train/clip_range", clip_range)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")

    # ---------------------------------------------------------------- save

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "estimator", "critic_lr_schedule", "_rng"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "policy.optimizer", "policy.critic_optimizer"], ["reference"]
