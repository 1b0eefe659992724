"""Gradients and updates against float64 references written another way, from the papers' formulas."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from torch import nn

from sppo_rl import GRPO
from sppo_rl.episodes import EpisodeBatch
from sppo_rl.policies import MlpPolicy
from sppo_rl.updates import ActorUpdate, CriticUpdate, rows_of, take_rows
from tests.helpers import FixedRewardEnv, GeneralPolicy, control_batch, dummy, set_chunks

LENGTHS = [3, 1, 7, 2, 5, 1]
CLIP = 0.2
AGGREGATIONS = ["decision-mean", "sequence-mean", "sequence-sum"]


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
    assert (policy.plain_actor() is not None) == (policy.plain_critic() is not None) == (path == "plain")
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


def actor_step(policy: Any, batch: EpisodeBatch, advantages: th.Tensor, **changes: Any) -> ActorUpdate:
    arguments: dict[str, Any] = {
        "clip_range": CLIP,
        "ent_coef": 0.0,
        "max_grad_norm": 1e9,
        "loss_aggregation": "decision-mean",
        "skip_zero_advantage": False,
        **changes,
    }
    return ActorUpdate(policy, batch, advantages, **arguments)


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
    critic = CriticUpdate(policy, batch, batch.outcome, max_grad_norm)
    critic.step(th.arange(6))
    assert th.cat([g.flatten() for g in grads(policy.critic_parameters())]).norm().item() == pytest.approx(
        max_grad_norm, rel=1e-3
    )


# ---------------------------------------------------------------- the critic's gradient


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", ["categorical", "relu"])
@pytest.mark.parametrize("chunk_size", [1, 4, 4096])
@pytest.mark.parametrize("sequences", [[0, 1, 2, 3, 4, 5], [4, 0, 3]], ids=["all", "three"])
@pytest.mark.parametrize("level", ["context", "decision"])
@pytest.mark.parametrize("loss", ["bce", "mse", "clipped mse"])
def test_critic_gradient(
    kind: str, path: str, chunk_size: int, sequences: list[int], level: str, loss: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = control_policy(kind, path)
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
            out = run64(weights, seen[row].double(), relu=kind == "relu")[0]  # type: ignore[index]
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
    set_chunks(policy, chunk_size, monkeypatch)
    shape: Callable[[th.Tensor], th.Tensor] = (lambda x: x) if level == "context" else (lambda x: x.unsqueeze(1))
    batch = batch._replace(values=shape(values))
    step = CriticUpdate(policy, batch, shape(targets), 1e9, limit if loss == "clipped mse" else None)
    step.step(th.tensor(sequences))
    own = [*policy.mlp_extractor.value_net.parameters(), *policy.value_net.parameters()]
    assert_close64(grads(own), [w.grad for w in weights])  # type: ignore[misc]
    assert step.means()["critic_loss"] == pytest.approx(loss_value.item(), rel=1e-4)  # type: ignore[union-attr]


# ---------------------------------------------------------------- rows of a minibatch


@pytest.mark.parametrize("sequences", [[0], [5, 2], [0, 1, 2, 3, 4, 5], [3, 1, 4]])
def test_a_minibatch_is_made_of_whole_episodes(sequences: list[int]) -> None:
    batch = control_episodes(control_policy("categorical"))
    expected = [row for row in range(sum(LENGTHS)) if int(batch.sequence[row]) in sequences]
    rows = rows_of(th.tensor(sequences), batch)
    assert take_rows(th.arange(sum(LENGTHS)), rows).tolist() == expected
