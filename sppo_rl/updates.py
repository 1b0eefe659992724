"""Gradient steps of the actor and of the critic: minibatches of whole sequences, processed in chunks."""

from __future__ import annotations

from collections import defaultdict

import torch as th

from sppo_rl.episodes import EpisodeBatch, take, to_device
from sppo_rl.fused import FusedCritic, FusedSurrogate, pieces
from sppo_rl.losses import (
    LossAggregation,
    approximate_kl,
    binary_cross_entropy,
    clipped,
    clipped_surrogate,
    decision_weights,
    require_finite,
    squared_error,
)
from sppo_rl.plain import flat_decisions, flat_observations
from sppo_rl.sequence_policy import SequencePolicy


class _Means:
    """Collects numbers by name and averages them."""

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = defaultdict(list)

    def add(self, **values: float) -> None:
        for name, value in values.items():
            self._values[name].append(value)

    def means(self) -> dict[str, float]:
        """Average what was added under each name."""
        return {name: sum(values) / len(values) for name, values in self._values.items()}


def rows_of(sequences: th.Tensor, batch: EpisodeBatch) -> th.Tensor | None:
    """
    Find the environment steps of some sequences.

    :param sequences: (s,) int64
    :param batch: the episodes
    :return: (m,) int64, increasing; ``None`` for all, which need no gathering
    """
    if len(sequences) == len(batch.outcome):
        return None
    chosen = th.zeros(len(batch.outcome), dtype=th.bool)
    chosen[sequences] = True
    return chosen.index_select(0, batch.sequence).nonzero().squeeze(1)


def take_rows(tensor: th.Tensor, rows: th.Tensor | None) -> th.Tensor:
    """
    Index a tensor by what :func:`rows_of` found.

    :param tensor: (M, …)
    :param rows: (m,) int64, or ``None`` for all
    """
    return tensor if rows is None else tensor.index_select(0, rows)


class ActorUpdate(_Means):
    """
    Gradient steps on the clipped surrogate and the entropy bonus.

    :param policy: its actor is trained
    :param batch: whole episodes
    :param advantages: (S,) given unchanged to every decision of a sequence, or (M, K)
    :param clip_range: ε
    :param ent_coef: weight of the entropy bonus
    :param max_grad_norm: gradients are clipped to this norm
    :param loss_aggregation: see :func:`~sppo_rl.losses.decision_weights`
    :param skip_zero_advantage: leave out sequences whose advantage is exactly 0; only without an entropy bonus
    """

    def __init__(
        self,
        policy: SequencePolicy,
        batch: EpisodeBatch,
        advantages: th.Tensor,
        clip_range: float,
        ent_coef: float,
        max_grad_norm: float,
        loss_aggregation: LossAggregation,
        skip_zero_advantage: bool,
    ):
        super().__init__()
        self.policy, self.batch, self.clip_range = policy, batch, clip_range
        self.ent_coef, self.max_grad_norm, self.loss_aggregation = ent_coef, max_grad_norm, loss_aggregation
        self.parameters, self.device = policy.actor_parameters(), policy.device
        plain = policy.plain_actor()
        self.fused = None if plain is None else FusedSurrogate(plain)
        if plain is not None:
            self.flat_observations, self.flat_actions = flat_decisions(batch.observations, batch.actions, plain)
        per_decision = advantages.ndim == 2
        self.advantages = advantages if per_decision else advantages[batch.sequence].unsqueeze(1)
        self.skip_zero_advantage = skip_zero_advantage and not bool((advantages != 0.0).all())
        decisions = th.zeros(len(batch.outcome)).index_add_(0, batch.sequence, batch.mask.sum(dim=1).float())
        self.lengths = decisions[batch.sequence]
        self._first_distances: list[th.Tensor] = []
        self._stepped = False

    def gap(self) -> dict[str, float]:
        """
        Hold the log-probabilities that came with the batch against those of the training code, as the first minibatch saw them before its
        step: for batches whose sampler's were taken as they are.

        :return: log key → mean and largest distance [nats]; nothing where no minibatch has been read
        """
        if not self._first_distances:
            return {}
        distances = th.cat(self._first_distances)
        name = "rollout/sampler_log_prob_gap"
        return {name: distances.mean().item(), f"{name}_max": distances.max().item()}

    def step(self, sequences: th.Tensor, kl_limit: float = float("inf")) -> float:
        """
        Take one step on a minibatch.

        :param sequences: (s,) int64, its sequences
        :param kl_limit: if the policy has moved further than this, the step is not taken
        :return: approximate KL divergence to the policy that sampled [nats per decision], before the step
        :raises ValueError: if the loss or the gradient is not finite
        """
        policy, batch = self.policy, self.batch
        rows = rows_of(sequences, batch)
        mask = take_rows(batch.mask, rows)
        weights = decision_weights(mask, take_rows(self.lengths, rows), len(sequences), self.loss_aggregation)
        if self.skip_zero_advantage:
            counts = (take_rows(self.advantages, rows) != 0.0).any(dim=1)
            if not counts.all():
                rows = counts.nonzero().squeeze(1) if rows is None else rows[counts]
                mask, weights = mask[counts], weights[counts]
                if not len(weights):
                    # nothing to measure either: an entropy of 0 would look like a policy that no longer explores
                    self.add(policy_gradient_loss=0.0, actor_grad_norm=0.0)
                    return 0.0
        decisions = max(int(mask.sum()), 1)
        if self.fused is None:
            policy.optimizer.zero_grad()
            sums = self._backward(rows, weights)
            norm = th.nn.utils.clip_grad_norm_(self.parameters, self.max_grad_norm)
        else:
            self.fused.gradient.zero()
            sums = self._backward_fused(rows, weights)
            norm = self.fused.gradient.clip(self.max_grad_norm)
        require_finite("train/policy_gradient_loss", sums[0])
        require_finite("train/actor_grad_norm", norm)
        loss_value, entropy_sum, kl_sum, clipped_sum = sums.tolist()
        kl = kl_sum / decisions
        if kl <= kl_limit:
            policy.optimizer.step()
        self.add(
            policy_gradient_loss=loss_value,
            entropy=entropy_sum / decisions,
            approx_kl=kl,
            clip_fraction=clipped_sum / decisions,
            actor_grad_norm=float(norm),
        )
        return kl

    def release(self) -> None:
        """Free the gradients, so that they lie neither beside the other network's nor on the device while a generator samples."""
        if self.fused is None:
            self.policy.optimizer.zero_grad()

    def _backward(self, rows: th.Tensor | None, weights: th.Tensor) -> th.Tensor:
        """Add the gradient of these rows; (4,) sums of weighted surrogate, entropy, approximate KL, decisions outside the clip range."""
        policy, batch = self.policy, self.batch
        sums = th.zeros(4, device=self.device)
        start = 0
        rows = th.arange(len(batch.sequence)) if rows is None else rows
        for chunk in policy.chunks(rows, batch.observations, batch.actions) if len(rows) else ():
            weight = weights[start : start + len(chunk)].to(self.device)
            start += len(chunk)
            observations = to_device(take(batch.observations, chunk), self.device)
            log_prob, entropy, mask = policy.evaluate_decisions(observations, batch.actions[chunk].to(self.device))
            old_log_prob = batch.old_log_prob[chunk].to(self.device)
            surrogate = clipped_surrogate(log_prob, old_log_prob, self.advantages[chunk].to(self.device), self.clip_range)
            loss = (weight * surrogate).sum()
            total = loss if self.ent_coef == 0.0 else loss - self.ent_coef * (weight * entropy).sum()
            total.backward()
            with th.no_grad():
                sums[0] += loss
                sums[1] += (entropy * mask).sum()
                sums[2] += (approximate_kl(log_prob, old_log_prob) * mask).sum()
                sums[3] += (clipped(log_prob, old_log_prob, self.clip_range) * mask).sum()
                if not self._stepped:
                    self._first_distances.append((log_prob - old_log_prob)[mask].abs())
        self._stepped = True
        return sums

    def _backward_fused(self, rows: th.Tensor | None, weights: th.Tensor) -> th.Tensor:
        """The same for a plain actor, which takes one decision a step."""
        assert self.fused is not None
        old_log_prob, advantages, weights = self.batch.old_log_prob.squeeze(1), self.advantages.squeeze(1), weights.squeeze(1)
        sums, start = th.zeros(4), 0
        for chunk in pieces(rows, len(old_log_prob)):
            observations = self.flat_observations[chunk]
            sums += self.fused.accumulate(
                observations,
                self.flat_actions[chunk],
                old_log_prob[chunk],
                advantages[chunk],
                weights[start : start + len(observations)],
                self.clip_range,
                self.ent_coef,
            )
            start += len(observations)
        return sums


class CriticUpdate(_Means):
    """
    Gradient steps on the critic: binary cross-entropy for a probability, squared error in normalised units otherwise.

    :param policy: its critic is trained
    :param batch: whole episodes, with the values from before the update
    :param targets: (S,) or (M, K), in outcome units
    :param max_grad_norm: gradients are clipped to this norm
    :param clip_range_vf: see :func:`~sppo_rl.losses.squared_error`, in outcome units
    :raises ValueError: if the critic predicts a probability and a target is none
    """

    def __init__(
        self,
        policy: SequencePolicy,
        batch: EpisodeBatch,
        targets: th.Tensor,
        max_grad_norm: float,
        clip_range_vf: float | None = None,
    ):
        super().__init__()
        self.policy, self.batch, self.max_grad_norm = policy, batch, max_grad_norm
        self.parameters, self.device = policy.critic_parameters(), policy.device
        self.of_contexts = targets.ndim == 1
        plain = policy.plain_critic()
        self.fused = None if plain is None else FusedCritic(plain)
        if plain is not None:
            self.flat_observations = flat_observations(batch.contexts if self.of_contexts else batch.observations)
        scale = policy.value_scale
        self.bce = scale.is_probability
        self.old_outputs: th.Tensor | None = None
        self.clip_range: float | None = None
        if self.bce:
            outside = targets[(targets < -0.01) | (targets > 1.01)]
            if outside.numel():
                raise ValueError(
                    f"critic_loss='bce' (what 'auto' takes for outcomes in [0, 1]) needs returns in [0, 1] at every step, but one of "
                    f"{outside[0].item():g} was seen: an outcome in [0, 1] that is a sum of positive and negative rewards. Use "
                    "critic_loss='mse', or pay the outcome at the end."
                )
            # what is left outside the interval is rounding
            self.targets = targets.clamp(0.0, 1.0)
        else:
            self.targets = scale.normalize(targets.to(self.device)).cpu()
            if clip_range_vf is not None and batch.values is not None:
                self.clip_range = clip_range_vf / float(scale.std)
                self.old_outputs = scale.normalize(batch.values.to(self.device)).cpu()

    def step(self, sequences: th.Tensor) -> None:
        """
        Take one step on a minibatch.

        :param sequences: (s,) int64, its sequences
        :raises ValueError: if the loss or the gradient is not finite
        """
        policy, batch = self.policy, self.batch
        rows = sequences if self.of_contexts else rows_of(sequences, batch)
        count = len(sequences) if self.of_contexts else max(int(take_rows(batch.mask, rows).sum()), 1)
        if self.fused is None:
            policy.critic_optimizer.zero_grad()
            total = self._backward(rows, count)
            norm = th.nn.utils.clip_grad_norm_(self.parameters, self.max_grad_norm)
        else:
            self.fused.gradient.zero()
            total = self._backward_fused(rows, count)
            norm = self.fused.gradient.clip(self.max_grad_norm)
        require_finite("train/critic_loss", total)
        require_finite("train/critic_grad_norm", norm)
        policy.critic_optimizer.step()
        self.add(critic_loss=total.item(), critic_grad_norm=float(norm))

    def release(self) -> None:
        """See :meth:`ActorUpdate.release`."""
        if self.fused is None:
            self.policy.critic_optimizer.zero_grad()

    def _backward(self, rows: th.Tensor | None, count: int) -> th.Tensor:
        """Add the gradient of the errors' sum over ``count``; that sum."""
        policy, batch = self.policy, self.batch
        total = th.zeros((), device=self.device)
        rows = th.arange(len(batch.sequence)) if rows is None else rows
        chunks = (
            policy.chunks(rows, batch.contexts) if self.of_contexts else policy.chunks(rows, batch.observations, batch.actions)
        )
        for chunk in chunks:
            targets = self.targets[chunk].to(self.device)
            if self.of_contexts:
                outputs = policy.context_value_logits(to_device(take(batch.contexts, chunk), self.device))
            else:
                observations = to_device(take(batch.observations, chunk), self.device)
                outputs = policy.decision_value_logits(observations, batch.actions[chunk].to(self.device))
            if self.bce:
                errors = binary_cross_entropy(outputs, targets)
            else:
                old = None if self.old_outputs is None else self.old_outputs[chunk].to(self.device)
                errors = squared_error(outputs, targets, old, self.clip_range)
            if not self.of_contexts:
                errors = errors * batch.mask[chunk].to(self.device)
            loss = errors.sum() / count
            loss.backward()
            total += loss.detach()
        return total

    def _backward_fused(self, rows: th.Tensor | None, count: int) -> th.Tensor:
        """The same for a plain critic, which judges one observation at a time."""
        assert self.fused is not None
        targets = self.targets if self.of_contexts else self.targets.squeeze(1)
        old = None if self.old_outputs is None else self.old_outputs.view_as(targets)
        total = th.zeros(())
        for chunk in pieces(rows, len(targets)):
            total += self.fused.accumulate(
                self.flat_observations[chunk],
                targets[chunk],
                count,
                None if old is None else old[chunk],
                self.clip_range,
                self.bce,
            )
        return total
