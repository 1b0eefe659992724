"""The hand-written gradient of the clipped surrogate, held to autograd."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import nn

from sppo_rl import SPPO
from sppo_rl.episodes import EpisodeBatch
from sppo_rl.fused import CHUNK, FusedSurrogate
from sppo_rl.losses import clipped_surrogate
from sppo_rl.policies import MlpPolicy
from sppo_rl.updates import ActorUpdate
from tests.helpers import MatchEnv, control_batch, dummy

CLIP = 0.2
HEADS: dict[str, tuple[int, spaces.Space]] = {
    "cart pole": (4, spaces.Discrete(2)),
    "many actions": (9, spaces.Discrete(6)),
    "pendulum": (3, spaces.Box(-2.0, 2.0, (1,), np.float32)),
    "walker": (24, spaces.Box(-1.0, 1.0, (4,), np.float32)),
    "matrix of actions": (2, spaces.Box(-1.0, 1.0, (2, 3), np.float32)),
}


def make_policy(head: str, policy_class: type[MlpPolicy] = MlpPolicy, **kwargs: Any) -> MlpPolicy:
    """With weights of a trained network's size: a fresh one has means near 0 and equal probabilities."""
    th.manual_seed(0)
    size, actions = HEADS[head]
    policy = policy_class(spaces.Box(-10.0, 10.0, (size,), np.float32), actions, lambda _: 1e-3, **kwargs)
    with th.no_grad():
        for parameter in policy.parameters():
            parameter += th.randn_like(parameter) / parameter.shape[-1] ** 0.5
    return policy


def decisions(policy: MlpPolicy, count: int, dtype: th.dtype = th.float32) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
    """Observations, actions, and old log-probabilities on both sides of the clip range."""
    generator = th.Generator().manual_seed(1)
    observations = th.randn(count, *policy.observation_space.shape, generator=generator, dtype=dtype)  # type: ignore[misc]
    if isinstance(policy.action_space, spaces.Discrete):
        actions = th.randint(int(policy.action_space.n), (count,), generator=generator)
    else:
        actions = th.randn(count, *policy.action_space.shape, generator=generator)  # type: ignore[misc]
    with th.no_grad():
        log_prob = policy.evaluate_decisions(observations, actions).log_prob
    return observations, actions, log_prob + 0.4 * th.randn(count, 1, generator=generator)


def autograd64(
    policy: MlpPolicy,
    observations: th.Tensor,
    actions: th.Tensor,
    old: th.Tensor,
    advantages: th.Tensor,
    weights: th.Tensor,
    ent_coef: float,
) -> tuple[list[th.Tensor], list[float]]:
    """Gradients and the four sums in float64, through torch.distributions."""
    parameters = {id(p): p.detach().double().requires_grad_() for p in policy.actor_parameters()}

    def run(layer: nn.Linear, x: th.Tensor) -> th.Tensor:
        return x @ parameters[id(layer.weight)].T + parameters[id(layer.bias)]

    x = observations.double()
    for layer in policy.mlp_extractor.policy_net:
        x = run(layer, x) if isinstance(layer, nn.Linear) else layer(x)
    x = run(policy.action_net, x)  # type: ignore[arg-type]
    if isinstance(policy.action_space, spaces.Discrete):
        categorical = th.distributions.Categorical(logits=x)
        log_prob, entropy = categorical.log_prob(actions), categorical.entropy()
    else:
        normal = th.distributions.Normal(x, parameters[id(policy.log_std)].exp())
        log_prob, entropy = normal.log_prob(actions.flatten(1).double()).sum(1), normal.entropy().sum(1)
    ratio = (log_prob - old.double()).exp()
    surrogate = weights * th.min(ratio * advantages, ratio.clamp(1 - CLIP, 1 + CLIP) * advantages)
    loss = -surrogate.sum() - ent_coef * (weights * entropy).sum()
    loss.backward()
    kl = (ratio - 1 - ratio.log()).sum()
    outside = ((ratio - 1).abs() > CLIP).sum()
    gradients = [p.grad if p.grad is not None else th.zeros_like(p) for p in parameters.values()]
    return gradients, [-surrogate.sum().item(), entropy.sum().item(), kl.item(), float(outside)]


def fused(policy: MlpPolicy, chunks: int, *arguments: Any) -> tuple[list[th.Tensor], list[float]]:
    """The same by :class:`FusedSurrogate`, a chunk at a time."""
    *tensors, ent_coef = arguments
    plain = policy.plain_actor()
    assert plain is not None
    surrogate = FusedSurrogate(plain)
    surrogate.gradient.zero()
    sums = th.zeros(4)
    for observations, actions, *rest in zip(*(tensor.chunk(chunks) for tensor in tensors), strict=True):
        actions = actions if plain.log_std is None else actions.flatten(1)
        sums += surrogate.accumulate(observations, actions, *rest, CLIP, ent_coef)
    assert all(p.grad is not None for p in policy.actor_parameters())
    return [p.grad for p in policy.actor_parameters()], sums.tolist()  # type: ignore[misc]


def assert_close(ours: Any, reference: Any) -> None:
    # against the largest one: the entries of one parameter may be what is left when large terms cancel
    scale = max(float(gradient.abs().max()) for gradient in reference[0])
    for one, other in zip(ours[0], reference[0], strict=True):
        th.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-5 * scale)
    np.testing.assert_allclose(ours[1], reference[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("ent_coef", [0.0, 0.1])
@pytest.mark.parametrize("net_arch", [[], [16], [64, 64], [32, 48, 16]], ids=str)
@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU])
@pytest.mark.parametrize("head", HEADS)
def test_gradients_and_statistics_equal_autograds(
    head: str, activation: type[nn.Module], net_arch: list[int], ent_coef: float
) -> None:
    policy = make_policy(head, net_arch={"pi": net_arch, "vf": [8]}, activation_fn=activation)
    observations, actions, old = decisions(policy, 300)
    generator = th.Generator().manual_seed(2)
    advantages, weights = th.randn(300, generator=generator), th.rand(300, generator=generator) / 300
    arguments = (observations, actions, old.squeeze(1), advantages, weights, ent_coef)
    reference = autograd64(policy, *arguments)
    assert 30 < reference[1][3] < 270, "ratios on both sides of the clip range"
    for chunks in (1, 3):
        assert_close(fused(policy, chunks, *arguments), reference)
    assert all(p.grad is None for p in policy.critic_parameters())


@pytest.mark.parametrize("head", ["cart pole", "pendulum"])
def test_the_four_sides_of_the_clip(head: str) -> None:
    """Only a decision that is beyond the range in the direction its advantage pulls has no gradient; neither has an advantage of 0."""
    policy = make_policy(head)
    observations, actions, _ = decisions(policy, 6)
    with th.no_grad():
        log_prob = policy.evaluate_decisions(observations, actions).log_prob.squeeze(1)
    ratios = th.tensor([1.5, 1.5, 0.5, 0.5, 1.1, 1.5])
    advantages = th.tensor([1.0, -1.0, 1.0, -1.0, 1.0, 0.0])
    has_gradient = [False, True, True, False, True, False]
    for row, expected in enumerate(has_gradient):
        one = slice(row, row + 1)
        arguments = (observations[one], actions[one], (log_prob - ratios.log())[one], advantages[one], th.ones(1), 0.0)
        gradients, sums = fused(policy, 1, *arguments)
        assert any(bool((gradient != 0.0).any()) for gradient in gradients) == expected, row
        assert_close((gradients, sums), autograd64(policy, *arguments))


@pytest.mark.parametrize("advantage", [1.0, -1.0])
@pytest.mark.parametrize("ratio", [1.0, 1.25, 0.75])
def test_exactly_at_the_edge_of_the_clip_the_gradient_is_whole_as_autograds(ratio: float, advantage: float) -> None:
    """A tie of the surrogate's two terms. No hidden layer, so that both ways round alike and the tie is one for both."""
    policy = make_policy("cart pole", net_arch=[])
    plain = policy.plain_actor()
    assert plain is not None
    observations, actions, _ = decisions(policy, 1)
    log_prob = policy.evaluate_decisions(observations, actions).log_prob.squeeze(1)
    old = log_prob.detach() - th.tensor(ratio).log()
    clip = abs((log_prob.detach() - old).exp().item() - 1.0)
    policy.optimizer.zero_grad()
    clipped_surrogate(log_prob, old, th.tensor([advantage]), clip).sum().backward()
    expected = [p.grad.clone() for p in policy.actor_parameters()]  # type: ignore[union-attr]
    assert all((gradient != 0.0).any() for gradient in expected)
    surrogate = FusedSurrogate(plain)
    surrogate.gradient.zero()
    surrogate.accumulate(observations, actions, old, th.tensor([advantage]), th.ones(1), clip, 0.0)
    for parameter, gradient in zip(policy.actor_parameters(), expected, strict=True):
        th.testing.assert_close(parameter.grad, gradient)


def test_a_full_chunk_and_no_more() -> None:
    policy = make_policy("walker")
    observations, actions, old = decisions(policy, CHUNK)
    arguments = (observations, actions, old.squeeze(1), th.randn(CHUNK), th.rand(CHUNK) / CHUNK, 0.01)
    assert_close(fused(policy, 1, *arguments), autograd64(policy, *arguments))


# ---------------------------------------------------------------- in the actor's step


class Autograd(MlpPolicy):
    """The same policy, left to autograd."""

    def plain_actor(self) -> None:
        return None


def episodes(policy: MlpPolicy, dtype: th.dtype) -> EpisodeBatch:
    lengths = [1, 900, 3, 2200, 17, 60, 1, 5]
    total = sum(lengths)
    observations, actions, old = decisions(policy, total, dtype)
    outcome = (th.arange(len(lengths)) % 2).float()
    size = observations.shape[1]
    return control_batch(lengths, size, actions, old, observations, outcome)


@pytest.mark.parametrize("dtype", [th.float32, th.float64])
@pytest.mark.parametrize("aggregation", ["decision-mean", "sequence-mean", "sequence-sum"])
@pytest.mark.parametrize(
    ("head", "ent_coef", "skip"), [("many actions", 0.0, True), ("walker", 0.02, False), ("pendulum", 0.0, True)]
)
def test_a_step_is_the_one_autograd_takes(head: str, ent_coef: float, skip: bool, aggregation: str, dtype: th.dtype) -> None:
    """Several steps on ragged minibatches longer than a chunk; some advantages are 0."""
    policies = [make_policy(head, policy_class) for policy_class in (MlpPolicy, Autograd)]
    steps = []
    for policy in policies:
        batch = episodes(policy, dtype)
        advantages = th.tensor([0.7, -0.4, 0.0, 0.3, -0.9, 0.0, 0.2, -0.1])
        steps.append(ActorUpdate(policy, batch, advantages, CLIP, ent_coef, 0.5, aggregation, skip_zero_advantage=skip))
    assert steps[0].fused is not None
    assert steps[1].fused is None
    for sequences in ([0, 1, 2, 3, 4, 5, 6, 7], [3, 0, 5], [2, 5], [7, 1, 4, 6]):
        first, second = [step.step(th.tensor(sequences)) for step in steps]
        assert first == pytest.approx(second, rel=1e-3, abs=1e-6)
        for one, other in zip(*(policy.actor_parameters() for policy in policies), strict=True):
            expected = th.zeros_like(one) if other.grad is None else other.grad
            th.testing.assert_close(one.grad, expected, rtol=1e-3, atol=1e-5)
            th.testing.assert_close(one, other, rtol=1e-3, atol=3e-5)
    means = [step.means() for step in steps]
    assert means[0] == pytest.approx(means[1], rel=2e-3, abs=1e-5)


# ---------------------------------------------------------------- what is not taken apart


class OwnEvaluation(MlpPolicy):
    def evaluate_decisions(self, observations: Any, actions: th.Tensor) -> Any:
        return super().evaluate_decisions(observations, actions)


class OwnDistribution(MlpPolicy):
    """The second action can never be taken."""

    def get_distribution(self, obs: Any) -> Distribution:
        logits = self.action_net(self._actor_latent(obs))
        return self.action_dist.proba_distribution(action_logits=logits + th.tensor([0.0, -1e9]))


class OwnHead(MlpPolicy):
    """The same, by the other of the two methods that SB3's policies build a distribution in."""

    def _get_action_dist_from_latent(self, latent_pi: th.Tensor) -> Distribution:
        return self.action_dist.proba_distribution(action_logits=self.action_net(latent_pi) + th.tensor([0.0, -1e9]))


class OwnLatent(MlpPolicy):
    def _actor_latent(self, observations: Any) -> th.Tensor:
        return super()._actor_latent(observations)


class OwnExtractor(FlattenExtractor):
    def forward(self, observations: th.Tensor) -> th.Tensor:
        return 2.0 * super().forward(observations)


@pytest.mark.parametrize("policy_class", [OwnEvaluation, OwnDistribution, OwnHead, OwnLatent])
def test_a_policy_with_steps_of_its_own_is_left_to_autograd(policy_class: type[MlpPolicy]) -> None:
    assert make_policy("cart pole", policy_class).plain_actor() is None


@pytest.mark.parametrize(
    "kwargs",
    [
        {"activation_fn": nn.ELU},
        {"use_sde": True},
        {
            "features_extractor_class": type(
                "Other", (__import__("stable_baselines3").common.torch_layers.FlattenExtractor,), {}
            )
        },
    ],
    ids=["activation", "gsde", "extractor"],
)
def test_other_networks_are_left_to_autograd(kwargs: dict[str, Any]) -> None:
    assert make_policy("pendulum", **kwargs).plain_actor() is None


def test_a_frozen_layer_stays_as_it_is() -> None:
    policy = make_policy("cart pole")
    policy.mlp_extractor.policy_net[0].weight.requires_grad_(False)
    assert policy.plain_actor() is None


@pytest.mark.parametrize("policy_class", [OwnDistribution, OwnHead])
def test_a_distribution_of_its_own_is_the_one_that_acts_and_learns(policy_class: type[MlpPolicy]) -> None:
    model = SPPO(policy_class, dummy(MatchEnv, 2), n_episodes=8, seed=0)
    sample = model.policy.make_sampler(np.random.default_rng(0))
    observations = np.random.default_rng(0).uniform(-1.0, 1.0, (200, 2)).astype(np.float32)
    assert (sample(observations, np.arange(200)) == 0).all()
    evaluation = model.policy.evaluate_decisions(th.as_tensor(observations), th.zeros(200, dtype=th.int64))
    assert evaluation.log_prob.abs().max() < 1e-6, "certain of the first action"
    model.learn(32)
