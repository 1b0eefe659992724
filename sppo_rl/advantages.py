"""Advantages, the one thing in which SPPO and its rivals differ: formulas. For the notation see :mod:`sppo_rl.losses`.

What each asks of the engine is in :mod:`sppo_rl.estimators`.
"""

from __future__ import annotations

import torch as th


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


def whiten(advantages: th.Tensor, mask: th.Tensor, scale: bool = True) -> th.Tensor:
    """
    Shift and scale to mean 0 and standard deviation 1 over the decisions that count.

    :param advantages: (M, K)
    :param mask: (M, K) bool
    :param scale: ``False`` shifts alone
    :return: (M, K), 0 where masked
    """
    counted = advantages[mask].double()
    if counted.numel() < 2:
        return th.where(mask, advantages, 0.0)
    centred = advantages - counted.mean()
    return th.where(mask, _divided(centred, centred[mask].square().sum() / (counted.numel() - 1), counted, scale), 0.0)


def whiten_sequences(advantages: th.Tensor, decisions: th.Tensor, scale: bool = True) -> th.Tensor:
    """
    :func:`whiten` for one advantage to a sequence, which counts once for each of its decisions.

    ``[.5, -.5]`` over 3 and 1 decisions, mean .25 and unbiased deviation .5: ``[.5, -1.5]``; shifted alone, ``[.25, -.75]``.

    :param advantages: (S,)
    :param decisions: (S,) of each sequence
    :param scale: ``False`` shifts alone
    :return: (S,)
    """
    weights, count = decisions.double(), float(decisions.sum())
    if count < 2:
        return advantages
    centred = advantages - (weights * advantages).sum() / count
    return _divided(centred, (weights * centred.square()).sum() / (count - 1), advantages, scale)


def _divided(centred: th.Tensor, variance: th.Tensor, advantages: th.Tensor, scale: bool) -> th.Tensor:
    """
    Divide by the deviation, and go back from doubles to single precision. 0 where all are equal but for the rounding of ``R - V``: that
    would be made as large as what lies between success and failure.
    """
    deviation = variance.sqrt()
    if bool(deviation <= 1e-6 * advantages.abs().max() + 1e-7):
        return th.zeros_like(centred, dtype=th.float32)
    return (centred / (deviation + 1e-8) if scale else centred).float()
