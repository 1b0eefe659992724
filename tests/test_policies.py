"""The contract between engine and policy: log-probabilities, samples, the split of parameters, the critic's units."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import PPO as Sb3PPO
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.td3.policies import TD3Policy
from torch import nn

from sppo_rl import SPPO
from sppo_rl.policies import CnnPolicy, MlpPolicy, MultiInputPolicy, SequencePolicy, as_sequence_policy
from sppo_rl.value_scale import ValueScale
from tests.helpers import MatchEnv, SpaceEnv, dummy, spy

BOX = spaces.Box(-5.0, 5.0, (3,), np.float32)
IMAGE = spaces.Box(0, 255, (1, 36, 36), np.uint8)
DICT = spaces.Dict({"a": BOX, "b": spaces.Discrete(4)})
ACTIONS = {
    "discrete": spaces.Discrete(4),
    "box": spaces.Box(-1.0, 1.0, (2,), np.float32),
    "multi-discrete": spaces.MultiDiscrete([2, 3]),
    "multi-binary": spaces.MultiBinary(3),
}


def make(action_space: spaces.Space, observation_space: spaces.Space = BOX, **kwargs: Any) -> Any:
    th.manual_seed(0)
    cls: Any = MlpPolicy
    if isinstance(observation_space, spaces.Dict):
        cls = MultiInputPolicy
    elif observation_space is IMAGE:
        cls = CnnPolicy
    return cls(observation_space, action_space, lambda _: 1e-3, **kwargs)


def some(space: spaces.Space, count: int) -> Any:
    space.seed(4)
    samples = [space.sample() for _ in range(count)]
    if isinstance(space, spaces.Dict):
        return {key: th.as_tensor(np.stack([sample[key] for sample in samples])) for key in space.spaces}
    return th.as_tensor(np.stack(samples))


def every_policy() -> list[Any]:
    return [
        make(ACTIONS["discrete"]),
        make(ACTIONS["box"]),
        make(ACTIONS["box"], use_sde=True),
        make(ACTIONS["box"], share_features_extractor=True),
        make(ACTIONS["discrete"], DICT),
        make(ACTIONS["discrete"], IMAGE),
        make(ACTIONS["discrete"], IMAGE, share_features_extractor=True),
        make(ACTIONS["discrete"], net_arch={"pi": [], "vf": [8]}),
    ]


# ---------------------------------------------------------------- log-probabilities


@pytest.mark.parametrize("use_sde", [False, True])
@pytest.mark.parametrize("kind", ACTIONS)
def test_evaluations_equal_the_distributions_of_sb3(kind: str, use_sde: bool) -> None:
    if use_sde and kind != "box":
        use_sde = False
    policy = make(ACTIONS[kind], use_sde=use_sde)
    with th.no_grad():
        policy.action_net.weight.normal_()
        if hasattr(policy, "log_std"):
            policy.log_std.copy_(th.randn_like(policy.log_std) * 0.3)
    seen, taken = some(BOX, 20), some(ACTIONS[kind], 20)
    distribution = policy.get_distribution(seen)
    evaluation = policy.evaluate_decisions(seen, taken)
    assert evaluation.log_prob.shape == evaluation.entropy.shape == evaluation.mask.shape == (20, 1)
    assert evaluation.mask.all()
    th.testing.assert_close(
        evaluation.log_prob[:, 0], distribution.log_prob(taken.float() if kind == "multi-binary" else taken)
    )
    th.testing.assert_close(evaluation.entropy[:, 0], distribution.entropy())


def test_gaussian_density_and_entropy_by_hand() -> None:
    policy = make(spaces.Box(-1.0, 1.0, (1,), np.float32))
    with th.no_grad():
        policy.action_net.weight.zero_()
        policy.action_net.bias.fill_(0.5)
        policy.log_std.fill_(np.log(2.0))
    evaluation = policy.evaluate_decisions(th.zeros(1, 3), th.tensor([[2.5]]))
    # z = (2.5 - .5) / 2 = 1: -1/2 - log 2 - log(2 pi) / 2; entropy: log 2 + (1 + log 2 pi) / 2
    assert evaluation.log_prob.item() == pytest.approx(-0.5 - np.log(2) - 0.5 * np.log(2 * np.pi), abs=1e-6)
    assert evaluation.entropy.item() == pytest.approx(np.log(2) + 0.5 + 0.5 * np.log(2 * np.pi), abs=1e-6)


def test_entropy_of_a_gaussian_carries_its_gradient() -> None:
    policy = make(ACTIONS["box"])
    evaluation = policy.evaluate_decisions(some(BOX, 5), some(ACTIONS["box"], 5))
    evaluation.entropy.mean().backward()
    # d entropy / d log_std = 1 in each dimension
    th.testing.assert_close(policy.log_std.grad, th.ones(2))


@pytest.mark.parametrize("kind", ACTIONS)
@pytest.mark.parametrize("observation_space", [BOX, DICT, IMAGE], ids=["box", "dict", "image"])
def test_a_samplers_frequencies_are_those_that_the_policy_reports(kind: str, observation_space: spaces.Space) -> None:
    """Sampling and evaluating are different code: a mismatch would be an off-policy run that nothing shows."""
    policy = make(ACTIONS[kind], observation_space)
    with th.no_grad():
        policy.action_net.weight.normal_(std=0.3)
        policy.action_net.bias.normal_(std=0.7)
        if kind == "box":
            policy.log_std.copy_(th.tensor([-0.5, 0.3]))
    one = some(observation_space, 1)
    count = 1500
    repeated = (
        {k: v.numpy().repeat(count, 0) for k, v in one.items()} if isinstance(one, dict) else one.numpy().repeat(count, 0)
    )
    th.manual_seed(1)
    actions = policy.make_sampler(np.random.default_rng(1))(repeated, np.arange(count))
    tensors = {k: th.as_tensor(v) for k, v in repeated.items()} if isinstance(repeated, dict) else th.as_tensor(repeated)
    with th.no_grad():
        log_prob = policy.evaluate_decisions(tensors, th.as_tensor(actions)).log_prob[:, 0].numpy()
        entropy = policy.evaluate_decisions(tensors, th.as_tensor(actions)).entropy[:, 0].numpy()
    # E[-log p] under p is the entropy; and for the discrete kinds each action is as frequent as its probability says
    assert -log_prob.mean() == pytest.approx(entropy.mean(), abs=float(4 * log_prob.std() / np.sqrt(count) + 1e-4))
    if kind != "box":
        rows, first, counts = np.unique(actions.reshape(count, -1), axis=0, return_index=True, return_counts=True)
        for i, frequency in zip(first, counts / count, strict=True):
            p = np.exp(log_prob[i])
            assert frequency == pytest.approx(p, abs=float(4.5 * np.sqrt(p * (1 - p) / count) + 1e-3))
        assert len(rows) > 1


def test_gsde_gives_each_copy_its_own_matrix_whichever_copies_are_left() -> None:
    policy = make(ACTIONS["box"], use_sde=True)
    th.manual_seed(3)
    policy.reset_noise(4)
    sample = policy.make_sampler(np.random.default_rng(0))
    seen = some(BOX, 4).numpy()
    everyone = sample(seen, np.arange(4))
    np.testing.assert_allclose(sample(seen[[1, 3]], np.array([1, 3])), everyone[[1, 3]], atol=1e-5)
    np.testing.assert_allclose(sample(seen[[2]], np.array([2])), everyone[[2]], atol=1e-5)
    np.testing.assert_allclose(sample(seen, np.arange(4)), everyone, atol=1e-5)
    greedy = policy.make_sampler(np.random.default_rng(0), deterministic=True)(seen, np.arange(4))
    np.testing.assert_allclose(greedy, policy.predict(seen, deterministic=True)[0], atol=1e-5)


def test_actions_are_clipped_for_the_environment_but_not_for_learning() -> None:
    policy = make(ACTIONS["box"])
    sampled = np.array([[-3.0, 0.5], [0.25, 7.0]], dtype=np.float32)
    assert policy.to_env(sampled).tolist() == [[-1.0, 0.5], [0.25, 1.0]]
    assert sampled.tolist() == [[-3.0, 0.5], [0.25, 7.0]]
    squashed = make(spaces.Box(-2.0, 6.0, (1,), np.float32), use_sde=True, squash_output=True)
    # -1 … 1 is stretched to -2 … 6
    assert squashed.to_env(np.array([[-1.0], [0.0], [1.0]], dtype=np.float32)).tolist() == [[-2.0], [2.0], [6.0]]


# ---------------------------------------------------------------- actor and critic


def test_actor_and_critic_share_no_parameter_and_forget_none() -> None:
    for policy in every_policy():
        actor, critic = {id(p) for p in policy.actor_parameters()}, {id(p) for p in policy.critic_parameters()}
        assert actor
        assert critic
        assert not actor & critic
        assert actor | critic == {id(p) for p in policy.parameters()}
        assert {id(p) for group in policy.optimizer.param_groups for p in group["params"]} == actor
        assert {id(p) for group in policy.critic_optimizer.param_groups for p in group["params"]} == critic


def test_each_loss_trains_its_own_parameters_and_all_of_them() -> None:
    for policy in every_policy():
        space = policy.observation_space
        seen, taken = some(space, 6), some(policy.action_space, 6)
        # SB3 starts value heads and action heads small; any weight may still be reached
        policy.context_value_logits(seen).sum().backward()
        assert all(p.grad is None or not p.grad.any() for p in policy.actor_parameters())
        assert any(p.grad is not None and p.grad.any() for p in policy.critic_parameters())
        assert policy.value_net.weight.grad is not None
        policy.zero_grad()
        evaluation = policy.evaluate_decisions(seen, taken)
        evaluation.log_prob.sum().backward()
        assert all(p.grad is None or not p.grad.any() for p in policy.critic_parameters())
        assert any(p.grad is not None and p.grad.any() for p in policy.actor_parameters())
        assert policy.action_net.bias.grad is not None


@pytest.mark.parametrize("observation_space", [BOX, DICT, IMAGE], ids=["box", "dict", "image"])
def test_training_the_critic_leaves_the_policy_as_it_was(observation_space: spaces.Space) -> None:
    for shared in (False, True):
        policy = make(ACTIONS["discrete"], observation_space, share_features_extractor=shared)
        seen, taken = some(policy.observation_space, 6), some(ACTIONS["discrete"], 6)
        before = policy.evaluate_decisions(seen, taken).log_prob.detach()
        values = policy.predict_values(seen).detach()
        for _ in range(3):
            policy.critic_optimizer.zero_grad()
            policy.context_value_logits(seen).sum().backward()
            policy.critic_optimizer.step()
        assert th.equal(policy.evaluate_decisions(seen, taken).log_prob, before)
        assert not th.allclose(policy.predict_values(seen), values)


def test_sb3s_own_policy_interface_is_kept() -> None:
    for policy in every_policy():
        seen = some(policy.observation_space, 5)
        actions, values, log_prob = policy(seen)
        again_values, again_log_prob, entropy = policy.evaluate_actions(seen, actions)
        assert values.shape == again_values.shape == (5, 1)
        assert log_prob.shape == again_log_prob.shape == entropy.shape == (5,)
        th.testing.assert_close(values, again_values)
        th.testing.assert_close(log_prob, again_log_prob)
        th.testing.assert_close(values, policy.predict_values(seen))
        assert ((values > 0) & (values < 1)).all(), "a probability, not a logit"


def test_a_policy_class_of_sb3s_kind_is_taken_and_another_refused() -> None:
    class Mine(ActorCriticPolicy):
        """A user's policy."""

        def __init__(self, *args: Any, **kwargs: Any):
            super().__init__(*args, net_arch=[5], **kwargs)

    model = SPPO(Mine, dummy(MatchEnv, 2), n_episodes=4, seed=0).learn(8)
    assert isinstance(model.policy, SequencePolicy)
    assert isinstance(model.policy, Mine)
    assert model.policy.action_net.in_features == 5
    assert as_sequence_policy(MlpPolicy) is MlpPolicy
    with pytest.raises(ValueError, match=r"TD3Policy.*SequencePolicy"):
        as_sequence_policy(TD3Policy)


def test_a_fresh_actor_is_initialised_as_sb3s() -> None:
    """Same seed and same architecture: a difference between the two in a comparison must come from the algorithms."""
    env = dummy(MatchEnv, 2)
    ours, theirs = SPPO("MlpPolicy", env, seed=3).policy, Sb3PPO("MlpPolicy", env, seed=3, device="cpu").policy
    for module in ("action_net",):
        th.testing.assert_close(getattr(ours, module).state_dict(), getattr(theirs, module).state_dict())
    th.testing.assert_close(ours.mlp_extractor.policy_net.state_dict(), theirs.mlp_extractor.policy_net.state_dict())
    assert ours.optimizer.defaults["eps"] == theirs.optimizer.defaults["eps"]


@pytest.mark.parametrize("kind", ACTIONS)
@pytest.mark.parametrize(
    "observation_space", [BOX, DICT, spaces.Discrete(5), spaces.MultiBinary(4)], ids=["box", "dict", "disc", "bin"]
)
def test_every_space_trains(kind: str, observation_space: spaces.Space) -> None:
    name = "MultiInputPolicy" if isinstance(observation_space, spaces.Dict) else "MlpPolicy"
    model = SPPO(
        name, dummy(lambda: SpaceEnv(observation_space, ACTIONS[kind]), 3), n_episodes=5, batch_size=2, n_epochs=2, seed=0
    )
    before = th.nn.utils.parameters_to_vector(model.policy.actor_parameters()).clone()
    model.learn(20)
    assert not th.equal(before, th.nn.utils.parameters_to_vector(model.policy.actor_parameters()))


# ---------------------------------------------------------------- the critic's units


def test_value_scale_is_a_sigmoid_at_first() -> None:
    scale = ValueScale()
    assert scale.is_probability
    th.testing.assert_close(scale(th.tensor([0.0, 2.0])), th.tensor([0.5, 1.0 / (1.0 + np.exp(-2.0))], dtype=th.float32))


@pytest.mark.parametrize("offset", [0.0, -300.0])
def test_running_statistics_equal_numpys_over_all_batches(offset: float) -> None:
    rng = np.random.default_rng(0)
    batches = [rng.normal(offset + 10 * i, 1 + i, size=n).astype(np.float32) for i, n in enumerate([5, 1, 64, 2, 17])]
    scale = ValueScale()
    for i, batch in enumerate(batches):
        scale.use_returns(th.as_tensor(batch))
        everything = np.concatenate(batches[: i + 1]).astype(np.float64)
        assert scale.mean.item() == pytest.approx(everything.mean(), rel=1e-5, abs=1e-4)
        assert scale.std.item() == pytest.approx(everything.std(), rel=1e-4)
        assert scale.count.item() == len(everything)
    assert not scale.is_probability
    outputs = th.tensor([-1.0, 0.0, 2.0])
    th.testing.assert_close(scale(outputs), scale.mean + outputs * scale.std)
    th.testing.assert_close(scale.normalize(scale(outputs)), outputs, atol=1e-4, rtol=0)


def test_equal_returns_do_not_divide_by_zero() -> None:
    scale = ValueScale()
    scale.use_returns(th.full((8,), 3.0))
    assert th.isfinite(scale.normalize(th.tensor([3.0, 4.0]))).all()
    assert scale(th.zeros(1)).item() == pytest.approx(3.0)


@pytest.mark.parametrize("value", [0.02, 0.5, 0.9])
def test_initial_value_of_a_probability(value: float) -> None:
    policy = make(ACTIONS["discrete"])
    policy.set_initial_value(value)
    th.testing.assert_close(policy.predict_values(some(BOX, 7)), th.full((7, 1), value))


def test_initial_value_of_returns() -> None:
    policy = make(ACTIONS["discrete"])
    policy.value_scale.use_returns(th.tensor([-100.0, -50.0, 30.0]))
    policy.set_initial_value(-70.0)
    th.testing.assert_close(policy.predict_values(some(BOX, 7)), th.full((7, 1), -70.0), atol=1e-3, rtol=0)


@pytest.mark.parametrize("value", [0.0, 1.0, -0.5, 3.0])
def test_an_initial_probability_must_leave_room_to_learn(value: float) -> None:
    with pytest.raises(ValueError, match=rf"strictly between 0 and 1, got {value:g}"):
        make(ACTIONS["discrete"]).set_initial_value(value)


def test_the_scale_travels_with_the_parameters() -> None:
    policy, other = make(ACTIONS["discrete"]), make(ACTIONS["discrete"])
    policy.value_scale.use_returns(th.tensor([10.0, 30.0]))
    other.load_state_dict(policy.state_dict())
    assert not other.value_scale.is_probability
    seen = some(BOX, 3)
    th.testing.assert_close(other.predict_values(seen), policy.predict_values(seen))


def test_chunks_cover_every_row_once() -> None:
    policy = make(ACTIONS["discrete"])
    policy.chunk_size = 7
    rows = th.arange(100, 123)
    parts = list(policy.chunks(rows, th.zeros(len(rows), 1)))
    assert th.cat(parts).tolist() == rows.tolist()
    assert max(len(part) for part in parts) == 7
    assert isinstance(policy, nn.Module)


@pytest.mark.parametrize("shape", [(), (2, 3)])
@pytest.mark.parametrize("use_sde", [False, True])
def test_box_actions_of_any_shape_train(shape: tuple[int, ...], use_sde: bool) -> None:
    env = dummy(lambda: SpaceEnv(BOX, spaces.Box(-1.0, 1.0, shape, np.float32)), 2)
    batches = spy(model := SPPO("MlpPolicy", env, n_episodes=4, use_sde=use_sde, seed=0))
    model.learn(12)
    assert batches[0].actions.shape == (12, *shape)
