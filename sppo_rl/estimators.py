"""Advantage estimators: what SPPO and its rivals ask of the engine, and how they use :mod:`sppo_rl.advantages`.

Each says which critic it needs, how many samples of a context, whether a greedy roll-out, and maps an
:class:`~sppo_rl.episodes.EpisodeBatch` to :class:`Advantages`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

import torch as th

from sppo_rl.advantages import (
    generalized_advantage,
    group_normalized,
    hybrid,
    leave_one_out,
    penalized,
    residual,
    standardized,
    whiten,
    whiten_sequences,
)
from sppo_rl.parameters import check_number

if TYPE_CHECKING:
    from sppo_rl.episodes import EpisodeBatch

AdvantageKind = Literal["residual", "standardized"]
"""Of SPPO."""
CriticKind = Literal["none", "context", "decision"]
Normalization = bool | Literal["center"]
"""Of an update's advantages: none, to mean 0 and deviation 1, or to mean 0 alone."""


class Advantages(NamedTuple):
    """What an estimator hands to the engine."""

    advantages: th.Tensor
    """(S,) one for each sequence, or (M, K) one for each decision."""
    critic_targets: th.Tensor | None
    """(S,) or (M, K) like the values, in outcome units; ``None`` without a critic."""


class AdvantageEstimator(ABC):
    """Says what it needs, and computes advantages from whole episodes."""

    critic: ClassVar[CriticKind] = "none"
    """``"context"``: one value for each sequence; ``"decision"``: one before each decision."""
    min_group_size: ClassVar[int] = 1
    """The fewest samples of a context that it can work with."""
    greedy_rollout: ClassVar[bool] = False
    """Whether ``batch.greedy_outcome`` must be there."""

    @property
    def reference(self) -> bool:
        """Whether ``batch.reference_log_prob`` must be there: of the weights that training began with."""
        return False

    @property
    def in_outcome_units(self) -> bool:
        """Whether, where returns are normalised for the critic, the engine has to bring these advantages to that scale."""
        return False

    @abstractmethod
    def __call__(self, batch: EpisodeBatch) -> Advantages:
        """
        Compute the advantages.

        :param batch: with ``values`` filled in where the estimator asks for a critic
        """


@dataclass(frozen=True)
class SequenceLevel(AdvantageEstimator):
    """SPPO: the outcome less the value of the context; see :func:`residual`, :func:`standardized` and :func:`whiten_sequences`."""

    form: AdvantageKind = "residual"
    normalize: Normalization = False
    critic: ClassVar[CriticKind] = "context"

    def __post_init__(self) -> None:
        if self.form not in ("residual", "standardized"):
            raise ValueError(f"advantage must be 'residual' or 'standardized', got {self.form!r}.")
        _check_normalization(self.normalize)

    @property
    def in_outcome_units(self) -> bool:
        """See :class:`AdvantageEstimator`."""
        return not _scales(self.normalize)

    def __call__(self, batch: EpisodeBatch) -> Advantages:
        """See :class:`AdvantageEstimator`."""
        assert batch.values is not None
        if self.form == "standardized":
            outside = batch.outcome[(batch.outcome < 0.0) | (batch.outcome > 1.0)]
            if outside.numel():
                raise ValueError(
                    "advantage='standardized' divides by the deviation of an outcome in [0, 1], but an outcome of "
                    f"{outside[0].item():g} was seen. Use advantage='residual', or wrap the task in an OutcomeWrapper."
                )
        form = standardized if self.form == "standardized" else residual
        advantages = form(batch.outcome, batch.values)
        if self.normalize:
            decisions = th.zeros_like(batch.outcome).index_add_(
                0, batch.sequence, batch.mask.sum(dim=1).to(batch.outcome.dtype)
            )
            advantages = whiten_sequences(advantages, decisions, scale=_scales(self.normalize))
        return Advantages(advantages, batch.outcome)


@dataclass(frozen=True)
class DecisionLevel(AdvantageEstimator):
    """PPO: GAE with a critic on every state (every token prefix); the critic learns the λ-return."""

    gamma: float = 1.0
    gae_lambda: float = 1.0
    normalize: Normalization = True
    critic: ClassVar[CriticKind] = "decision"

    def __post_init__(self) -> None:
        _check_shares(gamma=self.gamma, gae_lambda=self.gae_lambda)
        _check_normalization(self.normalize)

    def __call__(self, batch: EpisodeBatch) -> Advantages:
        """See :class:`AdvantageEstimator`."""
        assert batch.values is not None
        mask = batch.mask
        rewards, sequence = _decisions(batch)
        advantages = th.zeros_like(batch.values)
        advantages[mask] = generalized_advantage(rewards, batch.values[mask], sequence, self.gamma, self.gae_lambda)
        targets = advantages + batch.values
        return Advantages(_normalized(advantages, mask, self.normalize), targets)


@dataclass(frozen=True)
class Hybrid(AdvantageEstimator):
    """
    SPPO mixed with PPO; see :func:`hybrid`. One critic values every state, and its value of the first one is ``V(s)``.

    Like PPO's it learns the λ-return, which is the outcome where λ = 1.
    """

    alpha: float
    gae_lambda: float = 1.0
    normalize: Normalization = False
    critic: ClassVar[CriticKind] = "decision"

    def __post_init__(self) -> None:
        _check_shares(hybrid=self.alpha, gae_lambda=self.gae_lambda)
        _check_normalization(self.normalize)

    @property
    def in_outcome_units(self) -> bool:
        """See :class:`AdvantageEstimator`."""
        return not _scales(self.normalize)

    def __call__(self, batch: EpisodeBatch) -> Advantages:
        """See :class:`AdvantageEstimator`."""
        assert batch.values is not None
        rewards, sequence = _decisions(batch)
        values = batch.values[batch.mask]
        of_decisions = generalized_advantage(rewards, values, sequence, gae_lambda=self.gae_lambda)
        _, index, lengths = th.unique_consecutive(sequence, return_inverse=True, return_counts=True)
        returns = th.zeros_like(lengths, dtype=rewards.dtype).index_add_(0, index, rewards)
        of_sequence = residual(returns, values[lengths.cumsum(0) - lengths])
        advantages, targets = th.zeros_like(batch.values), batch.values.clone()
        advantages[batch.mask] = hybrid(of_sequence, of_decisions, sequence, self.alpha)
        targets[batch.mask] += of_decisions
        return Advantages(_normalized(advantages, batch.mask, self.normalize), targets)


def _check_shares(**shares: float) -> None:
    for name, value in shares.items():
        check_number(name, value)
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"{name} must lie between 0 and 1, got {value}.")


def _check_normalization(normalize: object) -> None:
    # equality, since a file may give NumPy's True
    if normalize not in (False, True, "center"):
        raise ValueError(f"normalize_advantage must be False, True or 'center', got {normalize!r}.")


def _scales(normalize: Normalization) -> bool:
    return bool(normalize) and normalize != "center"


def _normalized(advantages: th.Tensor, mask: th.Tensor, normalize: Normalization) -> th.Tensor:
    return whiten(advantages, mask, _scales(normalize)) if normalize else advantages


def _decisions(batch: EpisodeBatch) -> tuple[th.Tensor, th.Tensor]:
    """Rewards and sequences of the D decisions that count, in time order: the reward of a step is paid at its last decision."""
    mask = batch.mask
    last = mask & (mask.cumsum(dim=1) == mask.sum(dim=1, keepdim=True))
    rewards = th.where(last, batch.rewards.unsqueeze(1), 0.0)[mask]
    return rewards, batch.sequence.unsqueeze(1).expand_as(mask)[mask]


@dataclass(frozen=True)
class GroupNormalized(AdvantageEstimator):
    """GRPO; see :func:`group_normalized`."""

    min_group_size: ClassVar[int] = 2

    def __call__(self, batch: EpisodeBatch) -> Advantages:
        """See :class:`AdvantageEstimator`."""
        return Advantages(group_normalized(batch.outcome, batch.group), None)


@dataclass(frozen=True)
class LeaveOneOut(AdvantageEstimator):
    """RLOO; see :func:`leave_one_out` and :func:`penalized`."""

    kl_coef: float = 0.0
    min_group_size: ClassVar[int] = 2

    def __post_init__(self) -> None:
        check_number("kl_coef", self.kl_coef)
        if not self.kl_coef >= 0.0:
            raise ValueError(f"kl_coef must not be negative, got {self.kl_coef}.")

    @property
    def reference(self) -> bool:
        """Whether the penalty needs the log-probabilities of the policy that training began with."""
        return self.kl_coef > 0.0

    def __call__(self, batch: EpisodeBatch) -> Advantages:
        """See :class:`AdvantageEstimator`."""
        outcome = batch.outcome
        if self.reference:
            assert batch.reference_log_prob is not None
            log_ratio = th.where(batch.mask, batch.old_log_prob - batch.reference_log_prob, 0.0).sum(dim=1)
            outcome = penalized(outcome, log_ratio, batch.sequence, self.kl_coef)
        return Advantages(leave_one_out(outcome, batch.group), None)


@dataclass(frozen=True)
class GreedyBaseline(AdvantageEstimator):
    """ReMax: the outcome less that of one greedy roll-out from the same context (Li et al., arXiv 2310.10505)."""

    greedy_rollout: ClassVar[bool] = True

    def __call__(self, batch: EpisodeBatch) -> Advantages:
        """See :class:`AdvantageEstimator`."""
        assert batch.greedy_outcome is not None
        return Advantages(batch.outcome - batch.greedy_outcome, None)
