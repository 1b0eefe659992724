"""Gradients and updates against float64 references written another way, from the papers' formulas."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from torch import nn

from sppo_rl import GRPO, PPO, RLOO, SPPO
from sppo_rl.algorithm import SequenceAlgorithm
from sppo_rl.episodes import EpisodeBatch
from sppo_rl.policies import DecisionEvaluation, MlpPolicy
from sppo_rl.updates import ActorStep, CriticStep, rows_of, take_rows
from tests.helpers import FixedRewardEnv, MatchEnv, TokenPolicy, control_batch, dummy

LENGTHS = [3, 1, 7, 2, 5, 1]
CLIP = 0.2
AGGREGATIONS = ["decision-mean", "sequence-mean", "sequence-sum"]


class GeneralPolicy(MlpPolicy):
    """Overrides a step, so it is trained by autograd; a plain MLP has a path of its own."""

    def evaluate_decisions(self, observations: Any, actions: th.Tensor) -> DecisionEvaluation:
        return super().evaluate_decisions(observations, actions)


def control_policy(kind: str, path: str = "plain") -> Any:
    """A small network with a ``kind`` of head (or ReLU inside), trained on one of the two paths."""
    th.manual_seed(0)
    action_space = spaces.Box(-1.0, 1.0, (2,), np.float32) if kind == "gaussian" else spaces.Discrete(3)
    policy_class = MlpPolicy if path == "plain" else GeneralPolicy
    policy = policy_class(
        spaces.Box(-5, 5, (4,), np.float32),
        action_space,
        lambda _: 1e-3,
        net_arch=[8, 8],
        activation_fn=nn.ReLU if kind == "relu" else nn.Tanh,
    )
    assert (policy.plain_actor() is not None) == (path == "plain")
    with th.no_grad():
        policy.action_net.weight.normal_(std=0.7)
        policy.value_net.weight.normal_(std=0.7)
        if kind == "gaussian":
            policy.log_std.copy_(th.tensor([-0.3, 0.4]))
    return policy


def control_episodes(policy: Any, lengths: list[int] = LENGTHS) -> EpisodeBatch:
    """Episodes whose old log-probabilities lie well on both sides of the clip range."""
    generator = th.Generator().manual_seed(1)
    total = sum(lengths)
    observations = th.randn(total, 4, generator=generator)
    if isinstance(policy.action_space, spaces.Discrete):
        actions: th.Tensor = th.randint(3, (total,), generator=generator)
    else:
        actions = th.randn(total, 2, generator=generator)
    with th.no_grad():
        log_prob = policy.evaluate_decisions(observations, actions).log_prob
    old = log_prob + 0.4 * th.randn(total, 1, generator=generator)
    outcome = (th.arange(len(lengths)) % 2).float()
    values = th.rand(len(lengths), generator=generator)
    return control_batch(lengths, 4, actions, old, observations, outcome, values)


def set_chunks(policy: Any, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Process so many rows at a time, on either path."""
    policy.chunk_size = size
    monkeypatch.setattr("sppo_rl.fused.CHUNK", min(size, 2048))


def networks64(policy: Any) -> tuple[list[th.Tensor], list[th.Tensor]]:
    """Float64 copies of actor and critic weights: w, b, w, b, … and, of a Gaussian, log_std at the end."""
    actor = [*policy.mlp_extractor.policy_net.parameters(), *policy.action_net.parameters()]
    if hasattr(policy, "log_std"):
        actor.append(policy.log_std)
    critic = [*policy.mlp_extractor.value_net.parameters(), *policy.value_net.parameters()]
    return [p.detach().double().requires_grad_() for p in actor], [p.detach().double().requires_grad_() for p in critic]


def run64(weights: list[th.Tensor], x: th.Tensor, relu: bool = False) -> th.Tensor:
    """A network of two hidden layers, written out."""
    for i in range(0, 4, 2):
        x = weights[i] @ x + weights[i + 1]
        x = x * (x > 0) if relu else 1.0 - 2.0 / ((2.0 * x).exp() + 1.0)
    return weights[4] @ x + weights[5]


def decision64(
    weights: list[th.Tensor], observation: th.Tensor, action: th.Tensor, relu: bool = False
) -> tuple[th.Tensor, th.Tensor]:
    """Log-probability and entropy of one decision."""
    out = run64(weights, observation.double(), relu)
    if len(weights) == 6:
        p = out.exp() / out.exp().sum()
        return p[int(action)].log(), -sum(q * q.log() for q in p)
    log_prob, entropy = th.zeros((), dtype=th.float64), th.zeros((), dtype=th.float64)
    for mean, log_std, a in zip(out, weights[6], action.double(), strict=True):
        sigma = log_std.exp()
        log_prob = log_prob - (a - mean) ** 2 / (2 * sigma**2) - log_std - math.log(math.sqrt(2 * math.pi))
        entropy = entropy + 0.5 * th.log(2 * math.pi * math.e * sigma**2)
    return log_prob, entropy


def reference_loss(
    weights: list[th.Tensor],
    batch: EpisodeBatch,
    advantages: th.Tensor,
    sequences: list[int],
    aggregation: str,
    ent_coef: float,
    relu: bool = False,
) -> th.Tensor:
    """PPO's objective with an entropy bonus, one decision at a time; advantages (S,) or (M,)."""
    per_sequence: list[list[th.Tensor]] = []
    for s in sequences:
        losses = []
        for row in (batch.sequence == s).nonzero().flatten().tolist():
            log_prob, entropy = decision64(weights, batch.observations[row], batch.actions[row], relu)  # type: ignore[index]
            ratio = (log_prob - batch.old_log_prob[row, 0].double()).exp()
            a = float(advantages[s] if len(advantages) == len(batch.outcome) else advantages[row])
            if a >= 0:
                gain = a * (ratio if ratio < 1 + CLIP else 1 + CLIP)
            else:
                gain = a * (ratio if ratio > 1 - CLIP else 1 - CLIP)
            losses.append(-(gain + ent_coef * entropy))
        per_sequence.append(losses)
    if aggregation == "decision-mean":
        return sum(sum(losses) for losses in per_sequence) / sum(len(losses) for losses in per_sequence)  # type: ignore[return-value]
    if aggregation == "sequence-mean":
        return sum(sum(losses) / len(losses) for losses in per_sequence) / len(per_sequence)  # type: ignore[return-value]
    return sum(sum(losses) for losses in per_sequence) / len(per_sequence)  # type: ignore[return-value]


def grads(parameters: list[nn.Parameter]) -> list[th.Tensor]:
    return [th.zeros_like(p) if p.grad is None else p.grad.clone() for p in parameters]


def actor_in_order(policy: Any) -> list[nn.Parameter]:
    own = [*policy.mlp_extractor.policy_net.parameters(), *policy.action_net.parameters()]
    return [*own, policy.log_std] if hasattr(policy, "log_std") else own


def assert_close64(got: list[th.Tensor], expected: list[th.Tensor]) -> None:
    for g, e in zip(got, expected, strict=True):
        th.testing.assert_close(g.double(), e, rtol=2e-4, atol=2e-6)


def actor_step(policy: Any, batch: EpisodeBatch, advantages: th.Tensor, **changes: Any) -> ActorStep:
    arguments: dict[str, Any] = {
        "clip_range": CLIP,
        "ent_coef": 0.0,
        "max_grad_norm": 1e9,
        "loss_aggregation": "decision-mean",
        "skip_zero_advantage": False,
        **changes,
    }
    return ActorStep(policy, batch, advantages, **arguments)


# ---------------------------------------------------------------- the actor's gradient


PATHS = ["plain", "general"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", ["categorical", "gaussian", "relu"])
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("chunk_size", [1, 7, 4096])
@pytest.mark.parametrize("sequences", [[0, 1, 2, 3, 4, 5], [4, 1, 2], [3]], ids=["all", "three", "one"])
def test_surrogate_and_entropy_gradient(
    path: str, kind: str, aggregation: str, chunk_size: int, sequences: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = control_policy(kind, path)
    batch = control_episodes(policy)
    advantages = th.tensor([0.9, -0.7, -1.3, 0.4, 0.2, -0.1])
    weights, _ = networks64(policy)
    reference_loss(weights, batch, advantages, sequences, aggregation, ent_coef=0.03, relu=kind == "relu").backward()
    set_chunks(policy, chunk_size, monkeypatch)
    step = actor_step(policy, batch, advantages, loss_aggregation=aggregation, ent_coef=0.03)
    step.step(th.tensor(sequences))
    assert_close64(grads(actor_in_order(policy)), [w.grad for w in weights])  # type: ignore[misc]
    if sequences == [0, 1, 2, 3, 4, 5]:
        assert 0.1 < step.means()["clip_fraction"] < 0.9


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("chunk_size", [1, 7, 4096])
def test_surrogate_gradient_with_an_advantage_for_each_decision(
    path: str, chunk_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = control_policy("categorical", path)
    batch = control_episodes(policy)
    advantages = th.randn(sum(LENGTHS), generator=th.Generator().manual_seed(5))
    weights, _ = networks64(policy)
    reference_loss(weights, batch, advantages, [5, 2, 0], "decision-mean", 0.0).backward()
    set_chunks(policy, chunk_size, monkeypatch)
    actor_step(policy, batch, advantages.unsqueeze(1)).step(th.tensor([5, 2, 0]))
    assert_close64(grads(actor_in_order(policy)), [w.grad for w in weights])  # type: ignore[misc]


@pytest.mark.parametrize("path", PATHS)
def test_a_long_minibatch_crosses_the_boundary_of_its_chunks(path: str) -> None:
    """More rows than either path takes at a time: the gradient is that of all of them."""
    policy = control_policy("categorical", path)
    lengths = [1500, 900, 2100, 700]
    batch = control_episodes(policy, lengths)
    advantages = th.tensor([0.9, -0.7, -1.3, 0.4])
    log_prob = policy.evaluate_decisions(batch.observations, batch.actions).log_prob[:, 0]
    ratio, a = th.exp(log_prob - batch.old_log_prob[:, 0]), advantages[batch.sequence]
    loss = -th.minimum(ratio * a, th.clip(ratio, 1 - CLIP, 1 + CLIP) * a).mean()
    expected = th.autograd.grad(loss, actor_in_order(policy))
    actor_step(policy, batch, advantages).step(th.arange(4))
    for got, want in zip(grads(actor_in_order(policy)), expected, strict=True):
        th.testing.assert_close(got, want, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("path", PATHS)
def test_a_frozen_layer_stays_as_it_is(path: str) -> None:
    policy = control_policy("categorical", path)
    frozen = policy.mlp_extractor.policy_net[0]
    frozen.weight.requires_grad_(False)
    before, bias = frozen.weight.clone(), frozen.bias.clone()
    actor_step(policy, control_episodes(policy), th.tensor([0.9, -0.7, -1.3, 0.4, 0.2, -0.1])).step(th.arange(6))
    assert th.equal(frozen.weight, before)
    assert not th.equal(frozen.bias, bias)


@pytest.mark.parametrize("path", PATHS)
def test_the_metrics_of_an_actor_step_are_means_over_its_decisions(path: str) -> None:
    policy = control_policy("categorical", path)
    batch = control_episodes(policy)
    weights, _ = networks64(policy)
    sequences = [2, 4]
    kl, entropies, outside = [], [], []
    for row in range(sum(LENGTHS)):
        if int(batch.sequence[row]) in sequences:
            log_prob, entropy = decision64(weights, batch.observations[row], batch.actions[row])  # type: ignore[index]
            ratio = (log_prob - batch.old_log_prob[row, 0].double()).exp().item()
            kl.append(ratio - 1 - math.log(ratio))
            entropies.append(entropy.item())
            outside.append(abs(ratio - 1) > CLIP)
    advantages = th.tensor([0.9, -0.7, -1.3, 0.4, 0.2, -0.1])
    loss = reference_loss(weights, batch, advantages, sequences, "decision-mean", 0.0)
    loss.backward()
    norm = math.sqrt(sum(float((w.grad**2).sum()) for w in weights if w.grad is not None))
    step = actor_step(policy, batch, advantages, ent_coef=0.5)
    returned = step.step(th.tensor(sequences))
    means = step.means()
    assert returned == pytest.approx(np.mean(kl), rel=1e-4)
    assert means["approx_kl"] == pytest.approx(np.mean(kl), rel=1e-4)
    assert means["entropy"] == pytest.approx(np.mean(entropies), rel=1e-4)
    assert means["clip_fraction"] == pytest.approx(np.mean(outside))
    assert means["policy_gradient_loss"] == pytest.approx(loss.item(), rel=1e-4), "without the bonus"
    step = actor_step(control_policy("categorical", path), batch, advantages)
    step.step(th.tensor(sequences))
    assert step.means()["actor_grad_norm"] == pytest.approx(norm, rel=1e-4)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("chunk_size", [1, 3, 4096])
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_skipping_zero_advantages_changes_no_gradient_and_no_metric(
    path: str, chunk_size: int, aggregation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    advantages = th.tensor([0.0, -0.7, 0.0, 0.4, 0.0, 0.0])
    results = []
    for skip in (False, True):
        policy = control_policy("categorical", path)
        set_chunks(policy, chunk_size, monkeypatch)
        batch = control_episodes(policy)
        # every decision has moved alike, so what is left out can be told from what is counted
        batch = batch._replace(
            old_log_prob=policy.evaluate_decisions(batch.observations, batch.actions).log_prob.detach() + 0.5
        )
        step = actor_step(policy, batch, advantages, loss_aggregation=aggregation, skip_zero_advantage=skip)
        step.step(th.arange(6))
        results.append((grads(policy.actor_parameters()), step.means()))
    for a, b in zip(results[0][0], results[1][0], strict=True):
        th.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)
    for name in ("policy_gradient_loss", "approx_kl", "clip_fraction", "actor_grad_norm"):
        assert results[1][1][name] == pytest.approx(results[0][1][name], rel=1e-4), name


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", ["categorical", "gaussian"])
def test_a_batch_that_teaches_nothing_is_passed_over(kind: str, path: str) -> None:
    policy = control_policy(kind, path)
    before = [p.clone() for p in policy.actor_parameters()]
    step = actor_step(policy, control_episodes(policy), th.zeros(6), skip_zero_advantage=True)
    assert step.step(th.arange(6)) == pytest.approx(0.0)
    assert all(th.equal(a, b) for a, b in zip(before, policy.actor_parameters(), strict=True))


def test_an_entropy_bonus_is_not_lost_with_zero_advantages() -> None:
    """GRPO on groups that agree: nothing but the bonus moves the policy."""
    model = GRPO("MlpPolicy", dummy(lambda: FixedRewardEnv([1.0]), 4), n_episodes=8, ent_coef=0.1, seed=0)
    with th.no_grad():
        model.policy.action_net.bias.copy_(th.tensor([1.0, -1.0]))
    model.learn(60)
    probabilities = th.softmax(model.policy.action_net.bias.detach(), 0)
    assert float(probabilities.max()) < float(th.softmax(th.tensor([1.0, -1.0]), 0).max()) - 0.001


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("max_grad_norm", [1e-3, 0.05])
def test_gradients_are_clipped_to_the_norm(max_grad_norm: float, path: str) -> None:
    policy = control_policy("categorical", path)
    batch = control_episodes(policy)
    advantages = th.tensor([5.0, -7.0, -9.0, 4.0, 2.0, -1.0])
    actor_step(policy, batch, advantages).step(th.arange(6))
    free = th.cat([g.flatten() for g in grads(policy.actor_parameters())])
    policy = control_policy("categorical", path)
    step = actor_step(policy, batch, advantages, max_grad_norm=max_grad_norm)
    step.step(th.arange(6))
    clipped = th.cat([g.flatten() for g in grads(policy.actor_parameters())])
    assert clipped.norm().item() == pytest.approx(max_grad_norm, rel=1e-3)
    th.testing.assert_close(clipped / clipped.norm(), free / free.norm(), atol=1e-5, rtol=1e-3)
    assert step.means()["actor_grad_norm"] == pytest.approx(free.norm().item(), rel=1e-4), "the norm before clipping is logged"
    critic = CriticStep(policy, batch, batch.outcome, max_grad_norm)
    critic.step(th.arange(6))
    assert th.cat([g.flatten() for g in grads(policy.critic_parameters())]).norm().item() == pytest.approx(
        max_grad_norm, rel=1e-3
    )


# ---------------------------------------------------------------- the critic's gradient


@pytest.mark.parametrize("chunk_size", [1, 4, 4096])
@pytest.mark.parametrize("sequences", [[0, 1, 2, 3, 4, 5], [4, 0, 3]], ids=["all", "three"])
@pytest.mark.parametrize("level", ["context", "decision"])
@pytest.mark.parametrize("loss", ["bce", "mse", "clipped mse"])
def test_critic_gradient(chunk_size: int, sequences: list[int], level: str, loss: str) -> None:
    policy = control_policy("categorical")
    batch = control_episodes(policy)
    total = sum(LENGTHS)
    targets = th.rand(len(LENGTHS) if level == "context" else total, generator=th.Generator().manual_seed(3))
    mean, std = 0.0, 1.0
    if loss != "bce":
        targets = 40.0 * targets - 10.0
        policy.value_scale.use_returns(th.tensor([-10.0, 3.0, 30.0]))
        mean, std = float(np.mean([-10, 3, 30])), float(np.std([-10, 3, 30]))
    with th.no_grad():
        seen = batch.contexts if level == "context" else batch.observations
        values = policy.predict_values(seen)[:, 0] + 4.0 * th.randn(len(targets), generator=th.Generator().manual_seed(4))
    limit = 3.0
    _, weights = networks64(policy)
    terms = []
    for s in sequences:
        rows = [s] if level == "context" else (batch.sequence == s).nonzero().flatten().tolist()
        for row in rows:
            out = run64(weights, seen[row].double())[0]  # type: ignore[index]
            target = float(targets[row])
            if loss == "bce":
                v = 1 / (1 + th.exp(-out))
                terms.append(-(target * v.log() + (1 - target) * (1 - v).log()))
            else:
                # in outcome units, the critic predicts mean + std * out; its errors are counted in deviations
                v, old = mean + std * out, float(values[row])
                error = ((v - target) / std) ** 2
                if loss == "clipped mse":
                    near = min(max(float(v.detach()), old - limit), old + limit)
                    inside = v if near == float(v.detach()) else th.tensor(near, dtype=th.float64)
                    error = th.maximum(error, ((inside - target) / std) ** 2)
                terms.append(error)
    loss_value = sum(terms) / len(terms)
    loss_value.backward()  # type: ignore[union-attr]
    policy.chunk_size = chunk_size
    shape: Callable[[th.Tensor], th.Tensor] = (lambda x: x) if level == "context" else (lambda x: x.unsqueeze(1))
    batch = batch._replace(values=shape(values))
    step = CriticStep(policy, batch, shape(targets), 1e9, limit if loss == "clipped mse" else None)
    step.step(th.tensor(sequences))
    own = [*policy.mlp_extractor.value_net.parameters(), *policy.value_net.parameters()]
    assert_close64(grads(own), [w.grad for w in weights])  # type: ignore[misc]
    assert step.means()["critic_loss"] == pytest.approx(loss_value.item(), rel=1e-4)  # type: ignore[union-attr]


# ---------------------------------------------------------------- tokens: several decisions in a step


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
    CriticStep(policy, batch, targets, 1e9).step(th.arange(5))
    assert_close64(grads([policy.critic]), [table.grad])


# ---------------------------------------------------------------- rows of a minibatch


@pytest.mark.parametrize("sequences", [[0], [5, 2], [0, 1, 2, 3, 4, 5], [3, 1, 4]])
def test_a_minibatch_is_made_of_whole_episodes(sequences: list[int]) -> None:
    batch = control_episodes(control_policy("categorical"))
    expected = [row for row in range(sum(LENGTHS)) if int(batch.sequence[row]) in sequences]
    rows = rows_of(th.tensor(sequences), batch)
    assert take_rows(th.arange(sum(LENGTHS)), rows).tolist() == expected


# ---------------------------------------------------------------- whole updates


def model_and_batch(
    algorithm: type[SequenceAlgorithm] = SPPO, policy: Any = "MlpPolicy", **kwargs: Any
) -> tuple[Any, EpisodeBatch]:
    """A model that has never learned, ready to train on handmade episodes."""
    env = dummy(lambda: MatchEnv(steps=3), 2)
    model: Any = algorithm(policy, env, **{"n_episodes": 8, "seed": 0, "policy_kwargs": {"net_arch": [8, 8]}, **kwargs})
    model._setup_learn(1000)
    generator = th.Generator().manual_seed(1)
    lengths = [3, 1, 7, 2, 5, 1, 4, 4]
    total = sum(lengths)
    observations = th.randn(total, 2, generator=generator)
    actions = th.randint(2, (total,), generator=generator)
    ends = th.tensor(lengths).cumsum(0) - 1
    outcome = th.tensor([1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0])
    with th.no_grad():
        old = model.policy.evaluate_decisions(observations, actions).log_prob
        if model.estimator.critic == "context":
            values = model.policy.predict_values(observations[ends + 1 - th.tensor(lengths)])[:, 0]
        else:
            values = model.policy.predict_values(observations)
    return model, control_batch(lengths, 2, actions, old, observations, outcome, values)


class Reference:
    """SPPO as the paper has it, in plain torch: two networks, two Adam optimizers, one scalar for each episode."""

    def __init__(self, model: Any, actor_rate: float, critic_rate: float):
        policy = copy.deepcopy(model.policy)
        self.actor = nn.Sequential(*policy.mlp_extractor.policy_net, policy.action_net)
        self.critic = nn.Sequential(*policy.mlp_extractor.value_net, policy.value_net)
        self.actor_optimizer = th.optim.Adam(self.actor.parameters(), lr=actor_rate, eps=1e-5)
        self.critic_optimizer = th.optim.Adam(self.critic.parameters(), lr=critic_rate, eps=1e-5)

    def values(self, contexts: Any) -> th.Tensor:
        return th.sigmoid(self.critic(contexts)[:, 0])

    def log_prob(self, batch: EpisodeBatch) -> th.Tensor:
        return th.distributions.Categorical(logits=self.actor(batch.observations)).log_prob(batch.actions)

    def update(self, batch: EpisodeBatch, epochs: int, clip: float, max_norm: float, standardize: bool) -> None:
        with th.no_grad():
            v = self.values(batch.contexts)
            advantage = batch.outcome - v
            if standardize:
                advantage = advantage / th.sqrt(v * (1 - v) + 1e-4)
            old = self.log_prob(batch)
        for _ in range(epochs):
            ratio = th.exp(self.log_prob(batch) - old)
            a = advantage[batch.sequence]
            loss = -th.minimum(ratio * a, th.clip(ratio, 1 - clip, 1 + clip) * a).mean()
            self.actor_optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.actor.parameters(), max_norm)
            self.actor_optimizer.step()
            v = self.values(batch.contexts)
            bce = -(batch.outcome * v.log() + (1 - batch.outcome) * (1 - v).log()).mean()
            self.critic_optimizer.zero_grad()
            bce.backward()
            nn.utils.clip_grad_norm_(self.critic.parameters(), max_norm)
            self.critic_optimizer.step()

    def assert_equal(self, model: Any) -> None:
        policy = model.policy
        theirs = nn.Sequential(*policy.mlp_extractor.policy_net, policy.action_net)
        th.testing.assert_close(dict(theirs.named_parameters()), dict(self.actor.named_parameters()), rtol=1e-4, atol=1e-5)
        theirs = nn.Sequential(*policy.mlp_extractor.value_net, policy.value_net)
        th.testing.assert_close(dict(theirs.named_parameters()), dict(self.critic.named_parameters()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("advantage", ["residual", "standardized"])
@pytest.mark.parametrize("max_grad_norm", [0.5, 0.01])
@pytest.mark.parametrize(("rates", "policy"), [((1e-3, 1e-3), "MlpPolicy"), ((3e-3, 1e-2), GeneralPolicy)])
def test_sppos_update_is_the_papers(advantage: str, max_grad_norm: float, rates: tuple[float, float], policy: Any) -> None:
    model, batch = model_and_batch(
        policy=policy,
        advantage=advantage,
        max_grad_norm=max_grad_norm,
        learning_rate=rates[0],
        critic_learning_rate=rates[1],
        n_epochs=10,
        clip_range=0.02,
    )
    reference = Reference(model, *rates)
    before = th.nn.utils.parameters_to_vector(model.policy.parameters()).clone()
    model.train(batch)
    reference.update(batch, 10, 0.02, max_grad_norm, advantage == "standardized")
    reference.assert_equal(model)
    moved = (th.nn.utils.parameters_to_vector(model.policy.parameters()) - before).abs().max()
    assert moved.item() > 5e-3, "far more than the tolerance of the comparison"
    assert model.logger.name_to_value["train/clip_fraction"] > 0.0, "the clip range mattered"


def test_a_whole_learn_call_is_the_papers_algorithm() -> None:
    """From collection to weights: values and old log-probabilities come from before the update, episode after episode."""
    model: Any = SPPO("MlpPolicy", dummy(lambda: MatchEnv(steps=3), 4), n_episodes=8, n_epochs=5, learning_rate=5e-3, seed=0)
    reference = Reference(model, 5e-3, 5e-3)
    batches: list[EpisodeBatch] = []
    train = model.train

    def recording(batch: EpisodeBatch) -> None:
        batches.append(batch)
        train(batch)

    model.train = recording
    model.learn(24 * 3)
    assert len(batches) == 3
    for batch in batches:
        th.testing.assert_close(batch.values, reference.values(batch.contexts).detach(), atol=2e-5, rtol=1e-4)
        th.testing.assert_close(batch.old_log_prob[:, 0], reference.log_prob(batch).detach(), atol=2e-5, rtol=1e-4)
        reference.update(batch, 5, 0.2, 0.5, False)
    reference.assert_equal(model)


def test_critic_targets_of_returns_are_normalised_and_advantages_scaled() -> None:
    model, batch = model_and_batch(critic_loss="mse", n_epochs=1, learning_rate=1e-3)
    outcome = batch.outcome * 400.0 - 300.0
    model.policy.value_scale.use_returns(outcome)
    with th.no_grad():
        logits = model.policy.context_value_logits(batch.contexts)
        values = model.policy.predict_values(batch.contexts)[:, 0]
    mean, std = outcome.mean(), outcome.std(unbiased=False)
    th.testing.assert_close(values, mean + std * logits)
    batch = batch._replace(outcome=outcome, values=values)
    model.train(batch)
    log = model.logger.name_to_value
    z = (outcome - mean) / std
    assert log["train/critic_loss"] == pytest.approx(float(((logits - z) ** 2).mean()), rel=1e-4)
    assert log["train/advantage_std"] == pytest.approx(float((z - logits).std(unbiased=False)), rel=1e-3)


def test_warmup_trains_the_critic_alone_for_so_many_updates() -> None:
    model, batch = model_and_batch(critic_warmup=2)
    for update in range(3):
        actor = [p.clone() for p in model.policy.actor_parameters()]
        critic = [p.clone() for p in model.policy.critic_parameters()]
        model.train(batch)
        still = all(th.equal(a, b) for a, b in zip(actor, model.policy.actor_parameters(), strict=True))
        assert still == (update < 2)
        assert not all(th.equal(a, b) for a, b in zip(critic, model.policy.critic_parameters(), strict=True))
        assert not model.policy.optimizer.state or update == 2, "not even Adam's moments"


def count_steps(optimizer: th.optim.Optimizer) -> list[int]:
    """Count the optimizer's steps from now on, in a list that grows."""
    calls: list[int] = []
    step = optimizer.step

    def counting(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return step(*args, **kwargs)

    optimizer.step = counting  # type: ignore[method-assign]
    return calls


def test_target_kl_stops_the_actor_and_not_the_critic() -> None:
    model, batch = model_and_batch(target_kl=1e-4, n_epochs=10, learning_rate=3e-2, critic_learning_rate=1e-3)
    actor, critic = count_steps(model.policy.optimizer), count_steps(model.policy.critic_optimizer)
    model.train(batch)
    # the first step starts at KL = 0; the second finds it exceeded and, as in SB3, is not taken
    assert len(actor) == 1
    assert len(critic) == 10
    model.train(
        batch._replace(old_log_prob=model.policy.evaluate_decisions(batch.observations, batch.actions).log_prob.detach())
    )
    assert len(actor) == 2, "the next update begins anew"


def test_a_target_kl_that_is_not_reached_stops_nothing() -> None:
    model, batch = model_and_batch(target_kl=10.0, n_epochs=7)
    actor = count_steps(model.policy.optimizer)
    model.train(batch)
    assert len(actor) == 7


@pytest.mark.parametrize(("batch_size", "steps"), [(None, 1), (8, 1), (4, 2), (3, 3), (1, 8)])
def test_minibatches_cover_all_episodes_once_an_epoch(batch_size: int | None, steps: int) -> None:
    model, batch = model_and_batch(batch_size=batch_size, n_epochs=2)
    seen: list[list[int]] = []
    step = ActorStep.step

    def watching(self: ActorStep, sequences: th.Tensor, *limits: float) -> float:
        seen.append(sequences.tolist())
        return step(self, sequences, *limits)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ActorStep, "step", watching)
        model.train(batch)
    assert len(seen) == 2 * steps
    for epoch in (seen[:steps], seen[steps:]):
        assert sorted(s for part in epoch for s in part) == list(range(8))
    if batch_size in (3, 4):
        assert seen[:steps] != seen[steps:], "shuffled anew"


@pytest.mark.parametrize("algorithm", [SPPO, PPO, RLOO])
def test_chunks_do_not_change_an_update(algorithm: type[SequenceAlgorithm], monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for chunk_size in (1, 5, 4096):
        model, batch = model_and_batch(algorithm, batch_size=3, n_epochs=2, learning_rate=1e-2)
        set_chunks(model.policy, chunk_size, monkeypatch)
        batch = batch._replace(group=th.arange(8) // 4)
        model.train(batch)
        results.append(th.nn.utils.parameters_to_vector(model.policy.parameters()).detach())
    th.testing.assert_close(results[0], results[2], rtol=1e-3, atol=1e-4)
    th.testing.assert_close(results[1], results[2], rtol=1e-3, atol=1e-4)


def rates(model: Any) -> tuple[float, float]:
    return model.policy.optimizer.param_groups[0]["lr"], model.policy.critic_optimizer.param_groups[0]["lr"]


@pytest.mark.parametrize(
    ("actor", "critic", "expected"),
    # after a quarter of the run
    [
        (1e-3, 5e-3, (1e-3, 5e-3)),
        (1e-3, None, (1e-3, 1e-3)),
        ("lin_4e-3", None, (3e-3, 3e-3)),
        ("lin_4e-3", 1e-2, (3e-3, 1e-2)),
        (2e-3, "lin_8e-3", (2e-3, 6e-3)),
        ("0.002", lambda progress: progress**2, (2e-3, 0.5625)),
    ],
)
def test_actor_and_critic_follow_their_own_schedules(actor: Any, critic: Any, expected: tuple[float, float]) -> None:
    model, batch = model_and_batch(learning_rate=actor, critic_learning_rate=critic)
    model._current_progress_remaining = 0.75
    model.train(batch)
    assert rates(model) == pytest.approx(expected)
    log = model.logger.name_to_value
    assert (log["train/learning_rate"], log["train/critic_learning_rate"]) == pytest.approx(expected)


def test_the_clip_range_may_be_a_schedule() -> None:
    model, batch = model_and_batch(clip_range="lin_0.4")
    model._current_progress_remaining = 0.25
    model.train(batch)
    assert model.logger.name_to_value["train/clip_range"] == pytest.approx(0.1)


def test_a_schedule_never_runs_below_its_end() -> None:
    """The last update overshoots the total; a linear schedule of the user's own must not turn negative there."""
    seen: list[float] = []

    def rate(progress: float) -> float:
        seen.append(progress)
        return 1e-3 * progress

    SPPO("MlpPolicy", dummy(lambda: MatchEnv(steps=3), 2), n_episodes=8, learning_rate=rate, seed=0).learn(40)
    assert min(seen) >= 0.0


def test_logged_figures_of_an_sppo_update() -> None:
    model, batch = model_and_batch()
    v, r = batch.values, batch.outcome
    assert v is not None
    bce = -(r * v.log() + (1 - r) * (1 - v).log()).mean()
    model.n_epochs = 1
    model.train(batch)
    log = model.logger.name_to_value
    assert log["train/brier_score"] == pytest.approx(float(((v - r) ** 2).mean()))
    assert log["train/value_mean"] == pytest.approx(float(v.mean()))
    assert log["train/critic_loss"] == pytest.approx(float(bce), rel=1e-5)
    assert log["rollout/outcome_mean"] == pytest.approx(0.5)
    assert log["train/approx_kl"] == pytest.approx(0.0, abs=1e-6)
    assert log["train/clip_fraction"] == 0.0
    assert log["train/actor_grad_norm"] > 0
    assert log["train/critic_grad_norm"] > 0
    assert log["train/entropy"] == pytest.approx(math.log(2), abs=1e-3)


def test_the_brier_score_of_returns_is_not_reported() -> None:
    model, batch = model_and_batch(critic_loss="mse")
    model.policy.value_scale.use_returns(batch.outcome)
    model.train(batch)
    assert "train/brier_score" not in model.logger.name_to_value


def test_ppos_targets_outside_the_unit_interval_are_not_silently_clamped() -> None:
    """Rewards of -1 and then +2 sum to an outcome of 1, but the value of the second state is 2: no probability."""
    env = dummy(lambda: FixedRewardEnv([-1.0, 2.0]), 2)
    model = PPO("MlpPolicy", env, critic_loss="bce", n_episodes=4, seed=0)
    with pytest.raises(ValueError, match=r"bce.* 2\b"):
        model.learn(1)
