"""The batched interface seen as SB3 sees it: auto-reset, seeds, episode statistics, registration by id."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from sppo_rl.vec_env import has_batched_form, make_batched, register_batched
from tests.helpers import TraceBatch, TraceEnv


@pytest.fixture
def batched_id() -> Any:
    """An id registered for one test."""
    gym.register("tests/Trace-v0", entry_point=TraceEnv)
    register_batched("tests/Trace-v0", "tests.helpers:TraceBatch", longest=7)
    yield "tests/Trace-v0"
    del gym.registry["tests/Trace-v0"]


def test_stepping_everyone_equals_sb3s_dummy_vec_env() -> None:
    """Same seeds, same actions: observations, rewards, dones, terminal observations and statistics agree for 60 steps."""
    batch, dummy = TraceBatch(5), DummyVecEnv([lambda: Monitor(TraceEnv())] * 5)
    batch.seed(3)
    dummy.seed(3)
    np.testing.assert_array_equal(batch.reset(), dummy.reset())
    rng = np.random.default_rng(0)
    ended = 0
    for _ in range(60):
        actions = rng.integers(3, size=5)
        ours, theirs = batch.step(actions), dummy.step(actions)
        for mine, other in zip(ours[:3], theirs[:3], strict=True):
            np.testing.assert_array_equal(mine, other)
        for mine, other in zip(ours[3], theirs[3], strict=True):
            assert ("episode" in mine) == ("episode" in other)
            if "episode" in mine:
                ended += 1
                np.testing.assert_array_equal(mine["terminal_observation"], other["terminal_observation"])
                assert mine["is_success"] == other["is_success"]
                assert mine["episode"]["r"] == other["episode"]["r"]
                assert mine["episode"]["l"] == other["episode"]["l"]
    assert ended > 20


def test_seeds_hold_for_one_reset() -> None:
    batch = TraceBatch(3)
    batch.seed(11)
    first = batch.reset()
    assert batch.seeds_used == [11, 12, 13]
    second = batch.reset()
    assert batch.seeds_used[3:] == [None] * 3
    assert not np.array_equal(first, second)


def test_a_reset_forgets_unfinished_episodes() -> None:
    batch = TraceBatch(4)
    batch.seed(0)
    batch.reset()
    for _ in range(3):
        batch.step(np.zeros(4, dtype=np.int64))
    batch.seed(0)
    batch.reset()
    lengths = [TraceEnv.length_of(copy.draw) for copy in batch.copies]
    told: dict[int, int] = {}
    for _ in range(max(lengths)):
        _, _, _, infos = batch.step(np.zeros(4, dtype=np.int64))
        for i, info in enumerate(infos):
            if "episode" in info:
                told.setdefault(i, info["episode"]["l"])
    assert [told[i] for i in range(4)] == lengths


def test_attributes_belong_to_the_whole_batch() -> None:
    batch = TraceBatch(3)
    assert batch.get_attr("num_envs") == [3, 3, 3]
    assert batch.get_attr("num_envs", [0]) == [3]
    batch.set_attr("colour", "red")
    assert batch.get_attr("colour") == ["red"] * 3
    with pytest.raises(ValueError, match=r"'colour'.*copies \[1\]"):
        batch.set_attr("colour", "blue", indices=[1])
    assert batch.env_is_wrapped(Monitor) == [True] * 3
    assert batch.env_is_wrapped(gym.wrappers.TimeLimit) == [False] * 3


def test_a_batch_is_made_from_an_id(batched_id: str) -> None:
    assert has_batched_form(batched_id)
    batch = make_batched(batched_id, 4)
    assert isinstance(batch, TraceBatch)
    assert (batch.num_envs, batch.copies[0].longest, batch.copies[0].traced) == (4, 7, False)
    assert batch.get_attr("spec")[0].id == batched_id
    overridden = make_batched(batched_id, 1, longest=9, traced=True)
    assert isinstance(overridden, TraceBatch)
    assert (overridden.copies[0].longest, overridden.copies[0].traced) == (9, True)


def test_an_id_without_a_batched_form_says_which_have_one(batched_id: str) -> None:
    assert not has_batched_form("CartPole-v1")
    with pytest.raises(ValueError, match=r"'CartPole-v1' has no batched form.*tests/Trace-v0.*make_vec_env"):
        make_batched("CartPole-v1", 2)
    with pytest.raises(ValueError, match="num_envs must be at least 1, got 0"):
        make_batched(batched_id, 0)
