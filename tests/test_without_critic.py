"""GRPO, RLOO and ReMax: a critic's settings do nothing, groups that agree leave no trace, and the reference is what training began with."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch as th

from sppo_rl import GRPO, RLOO, ReMax
from sppo_rl.algorithm import SequenceAlgorithm
from tests.helpers import MatchEnv, dummy
from tests.test_training import model_and_batch


@pytest.mark.parametrize(
    "kwargs",
    [
        {"critic_warmup": 100},
        {"critic_init": 0.0},
        {"critic_init": "first_batch"},
        {"critic_loss": "bce"},
        {"critic_loss": "mse"},
    ],
)
@pytest.mark.parametrize("algorithm", [GRPO, RLOO, ReMax])
def test_settings_of_a_critic_do_nothing_where_there_is_none(algorithm: type[SequenceAlgorithm], kwargs: Any) -> None:
    """One block of settings for all algorithms of a comparison must not cripple some."""

    def trained(**settings: Any) -> th.Tensor:
        env = dummy(lambda: MatchEnv(offset=-3.0 if "critic_loss" in kwargs else 0.0), 4)
        model = algorithm("MlpPolicy", env, n_episodes=16, learning_rate=0.01, seed=0, **settings).learn(64)
        return th.nn.utils.parameters_to_vector(model.policy.actor_parameters())

    assert th.equal(trained(**kwargs), trained())


def test_groups_that_agree_leave_no_trace_in_the_policys_figures() -> None:
    """Two groups of four, one of which agrees, in two minibatches: entropy and KL are those of the other one alone."""
    env = dummy(lambda: MatchEnv(steps=3), 2)
    model: Any = GRPO("MlpPolicy", env, n_episodes=8, group_size=4, batch_size=4, n_epochs=1, learning_rate=0.0, seed=0)
    _, batch = model_and_batch()
    agreeing = batch._replace(outcome=th.tensor([1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 1.0]), group=th.arange(8) // 4)
    model._setup_learn(1000)
    model.train(agreeing)
    log = model.logger.name_to_value
    assert log["train/entropy"] == pytest.approx(math.log(2), abs=0.05)
    model.logger.name_to_value.clear()
    model.train(batch._replace(outcome=th.ones(8), group=th.arange(8) // 4))
    assert "train/entropy" not in log
    assert log["train/policy_gradient_loss"] == 0.0


def test_a_reference_asked_for_after_loading_is_the_loaded_policy(tmp_path: Path) -> None:
    env = dummy(MatchEnv, 4)
    RLOO("MlpPolicy", env, n_episodes=16, seed=0).learn(32).save(tmp_path / "model.zip")
    model = RLOO.load(tmp_path / "model.zip", env=env, kl_coef=0.1)
    before = th.nn.utils.parameters_to_vector(model.policy.actor_parameters()).detach().clone()
    model.learn(32, reset_num_timesteps=False)
    assert th.equal(model.reference, before)
