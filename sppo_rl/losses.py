"""Losses as pure functions of tensors.

Notation used here and in :mod:`sppo_rl.advantages`:

    S   sequences (whole episodes, or responses)
    M   environment steps in all of them
    K   decisions in a step: 1 for control, the token budget for language
    R   outcome of a sequence
    V   the critic's value of a sequence's context, in outcome units
    A   advantage

Every loss is a weighted sum of its terms, ``(weights * terms).sum()``. The weights come from :func:`decision_weights` and are
computed once over the whole minibatch, so a minibatch may be processed in chunks of any size and the accumulated gradient is
that of the whole.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch as th
import torch.nn.functional as F

LossAggregation = Literal["decision-mean", "sequence-mean", "sequence-sum"]


def decision_weights(mask: th.Tensor, lengths: th.Tensor, num_sequences: int, aggregation: LossAggregation) -> th.Tensor:
    """
    What each decision weighs in the loss of a minibatch.

    ``"decision-mean"``: every decision alike, 1 / D (verl's ``token-mean``; long sequences weigh more).
    ``"sequence-mean"``: every sequence alike, each decision 1 / (S * its sequence's length) (``seq-mean-token-mean``).
    ``"sequence-sum"``: each decision 1 / S (``seq-mean-token-sum``: the sequence-level policy gradient itself).

    Two sequences of lengths 3 and 1: ``[1/4, 1/4, 1/4 | 1/4]``, ``[1/6, 1/6, 1/6 | 1/2]``, ``[1/2, 1/2, 1/2 | 1/2]``.

    :param mask: (M, K) bool, the decisions the policy sampled
    :param lengths: (M,) decisions in the sequence that each step belongs to
    :param num_sequences: S
    :param aggregation: one of the names above
    :return: (M, K) float32, 0 where masked
    :raises ValueError: if the name is unknown
    """
    decisions = mask.float()
    if aggregation == "decision-mean":
        return decisions / decisions.sum().clamp(min=1.0)
    if aggregation == "sequence-sum":
        return decisions / num_sequences
    if aggregation == "sequence-mean":
        return decisions / (lengths.clamp(min=1).unsqueeze(1) * num_sequences)
    raise ValueError(f"loss_aggregation must be one of {', '.join(get_args(LossAggregation))}; got {aggregation!r}.")


def clipped_surrogate(log_prob: th.Tensor, old_log_prob: th.Tensor, advantages: th.Tensor, clip_range: float) -> th.Tensor:
    """
    PPO's clipped surrogate for each decision, as a loss (Schulman et al. 2017, eq. 7; SPPO, arXiv 2604.08865, §3).

    ``-min(r A, clip(r, 1-ε, 1+ε) A)`` with ``r = exp(log_prob - old_log_prob)``. With ε = 0.2 and r = 1.5: A = 1 gives -1.2
    and no gradient, A = -1 gives 1.5 and a gradient.

    :param log_prob: nats, under the policy being trained; any shape
    :param old_log_prob: nats, same shape, under the policy that sampled
    :param advantages: same shape or broadcastable
    :param clip_range: ε
    :return: loss of each decision, the shape of ``log_prob``
    """
    ratio = th.exp(log_prob - old_log_prob)
    return -th.min(ratio * advantages, ratio.clamp(1.0 - clip_range, 1.0 + clip_range) * advantages)


def truncated_importance(old_log_prob: th.Tensor, sampler_log_prob: th.Tensor, cap: float) -> th.Tensor:
    """
    Weights that correct for a sampler which is not quite the policy that trains: ``min(exp(old - sampler), cap)`` for each decision.

    Another implementation, or another precision, of the same weights gives other probabilities, and its samples are then off-policy.
    Without the cap the corrected gradient would be unbiased, with a variance that a single decision can blow up. Truncated importance
    sampling: Ionides 2008, "Truncated Importance Sampling", JCGS 17(2); for language models: Yao et al. 2025, "Your Efficient RL
    Framework Secretly Brings You Off-Policy RL Training".

    The policy gives a token probability .5 and the sampler drew it with .4: weight 1.25. With .1: 5, cut to a cap of 2. With .8: .625.

    :param old_log_prob: nats, by the training code, before the update; any shape
    :param sampler_log_prob: nats, as the sampler reported them; same shape
    :param cap: largest weight
    :return: same shape, in [0, cap]; no gradient flows through it
    """
    return th.exp(old_log_prob - sampler_log_prob).clamp(max=cap).detach()


def binary_cross_entropy(logits: th.Tensor, targets: th.Tensor) -> th.Tensor:
    """
    Critic loss of SPPO: ``-[R log V + (1-R) log(1-V)]`` with ``V = sigmoid(logits)``, stable for large logits.

    :param logits: any shape
    :param targets: same shape, in [0, 1]
    :return: nats, same shape
    """
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="none")


def squared_error(
    values: th.Tensor, targets: th.Tensor, old_values: th.Tensor | None = None, clip_range: float | None = None
) -> th.Tensor:
    """
    Squared error of a critic, with PPO's optional clipping to the old values (the larger of the two errors counts).

    :param values: any shape
    :param targets: same shape
    :param old_values: same shape, needed when ``clip_range`` is given
    :param clip_range: largest change of a value that still earns a gradient; ``None`` for no clipping
    :return: same shape
    """
    error = (values - targets) ** 2
    if clip_range is None or old_values is None:
        return error
    clipped = old_values + (values - old_values).clamp(-clip_range, clip_range)
    return th.max(error, (clipped - targets) ** 2)


def approximate_kl(log_prob: th.Tensor, old_log_prob: th.Tensor) -> th.Tensor:
    """
    Schulman's low-variance, never negative estimate of KL(old ‖ new) for each decision: ``(r - 1) - log r``.

    :param log_prob: nats, any shape
    :param old_log_prob: nats, same shape
    :return: nats, same shape
    """
    log_ratio = log_prob - old_log_prob
    return th.expm1(log_ratio) - log_ratio


def clipped(log_prob: th.Tensor, old_log_prob: th.Tensor, clip_range: float) -> th.Tensor:
    """
    Which decisions lie outside the clip range.

    :param log_prob: nats, any shape
    :param old_log_prob: nats, same shape
    :param clip_range: ε
    :return: float, 1 where ``|r - 1| > ε``
    """
    return (th.expm1(log_prob - old_log_prob).abs() > clip_range).float()


def require_finite(name: str, tensor: th.Tensor) -> None:
    """
    Stop with a clear error where a tensor holds NaN or infinity (a tuner prunes a trial on ``ValueError``).

    :param name: what the tensor is called in the logs
    :param tensor: any shape
    :raises ValueError: naming the tensor, how many values are affected and the first of them
    """
    if tensor.numel() == 1 and math.isfinite(tensor.item()):
        return
    finite = th.isfinite(tensor)
    if not bool(finite.all()):
        bad = tensor[~finite].flatten()
        raise ValueError(
            f"{name} holds {bad.numel()} NaN or infinite value(s) of {tensor.numel()} (the first: {bad[0].item()}). "
            "Lower the learning rate, or look for infinite observations or rewards (stable_baselines3's VecCheckNan finds them)."
        )
