"""An environment is taken in the same way by the constructor, by ``set_env`` and by ``load``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

from sppo_rl import SPPO
from sppo_rl.envs.reasoning import MathReasoningEnv, from_pairs
from tests.llm.conftest import TOKENIZER, tiny_config

CARTPOLE = "sppo_rl/PrecisionCartPole200-v0"


def test_an_env_id_with_a_batched_form_is_made_in_it() -> None:
    model = SPPO("MlpPolicy", "sppo_rl/PrecisionCartPole200-v0", n_episodes=6)
    assert model.env is not None
    assert model.env.num_envs == 6
    assert not hasattr(model.env, "envs")


@pytest.mark.parametrize(("env_id", "copies"), [("sppo_rl/PrecisionCartPole200-v0", 8), ("CartPole-v1", 1)])
def test_loading_takes_an_id_as_the_constructor_does(env_id: str, copies: int, tmp_path: Path) -> None:
    model = SPPO("MlpPolicy", env_id, n_episodes=8, n_epochs=1, seed=0).learn(1)
    model.save(tmp_path / "model")
    loaded = SPPO.load(tmp_path / "model", env=env_id)
    assert loaded.env is not None
    assert loaded.env.num_envs == copies
    loaded.learn(1, reset_num_timesteps=False)
    assert loaded.num_episodes == model.num_episodes + 8


@pytest.mark.parametrize(
    ("make_env", "copies"),
    [(lambda: CARTPOLE, 4), (lambda: gym.make(CARTPOLE), 1), (lambda: gym.make("CartPole-v1"), 1), (lambda: "CartPole-v1", 1)],
    ids=["id with a batched form", "its plain environment", "plain environment", "plain id"],
)
def test_set_env_makes_as_many_copies_as_it_needs(make_env: Any, copies: int) -> None:
    name = "CartPole-v1" if "CartPole-v1" in str(make_env()) else CARTPOLE
    model = SPPO("MlpPolicy", name, n_episodes=4, n_epochs=1, max_episode_steps=50, seed=0)
    for _ in range(2):  # from one copy to four, and back
        model.set_env(make_env())
        assert model.env is not None
        assert model.env.num_envs == model.n_envs == copies
        model.learn(1, reset_num_timesteps=False)
    assert model.num_episodes == 8


def test_an_environment_that_does_not_fit_changes_nothing() -> None:
    model = SPPO("MlpPolicy", CARTPOLE, n_episodes=4, n_epochs=1, seed=0)
    with pytest.raises(ValueError, match="spaces do not match"):
        model.set_env("Pendulum-v1")
    assert model.env is not None
    model.set_env(model.env)
    assert model.learn(1).num_episodes == 4


def reasoning() -> MathReasoningEnv:
    return MathReasoningEnv(from_pairs([(str(number), str(number)) for number in range(8)]), TOKENIZER, 8, 4)


def test_problems_come_in_the_order_of_the_seed_however_the_environment_is_given(tmp_path: Path) -> None:
    model = SPPO("TransformerPolicy", reasoning(), n_episodes=4, policy_kwargs={"model": tiny_config()}, seed=3, device="cpu")
    assert model.env is not None
    model.save(tmp_path / "model")
    for env in (reasoning(), reasoning().batched(4)):
        loaded = SPPO.load(tmp_path / "model", env=env, device="cpu")
        assert loaded.env is not None
        assert loaded.env.order.seed == model.env.order.seed == 3  # type: ignore[attr-defined]
    model.set_env(reasoning())
    assert model.env.num_envs == 4
