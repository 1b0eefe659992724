"""Advantage estimators: the one thing in which SPPO and its rivals differ.

The formulas are pure functions; the small classes below them say what each estimator needs from the engine (which critic, how
many samples of a context, a greedy roll-out) and map an :class:`~sppo_rl.episodes.EpisodeBatch` to :class:`Advantages`. For the
notation see :mod:`sppo_rl.losses`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple, Protocol

import torch as th

if TYPE_CHECKING:
    from sppo_rl.episodes import EpisodeBatch

CriticKind = Literal["none", "context", "decision"]


def residual(outcome: th.Tensor, values: th.Tensor) -> th.Tensor:
    """
    SPPO's advantage ``A = R - V(s)`` (arXiv 2604.08865, §3).

    A hard prompt (V = .25) solved earns +.75, failed -.25; an easy one (V = .75) solved earns +.25, failed -.75.

    :param outcome: (S,)
    :param values: (S,), in outcome units
    :return: (S,)
    """
    return outcome - values


def standardized(outcome: th.Tensor, values: th.Tensor, eps: float = 1e-4) -> th.Tensor:
    """
    The residual over the outcome's standard deviation, ``(R - V) / sqrt(V (1 - V) + eps)`` for an outcome in [0, 1].

    It is what GRPO's group normalisation tends to for Bernoulli outcomes, with the learned V for the group's mean. V = .2: a success
    earns +2, a failure -.5.

    :param outcome: (S,) in [0, 1]
    :param values: (S,) in [0, 1]
    :param eps: bounds the advantage where the critic is certain: at most 1 / sqrt(eps)
    :return: (S,)
    """
    return (outcome - values) / th.sqrt(values * (1.0 - values) + eps)


def group_mean_std(outcome: th.Tensor, group: th.Tensor) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
    """
    Mean, standard deviation (unbiased; 0 for a group of one) and size of each sequence's group.

    :param outcome: (S,)
    :param group: (S,) int64, sequences that share a context share a number
    :return: three (S,) tensors
    """
    _, index = th.unique(group, return_inverse=True)
    num_groups = int(index.max()) + 1
    # in double precision: a group of equal outcomes must have a deviation of exactly zero
    values = outcome.double()
    count = th.zeros(num_groups, dtype=th.float64, device=outcome.device).index_add_(0, index, th.ones_like(values))
    mean = th.zeros_like(count).index_add_(0, index, values) / count
    squares = th.zeros_like(count).index_add_(0, index, (values - mean[index]) ** 2)
    std = th.sqrt(squares / (count - 1.0).clamp(min=1.0))
    dtype = outcome.dtype
    return mean[index].to(dtype), std[index].to(dtype), count[index].to(dtype)


def group_normalized(outcome: th.Tensor, group: th.Tensor, eps: float = 1e-4) -> th.Tensor:
    """
    GRPO's advantage ``(R - mean) / (std + eps)`` within the group (DeepSeekMath, arXiv 2402.03300).

    One success in four, ``[1, 0, 0, 0]``: mean .25, std .5, so ``[1.5, -.5, -.5, -.5]``; four equal outcomes earn 0.

    :param outcome: (S,)
    :param group: (S,) int64
    :param eps: keeps the quotient finite
    :return: (S,)
    """
    mean, std, _ = group_mean_std(outcome, group)
    return (outcome - mean) / (std + eps)


def leave_one_out(outcome: th.Tensor, group: th.Tensor) -> th.Tensor:
    """
    RLOO's advantage: the outcome less the mean of the *others* in its group (Ahmadian et al., arXiv 2402.14740).

    ``[1, 0, 0, 0]`` gives ``[1, -1/3, -1/3, -1/3]``.

    :param outcome: (S,)
    :param group: (S,) int64; every group needs at least two members
    :return: (S,)
    :raises ValueError: if a group has one member, which has no others to be compared with
    """
    mean, _, count = group_mean_std(outcome, group)
    if bool((count < 2).any()):
        raise ValueError("leave_one_out needs at least two sequences for each context; a group of one was seen.")
    return (outcome - mean) * count / (count - 1.0)


def penalized(outcome: th.Tensor, log_ratio: th.Tensor, sequence: th.Tensor, kl_coef: float) -> th.Tensor:
    """
    Outcome less a penalty on the distance from a reference policy: ``R - β Σ_t [log π(a_t) - log π_ref(a_t)]`` (arXiv 2402.14740, §2).

    Two sequences of two and one steps, log-ratios ``[.1, .3 | -.2]``, β = .5, both solved: ``[.8, 1.1]``.

    :param outcome: (S,)
    :param log_ratio: (M,) nats, ``log π - log π_ref`` of each environment step's decisions
    :param sequence: (M,) int64 in [0, S)
    :param kl_coef: β
    :return: (S,)
    """
    return outcome - kl_coef * th.zeros_like(outcome).index_add_(0, sequence, log_ratio)


def generalized_advantage(
    rewards: th.Tensor, values: th.Tensor, sequence: th.Tensor, gamma: float = 1.0, gae_lambda: float = 1.0
) -> th.Tensor:
    """
    Generalised advantage estimation over ragged sequences that all end for good, so nothing is bootstrapped (Schulman et al. 2016).

    With γ = λ = 1 it is ``G_t - V(s_t)``. Rewards ``[0, 0, 1]`` and values ``[.5, .6, .9]``: ``[.5, .4, .1]`` (the tail effect:
    the closer to the end, the less is left to learn from).

    :param rewards: (D,) one for each decision, sequences one after another, decisions in time order
    :param values: (D,) the critic's value before each decision
    :param sequence: (D,) int64, non-decreasing
    :param gamma: discount
    :param gae_lambda: λ
    :return: (D,)
    """
    _, lengths = th.unique_consecutive(sequence, return_counts=True)
    longest, starts = int(lengths.max()), lengths.cumsum(0) - lengths
    # (S, T) padded behind each end with zeros, which the recursion carries into nothing
    step = th.arange(longest, device=rewards.device)
    inside = step < lengths.unsqueeze(1)
    position = (starts.unsqueeze(1) + step).clamp(max=rewards.shape[0] - 1)
    padded_values = th.where(inside, values[position], 0.0)
    delta = th.where(inside, rewards[position], 0.0) - padded_values
    delta[:, :-1] += gamma * padded_values[:, 1:]
    advantages = th.zeros_like(delta)
    running = th.zeros_like(delta[:, 0])
    for t in range(longest - 1, -1, -1):
        running = delta[:, t] + gamma * gae_lambda * running
        advantages[:, t] = running
    return advantages[inside]


def hybrid(of_sequence: th.Tensor, of_decisions: th.Tensor, sequence: th.Tensor, alpha: float) -> th.Tensor:
    """
    Mix the signal of the sequence with that of each decision: ``(1 - α) (R - V(s)) + α A_t``.

    With the example of :func:`generalized_advantage`, one sequence whose decisions earn ``[.5, .4, .1]`` and whose residual is .5, α = .5
    gives ``[.5, .45, .3]``. α = 0 gives every decision .5, as SPPO does; α = 1 changes nothing.

    :param of_sequence: (S,) the residuals ``R - V(s)``
    :param of_decisions: (D,) sequences one after another, decisions in time order
    :param sequence: (D,) int64, non-decreasing
    :param alpha: α in [0, 1]
    :return: (D,)
    """
    index = th.unique_consecutive(sequence, return_inverse=True)[1]
    return (1.0 - alpha) * of_sequence[index] + alpha * of_decisions


def whiten(advantages: th.Tensor, mask: th.Tensor) -> th.Tensor:
    """
    Shift and scale to mean 0 and standard deviation 1 over the decisions that count.

    :param advantages: (M, K)
    :param mask: (M, K) bool
    :return: (M, K), 0 where masked
    """
    counted = advantages[mask]
    if counted.numel() < 2:
        return th.where(mask, advantages, 0.0)
    return th.where(mask, (advantages - counted.mean()) / (counted.std() + 1e-8), 0.0)


def whiten_sequences(advantages: th.Tensor, decisions: th.Tensor) -> th.Tensor:
    """
    :func:`whiten` for one advantage to a sequence, which counts once for each of its decisions.

    ``[.5, -.5]`` over 3 and 1 decisions, mean .25 and unbiased deviation .5: ``[.5, -1.5]``.

    :param advantages: (S,)
    :param decisions: (S,) of each sequence
    :return: (S,)
    """
    count = decisions.sum()
    if count < 2:
        return advantages
    centred = advantages - (decisions * advantages).sum() / count
    return centred / (th.sqrt((decisions * centred**2).sum() / (count - 1)) + 1e-8)


class Advantages(NamedTuple):
    """What an estimator hands to the engine."""

    advantages: th.Tensor
    """(S,) one for each sequence, or (M, K) one for each decision."""
    critic_targets: th.Tensor | None
    """(S,) or (M, K) like the values, in outcome units; ``None`` without a critic."""


class AdvantageEstimator(Protocol):
    """
    Says what it needs and computes advantages from whole episodes.

    ``critic``: ``"none"``, ``"context"`` (one value for each sequence) or ``"decision"`` (one before each decision).
    ``min_group_size``: the fewest samples of a context it can work with.
    ``greedy_rollout``: whether ``batch.greedy_outcome`` must be there.
    An estimator that also has a true attribute ``reference`` gets ``batch.reference_log_prob``. Where returns are normalised for the
    critic, the advantages of one with a true attribute ``in_outcome_units`` (without it: of one with a critic of the context) are
    brought to that scale.
    """

    critic: ClassVar[CriticKind]
    min_group_size: ClassVar[int]
    greedy_rollout: ClassVar[bool]

    def __call__(self, batch: EpisodeBatch) -> Advantages:
        """
        Compute the advantages.

        :param batch: with ``values`` filled in where the estimator asks for a critic
        """


@dataclass(frozen=True)
class SequenceLevel:
    """SPPO: the outcome less the value of the context; see :func:`residual`, :func:`standardized` and :func:`whiten_sequences`."""

    form: str = "residual"
    normalize: bool = False
    critic: ClassVar[CriticKind] = "context"
    min_group_size: ClassVar[int] = 1
    greedy_rollout: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.form not in ("residual", "standardized"):
            raise ValueError(f"advantage must be 'residual' or 'standardized', got {self.form!r}.")

    @property
    def in_outcome_units(self) -> bool:
        """See :class:`AdvantageEstimator`."""
        return not self.normalize

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
            advantages = whiten_sequences(advantages, decisions)
        return Advantages(advantages, batch.outcome)


@dataclass(frozen=True)
class DecisionLevel:
    """PPO: GAE with a critic on every state (every token prefix); the critic learns the λ-return."""

    gamma: float = 1.0
    gae_lambda: float = 1.0
    normalize: bool = True
    critic: ClassVar[CriticKind] = "decision"
    min_group_size: ClassVar[int] = 1
    greedy_rollout: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_shares(gamma=self.gamma, gae_lambda=self.gae_lambda)

    def __call__(self, batch: EpisodeBatch) -> Advantages:
        """See :class:`AdvantageEstimator`."""
        assert batch.values is not None
        mask = batch.mask
        rewards, sequence = _decisions(batch)
        advantages = th.zeros_like(batch.values)
        advantages[mask] = generalized_advantage(rewards, batch.values[mask], sequence, self.gamma, self.gae_lambda)
        targets = advantages + batch.values
        return Advantages(whiten(advantages, mask) if self.normalize else advantages, targets)


@dataclass(frozen=True)
class Hybrid:
    """
    SPPO mixed with PPO; see :func:`hybrid`. One critic values every state, and its value of the first one is ``V(s)``.

    Like PPO's it learns the λ-return, which is the outcome where λ = 1.
    """

    alpha: float
    gae_lambda: float = 1.0
    normalize: bool = False
    critic: ClassVar[CriticKind] = "decision"
    min_group_size: ClassVar[int] = 1
    greedy_rollout: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_shares(hybrid=self.alpha, gae_lambda=self.gae_lambda)

    @property
    def in_outcome_units(self) -> bool:
        """See :class:`AdvantageEstimator`."""
        return not self.normalize

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
        return Advantages(whiten(advantages, batch.mask) if self.normalize else advantages, targets)


def _check_shares(**shares: float) -> None:
    for name, value in shares.items():
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"{name} must lie between 0 and 1, got {value}.")


def _decisions(batch: EpisodeBatch) -> tuple[th.Tensor, th.Tensor]:
    """Rewards and sequences of the D decisions that count, in time order: the reward of a step is paid at its last decision."""
    mask = batch.mask
    last = mask & (mask.cumsum(dim=1) == mask.sum(dim=1, keepdim=True))
    rewards = th.where(last, batch.rewards.unsqueeze(1), 0.0)[mask]
    return rewards, batch.sequence.unsqueeze(1).expand_as(mask)[mask]


@dataclass(frozen=True)
class GroupNormalized:
    """GRPO; see :func:`group_normalized`."""

    critic: ClassVar[CriticKind] = "none"
    min_group_size: ClassVar[int] = 2
    greedy_rollout: ClassVar[bool] = False

    def __call__(self, batch: EpisodeBatch) -> Advantages:
        """See :class:`AdvantageEstimator`."""
        return Advantages(group_normalized(batch.outcome, batch.group), None)


@dataclass(frozen=True)
class LeaveOneOut:
    """RLOO; see :func:`leave_one_out` and :func:`penalized`."""

    kl_coef: float = 0.0
    critic: ClassVar[CriticKind] = "none"
    min_group_size: ClassVar[int] = 2
    greedy_rollout: ClassVar[bool] = False

    def __post_init__(self) -> None:
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
class GreedyBaseline:
    """ReMax: the outcome less that of one greedy roll-out from the same context (Li et al., arXiv 2310.10505)."""

    critic: ClassVar[CriticKind] = "none"
    min_group_size: ClassVar[int] = 1
    greedy_rollout: ClassVar[bool] = True

    def __call__(self, batch: EpisodeBatch) -> Advantages:
        """See :class:`AdvantageEstimator`."""
        assert batch.greedy_outcome is not None
        return Advantages(batch.outcome - batch.greedy_outcome, None)
