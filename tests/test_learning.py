"""Every algorithm learns a small task in seconds, and would not with the wrong sign."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from sppo_rl import GRPO, PPO, RLOO, SPPO, ReMax
from sppo_rl.algorithm import SequenceAlgorithm
from sppo_rl.estimators import Advantages
from tests.helpers import MatchEnv, TraceBatch, dummy

STEPS = 3
"""A random policy succeeds once in eight."""


def match(algorithm: type[SequenceAlgorithm], box: bool = False, task: dict[str, Any] | None = None, **kwargs: Any) -> Any:
    """A model for three signs in a row."""
    env = dummy(lambda: MatchEnv(STEPS, box, **(task or {})), 8)
    return algorithm("MlpPolicy", env, n_episodes=32, learning_rate=6e-3, seed=0, policy_kwargs={"net_arch": [16]}, **kwargs)


def recent_success(model: Any) -> float:
    """Success of the last 100 sampled episodes."""
    assert len(model.ep_success_buffer) == 100
    return float(np.mean(model.ep_success_buffer))


def updates(count: int) -> int:
    return 32 * STEPS * count


@pytest.mark.parametrize(
    ("algorithm", "box", "options", "count"),
    [
        (SPPO, False, {}, 30),
        (SPPO, True, {}, 30),
        (SPPO, True, {"advantage": "standardized"}, 30),
        (SPPO, False, {"batch_size": 8, "loss_aggregation": "sequence-sum", "n_epochs": 2}, 30),
        (SPPO, False, {"group_size": 4, "critic_init": "first_batch"}, 30),
        (PPO, False, {}, 30),
        (PPO, True, {"critic_loss": "bce"}, 30),
        (GRPO, True, {}, 30),
        (RLOO, False, {}, 30),
        (ReMax, False, {}, 80),  # half of its steps are greedy episodes
    ],
    ids=["SPPO", "SPPO box", "standardized", "minibatches", "groups", "PPO", "PPO+BCE", "GRPO", "RLOO", "ReMax"],
)
def test_every_algorithm_learns(algorithm: type[SequenceAlgorithm], box: bool, options: dict[str, Any], count: int) -> None:
    model = match(algorithm, box, **options)
    model.learn(updates(count))
    assert recent_success(model) > 0.9


@pytest.mark.parametrize("algorithm", [SPPO, PPO, GRPO, RLOO, ReMax])
def test_the_wrong_sign_unlearns(algorithm: type[SequenceAlgorithm]) -> None:
    """The threshold above means something: with the advantage turned round the same budget ends below chance."""
    model = match(algorithm)
    estimator = model.estimator

    class Reversed(type(estimator)):  # type: ignore[misc]
        """The same, turned round."""

        def __call__(self, batch: Any) -> Advantages:
            advantages, targets = super().__call__(batch)
            return Advantages(-advantages, targets)

    model.estimator = Reversed(**vars(estimator))
    model.learn(updates(30))
    assert recent_success(model) < 0.1


def test_returns_in_any_units_are_learned_from() -> None:
    for offset, scale in ((-300.0, 200.0), (5000.0, 0.1)):
        model = match(SPPO, task={"offset": offset, "scale": scale}, critic_loss="mse")
        model.learn(updates(30))
        assert recent_success(model) > 0.9
        assert not model.policy.value_scale.is_probability


def test_auto_changes_to_returns_when_an_outcome_leaves_the_unit_interval() -> None:
    model = match(SPPO)
    model.learn(updates(1))
    assert model.policy.value_scale.is_probability
    for env in model.env.envs:
        env.unwrapped.offset, env.unwrapped.scale = -100.0, 50.0
    model.learn(updates(30), reset_num_timesteps=False)
    assert not model.policy.value_scale.is_probability
    assert recent_success(model) > 0.9
    # a context says nothing about success here, so the critic predicts about the mean of what it has seen of late
    values = model.policy.predict_values(th.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    assert ((values > -110.0) & (values < -40.0)).all()


@pytest.mark.parametrize("critic_loss", ["bce", "mse"])
def test_the_critic_learns_what_the_context_says_about_the_outcome(critic_loss: str) -> None:
    # here the first number of the context settles the outcome, whatever the actions
    model = SPPO(
        "MlpPolicy", TraceBatch(64), n_episodes=64, n_epochs=10, critic_learning_rate=1e-2, critic_loss=critic_loss, seed=0
    )
    model.learn(64 * 5 * 30)
    low, high = model.policy.predict_values(th.tensor([[0.2, 0.0], [0.8, 0.0]])).flatten().tolist()
    assert low < 0.15
    assert high > 0.85


def test_critic_warmup_leaves_the_actor_alone_through_learn() -> None:
    model = match(SPPO, critic_warmup=3)
    before = th.nn.utils.parameters_to_vector(model.policy.actor_parameters()).clone()
    model.learn(updates(3))
    assert th.equal(before, th.nn.utils.parameters_to_vector(model.policy.actor_parameters()))
    model.learn(updates(30), reset_num_timesteps=False)
    assert recent_success(model) > 0.9


def test_the_first_batch_gives_the_critic_its_initial_value() -> None:
    model = match(SPPO, critic_init="first_batch", critic_learning_rate=0.0)
    model.learn(updates(1))
    mean = float(np.mean(model.ep_success_buffer))
    th.testing.assert_close(model.policy.predict_values(th.randn(5, 2)), th.full((5, 1), mean))


def test_a_first_batch_of_failures_leaves_a_chance() -> None:
    model = match(SPPO, task={"scale": 0.0}, critic_init="first_batch", critic_learning_rate=0.0)
    model.learn(updates(1))
    # half a success in 32 episodes
    th.testing.assert_close(model.policy.predict_values(th.randn(2, 2)), th.full((2, 1), 0.5 / 32))


def test_sppo_learns_cartpole() -> None:
    """Returns far outside [0, 1]; a random policy lasts about 22 steps."""
    env = make_vec_env("CartPole-v1", 8, seed=0)
    model = SPPO("MlpPolicy", env, learning_rate=3e-3, seed=0)
    model.learn(60_000)
    assert model.ep_info_buffer is not None
    assert np.mean([info["r"] for info in model.ep_info_buffer]) > 150.0
    mean, _ = evaluate_policy(model, make_vec_env("CartPole-v1", 4, seed=1), n_eval_episodes=12)
    assert mean > 150.0
