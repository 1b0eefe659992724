"""SPPO's rivals: the same engine with another advantage estimator.

Each class names what is its own; every other parameter is that of :class:`~sppo_rl.algorithm.SequenceAlgorithm`.
"""

from __future__ import annotations

from typing import Any

from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv

from sppo_rl.algorithm import FloatOrSchedule, SequenceAlgorithm
from sppo_rl.estimators import DecisionLevel, GreedyBaseline, GroupNormalized, LeaveOneOut, Normalization
from sppo_rl.value_scale import CriticLoss


class PPO(SequenceAlgorithm):
    """
    PPO (Schulman et al., arXiv 1707.06347) on whole episodes: GAE, and a critic that values every state (every token prefix).

    With ``critic_loss="bce"`` it is the paper's ablation PPO + BCE. The default squared error also holds for outcomes in [0, 1].

    :param policy: as in :class:`~sppo_rl.algorithm.SequenceAlgorithm`
    :param env: as there
    :param learning_rate: as there
    :param gamma: discount; 1 as in the paper's runs
    :param gae_lambda: λ of GAE; 1 as in the paper's runs
    :param normalize_advantage: shift and scale the advantages of an update to mean 0 and deviation 1, as SB3 and verl do; ``"center"``
        shifts alone
    :param critic_loss: ``"mse"`` or ``"bce"``
    :param kwargs: the engine's other parameters
    """

    def __init__(
        self,
        policy: str | type[BasePolicy],
        env: GymEnv | str | None,
        learning_rate: FloatOrSchedule = 1e-3,
        gamma: float = 1.0,
        gae_lambda: float = 1.0,
        normalize_advantage: Normalization = True,
        critic_loss: CriticLoss = "mse",
        **kwargs: Any,
    ):
        self.gamma = gamma
        self.gae_lambda = gae_lambda
        self.normalize_advantage = normalize_advantage
        super().__init__(policy, env, learning_rate, critic_loss=critic_loss, **kwargs)

    def _make_estimator(self) -> DecisionLevel:
        return DecisionLevel(self.gamma, self.gae_lambda, self.normalize_advantage)


class GRPO(SequenceAlgorithm):
    """
    Group Relative Policy Optimisation (DeepSeekMath, arXiv 2402.03300): the outcome normalised within a group; no critic.

    :param policy: as in :class:`~sppo_rl.algorithm.SequenceAlgorithm`
    :param env: as there
    :param learning_rate: as there
    :param group_size: episodes that start from the same state; 8 in the paper
    :param kwargs: the engine's other parameters; those of the critic have no effect
    """

    def __init__(
        self,
        policy: str | type[BasePolicy],
        env: GymEnv | str | None,
        learning_rate: FloatOrSchedule = 1e-3,
        group_size: int = 8,
        **kwargs: Any,
    ):
        super().__init__(policy, env, learning_rate, group_size=group_size, **kwargs)

    def _make_estimator(self) -> GroupNormalized:
        return GroupNormalized()


class RLOO(SequenceAlgorithm):
    """
    REINFORCE Leave-One-Out (Ahmadian et al., arXiv 2402.14740) under the clipped surrogate: the others' mean is the baseline; no critic.

    :param policy: as in :class:`~sppo_rl.algorithm.SequenceAlgorithm`
    :param env: as there
    :param learning_rate: as there
    :param group_size: episodes that start from the same state. The paper takes 5, which 16 episodes cannot be divided by; so 4.
    :param kl_coef: β of a penalty in the reward on the distance from the policy that training began with; see
        :func:`~sppo_rl.advantages.penalized`. Above 0 it keeps a copy of the actor's weights.
    :param kwargs: the engine's other parameters; those of the critic have no effect
    """

    def __init__(
        self,
        policy: str | type[BasePolicy],
        env: GymEnv | str | None,
        learning_rate: FloatOrSchedule = 1e-3,
        group_size: int = 4,
        kl_coef: float = 0.0,
        **kwargs: Any,
    ):
        self.kl_coef = kl_coef
        super().__init__(policy, env, learning_rate, group_size=group_size, **kwargs)

    def _make_estimator(self) -> LeaveOneOut:
        return LeaveOneOut(self.kl_coef)


class ReMax(SequenceAlgorithm):
    """
    ReMax (Li et al., arXiv 2310.10505) under the clipped surrogate: the baseline is one greedy episode from the same state; no critic.

    :param policy: as in :class:`~sppo_rl.algorithm.SequenceAlgorithm`
    :param env: as there
    :param kwargs: the engine's other parameters; those of the critic have no effect
    """

    def _make_estimator(self) -> GreedyBaseline:
        return GreedyBaseline()
