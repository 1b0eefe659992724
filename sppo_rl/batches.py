"""From episodes as the environment left them to the batch that estimators and losses read."""

from __future__ import annotations

import torch as th

from sppo_rl.episodes import EpisodeArrays, EpisodeBatch, Tensors, as_tensors, first_observations, take, to_device
from sppo_rl.estimators import CriticKind
from sppo_rl.fused import FusedCritic, FusedSurrogate
from sppo_rl.losses import require_finite
from sppo_rl.plain import flat_decisions, flat_observations
from sppo_rl.reference import exchanged
from sppo_rl.sequence_policy import SequencePolicy


def make_batch(
    policy: SequencePolicy,
    arrays: EpisodeArrays,
    critic: CriticKind,
    group_size: int,
    greedy_outcome: th.Tensor | None = None,
    reference: th.Tensor | None = None,
) -> EpisodeBatch:
    """
    Wrap episodes as tensors and add what the policy says of them before the update: log-probabilities and values.

    :param policy: the one that sampled
    :param arrays: S whole episodes
    :param critic: what the critic judges: ``"context"``, ``"decision"``, or ``"none"``
    :param group_size: episodes in a row that started from the same state
    :param greedy_outcome: (S,) or ``None``
    :param reference: weights of the actor that training began with, see :func:`~sppo_rl.reference.copy_of`
    :raises ValueError: if a log-probability is not finite
    """
    sequence = th.as_tensor(arrays.sequence)
    observations, actions = as_tensors(arrays.observations), th.as_tensor(arrays.actions)
    contexts, outcome = as_tensors(first_observations(arrays)), th.as_tensor(arrays.outcome)
    sampler_log_prob = None if arrays.log_prob is None else th.as_tensor(arrays.log_prob)
    with th.no_grad():
        if sampler_log_prob is not None and policy.sampler_trains():
            # a forward pass over all responses saved
            old_log_prob, mask, sampler_log_prob = sampler_log_prob, policy.decision_mask(actions), None
        else:
            old_log_prob, mask = _log_prob_and_mask(policy, observations, actions)
        reference_log_prob = None
        if reference is not None:
            with exchanged(policy.actor_parameters(), reference):
                reference_log_prob, _ = _log_prob_and_mask(policy, observations, actions)
        values = None
        if critic == "context":
            values = _context_values(policy, contexts)
        elif critic == "decision":
            values = _decision_values(policy, observations, actions)
    require_finite("train/old_log_prob", old_log_prob)
    return EpisodeBatch(
        contexts=contexts,
        observations=observations,
        actions=actions,
        mask=mask,
        old_log_prob=old_log_prob,
        sampler_log_prob=sampler_log_prob,
        sequence=sequence,
        rewards=th.as_tensor(arrays.rewards),
        outcome=outcome,
        values=values,
        group=th.arange(len(outcome)) // group_size,
        greedy_outcome=greedy_outcome,
        reference_log_prob=reference_log_prob,
    )


def batch_metrics(batch: EpisodeBatch, advantages: th.Tensor, is_probability: bool) -> dict[str, float]:
    """
    Sum up a batch for the log.

    :param batch: with what the policy said before the update
    :param advantages: (S,) or (M, K)
    :param is_probability: whether the critic judges contexts and predicts the chance of success
    :return: log key → value
    """
    metrics = {"rollout/outcome_mean": batch.outcome.mean().item()}
    if batch.greedy_outcome is not None:
        metrics["rollout/greedy_outcome_mean"] = batch.greedy_outcome.mean().item()
    if batch.sampler_log_prob is not None:
        gap = (batch.old_log_prob - batch.sampler_log_prob)[batch.mask].abs()
        metrics["rollout/sampler_log_prob_gap"] = gap.mean().item()
        metrics["rollout/sampler_log_prob_gap_max"] = gap.max().item()
    if batch.values is not None:
        values = batch.values if batch.values.ndim == 1 else batch.values[batch.mask]
        metrics["train/value_mean"] = values.mean().item()
        if is_probability:
            metrics["train/brier_score"] = ((values - batch.outcome) ** 2).mean().item()
    metrics["train/advantage_std"] = advantages.std(unbiased=False).item()
    return metrics


def _log_prob_and_mask(policy: SequencePolicy, observations: Tensors, actions: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
    """(M, K) each, by the code that trains, so that the first step's ratios are exactly 1."""
    plain = policy.plain_actor()
    if plain is not None:
        log_prob = FusedSurrogate(plain).log_prob(*flat_decisions(observations, actions, plain)).unsqueeze(1)
        return log_prob, th.ones_like(log_prob, dtype=th.bool)
    log_probs, masks = [], []
    for rows in policy.chunks(th.arange(len(actions)), observations, actions):
        seen, taken = to_device(take(observations, rows), policy.device), actions[rows].to(policy.device)
        evaluation = policy.evaluate_decisions(seen, taken)
        log_probs.append(evaluation.log_prob.cpu())
        masks.append(evaluation.mask.cpu())
    return th.cat(log_probs), th.cat(masks)


def _context_values(policy: SequencePolicy, contexts: Tensors) -> th.Tensor:
    """(S,) in outcome units."""
    plain = policy.plain_critic()
    if plain is not None:
        return policy.value_scale(FusedCritic(plain).outputs(flat_observations(contexts)))
    count = len(next(iter(contexts.values())) if isinstance(contexts, dict) else contexts)
    values = []
    for rows in policy.chunks(th.arange(count), contexts):
        logits = policy.context_value_logits(to_device(take(contexts, rows), policy.device))
        values.append(policy.value_scale(logits).cpu())
    return th.cat(values)


def _decision_values(policy: SequencePolicy, observations: Tensors, actions: th.Tensor) -> th.Tensor:
    """(M, K) in outcome units."""
    plain = policy.plain_critic()
    if plain is not None:
        return policy.value_scale(FusedCritic(plain).outputs(flat_observations(observations))).unsqueeze(1)
    values = []
    for rows in policy.chunks(th.arange(len(actions)), observations, actions):
        seen, taken = to_device(take(observations, rows), policy.device), actions[rows].to(policy.device)
        values.append(policy.value_scale(policy.decision_value_logits(seen, taken)).cpu())
    return th.cat(values)
