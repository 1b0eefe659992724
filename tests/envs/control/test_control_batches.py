"""Each batched form against ``gym.make`` of the same id, and against gymnasium's own environment, step by step."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from controllers import (
    Controller,
    balance,
    fall,
    flail,
    hop,
    idle,
    land,
    push_anywhere,
    swing,
    swing_up,
)
from stable_baselines3.common.monitor import Monitor

from sppo_rl.envs import list_envs, make_batched
from sppo_rl.vec_env import BatchedVecEnv, register_batched

# Task, gymnasium's own environment, a controller that reaches the goal and one that fails.
TASKS: dict[str, tuple[str, Controller, Controller]] = {
    "PrecisionCartPole": ("CartPole-v1", balance, push_anywhere),
    "PrecisionCartPole200": ("CartPole-v1", balance, push_anywhere),
    "MountainCar": ("MountainCarContinuous-v0", swing, idle),
    "Hopper": ("Hopper-v5", hop, flail),
    "LunarLander": ("LunarLander-v3", land, fall),
    "Pendulum": ("Pendulum-v1", swing_up, idle),
}
IDS = [f"sppo_rl/{task}{kind}-v0" for task in TASKS for kind in ("", "Dense")]
OWN_REWARD = {"sppo_rl/HopperDense-v0", "sppo_rl/LunarLanderDense-v0", "sppo_rl/PendulumDense-v0"}
"""Dense twins whose reward is gymnasium's."""


def task_of(env_id: str) -> tuple[str, Controller, Controller]:
    return TASKS[env_id.removeprefix("sppo_rl/").removesuffix("-v0").removesuffix("Dense")]


def succeeded(env_id: str, own: gym.Env, terminated: bool, horizon_reached: bool) -> bool:
    """The success test of the task, written again from the state of gymnasium's own environment."""
    state: Any = own.unwrapped
    if "CartPole" in env_id:
        return horizon_reached and not terminated and bool(abs(np.rad2deg(state.state[2])) <= 0.5)
    if "MountainCar" in env_id:
        return bool(state.state[0] >= np.float32(0.45))
    if "Hopper" in env_id:
        return bool(state.is_healthy and state.data.qpos[0] > 1.0)
    if "Pendulum" in env_id:
        return bool(np.cos(state.state[0]) > 0.8)
    contact = any(leg.ground_contact for leg in state.legs)
    return contact and bool(abs(state.lander.position.x / 10 - 1) < 0.4) and not state.game_over


def test_every_registered_task_is_tested() -> None:
    assert sorted(IDS) == sorted(summary.id for summary in list_envs())


@pytest.mark.parametrize("env_id", IDS)
def test_equals_the_single_task_and_gymnasium_step_by_step(env_id: str) -> None:
    """Half of the copies are driven to the goal, half to failure; the finished are left out, as a collector leaves them out."""
    own_id, winner, loser = task_of(env_id)
    horizon = 200 if "200" in env_id else 1000
    n = 6
    batch = make_batched(env_id, n)
    singles = [gym.make(env_id) for _ in range(n)]
    owns = [gym.make(own_id, max_episode_steps=10_000) for _ in range(n)]
    seeds = [40 + i for i in range(n)]
    rng = np.random.default_rng(0)
    observations = batch.reset_subset(np.arange(n), seeds)
    for i in range(n):
        np.testing.assert_array_equal(observations[i], singles[i].reset(seed=seeds[i])[0])
        np.testing.assert_array_equal(observations[i], owns[i].reset(seed=seeds[i])[0])
    assert observations.dtype == singles[0].observation_space.dtype
    live, outcomes, step = np.arange(n), set(), 0
    while live.size:
        step += 1
        actions = np.where((live % 2 == 0).reshape((-1,) + (1,) * len(batch.action_space.shape or ())),
                           winner(observations, rng), loser(observations, rng))  # fmt: skip
        observations, rewards, dones, infos = batch.step_subset(live, actions)
        assert (observations.dtype, rewards.dtype, dones.dtype) == (singles[0].observation_space.dtype, np.float32, np.bool_)
        for row, i in enumerate(live):
            observation, reward, terminated, truncated, info = singles[i].step(actions[row])
            own_observation, own_reward, own_terminated, _, _ = owns[i].step(actions[row])
            np.testing.assert_array_equal(observations[row], observation)
            np.testing.assert_array_equal(observations[row], own_observation)
            assert rewards[row] == np.float32(reward)
            assert dones[row] == terminated == (own_terminated or step == horizon)
            assert not truncated
            if env_id in OWN_REWARD:
                assert reward == own_reward
            if not terminated:
                assert infos[row] == {}
                assert "Dense" in env_id or reward == 0.0
                continue
            expected = succeeded(env_id, owns[i], own_terminated, step == horizon)
            assert infos[row] == {"is_success": expected, "TimeLimit.truncated": False}
            assert info["is_success"] is expected
            assert "Dense" in env_id or reward == float(expected)
            outcomes.add(expected)
        observations, live = observations[~dones], live[~dones]
    assert outcomes == {True, False}
    batch.close()


@pytest.mark.parametrize("env_id", [env_id for env_id in IDS if "Dense" not in env_id])
def test_copies_do_not_touch_each_other(env_id: str) -> None:
    """Copies stepped in changing company go the way they go alone; an unseeded reset draws on as gymnasium's does."""
    _, _, loser = task_of(env_id)
    n = 5
    batch = make_batched(env_id, n)
    singles = [gym.make(env_id) for _ in range(n)]
    batch.reset_subset(np.array([1, 4]), [7, 8])
    batch.reset_subset(np.array([0, 2, 3]), [9, 10, 11])
    for i, seed in zip((1, 4, 0, 2, 3), range(7, 12), strict=True):
        singles[i].reset(seed=seed)
    rng = np.random.default_rng(1)
    resets = 0
    for _ in range(150):
        subset = np.flatnonzero(rng.random(n) < 0.6)
        if not subset.size:
            continue
        space = singles[0].observation_space
        actions = loser(np.zeros((subset.size, *(space.shape or ())), dtype=space.dtype), rng)
        observations, _, dones, _ = batch.step_subset(subset, actions)
        for row, i in enumerate(subset):
            observation, _, terminated, _, _ = singles[i].step(actions[row])
            np.testing.assert_array_equal(observations[row], observation)
            assert dones[row] == terminated
        finished = subset[dones]
        if not finished.size and rng.random() < 0.05:
            finished = subset[:1]
        if finished.size:
            first = batch.reset_subset(finished, [None] * len(finished))
            resets += len(finished)
            for row, i in enumerate(finished):
                np.testing.assert_array_equal(first[row], singles[i].reset()[0])
    assert resets > 0
    batch.close()


@pytest.mark.parametrize("env_id", ["sppo_rl/Hopper-v0", "sppo_rl/LunarLanderDense-v0"])
def test_the_number_of_workers_changes_nothing(env_id: str) -> None:
    batches = [make_batched(env_id, 5, num_workers=workers) for workers in (1, 2, 3)]
    rng = np.random.default_rng(0)
    loser = task_of(env_id)[2]
    everyone = np.arange(5)
    firsts = [batch.reset_subset(everyone, [1, 2, 3, 4, 5]) for batch in batches]
    for step in range(40):
        subset = everyone if step % 3 else np.array([0, 3])
        actions = loser(firsts[0][subset], rng)
        reference, *others = [batch.step_subset(subset, actions) for batch in batches]
        for other in others:
            for left, right in zip(reference[:3], other[:3], strict=True):
                np.testing.assert_array_equal(left, right)
            assert reference[3] == other[3]
    for batch in batches:
        batch.close()
        batch.close()


def test_as_a_vec_env_it_resets_finished_copies_and_keeps_episode_statistics() -> None:
    n = 3
    batch = make_batched("sppo_rl/PrecisionCartPole200Dense-v0", n)
    batch.seed(20)
    observations = batch.reset()
    single = gym.make("sppo_rl/PrecisionCartPole200Dense-v0")
    np.testing.assert_array_equal(observations[1], single.reset(seed=21)[0])
    rng = np.random.default_rng(0)
    total, length, episodes = 0.0, 0, 0
    while episodes < 4:
        actions = rng.integers(0, 2, n)
        observations, _, dones, infos = batch.step(actions)
        observation, reward, terminated, _, _ = single.step(actions[1])
        total, length = total + float(reward), length + 1
        assert dones[1] == terminated
        if terminated:
            np.testing.assert_array_equal(infos[1]["terminal_observation"], observation)
            assert infos[1]["episode"]["l"] == length
            assert infos[1]["episode"]["r"] == pytest.approx(total, rel=1e-5)
            assert infos[1]["is_success"] is False
            observation, _ = single.reset()
            total, length, episodes = 0.0, 0, episodes + 1
        np.testing.assert_array_equal(observations[1], observation)
    assert batch.env_is_wrapped(Monitor) == [True] * n


@pytest.mark.parametrize("env_id", ["sppo_rl/Hopper-v0", "sppo_rl/LunarLander-v0", "sppo_rl/Pendulum-v0"])
def test_says_what_is_wrong(env_id: str) -> None:
    batch = make_batched(env_id, 2)
    with pytest.raises(ValueError, match=r"one seed .* for each copy, got 1 for 2"):
        batch.reset_subset(np.arange(2), [1])
    with pytest.raises((ValueError, gym.error.Error), match=r"-1"):
        batch.reset_subset(np.arange(1), [-1])
    batch.close()
    if "Pendulum" not in env_id:
        with pytest.raises(ValueError, match=r"num_workers must be 1 or more.*got 0"):
            make_batched(env_id, 2, num_workers=0)


def test_unknown_ids_are_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'CartPole-v1' has no batched form.*sppo_rl/Hopper-v0.*make_vec_env"):
        make_batched("CartPole-v1", 2)
    with pytest.raises(ValueError, match="num_envs must be at least 1, got 0"):
        make_batched("sppo_rl/Pendulum-v0", 0)


def test_a_batched_form_of_ones_own_can_be_registered() -> None:
    register_batched("test/Registered-v0", "sppo_rl.envs.control.pendulum:PendulumBatch", horizon=3)
    batch = make_batched("test/Registered-v0", 2)
    assert isinstance(batch, BatchedVecEnv)
    batch.reset()
    dones = [batch.step(np.zeros((2, 1), dtype=np.float32))[2].tolist() for _ in range(4)]
    assert dones == [[False, False], [False, False], [True, True], [False, False]]
