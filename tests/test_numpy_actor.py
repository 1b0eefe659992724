"""The NumPy twin of an actor says and samples what the torch policy does, and steps aside where it cannot."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from torch import nn

from sppo_rl.numpy_actor import NumpyActor
from sppo_rl.policies import CnnPolicy, MlpPolicy, MultiInputPolicy

BOX = spaces.Box(-5.0, 5.0, (3,), np.float32)


def make(action_space: spaces.Space, observation_space: spaces.Space = BOX, **kwargs: Any) -> MlpPolicy:
    th.manual_seed(0)
    return MlpPolicy(observation_space, action_space, lambda _: 1e-3, **kwargs)


def sharpen(policy: MlpPolicy) -> None:
    """Give the head weights that make a difference (SB3 starts it near zero)."""
    with th.no_grad():
        policy.action_net.weight.normal_(std=1.0)
        policy.action_net.bias.normal_(std=0.5)


def actor_of(policy: Any, seed: int = 0, deterministic: bool = False) -> NumpyActor:
    actor = NumpyActor.of(policy, np.random.default_rng(seed), deterministic)
    assert actor is not None
    return actor


def observations(count: int, space: spaces.Box = BOX) -> np.ndarray:
    return np.random.default_rng(9).uniform(-5, 5, (count, *space.shape)).astype(np.float32)


@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU])
@pytest.mark.parametrize("net_arch", [[], [16], [64, 64], {"pi": [8, 5, 3], "vf": [7]}])
@pytest.mark.parametrize("count", [1, 33])
def test_outputs_equal_torch(activation: type[nn.Module], net_arch: Any, count: int) -> None:
    for action_space in (spaces.Discrete(4), spaces.Box(-1, 1, (2,), np.float32)):
        policy = make(action_space, activation_fn=activation, net_arch=net_arch)
        sharpen(policy)
        seen = observations(count)
        before = seen.copy()
        got = actor_of(policy).outputs(seen)
        distribution = policy.get_distribution(th.as_tensor(seen)).distribution
        if isinstance(action_space, spaces.Discrete):
            got = got - np.log(np.exp(got).sum(axis=1, keepdims=True))  # SB3 keeps normalised logits
            expected = distribution.logits
        else:
            expected = distribution.mean
        np.testing.assert_allclose(got, expected.detach().numpy(), atol=1e-5)
        np.testing.assert_array_equal(seen, before)


def test_matrices_are_flattened_as_torch_does() -> None:
    space = spaces.Box(-5, 5, (2, 3), np.float32)
    policy = make(spaces.Discrete(3), space)
    sharpen(policy)
    seen = observations(5, space)
    greedy = actor_of(policy, deterministic=True)(seen)
    np.testing.assert_array_equal(greedy, policy.predict(seen, deterministic=True)[0])


@pytest.mark.parametrize("dtype", [np.float64, np.int32])
def test_observations_of_other_types_are_read_as_torch_reads_them(dtype: Any) -> None:
    space = spaces.Box(-5, 5, (3,), dtype)
    policy = make(spaces.Discrete(5), space)
    sharpen(policy)
    seen = observations(50).round(0 if dtype is np.int32 else 3).astype(dtype)
    sample = policy.make_sampler(np.random.default_rng(0), deterministic=True)
    np.testing.assert_array_equal(sample(seen, np.arange(50)), policy.predict(seen, deterministic=True)[0])


def test_greedy_actions_are_the_modes() -> None:
    seen = observations(200)
    policy = make(spaces.Discrete(5))
    sharpen(policy)
    greedy = actor_of(policy, deterministic=True)(seen)
    assert len(set(greedy.tolist())) > 2
    np.testing.assert_array_equal(greedy, policy.predict(seen, deterministic=True)[0])
    policy = make(spaces.Box(-100, 100, (2,), np.float32))
    sharpen(policy)
    np.testing.assert_allclose(
        actor_of(policy, deterministic=True)(seen), policy.predict(seen, deterministic=True)[0], atol=1e-5
    )


@pytest.mark.parametrize(
    "logits", [[0.0, 0.0], [2.0, -1.0, 0.5, 0.0], [-6.0, 0.0, -2.0], [800.0, 799.0, 0.0], [-900.0, -899.0]]
)
def test_categorical_frequencies_match_the_probabilities(logits: list[float]) -> None:
    policy = make(spaces.Discrete(len(logits)))
    with th.no_grad():
        policy.action_net.weight.zero_()
        policy.action_net.bias.copy_(th.tensor(logits))
    count = 40_000
    actions = actor_of(policy)(observations(count))
    assert np.issubdtype(actions.dtype, np.integer)
    probabilities = th.softmax(th.tensor(logits, dtype=th.float64), 0).numpy()
    expected = probabilities * count
    counts = np.bincount(actions, minlength=len(logits))
    assert len(counts) == len(logits)
    assert counts[expected < 1e-6].sum() == 0
    likely = expected >= 1.0
    chi_square = ((counts - expected) ** 2 / np.maximum(expected, 1e-9))[likely].sum()
    # the 99.9 % quantile of chi-square with 3 degrees of freedom is 16.3
    assert chi_square < 16.3


def test_categorical_sampling_uses_each_rows_own_probabilities() -> None:
    policy = make(spaces.Discrete(3))
    sharpen(policy)
    seen = observations(4)
    repeated = np.repeat(seen, 20_000, axis=0)
    actions = actor_of(policy)(repeated).reshape(4, -1)
    probabilities = policy.get_distribution(th.as_tensor(seen)).distribution.probs.detach().numpy()
    for row in range(4):
        np.testing.assert_allclose(np.bincount(actions[row], minlength=3) / 20_000, probabilities[row], atol=0.015)


def test_gaussian_samples_have_the_policys_mean_and_deviation() -> None:
    policy = make(spaces.Box(-100, 100, (2,), np.float32))
    sharpen(policy)
    with th.no_grad():
        policy.log_std.copy_(th.tensor([-1.5, 0.7]))
    seen = observations(1)
    count = 40_000
    actions = actor_of(policy)(np.repeat(seen, count, axis=0))
    assert actions.dtype == np.float32
    mean, std = policy.get_distribution(th.as_tensor(seen)).distribution.mean[0].detach().numpy(), np.exp([-1.5, 0.7])
    np.testing.assert_allclose(actions.mean(axis=0), mean, atol=4 * std.max() / np.sqrt(count))
    np.testing.assert_allclose(actions.std(axis=0), std, rtol=0.02)
    assert abs(np.corrcoef(actions.T)[0, 1]) < 0.03


def test_a_snapshot_does_not_follow_the_policy() -> None:
    policy = make(spaces.Discrete(4))
    seen = observations(8)
    actor = actor_of(policy)
    before = actor.outputs(seen).copy()
    with th.no_grad():
        for parameter in policy.parameters():
            parameter.add_(1.0)
    np.testing.assert_array_equal(actor.outputs(seen), before)


def test_sampling_depends_on_its_generator_alone() -> None:
    policy = make(spaces.Discrete(4))
    seen = observations(50)
    th.manual_seed(1)
    first = actor_of(policy, seed=5)(seen)
    th.manual_seed(2)
    np.testing.assert_array_equal(actor_of(policy, seed=5)(seen), first)
    assert (actor_of(policy, seed=6)(seen) != first).any()


class Halve(nn.Module):
    """A features extractor of the user's own."""

    def __init__(self, observation_space: spaces.Space):
        super().__init__()
        self.features_dim = 3

    def forward(self, x: th.Tensor) -> th.Tensor:
        return x / 2.0


@pytest.mark.parametrize(
    "policy",
    [
        lambda: CnnPolicy(spaces.Box(0, 255, (1, 36, 36), np.uint8), spaces.Discrete(2), lambda _: 1e-3),
        lambda: MultiInputPolicy(spaces.Dict({"a": BOX}), spaces.Discrete(2), lambda _: 1e-3),
        lambda: make(spaces.Box(-1, 1, (2,), np.float32), use_sde=True),
        lambda: make(spaces.Discrete(2), activation_fn=nn.ELU),
        lambda: make(spaces.Discrete(2), activation_fn=nn.LeakyReLU),
        lambda: make(spaces.MultiDiscrete([2, 3])),
        lambda: make(spaces.MultiBinary(3)),
        lambda: make(spaces.Discrete(2), spaces.Discrete(6)),
        lambda: make(spaces.Discrete(2), features_extractor_class=Halve),
    ],
    ids=[
        "cnn",
        "dict",
        "gSDE",
        "ELU",
        "LeakyReLU",
        "MultiDiscrete",
        "MultiBinary",
        "Discrete observations",
        "extractor",
    ],
)
def test_unknown_policies_are_left_to_torch(policy: Any) -> None:
    assert NumpyActor.of(policy(), np.random.default_rng(0)) is None


def test_known_policies_are_not() -> None:
    """The fast path must not be lost by accident: everything would still work, at a third of the speed."""
    for space in (spaces.Discrete(2), spaces.Box(-1, 1, (2,), np.float32)):
        for activation in (nn.Tanh, nn.ReLU):
            assert NumpyActor.of(make(space, activation_fn=activation), np.random.default_rng(0)) is not None
