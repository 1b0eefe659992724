"""Wherever SB3's PPO stands, SPPO and the baselines can stand: spaces, policies, wrappers, gSDE, predictions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor, NatureCNN
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecTransposeImage,
    is_vecenv_wrapped,
)
from torch import nn

from sppo_rl import GRPO, PPO, RLOO, SPPO, ReMax
from sppo_rl.algorithm import SequenceAlgorithm
from sppo_rl.evaluation import evaluate
from tests.helpers import MatchEnv, SpaceEnv, TraceEnv, dummy

ALGORITHMS: dict[str, Callable[..., SequenceAlgorithm]] = {
    "SPPO": partial(SPPO, n_episodes=4),
    "PPO": partial(PPO, n_episodes=4),
    "GRPO": partial(GRPO, n_episodes=4, group_size=2),
    "RLOO": partial(RLOO, n_episodes=4, group_size=2),
    "ReMax": partial(ReMax, n_episodes=4),
}
every_algorithm = pytest.mark.parametrize("make", ALGORITHMS.values(), ids=list(ALGORITHMS))

BOX = spaces.Box(-1.0, 1.0, (3,), np.float32)
CHANNELS_LAST = spaces.Box(0, 255, (40, 38, 3), np.uint8)
ACTION_SPACES: dict[str, spaces.Space] = {
    "box": spaces.Box(-2.0, 1.0, (2,), np.float32),
    "box64": spaces.Box(-1.0, 1.0, (2,), np.float64),
    "matrix": spaces.Box(-1.0, 1.0, (2, 2), np.float32),
    "discrete": spaces.Discrete(3),
    "multi-discrete": spaces.MultiDiscrete([2, 3]),
    "multi-binary": spaces.MultiBinary(3),
}
OBSERVATION_SPACES: dict[str, spaces.Space] = {
    "box": BOX,
    "box64": spaces.Box(-1.0, 1.0, (2, 2), np.float64),
    "integers": spaces.Box(0, 9, (4,), np.int64),
    "discrete": spaces.Discrete(4),
    "multi-discrete": spaces.MultiDiscrete([2, 5]),
    "multi-binary": spaces.MultiBinary(3),
    "dict": spaces.Dict({"vector": BOX, "number": spaces.Discrete(3)}),
    "dict with image": spaces.Dict({"image": CHANNELS_LAST, "vector": BOX}),
    "image": CHANNELS_LAST,
    "image, channels first": spaces.Box(0, 255, (3, 40, 38), np.uint8),
}
SMALL = {"net_arch": [8]}


def policy_for(space: spaces.Space) -> str:
    if isinstance(space, spaces.Dict):
        return "MultiInputPolicy"
    return "CnnPolicy" if len(space.shape or ()) == 3 else "MlpPolicy"


def space_env(observation_space: spaces.Space, action_space: spaces.Space = ACTION_SPACES["discrete"]) -> SpaceEnv:
    return SpaceEnv(observation_space, action_space, length=3)


def parameters(model: BaseAlgorithm) -> th.Tensor:
    return th.nn.utils.parameters_to_vector(model.policy.parameters()).detach().clone()


# ---------------------------------------------------------------- spaces


@pytest.mark.parametrize("action_space", ACTION_SPACES.values(), ids=list(ACTION_SPACES))
@every_algorithm
def test_action_spaces(make: Callable[..., SequenceAlgorithm], action_space: spaces.Space) -> None:
    """:class:`SpaceEnv` refuses an action outside its space."""
    model = make("MlpPolicy", dummy(partial(space_env, BOX, action_space), 2), policy_kwargs=SMALL, seed=0)
    before = parameters(model)
    model.learn(20)
    assert model.num_timesteps >= 20
    if not isinstance(model, ReMax | GRPO | RLOO):  # all outcomes are 1, which teaches those without a critic nothing
        assert not th.equal(before, parameters(model))
    for deterministic in (True, False):
        action, state = model.predict(BOX.sample(), deterministic=deterministic)
        assert state is None
        assert action_space.contains(action.astype(action_space.dtype)) if action.shape else action_space.contains(int(action))


@every_algorithm
def test_choices_of_any_whole_type(make: Callable[..., SequenceAlgorithm]) -> None:
    env = MatchEnv(2)
    env.action_space = spaces.Discrete(2, dtype=np.uint8)
    model = make("MlpPolicy", dummy(lambda: env, 1), seed=0)
    before = parameters(model)
    model.learn(64)
    assert not th.equal(before, parameters(model))


@pytest.mark.parametrize("space", OBSERVATION_SPACES.values(), ids=list(OBSERVATION_SPACES))
@pytest.mark.parametrize("make", [ALGORITHMS["SPPO"], ALGORITHMS["GRPO"]], ids=["SPPO", "GRPO"])
def test_observation_spaces(make: Callable[..., SequenceAlgorithm], space: spaces.Space) -> None:
    model = make(policy_for(space), dummy(partial(space_env, space), 2), policy_kwargs=SMALL, n_epochs=1, seed=0).learn(13)
    assert model.num_timesteps >= 13
    env = model.get_env()
    assert env is not None
    evaluate_policy(model, env, n_eval_episodes=2, warn=False)
    # one observation as the environment gives it, images with their channels last, and a batch of two
    observation = space.sample()
    assert model.predict(observation)[0].shape == ()
    many: Any = (
        {key: np.stack([value, value]) for key, value in observation.items()}
        if isinstance(observation, dict)
        else np.stack([observation, observation])
    )
    assert model.predict(many)[0].shape == (2,)


@pytest.mark.parametrize("space", [CHANNELS_LAST, spaces.Dict({"image": CHANNELS_LAST, "vector": BOX})], ids=["box", "dict"])
def test_images_reach_the_network_with_their_channels_first(space: spaces.Space) -> None:
    model = SPPO(policy_for(space), dummy(partial(space_env, space), 1), n_episodes=1, policy_kwargs=SMALL)
    assert is_vecenv_wrapped(model.get_env(), VecTransposeImage)
    seen = model.observation_space
    image = seen["image"] if isinstance(seen, spaces.Dict) else seen
    assert image.shape == (3, 40, 38)
    extractor = model.policy.pi_features_extractor
    convolutions = extractor.extractors["image"] if isinstance(extractor, CombinedExtractor) else extractor
    assert isinstance(convolutions, NatureCNN)
    assert convolutions.cnn[0].in_channels == 3  # type: ignore[union-attr, index]


def test_an_action_space_of_another_kind_is_refused() -> None:
    with pytest.raises(AssertionError, match="action space"):
        SPPO("MlpPolicy", dummy(partial(space_env, BOX, spaces.Dict({"a": BOX})), 1))


# ---------------------------------------------------------------- policies


class Tower(nn.Module):
    """A network of the user's own between features and heads."""

    def __init__(self) -> None:
        super().__init__()
        self.latent_dim_pi, self.latent_dim_vf = 6, 5
        self.policy_net = nn.Sequential(nn.Linear(3, 6), nn.SiLU())
        self.value_net = nn.Sequential(nn.Linear(3, 5), nn.SiLU())

    def forward_actor(self, features: th.Tensor) -> th.Tensor:
        return self.policy_net(features)

    def forward_critic(self, features: th.Tensor) -> th.Tensor:
        return self.value_net(features)


class TowerPolicy(ActorCriticPolicy):
    """As SB3's documentation shows it."""

    def _build_mlp_extractor(self) -> None:
        self.mlp_extractor = Tower()  # type: ignore[assignment]


class Halving(BaseFeaturesExtractor):
    """Counts its instances: actor and critic have one each unless they share."""

    made: int = 0

    def __init__(self, observation_space: gym.Space, features_dim: int = 7):
        super().__init__(observation_space, features_dim)
        type(self).made += 1
        self.linear = nn.Linear(3, features_dim)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return 0.5 * self.linear(observations)


@every_algorithm
def test_a_policy_class_derived_from_sb3s(make: Callable[..., SequenceAlgorithm], tmp_path: Path) -> None:
    env = dummy(partial(gym.make, "Pendulum-v1", max_episode_steps=5), 2)
    model = make(TowerPolicy, env, seed=0)
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    model.learn(25)
    after = model.policy.state_dict()
    for name in ("mlp_extractor.policy_net.0.weight", "action_net.weight", "log_std"):
        assert not th.equal(before[name], after[name]), name
    has_critic = model.estimator.critic != "none"
    assert th.equal(before["mlp_extractor.value_net.0.weight"], after["mlp_extractor.value_net.0.weight"]) != has_critic
    model.save(tmp_path / "tower")
    loaded = type(model).load(tmp_path / "tower", env=env)
    assert isinstance(loaded.policy, TowerPolicy)
    assert th.equal(parameters(loaded), parameters(model))


class Decided(ActorCriticPolicy):
    """Sets in its constructor what SB3's users set there."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(
            *args, **kwargs, net_arch=[8], share_features_extractor=False, optimizer_kwargs={"eps": 1e-5, "weight_decay": 1e-3}
        )


class NoBias(ActorCriticPolicy):
    """Whose last layer has none."""

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        self.action_net = nn.Linear(self.mlp_extractor.latent_dim_pi, 1, bias=False)


@pytest.mark.parametrize("policy", [Decided, NoBias])
def test_policy_classes_that_decide_for_themselves(policy: type[ActorCriticPolicy], tmp_path: Path) -> None:
    env = dummy(partial(gym.make, "Pendulum-v1", max_episode_steps=5), 2)
    model = SPPO(policy, env, n_episodes=4, seed=0)
    before = parameters(model)
    model.learn(25)
    assert not th.equal(before, parameters(model))
    if policy is Decided:
        assert model.policy.optimizer.defaults["weight_decay"] == 1e-3
    evaluate(model, env, 2)
    model.save(tmp_path / "model")
    assert th.equal(parameters(SPPO.load(tmp_path / "model")), parameters(model))


def test_what_is_asked_for_and_cannot_be_had_is_an_error() -> None:
    env = dummy(partial(gym.make, "Pendulum-v1", max_episode_steps=5), 2)
    with pytest.raises(TypeError, match="share_features_extractor"):
        SPPO(Decided, env, n_episodes=4, policy_kwargs={"share_features_extractor": True})


@every_algorithm
def test_the_third_argument_is_the_learning_rate(make: Callable[..., SequenceAlgorithm]) -> None:
    model = make("MlpPolicy", dummy(partial(space_env, BOX), 2), 3e-4)
    assert model.learning_rate == 3e-4
    assert model.policy.optimizer.param_groups[0]["lr"] == 3e-4


def test_every_algorithm_has_the_same_learning_rate_by_default() -> None:
    made = [make("MlpPolicy", dummy(partial(space_env, BOX), 2)) for make in ALGORITHMS.values()]
    assert {model.learning_rate for model in made} == {1e-3}


@pytest.mark.parametrize("shared", [False, True])
def test_a_features_extractor_shared_or_not(shared: bool) -> None:
    Halving.made = 0
    kwargs = {
        "features_extractor_class": Halving,
        "features_extractor_kwargs": {"features_dim": 6},
        "share_features_extractor": shared,
    }
    model = SPPO("MlpPolicy", dummy(partial(space_env, BOX), 2), n_episodes=4, critic_warmup=1, policy_kwargs=kwargs, seed=0)
    assert Halving.made == (1 if shared else 2)
    policy = model.policy
    assert policy.mlp_extractor.policy_net[0].in_features == 6
    of_actor, of_critic = policy.pi_features_extractor.linear.weight, policy.vf_features_extractor.linear.weight
    assert (of_actor is of_critic) == shared
    before = of_actor.detach().clone()
    model.learn(1)
    assert th.equal(of_actor, before), "the critic alone was trained, and it does not train what it shares with the actor"


@pytest.mark.parametrize("optimizer", [th.optim.SGD, th.optim.RMSprop])
def test_optimizer_and_activation_are_the_users(optimizer: type[th.optim.Optimizer]) -> None:
    kwargs: dict[str, Any] = {
        "optimizer_class": optimizer,
        "optimizer_kwargs": {"weight_decay": 0.01},
        "activation_fn": nn.ELU,
        "net_arch": {"pi": [4], "vf": [5, 5]},
    }
    model = SPPO("MlpPolicy", dummy(MatchEnv, 2), n_episodes=4, policy_kwargs=kwargs, seed=0).learn(9)
    assert type(model.policy.optimizer) is type(model.policy.critic_optimizer) is optimizer
    assert model.policy.critic_optimizer.defaults["weight_decay"] == 0.01
    assert isinstance(model.policy.mlp_extractor.value_net[3], nn.ELU)


class Regularised(BaseFeaturesExtractor):
    """Batch normalisation and dropout: both behave differently in training."""

    def __init__(self, observation_space: gym.Space):
        super().__init__(observation_space, 3)
        self.layers = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(int(np.prod(observation_space.shape))), nn.Dropout(0.5))  # type: ignore[arg-type]

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return self.layers(observations)


@every_algorithm
def test_batch_normalisation_and_dropout_are_for_training_alone(make: Callable[..., SequenceAlgorithm]) -> None:
    kwargs = {"features_extractor_class": Regularised, "net_arch": [8]}
    model = make("MlpPolicy", dummy(partial(space_env, BOX), 2), policy_kwargs=kwargs, seed=0)
    extractor = model.policy.pi_features_extractor
    assert isinstance(extractor, Regularised)
    _, callback = model._setup_learn(1)
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    batch = model._collect(callback)
    assert batch is not None
    assert not model.policy.training
    for name, value in model.policy.state_dict().items():
        if not name.startswith("value_scale"):  # takes in the new outcomes
            assert th.equal(value, before[name]), f"collection changed {name}"
    again = model.policy.evaluate_decisions(batch.observations, batch.actions).log_prob
    th.testing.assert_close(again, batch.old_log_prob)
    model.train(batch)
    assert model.policy.training
    if model.estimator.critic != "none":  # equal outcomes leave the others nothing to pass through the network
        name = "vf_features_extractor.layers.1.running_mean"
        assert not th.equal(model.policy.state_dict()[name], before[name])
    observations = np.stack([BOX.sample() for _ in range(20)])
    once, twice = (model.predict(observations, deterministic=True)[0] for _ in range(2))
    assert np.array_equal(once, twice)


# ---------------------------------------------------------------- gSDE


@every_algorithm
@pytest.mark.parametrize("sample_freq", [-1, 3])
def test_gsde_with_copies_of_different_episode_length(make: Callable[..., SequenceAlgorithm], sample_freq: int) -> None:
    lengths = iter([3, 9, 5])
    env = DummyVecEnv([lambda: SpaceEnv(BOX, ACTION_SPACES["box"], length=next(lengths))] * 3)
    model = make("MlpPolicy", env, use_sde=True, sde_sample_freq=sample_freq, policy_kwargs=SMALL, seed=0)
    before = model.policy.log_std.detach().clone()
    model.learn(60)
    assert model.policy.log_std.shape == (8, 2)
    if model.estimator.critic != "none":
        assert not th.equal(before, model.policy.log_std)


@pytest.mark.parametrize("sample_freq", [-1, 2])
def test_gsde_keeps_a_copys_matrix_until_it_is_drawn_anew(sample_freq: int) -> None:
    """With an observation that never changes, the noise of a copy changes when its matrix does, and never otherwise."""

    class Still(SpaceEnv):
        """Always the same observation, episodes of its own length."""

        def step(self, action: Any) -> Any:
            return np.ones(3, np.float32), *super().step(action)[1:]

        def reset(self, **kwargs: Any) -> Any:
            super().reset(**kwargs)
            return np.ones(3, np.float32), {}

    lengths = iter([8, 2, 5])
    env = DummyVecEnv([lambda: Still(BOX, spaces.Box(-50.0, 50.0, (1,), np.float32), length=next(lengths))] * 3)
    model = SPPO("MlpPolicy", env, n_episodes=3, use_sde=True, sde_sample_freq=sample_freq, seed=0)
    _, callback = model._setup_learn(1)
    batch = model._collect(callback)
    assert batch is not None
    assert batch.lengths.tolist() == [8, 2, 5]
    rows = [batch.actions[batch.sequence == copy].flatten() for copy in range(3)]
    drawn = 1 if sample_freq == -1 else 4
    for actions, length in zip(rows, [8, 2, 5], strict=True):
        expected = 1 if sample_freq == -1 else -(-length // sample_freq)
        assert len(np.unique(actions.numpy().round(4))) == expected
    assert len({round(float(actions[0]), 4) for actions in rows}) == 3, "each copy explores in a way of its own"
    assert len(np.unique(rows[0].numpy().round(4))) == drawn


# ---------------------------------------------------------------- predict


def test_predict_knows_single_observations_from_batches() -> None:
    box = SPPO("MlpPolicy", "Pendulum-v1", policy_kwargs=SMALL, seed=0)
    assert box.predict(np.zeros(3, np.float32))[0].shape == (1,)
    assert box.predict(np.zeros((5, 3), np.float32))[0].shape == (5, 1)
    extreme = box.predict(np.full((200, 3), 1.0, np.float32))[0]
    assert ((extreme >= -2.0) & (extreme <= 2.0)).all()
    with pytest.raises(ValueError, match="Unexpected observation shape"):
        box.predict(np.zeros(4, np.float32))
    with pytest.raises(ValueError, match="mixing Gym API"):
        box.predict((np.zeros(3), {}))  # type: ignore[arg-type]


def test_evaluate_policy_agrees_with_the_environment() -> None:
    model: BaseAlgorithm = SPPO("MlpPolicy", dummy(MatchEnv, 2), n_episodes=4, policy_kwargs=SMALL, seed=0)
    returns, lengths = evaluate_policy(model, Monitor(TraceEnv()), n_eval_episodes=6, return_episode_rewards=True)
    assert isinstance(lengths, list)
    assert [bool(value) for value in returns] == [length > 1 for length in lengths]  # type: ignore[union-attr]


def test_a_grid_of_bits_as_an_action_is_refused_in_sb3s_words() -> None:
    with pytest.raises(AssertionError, match=r"Multi-dimensional MultiBinary.* action space is not supported"):
        SPPO("MlpPolicy", SpaceEnv(spaces.Box(-1.0, 1.0, (2,)), spaces.MultiBinary([2, 2])))
