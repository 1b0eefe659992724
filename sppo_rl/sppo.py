"""SPPO: Sequence-Level PPO (Wang et al., arXiv 2604.08865)."""

from __future__ import annotations

from typing import Any

import torch as th
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv

from sppo_rl.algorithm import FloatOrSchedule, SequenceAlgorithm
from sppo_rl.collection import LONGEST_EPISODE
from sppo_rl.estimators import AdvantageEstimator, AdvantageKind, Hybrid, Normalization, SequenceLevel
from sppo_rl.losses import LossAggregation
from sppo_rl.value_scale import CriticInit, CriticLoss


class SPPO(SequenceAlgorithm):
    """
    Sequence-Level Proximal Policy Optimisation (SPPO).

    A whole episode is one action of a contextual bandit. A critic of its own sees the first observation alone and predicts the outcome R;
    ``A = R - V(s)`` goes unchanged to every step of the episode, under PPO's clipped surrogate. There is no bootstrapping, no discount
    and no value of intermediate states.

    Paper: https://arxiv.org/abs/2604.08865

    Usage::

        from sppo_rl import SPPO

        model = SPPO("MlpPolicy", "CartPole-v1", verbose=1)
        model.learn(total_timesteps=200_000)

    :param policy: ``"MlpPolicy"``, ``"CnnPolicy"``, ``"MultiInputPolicy"``, ``"TransformerPolicy"``, or a policy class
    :param env: an environment, a ``VecEnv``, or an id. What has a batched form is used in that form with ``n_episodes`` copies.
    :param learning_rate: of the actor: a number, a function of the remaining progress, or ``"lin_3e-4"``
    :param critic_learning_rate: of the critic; ``None`` for the actor's
    :param n_episodes: whole episodes in one update (instead of PPO's ``n_steps``)
    :param batch_size: episodes in a minibatch; ``None`` for all
    :param n_epochs: passes over the episodes in one update
    :param clip_range: ε of the clipped surrogate, a number or schedule
    :param ent_coef: weight of the entropy bonus
    :param max_grad_norm: gradients are clipped to this norm, actor and critic each on its own
    :param target_kl: the actor's epochs end when the approximate KL divergence exceeds 1.5 times this
    :param advantage: ``"residual"`` for ``R - V``, ``"standardized"`` for ``(R - V) / sqrt(V (1 - V))``
    :param normalize_advantage: ``True`` shifts and scales the advantages of an update to mean 0 and deviation 1, as PPO's are; ``"center"``
        shifts alone, which mends a critic that is wrong about all of them; not in the paper
    :param hybrid: α of a mixture with PPO, ``(1 - α) (R - V(s)) + α A_t``, which takes a critic on every state: 0 is SPPO, 1 is
        :class:`~sppo_rl.baselines.PPO`, which normalises; see :func:`~sppo_rl.advantages.hybrid`
    :param gae_lambda: λ of the mixture's ``A_t``; 1 gives ``R - V(s_t)``, less trades its noise for the critic's errors
    :param critic_loss: ``"bce"`` for outcomes in [0, 1], ``"mse"`` on normalised returns for any, ``"auto"`` by what is seen
    :param critic_init: first prediction of the critic: a number, ``"first_batch"`` for the first update's mean outcome, or ``None``
    :param critic_warmup: number of first updates that train the critic alone
    :param group_size: episodes that start from the same state; 1 as in the paper
    :param loss_aggregation: ``"decision-mean"``, ``"sequence-mean"`` or ``"sequence-sum"``;
        see :func:`~sppo_rl.losses.decision_weights`
    :param importance_cap: weigh each decision's surrogate by the policy's probability over that of the sampler, at most this; for
        generators that report theirs. ``None`` for no correction; see :func:`~sppo_rl.losses.truncated_importance`
    :param max_episode_steps: a longer episode is cut there, with a warning, whatever limit the environment has, and counts as ended
    :param use_sde: gSDE exploration as in SB3
    :param sde_sample_freq: environment steps between new gSDE matrices; -1 for once an update
    :param stats_window_size: episodes in the running means under ``rollout/``
    :param tensorboard_log: folder for TensorBoard, or ``None``
    :param policy_kwargs: passed to the policy
    :param verbose: 0 silent, 1 information, 2 debug
    :param seed: of everything random
    :param device: ``"auto"``, ``"cpu"``, ``"cuda"``
    :param _init_setup_model: whether to build the networks on construction
    :raises ValueError: if a parameter is out of its range; the message names it and the value seen
    """

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
        ent_coef: float = 0.0,
        max_grad_norm: float = 0.5,
        target_kl: float | None = None,
        advantage: AdvantageKind = "residual",
        normalize_advantage: Normalization = False,
        hybrid: float = 0.0,
        gae_lambda: float = 1.0,
        critic_loss: CriticLoss = "auto",
        critic_init: CriticInit = None,
        critic_warmup: int = 0,
        group_size: int = 1,
        loss_aggregation: LossAggregation = "decision-mean",
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
        self.advantage = advantage
        self.normalize_advantage = normalize_advantage
        self.hybrid = hybrid
        self.gae_lambda = gae_lambda
        super().__init__(
            policy,
            env,
            learning_rate=learning_rate,
            critic_learning_rate=critic_learning_rate,
            n_episodes=n_episodes,
            batch_size=batch_size,
            n_epochs=n_epochs,
            clip_range=clip_range,
            ent_coef=ent_coef,
            max_grad_norm=max_grad_norm,
            target_kl=target_kl,
            critic_loss=critic_loss,
            critic_init=critic_init,
            critic_warmup=critic_warmup,
            group_size=group_size,
            loss_aggregation=loss_aggregation,
            importance_cap=importance_cap,
            max_episode_steps=max_episode_steps,
            use_sde=use_sde,
            sde_sample_freq=sde_sample_freq,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            policy_kwargs=policy_kwargs,
            verbose=verbose,
            seed=seed,
            device=device,
            _init_setup_model=_init_setup_model,
        )

    def _make_estimator(self) -> AdvantageEstimator:
        if self.advantage == "standardized" and self.critic_loss == "mse":
            raise ValueError(
                "advantage='standardized' divides by sqrt(V (1 - V)), which needs a critic that predicts a probability, but critic_loss is "
                "'mse'. Use critic_loss='bce' or 'auto', or advantage='residual'."
            )
        if self.hybrid == 0.0:
            if self.gae_lambda != 1.0:
                raise ValueError(
                    f"gae_lambda={self.gae_lambda} belongs to the step-wise part of a mixture, but hybrid is 0, so there is none. Give "
                    "hybrid a share between 0 and 1, or leave gae_lambda out."
                )
            return SequenceLevel(self.advantage, self.normalize_advantage)
        if self.advantage != "residual":
            raise ValueError(
                f"hybrid={self.hybrid} mixes residual advantages, but advantage is {self.advantage!r}. Use 'residual', or hybrid=0."
            )
        return Hybrid(self.hybrid, self.gae_lambda, self.normalize_advantage)
