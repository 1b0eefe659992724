"""The units of a critic: running statistics against NumPy's, in the precision that they need, and what is said when they change."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th

from sppo_rl import GRPO, SPPO
from sppo_rl.value_scale import ValueScale, initial_value
from tests.helpers import FixedRewardEnv, dummy


def test_statistics_are_those_of_all_returns_seen() -> None:
    scale, rng = ValueScale(), np.random.default_rng(0)
    parts = [rng.normal(-3000.0, 5.0, size) for size in (1, 7, 64)]
    for part in parts:
        scale.use_returns(th.as_tensor(part, dtype=th.float32))
    together = np.concatenate(parts)
    assert not scale.is_probability
    assert float(scale.mean) == pytest.approx(together.mean(), rel=1e-6)
    assert float(scale.std) == pytest.approx(together.std(), rel=1e-3)
    th.testing.assert_close(scale.forward(scale.normalize(th.tensor([-3001.0]))), th.tensor([-3001.0]))


@pytest.mark.parametrize("value", [-1234.567, -6044.3, -200.1, -200.0, 0.1, 1e6 / 3])
def test_equal_returns_are_no_surprise(value: float) -> None:
    """Single precision has no mean of them that is exactly theirs; what is left must not look like success or failure."""
    scale = ValueScale()
    for size in (10, 3):
        outcome = th.full((size,), value)
        scale.use_returns(outcome)
        assert scale.normalize(outcome).abs().max() < 0.01


def test_a_probability_again() -> None:
    scale, fresh = ValueScale(), ValueScale()
    scale.use_returns(th.tensor([-3.0, 5.0]))
    scale.use_probability()
    assert {name: float(value) for name, value in scale.state_dict().items()} == {
        name: float(value) for name, value in fresh.state_dict().items()
    }


def make(rewards: list[float], **kwargs: Any) -> SPPO:
    """Four episodes to an update, which pay these rewards."""
    return SPPO("MlpPolicy", dummy(partial(FixedRewardEnv, rewards), 1), n_episodes=4, n_epochs=1, seed=0, **kwargs)


def test_a_critic_that_changes_its_units_says_so() -> None:
    model = make([0.5]).learn(1)
    model.env.set_attr("rewards", [3.0])
    with pytest.warns(UserWarning, match=r"returned 3.*critic_loss='mse'"):
        model.learn(1, reset_num_timesteps=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.learn(1, reset_num_timesteps=False)
        make([3.0]).learn(1)


@pytest.mark.parametrize("critic_init", [None, 0.25])
def test_from_shaped_rewards_to_outcomes(critic_init: float | None, tmp_path: Path) -> None:
    make([-300.0]).learn(1).save(tmp_path / "model")
    kwargs: dict[str, Any] = {"env": dummy(partial(FixedRewardEnv, [1.0]), 1), "critic_init": critic_init}
    with pytest.warns(UserWarning, match=r"outcomes lie in \[0, 1\] now.*Load the model with critic_loss='bce'"):
        SPPO.load(tmp_path / "model", **kwargs).learn(1)
    model = SPPO.load(tmp_path / "model", critic_loss="bce", **kwargs)
    with pytest.warns(UserWarning, match="predicts a probability from now on"):
        model.learn(1, log_interval=None)
    assert model.policy.value_scale.is_probability
    assert 0.0 < model.logger.name_to_value["train/value_mean"] < 1.0
    if critic_init is not None:
        assert model.logger.name_to_value["train/value_mean"] == pytest.approx(critic_init)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.learn(1, reset_num_timesteps=False)


def test_a_task_that_is_being_learned_is_no_other_task() -> None:
    """From -1 to 1 in one run: the critic's units are as they were."""
    model = make([-1.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.learn(4)
        model.env.set_attr("rewards", [1.0])
        model.learn(4, reset_num_timesteps=False)


def test_a_critic_that_was_never_trained_changes_nothing(tmp_path: Path) -> None:
    env = dummy(partial(FixedRewardEnv, [3.0]), 1)
    GRPO("MlpPolicy", env, n_episodes=8, group_size=4, n_epochs=1, seed=0).learn(1).save(tmp_path / "grpo")
    with pytest.warns(UserWarning, match="saved by GRPO"):
        model = SPPO.load(tmp_path / "grpo", env=env, group_size=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.learn(1)
    assert not model.policy.value_scale.is_probability


@pytest.mark.parametrize(
    ("outcome", "is_probability", "expected"),
    [
        # at most half an episode away from certainty: 0.5 / 4
        ([0.0, 0.0, 0.0, 0.0], True, 0.125),
        ([1.0, 1.0, 1.0, 1.0], True, 0.875),
        ([0.0, 1.0, 0.0, 0.0], True, 0.25),
        ([-3.0, -1.0], False, -2.0),
    ],
)
def test_a_critic_begins_at_the_first_batchs_mean(outcome: list[float], is_probability: bool, expected: float) -> None:
    assert initial_value("first_batch", th.tensor(outcome), is_probability) == expected
    assert initial_value(0.3, th.tensor(outcome), is_probability) == 0.3
