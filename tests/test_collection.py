"""Collection: the N episodes that were started are the N that come back, whatever the vectorised environment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecFrameStack, VecNormalize

from sppo_rl.collection import collect_episodes
from sppo_rl.episodes import EpisodeArrays
from tests.helpers import TRACE_LONGEST, FixedRewardEnv, SpaceEnv, TraceBatch, TraceEnv, dummy

Factory = Callable[[int], VecEnv]
KINDS: dict[str, Factory] = {
    "dummy": lambda copies: dummy(TraceEnv, copies),
    "batched": lambda copies: TraceBatch(copies),
    "wrapped batch": lambda copies: VecFrameStack(TraceBatch(copies), 1),
}


def rule(observations: Any, copies: np.ndarray) -> np.ndarray:
    """An action that can be told from the observation it was chosen for."""
    return (observations[:, 0] * 1000.0 + observations[:, 1]).astype(np.int64) % 3


def collect(
    env: VecEnv, seeds: Any, same_start: bool = False, limit: int = 1000, steps: list[dict] | None = None
) -> EpisodeArrays:
    def on_step(step: dict[str, Any]) -> bool:
        if steps is not None:
            steps.append(step)
        return True

    arrays = collect_episodes(env, rule, lambda actions: actions, np.asarray(seeds), on_step, limit, same_start=same_start)
    assert arrays is not None
    return arrays


def rollout(env: TraceEnv, seed: int | None) -> tuple[list[list[float]], float]:
    """One episode, played the plain way."""
    observation, _ = env.reset(seed=seed)
    seen, total, done = [], 0.0, False
    while not done:
        seen.append(observation.tolist())
        observation, reward, done, _, _ = env.step(int(rule(observation[None], np.zeros(1))[0]))
        total += reward
    return seen, total


def expected_episodes(kind: str, copies: int, seeds: list[int], traced: bool = False) -> list[tuple[list[list[float]], float]]:
    """
    What the documentation promises, played without any vectorised environment.

    A batch starts every episode from its own seed. An ordinary environment starts each copy from the seed of its first episode
    and goes on from there; a copy's episodes are consecutive, and the first copies play one more where N does not divide.
    """
    if kind == "batched":
        return [rollout(TraceEnv(traced), seed) for seed in seeds]
    played = []
    first = 0
    for copy in range(copies):
        quota = len(seeds) // copies + (copy < len(seeds) % copies)
        env = TraceEnv(traced)
        for k in range(quota):
            played.append(rollout(env, seeds[first] if k == 0 else None))
        first += quota
    return played


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("copies", [1, 3, 8])
@pytest.mark.parametrize("count", [1, 2, 8, 21])
def test_exactly_the_started_episodes_come_back_in_order(kind: str, copies: int, count: int) -> None:
    seeds = np.random.default_rng(count).integers(2**31, size=count).tolist()
    arrays = collect(KINDS[kind](copies), seeds)
    expected = expected_episodes(kind, copies, seeds)
    assert len(arrays.outcome) == count
    assert arrays.outcome.tolist() == [outcome for _, outcome in expected]
    assert np.asarray(arrays.observations).tolist() == [row for rows, _ in expected for row in rows]
    assert arrays.sequence.tolist() == [s for s, (rows, _) in enumerate(expected) for _ in rows]


@pytest.mark.parametrize("kind", ["dummy", "batched"])
@pytest.mark.parametrize("copies", [1, 3, 8])
def test_observation_action_and_reward_of_a_step_stay_together(kind: str, copies: int) -> None:
    env = TraceBatch(copies, traced=True) if kind == "batched" else dummy(lambda: TraceEnv(traced=True), copies)
    arrays = collect(env, np.arange(13))
    observations = np.asarray(arrays.observations)
    assert arrays.actions.tolist() == rule(observations, np.zeros(1)).tolist()
    np.testing.assert_allclose(arrays.rewards, 0.001 * (arrays.actions + 1) * (observations[:, 1] + 1), rtol=1e-6)
    for s in range(13):
        own = observations[arrays.sequence == s]
        assert len(set(own[:, 0].tolist())) == 1
        assert own[:, 1].tolist() == list(range(TraceEnv.length_of(float(own[0, 0]))))
        assert arrays.outcome[s] == pytest.approx(arrays.rewards[arrays.sequence == s].sum(), rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("copies", [1, 3, 8])
def test_no_first_finished_bias(kind: str, copies: int) -> None:
    # failures take one step, successes about ten: taking whatever finishes first would report far fewer than half
    count = 800
    outcome = collect(KINDS[kind](copies), np.random.default_rng(5).integers(2**31, size=count)).outcome
    assert outcome.mean() == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(count))


def test_the_bias_test_would_notice() -> None:
    """Played with the rule that the collector must not have, the same environment reports a third of its successes."""
    env = dummy(TraceEnv, 8)
    env.seed(0)
    outcomes: list[float] = []
    for _ in range(200):
        env.reset()
        finished: list[float] = []
        while len(finished) < 8:
            _, rewards, dones, _ = env.step(np.zeros(8, dtype=np.int64))
            finished.extend(rewards[dones])
        outcomes.extend(finished[:8])
    assert np.mean(outcomes) < 0.2


@pytest.mark.parametrize("copies", [1, 3, 8])
def test_a_batch_is_stepped_only_where_an_episode_runs(copies: int) -> None:
    env = TraceBatch(copies)
    seeds = list(range(100, 113))
    arrays = collect(env, seeds)
    # the batch itself refuses to step finished copies; and every episode is reset once, from its own seed
    assert sorted(s for s in env.seeds_used if s is not None) == seeds
    assert len(env.seeds_used) == 13
    assert sum(copy.steps for copy in env.copies) == len(arrays.sequence)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("copies", [1, 3, 8])
@pytest.mark.parametrize("group_size", [2, 4])
def test_equal_seeds_start_alike_with_any_number_of_copies(kind: str, copies: int, group_size: int) -> None:
    contexts = np.array([11, 22, 33, 44, 55])
    arrays = collect(KINDS[kind](copies), np.repeat(contexts, group_size), same_start=True)
    starts = np.flatnonzero(np.diff(arrays.sequence, prepend=-1))
    first = np.asarray(arrays.observations)[starts]
    expected = [TraceEnv().reset(seed=int(seed))[0].tolist() for seed in np.repeat(contexts, group_size)]
    assert first.tolist() == expected


def test_per_step_callback_locals_describe_the_running_copies() -> None:
    steps: list[dict] = []
    arrays = collect(dummy(TraceEnv, 3), range(7), steps=steps)
    assert sum(len(step["env_indices"]) for step in steps) == len(arrays.sequence)
    assert sum(len(step["finished_infos"]) for step in steps) == 7
    assert sum(int(step["dones"].sum()) for step in steps) == 7
    for step in steps:
        assert (
            len(step["rewards"])
            == len(step["actions"])
            == len(step["infos"])
            == len(step["new_obs"])
            == len(step["env_indices"])
        )
    lengths = sorted(info["episode"]["l"] for step in steps for info in step["finished_infos"])
    assert lengths == sorted(np.bincount(arrays.sequence).tolist())


@pytest.mark.parametrize("batched", [False, True])
def test_an_episode_beyond_the_cap_is_cut_and_counts_as_ended(batched: bool) -> None:
    env = TraceBatch(3) if batched else dummy(TraceEnv, 3)
    steps: list[dict] = []
    arrays = collect(env, range(9), limit=4, steps=steps)
    lengths = np.bincount(arrays.sequence)
    assert len(lengths) == 9
    assert lengths.max() == 4
    assert sum(step["num_cut"] for step in steps) == int((arrays.outcome[lengths == 4] == 0).sum())
    infos = [info["episode"] for step in steps for info in step["finished_infos"]]
    assert sorted(info["l"] for info in infos) == sorted(lengths.tolist())


class Counter(gym.Env):
    """Shows and pays its steps, and ends after twelve of them."""

    observation_space = spaces.Box(0.0, 1000.0, (1,), np.float32)
    action_space = spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        self.t = 0
        return np.zeros(1, dtype=np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.t += 1
        return np.full(1, self.t, dtype=np.float32), 1.0, self.t == 12, False, {}


@pytest.mark.parametrize(("copies", "limit"), [(1, 5), (3, 5), (2, 12), (2, 20)])
def test_an_episode_behind_one_that_was_cut_begins_at_the_beginning(copies: int, limit: int) -> None:
    steps: list[dict] = []

    def on_step(step: dict[str, Any]) -> bool:
        steps.append(step)
        return True

    env = make_vec_env(Counter, copies)  # with SB3's Monitor, which counts for itself
    arrays = collect_episodes(
        env, lambda seen, _: np.zeros(len(seen), dtype=int), lambda actions: actions, np.arange(7), on_step, limit
    )
    assert arrays is not None
    length = min(limit, 12)
    assert arrays.outcome.tolist() == [length] * 7
    assert arrays.observations.flatten().tolist() == list(range(length)) * 7  # type: ignore[union-attr]
    assert [info["episode"]["l"] for step in steps for info in step["finished_infos"]] == [length] * 7


def test_only_copies_that_were_cut_wait() -> None:
    """What is long is cut; copies whose episodes end by themselves play their quota in one go."""
    env = dummy(TraceEnv, 3)
    arrays = collect(env, range(30), limit=4)
    # every episode that ended took one, and every round one of each copy: 37 here, and 58 if all waited for all
    assert sum(env.get_attr("resets")) < 45
    lengths = np.bincount(arrays.sequence)
    assert len(lengths) == 30
    assert lengths.max() == 4
    firsts = arrays.observations[np.cumsum(lengths) - lengths]  # type: ignore[index]
    assert (firsts[:, 1] == 0.0).all()


def test_stopping_gives_no_episodes() -> None:
    calls = []
    result = collect_episodes(
        dummy(TraceEnv, 2), rule, lambda a: a, np.arange(9), lambda s: calls.append(1) or len(calls) < 3, 100
    )
    assert result is None
    assert len(calls) == 3


# ---------------------------------------------------------------- spaces and wrappers


@pytest.mark.parametrize("copies", [1, 3])
def test_dictionary_observations(copies: int) -> None:
    space = spaces.Dict({"a": spaces.Box(-1, 1, (3,), np.float32), "b": spaces.Discrete(5)})
    env = dummy(lambda: SpaceEnv(space, spaces.Discrete(2)), copies)
    arrays = collect_episodes(env, lambda o, c: np.zeros(len(c), np.int64), lambda a: a, np.arange(5), lambda s: True, 100)
    assert arrays is not None
    assert isinstance(arrays.observations, dict)
    # episodes start from their seeds: copy 0's first observation is the one the environment alone gives
    alone, _ = SpaceEnv(space, spaces.Discrete(2)).reset(seed=0)
    np.testing.assert_array_equal(arrays.observations["a"][0], alone["a"])
    assert len(np.unique(arrays.observations["a"], axis=0)) == 15, "every observation was copied when it was seen"


def test_frame_stacks_are_not_overwritten_by_later_steps() -> None:
    arrays = collect(VecFrameStack(dummy(TraceEnv, 3), 2), range(10))
    observations = np.asarray(arrays.observations)
    for s in range(10):
        own = observations[arrays.sequence == s]
        assert own[:, 3].tolist() == list(range(len(own)))
        assert own[:, 1].tolist() == [max(t - 1, 0) for t in range(len(own))]


class Smooth(gym.Env):
    """Pays for steady actions, and keeps the action that it was given, as many environments do; episodes of two lengths."""

    observation_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

    def __init__(self, length: int):
        self.length = length

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps, self.last = 0, np.zeros(2, np.float32)
        return np.zeros(1, np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        change = -float(np.abs(action - self.last).sum())
        self.last = action
        return np.zeros(1, np.float32), change, self.steps >= self.length, False, {}


def test_an_environment_may_keep_the_action_it_was_given() -> None:
    env = DummyVecEnv([lambda: Smooth(2), lambda: Smooth(6)])
    rng = np.random.default_rng(0)
    chosen = collect_episodes(
        env,
        lambda observations, copies: rng.uniform(-1.0, 1.0, (len(copies), 2)).astype(np.float32),
        lambda actions: actions,
        np.arange(2),
        lambda step: True,
        100,
    )
    assert chosen is not None
    for episode, length in ((0, 2), (1, 6)):
        rows = chosen.sequence == episode
        actions = chosen.actions[rows]
        assert len(actions) == length
        changes = np.abs(np.diff(actions, axis=0, prepend=np.zeros((1, 2)))).sum(axis=1)
        np.testing.assert_allclose(chosen.rewards[rows], -changes, atol=1e-6)


def test_idle_copies_do_not_turn_the_actions_of_running_ones_into_whole_numbers() -> None:
    class Whole(Smooth):
        action_space = spaces.Box(-5, 5, (2,), np.int32)  # type: ignore[assignment]

    env = DummyVecEnv([lambda: Whole(2), lambda: Whole(2)])
    given = []
    env.envs[0].step = lambda action, step=env.envs[0].step: (given.append(action.copy()), step(action))[1]  # type: ignore[method-assign]
    collect_episodes(env, lambda o, c: np.full((len(c), 2), 0.4), lambda a: a, np.zeros(1, np.int64), lambda step: True, 100)
    assert np.array(given).tolist() == [[0.4, 0.4]] * 2


def test_worker_processes_give_the_same_episodes() -> None:
    env = SubprocVecEnv([TraceEnv] * 2, start_method="fork")
    try:
        arrays = collect(env, range(5))
    finally:
        env.close()
    reference = collect(dummy(TraceEnv, 2), range(5))
    np.testing.assert_array_equal(arrays.observations, reference.observations)
    assert arrays.outcome.tolist() == reference.outcome.tolist()


def test_normalised_rewards_do_not_reach_the_outcome() -> None:
    rewards = [3.0, -50.0, 1000.0]
    env = VecNormalize(dummy(lambda: FixedRewardEnv(rewards), 3), norm_reward=True, clip_reward=1.0)
    arrays = collect_episodes(env, lambda o, c: np.zeros(len(c), np.int64), lambda a: a, np.arange(7), lambda s: True, 100)
    assert arrays is not None
    assert arrays.outcome.tolist() == [953.0] * 7
    assert arrays.rewards.tolist() == rewards * 7


def test_normalised_observations_are_kept_as_the_policy_saw_them() -> None:
    seen: list[np.ndarray] = []
    env = VecNormalize(dummy(TraceEnv, 1), norm_reward=False)

    def sample(observations: Any, copies: np.ndarray) -> np.ndarray:
        seen.append(observations.copy())
        return np.zeros(len(copies), np.int64)

    arrays = collect_episodes(env, sample, lambda a: a, np.arange(5), lambda s: True, 100)
    assert arrays is not None
    np.testing.assert_array_equal(arrays.observations, np.concatenate(seen))


def test_longest_is_what_the_helpers_say() -> None:
    lengths = [TraceEnv.length_of(draw) for draw in np.linspace(0, 0.999, 1000)]
    assert min(lengths) == 1
    assert max(lengths) == TRACE_LONGEST - 1
