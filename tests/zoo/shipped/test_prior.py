"""Priors: files, cards, and algorithms that start from them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3 import PPO as StableBaselinesPPO
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import nn

import sppo_rl.zoo as zoo
from sppo_rl import GRPO, PPO, RLOO, SPPO, ReMax
from sppo_rl.evaluation import evaluate, wilson_interval
from sppo_rl.zoo.cli import main
from sppo_rl.zoo.imitation.priors import RECIPES
from sppo_rl.zoo.shipped.prior import FOLDER, actor_weights, copy_weights, read_weights, write_weights
from sppo_rl.zoo.shipped.prior_card import PriorCard, SuccessRate

IDS = [
    "sppo_rl/Hopper-v0",
    "sppo_rl/LunarLander-v0",
    "sppo_rl/MountainCar-v0",
    "sppo_rl/Pendulum-v0",
    "sppo_rl/PrecisionCartPole-v0",
    "sppo_rl/PrecisionCartPole200-v0",
]
EPISODES = {"sppo_rl/Hopper-v0": 24, "sppo_rl/LunarLander-v0": 60}
CART = "sppo_rl/PrecisionCartPole200-v0"


def prior_file(env_id: str) -> Path:
    return FOLDER / (env_id.replace("/", "-") + ".npz")


def test_every_task_has_a_prior() -> None:
    assert zoo.list_priors() == IDS
    assert sorted(RECIPES) == IDS


@pytest.mark.parametrize("env_id", IDS)
def test_files_are_small_plain_float32(env_id: str) -> None:
    assert prior_file(env_id).stat().st_size < 100_000
    for name, array in np.load(prior_file(env_id), allow_pickle=False).items():
        assert array.dtype == np.float32, name
        assert np.isfinite(array).all(), name


@pytest.mark.parametrize("env_id", IDS)
def test_card_says_what_it_must(env_id: str) -> None:
    card = PriorCard.read(prior_file(env_id))
    assert card.env_id == env_id
    assert f"--env {env_id}" in card.command
    assert f"--target {card.target:g} --seed" in card.command
    for rate in (card.sampled, card.greedy, card.untrained):
        assert rate.episodes == 2000
    assert 0.1 <= card.sampled.rate <= 0.45
    assert card.untrained.interval[1] < card.sampled.interval[0], "a prior has to be better than chance"
    assert card.expert_success.rate > card.sampled.rate
    text = prior_file(env_id).with_suffix(".md").read_text(encoding="utf-8")
    assert text == card.markdown()
    low, high = wilson_interval(card.sampled.successes, 2000)
    assert f"{card.sampled.successes / 2000:.3f} [{low:.3f}, {high:.3f}]" in text


@pytest.mark.parametrize("env_id", IDS)
def test_shipped_prior_has_the_success_rate_of_its_card(env_id: str) -> None:
    """Other episodes than those on the card; the two 99.9 % intervals have to meet."""
    card = PriorCard.read(prior_file(env_id))
    episodes = EPISODES.get(env_id, 300)
    seen = evaluate(zoo.load_prior(env_id, n_episodes=8, seed=0, device="cpu"), env_id, episodes, seed=77)
    assert seen.successes is not None
    low, high = wilson_interval(int(seen.successes.sum()), episodes, confidence=0.999)
    card_low, card_high = wilson_interval(card.sampled.successes, card.sampled.episodes, confidence=0.999)
    assert low <= card_high
    assert card_low <= high


@pytest.mark.parametrize("env_id", IDS)
def test_prior_starts_learning_from_its_weights(env_id: str) -> None:
    model = zoo.load_prior(env_id, seed=3, device="cpu")
    assert isinstance(model, SPPO)
    weights = zoo.prior_weights(env_id)
    # the network of the file, written out in NumPy
    observations = np.random.default_rng(0).normal(size=(16, *model.observation_space.shape)).astype(np.float32)  # type: ignore[misc]
    hidden = observations
    for layer in (0, 2):
        prefix = f"mlp_extractor.policy_net.{layer}."
        hidden = np.tanh(hidden @ weights[prefix + "weight"].T + weights[prefix + "bias"])
    outputs = hidden @ weights["action_net.weight"].T + weights["action_net.bias"]
    actions, _ = model.predict(observations, deterministic=True)
    if isinstance(model.action_space, gym.spaces.Discrete):
        np.testing.assert_array_equal(actions, outputs.argmax(axis=1))
    else:
        assert isinstance(model.action_space, gym.spaces.Box)
        np.testing.assert_allclose(actions, np.clip(outputs, model.action_space.low, model.action_space.high), atol=1e-5)


def test_learning_moves_away_from_the_prior() -> None:
    settings = {"n_episodes": 32, "batch_size": 32, "n_epochs": 4, "learning_rate": 1e-3}
    model = zoo.load_prior(CART, seed=0, device="cpu", **settings)
    model.learn(1)
    assert model._n_updates == 1
    after = actor_weights(model.policy)  # type: ignore[arg-type]
    moved = [np.abs(after[name] - array).max() for name, array in zoo.prior_weights(CART).items()]
    # at most four steps of Adam at the rate of 1e-3
    assert all(0.0 < distance < 0.01 for distance in moved)


def test_the_critic_starts_fresh() -> None:
    model = zoo.load_prior(CART, seed=5, device="cpu")
    random = SPPO("MlpPolicy", CART, seed=5, device="cpu")
    for loaded, fresh in zip(model.policy.critic_parameters(), random.policy.critic_parameters(), strict=True):
        assert th.equal(loaded, fresh)


@pytest.mark.parametrize(
    ("algo", "cls"), [("sppo", SPPO), ("ppo", PPO), ("grpo", GRPO), ("rloo", RLOO), ("remax", ReMax), (GRPO, GRPO)]
)
def test_every_algorithm_starts_from_it(algo: str | type[SPPO], cls: type[SPPO]) -> None:
    model = zoo.load_prior(CART, algo=algo, seed=0, device="cpu")
    assert type(model) is cls
    assert model.n_episodes == 64, "as in the paper"
    for name, array in actor_weights(model.policy).items():  # type: ignore[arg-type]
        np.testing.assert_array_equal(array, zoo.prior_weights(CART)[name])


def test_own_class_own_environment_own_settings() -> None:
    class Mine(SPPO):
        """Has no entry among the hyperparameter files."""

    env = gym.make(CART)
    model = zoo.load_prior(CART, algo=Mine, env=env, n_episodes=4, learning_rate=0.5, device="cpu")
    assert type(model) is Mine
    assert (model.n_episodes, model.learning_rate) == (4, 0.5)
    assert model.env is not None
    assert model.env.num_envs == 1


def test_into_stable_baselines_ppo() -> None:
    model = StableBaselinesPPO("MlpPolicy", CART, seed=0, device="cpu", n_steps=64)
    critic = model.policy.value_net.weight.detach().clone()
    zoo.copy_prior_into(model.policy, CART)
    assert th.equal(critic, model.policy.value_net.weight)
    ours = zoo.load_prior(CART, device="cpu")
    observations = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    np.testing.assert_array_equal(
        model.predict(observations, deterministic=True)[0], ours.predict(observations, deterministic=True)[0]
    )
    model.learn(64)


def test_unknown_ids_say_what_exists() -> None:
    with pytest.raises(
        FileNotFoundError, match=r"no prior for 'sppo_rl/Pendlum-v0'.*Did you mean 'sppo_rl/Pendulum-v0'.*Hopper"
    ):
        zoo.load_prior("sppo_rl/Pendlum-v0")
    with pytest.raises(FileNotFoundError, match="CartPole-v1"):
        zoo.prior_weights("CartPole-v1")


def test_another_network_is_named() -> None:
    with pytest.raises(ValueError, match=r"policy_net\.0\.weight is \(64, 4\) in the prior and \(32, 4\) here.*pi=\[64, 64\]"):
        zoo.load_prior(CART, policy_kwargs={"net_arch": [32, 32]})
    with pytest.raises(ValueError, match=r"policy_net\.4\.bias is absent in the prior and \(64,\) here"):
        zoo.load_prior(CART, policy_kwargs={"net_arch": [64, 64, 64]})
    # the critic may be of any size
    zoo.load_prior(CART, policy_kwargs={"net_arch": {"pi": [64, 64], "vf": [8]}})


def test_another_activation_function_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The weights would fit, and be another actor."""

    class WithReLU(ActorCriticPolicy):
        def __init__(self, *args: Any, **kwargs: Any):
            super().__init__(*args, activation_fn=nn.ReLU, **kwargs)

    message = r"have Tanh between them and this policy's ReLU.*activation_fn, nn\.Tanh, or .*--no-prior.*prior:False"
    for settings in ({"policy_kwargs": {"activation_fn": nn.ReLU}}, {"policy": WithReLU}):
        with pytest.raises(ValueError, match=message):
            zoo.load_prior(CART, n_episodes=1, device="cpu", **settings)
    others = StableBaselinesPPO("MlpPolicy", CART, device="cpu", policy_kwargs={"activation_fn": nn.ReLU})
    with pytest.raises(ValueError, match=message):
        zoo.copy_prior_into(others.policy, CART)
    words = ["train", "--env", CART, "--episodes", "8", "--eval-episodes", "1", "-f", str(tmp_path / "logs")]
    words += ["--hyperparams", "policy_kwargs=dict(activation_fn=nn.ReLU)", "n_episodes=8"]
    assert main(words) == 1
    assert "Tanh between them and this policy's ReLU" in capsys.readouterr().err
    assert not (tmp_path / "logs").exists()
    assert main([*words, "--no-prior"]) == 0
    for same in (nn.Tanh, partial(nn.Tanh)):
        zoo.load_prior(CART, n_episodes=1, policy_kwargs={"activation_fn": same})


def test_a_file_without_a_card_may_be_of_any_network(tmp_path: Path) -> None:
    settings = {"n_episodes": 1, "device": "cpu", "policy_kwargs": {"activation_fn": nn.ReLU}}
    policy = SPPO("MlpPolicy", CART, seed=1, **settings).policy
    assert isinstance(policy, ActorCriticPolicy)
    write_weights(tmp_path / "mine.npz", actor_weights(policy))
    again = zoo.load_prior(CART, path=tmp_path / "mine.npz", **settings).policy
    observations = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    np.testing.assert_array_equal(*(of.predict(observations, deterministic=True)[0] for of in (policy, again)))


def test_unknown_and_foreign_algorithms_are_named() -> None:
    with pytest.raises(ValueError, match=r"no algorithm 'spo'.*Did you mean 'sppo'"):
        zoo.load_prior(CART, algo="spo")
    with pytest.raises(ValueError, match="copy_prior_into"):
        zoo.load_prior(CART, algo="sb3-ppo")


def test_files_hold_what_was_written_and_nothing_else(tmp_path: Path) -> None:
    policy = SPPO("MlpPolicy", "sppo_rl/Pendulum-v0", n_episodes=1, seed=1, device="cpu").policy
    assert isinstance(policy, ActorCriticPolicy)
    weights = actor_weights(policy)
    write_weights(tmp_path / "a.npz", weights)
    write_weights(tmp_path / "b.npz", dict(reversed(list(weights.items()))))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    other = SPPO("MlpPolicy", "sppo_rl/Pendulum-v0", n_episodes=1, seed=2, device="cpu").policy
    assert isinstance(other, ActorCriticPolicy)
    copy_weights(other, read_weights(tmp_path / "a.npz"))
    again = actor_weights(other)
    assert again.keys() == weights.keys()
    assert len(again) == 7, "three layers, and the standard deviation"
    for name, array in weights.items():
        np.testing.assert_array_equal(again[name], array)


def test_card_round_trip(tmp_path: Path) -> None:
    rates = [SuccessRate(count, 10, 7) for count in (3, 4, 0, 10, 9)]
    card = PriorCard(
        "sppo_rl/X-v0", "sppo-rl pretrain", "2026-01-02", "net", "ex", "dem", "clo", 0.3, *rates, versions={"torch": "2"}
    )
    card.write(tmp_path / "x.npz")
    assert PriorCard.read(tmp_path / "x.npz") == card
