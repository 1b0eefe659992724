"""Gradients where a step holds several decisions, as in a response: against float64 references, padding behind."""

from __future__ import annotations

import math

import pytest
import torch as th

from sppo_rl.episodes import EpisodeBatch
from sppo_rl.updates import CriticUpdate
from tests.helpers import TokenPolicy
from tests.test_updates import AGGREGATIONS, CLIP, actor_step, assert_close64, grads


def token_episodes(policy: TokenPolicy) -> tuple[EpisodeBatch, th.Tensor]:
    """Five responses of 1 to 4 tokens over three prompts, padding behind."""
    generator = th.Generator().manual_seed(2)
    lengths = [4, 1, 3, 2, 4]
    prompts = th.tensor([[0.0], [1.0], [2.0], [0.0], [1.0]])
    actions = th.randint(3, (5, 4), generator=generator)
    for i, n in enumerate(lengths):
        actions[i, n:] = policy.vocabulary
    with th.no_grad():
        log_prob, _, mask = policy.evaluate_decisions(prompts, actions)
    outcome = th.tensor([1.0, 0.0, 1.0, 0.0, 1.0])
    batch = EpisodeBatch(
        contexts=prompts,
        observations=prompts,
        actions=actions,
        mask=mask,
        old_log_prob=log_prob + 0.4 * th.randn(5, 4, generator=generator) * mask,
        sampler_log_prob=None,
        sequence=th.arange(5),
        rewards=outcome,
        outcome=outcome,
        values=th.rand(5, 4, generator=generator),
        group=th.arange(5),
        greedy_outcome=None,
    )
    return batch, th.tensor(lengths)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("chunk_size", [1, 2, 4096])
@pytest.mark.parametrize("sequences", [[0, 1, 2, 3, 4], [3, 0, 1]], ids=["all", "three"])
def test_token_gradient_with_padding(aggregation: str, chunk_size: int, sequences: list[int]) -> None:
    th.manual_seed(0)
    policy = TokenPolicy(3, 4, 3)
    batch, lengths = token_episodes(policy)
    advantages, ent_coef = th.tensor([0.8, -0.5, 0.3, -1.0, 0.6]), 0.02
    table = policy.actor.detach().double().requires_grad_()
    total, weights_sum = th.zeros((), dtype=th.float64), 0.0
    for i in sequences:
        for k in range(int(lengths[i])):
            p = th.softmax(table[int(batch.contexts[i, 0]), k], 0)  # type: ignore[index]
            ratio = p[batch.actions[i, k]] / batch.old_log_prob[i, k].double().exp()
            a = float(advantages[i])
            blocked = (a > 0 and ratio > 1 + CLIP) or (a < 0 and ratio < 1 - CLIP)
            gain = a * (float(1 + math.copysign(CLIP, a)) if blocked else ratio)
            weight = {
                "decision-mean": 1 / float(lengths[sequences].sum()),
                "sequence-mean": 1 / (len(sequences) * float(lengths[i])),
                "sequence-sum": 1 / len(sequences),
            }[aggregation]
            weights_sum += weight
            total = total - weight * (gain - ent_coef * (p * p.log()).sum())
    total.backward()
    assert table.grad is not None
    policy.chunk_size = chunk_size
    step = actor_step(policy, batch, advantages, loss_aggregation=aggregation, ent_coef=ent_coef)
    step.step(th.tensor(sequences))
    assert_close64(grads([policy.actor]), [table.grad])


@pytest.mark.parametrize("chunk_size", [1, 4096])
def test_token_critic_counts_no_padding(chunk_size: int) -> None:
    th.manual_seed(0)
    policy = TokenPolicy(3, 4, 3)
    batch, lengths = token_episodes(policy)
    targets = th.rand(5, 4, generator=th.Generator().manual_seed(8))
    table = policy.critic.detach().double().requires_grad_()
    terms = []
    for i in range(5):
        for k in range(int(lengths[i])):
            v, r = th.sigmoid(table[int(batch.contexts[i, 0]), k]), float(targets[i, k])  # type: ignore[index]
            terms.append(-(r * v.log() + (1 - r) * (1 - v).log()))
    (sum(terms) / len(terms)).backward()  # type: ignore[union-attr]
    assert table.grad is not None
    policy.chunk_size = chunk_size
    CriticUpdate(policy, batch, targets, 1e9).step(th.arange(5))
    assert_close64(grads([policy.critic]), [table.grad])
