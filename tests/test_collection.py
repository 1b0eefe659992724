"""Collection: the N episodes that were started are the N that come back, whatever the vectorised environment."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv, VecFrameStack, VecNormalize

from sppo_rl import GRPO, RLOO, SPPO, ReMax
from sppo_rl.algorithm import SequenceAlgorithm
from sppo_rl.collection import collect_episodes
from sppo_rl.episodes import EpisodeArrays, EpisodeBatch
from tests.helpers import TRACE_LONGEST, EndlessEnv, FixedRewardEnv, MatchEnv, SpaceEnv, TraceBatch, TraceEnv, dummy

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


# ---------------------------------------------------------------- through the algorithm


def spy(model: SequenceAlgorithm) -> list[EpisodeBatch]:
    """Record the batches that the model trains on."""
    batches: list[EpisodeBatch] = []
    train = model.train

    def recording(batch: EpisodeBatch) -> None:
        batches.append(batch)
        train(batch)

    model.train = recording  # type: ignore[method-assign]
    return batches


class Watch(BaseCallback):
    """Counts steps and stops after a number of calls."""

    def __init__(self, stop_after: int | None = None):
        super().__init__()
        self.stop_after, self.starts, self.ends = stop_after, 0, 0

    def _on_rollout_start(self) -> None:
        self.starts += 1

    def _on_rollout_end(self) -> None:
        self.ends += 1

    def _on_step(self) -> bool:
        return self.stop_after is None or self.n_calls < self.stop_after


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("copies", [1, 3, 8])
def test_num_timesteps_counts_the_steps_of_the_episodes_trained_on(kind: str, copies: int) -> None:
    model = SPPO("MlpPolicy", KINDS[kind](copies), n_episodes=10, n_epochs=1, seed=0)
    batches = spy(model)
    model.learn(150)
    assert all(len(batch.outcome) == 10 for batch in batches)
    counted = [len(batch.sequence) for batch in batches]
    assert model.num_timesteps == sum(counted)
    assert sum(counted) >= 150 > sum(counted[:-1])
    assert model._episode_num == 10 * len(batches)


def test_remax_counts_its_greedy_steps_as_well() -> None:
    env = TraceBatch(4)
    model = ReMax("MlpPolicy", env, n_episodes=6, n_epochs=1, seed=0)
    model.learn(1)
    assert model.num_timesteps == sum(copy.steps for copy in env.copies)
    assert sum(copy.resets for copy in env.copies) == 12 + 4, "six episodes, six greedy ones, and SB3's reset of each copy"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("copies", [1, 3, 8])
@pytest.mark.parametrize("algorithm", [GRPO, RLOO])
def test_groups_start_from_the_same_state(kind: str, copies: int, algorithm: type[SequenceAlgorithm]) -> None:
    model = algorithm("MlpPolicy", KINDS[kind](copies), n_episodes=12, group_size=4, n_epochs=1, seed=1)
    batches = spy(model)
    model.learn(1)
    assert batches[0].group.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    contexts = batches[0].contexts
    assert isinstance(contexts, th.Tensor)
    for group in range(3):
        assert len(contexts[batches[0].group == group].unique(dim=0)) == 1
    assert len(contexts.unique(dim=0)) == 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("copies", [1, 3, 8])
def test_greedy_episodes_start_where_the_sampled_ones_did(kind: str, copies: int) -> None:
    # in this environment the outcome is settled by the start alone
    model = ReMax("MlpPolicy", KINDS[kind](copies), n_episodes=10, n_epochs=1, seed=2)
    batches = spy(model)
    model.learn(1)
    assert batches[0].greedy_outcome is not None
    assert batches[0].greedy_outcome.tolist() == batches[0].outcome.tolist()
    assert 0.0 < batches[0].outcome.mean() < 1.0


def test_remax_with_groups_repeats_the_greedy_outcome_for_each_group() -> None:
    model = ReMax("MlpPolicy", dummy(TraceEnv, 3), n_episodes=12, group_size=3, n_epochs=1, seed=2)
    batches = spy(model)
    model.learn(1)
    assert batches[0].greedy_outcome is not None
    assert batches[0].greedy_outcome.tolist() == batches[0].outcome.tolist()


def test_greedy_episodes_really_are_greedy() -> None:
    model = ReMax("MlpPolicy", dummy(lambda: MatchEnv(steps=3), 2), n_episodes=16, n_epochs=1, seed=3)
    with th.no_grad():  # name the sign, with little confidence: greedy always wins, samples rarely do
        for parameter in model.policy.parameters():
            parameter.zero_()
        model.policy.mlp_extractor.policy_net[0].weight[0, 0] = 1.0
        model.policy.mlp_extractor.policy_net[2].weight[0, 0] = 1.0
        model.policy.action_net.weight[1, 0] = 0.05
    batches = spy(model)
    model.learn(1)
    assert batches[0].greedy_outcome is not None
    assert batches[0].greedy_outcome.tolist() == [1.0] * 16
    assert batches[0].outcome.mean() < 0.6


@pytest.mark.parametrize("copies", [1, 3, 8])
def test_groups_work_under_observation_normalisation(copies: int) -> None:
    # the running statistics move between two resets from the same state, so the normalised contexts may differ; the states do not
    env = VecNormalize(dummy(TraceEnv, copies), norm_reward=False)
    model = GRPO("MlpPolicy", env, n_episodes=8, group_size=4, n_epochs=1, seed=0)
    model.learn(1)
    assert model.num_timesteps > 0


@pytest.mark.parametrize(("algorithm", "group_size"), [(GRPO, 4), (ReMax, 1), (ReMax, 2)])
def test_episodes_that_cannot_be_compared_are_noticed_once(algorithm: Any, group_size: int) -> None:
    """Those of a group, or an episode and the greedy one it is compared with."""

    own_seeds = itertools.count()

    class Forgetful(TraceEnv):
        """Ignores the seed."""

        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
            return super().reset(seed=next(own_seeds), options=options)

    model = algorithm("MlpPolicy", dummy(Forgetful, 2), n_episodes=8, group_size=group_size, seed=0)
    with pytest.warns(UserWarning, match=r"same state.*reset\(seed") as caught:
        model.learn(200)
    assert model._n_updates > 1
    assert len([warning for warning in caught if "same state" in str(warning.message)]) == 1


@pytest.mark.parametrize("copies", [1, 3])
def test_an_endless_environment_is_cut_with_one_warning(copies: int) -> None:
    model = SPPO("MlpPolicy", dummy(EndlessEnv, copies), n_episodes=4, n_epochs=1, max_episode_steps=25, seed=0)
    batches = spy(model)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.learn(250)
    messages = [str(warning.message) for warning in caught if "max_episode_steps" in str(warning.message)]
    assert len(messages) == 1
    assert "max_episode_steps=25" in messages[0]
    assert len(batches) == 3
    for batch in batches:
        assert batch.lengths.tolist() == [25] * 4
        np.testing.assert_allclose(batch.outcome.numpy(), 0.25, atol=1e-6)
    assert model.ep_info_buffer is not None
    assert {info["l"] for info in model.ep_info_buffer} == {25}


@pytest.mark.parametrize("kind", KINDS)
def test_a_callback_that_returns_false_stops_training(kind: str) -> None:
    callback = Watch(stop_after=3)
    model = SPPO("MlpPolicy", KINDS[kind](2), n_episodes=50, seed=0)
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    model.learn(10_000, callback=callback)
    assert callback.n_calls == 3
    assert callback.num_timesteps == model.num_timesteps
    assert (callback.starts, callback.ends) == (1, 0)
    assert all(th.equal(before[name], value) for name, value in model.policy.state_dict().items())


def test_a_callback_may_stop_remaxs_greedy_episodes() -> None:
    env = TraceBatch(1)
    reference = ReMax("MlpPolicy", env, n_episodes=2, n_epochs=1, seed=0)
    batches = spy(reference)
    reference.learn(1)
    sampled_steps = len(batches[0].sequence)
    model = ReMax("MlpPolicy", TraceBatch(1), n_episodes=2, n_epochs=1, seed=0)
    batches = spy(model)
    model.learn(10_000, callback=Watch(stop_after=sampled_steps + 1))
    assert model.num_timesteps == sampled_steps + 1
    assert batches == []


def test_statistics_of_episodes_reach_sb3s_buffers() -> None:
    for env in (dummy(TraceEnv, 3), dummy(lambda: Monitor(TraceEnv()), 3), TraceBatch(3), VecFrameStack(TraceBatch(3), 1)):
        model = SPPO("MlpPolicy", env, n_episodes=30, n_epochs=1, seed=0)
        batches = spy(model)
        model.learn(1)
        assert model.ep_info_buffer is not None
        assert model.ep_success_buffer is not None
        assert len(model.ep_info_buffer) == len(model.ep_success_buffer) == 30
        assert np.mean(model.ep_success_buffer) == pytest.approx(batches[0].outcome.mean().item())
        assert sum(info["l"] for info in model.ep_info_buffer) == len(batches[0].sequence)
        assert sum(info["r"] for info in model.ep_info_buffer) == pytest.approx(batches[0].outcome.sum().item())


@pytest.mark.parametrize(
    "make",
    [
        lambda: dummy(lambda: MatchEnv(steps=3), 3),
        lambda: dummy(lambda: MatchEnv(steps=3, box=True), 2),
        lambda: TraceBatch(4),
        lambda: VecNormalize(dummy(TraceEnv, 16), norm_reward=False),  # more copies than episodes
    ],
    ids=["discrete", "box", "batched", "idle copies"],
)
def test_same_seed_same_weights_and_another_seed_others(make: Callable[[], VecEnv]) -> None:
    def weights(seed: int) -> th.Tensor:
        model = SPPO("MlpPolicy", make(), n_episodes=8, batch_size=4, n_epochs=2, seed=seed).learn(100)
        return th.nn.utils.parameters_to_vector(model.policy.parameters()).detach()

    first, second, other = weights(7), weights(7), weights(8)
    assert th.equal(first, second)
    assert not th.equal(first, other)


def test_every_update_depends_on_its_own_seeds_alone() -> None:
    """What an environment did between two updates leaves no trace, so a checkpoint needs no environment state."""

    def weights(disturb: bool) -> th.Tensor:
        env = VecNormalize(dummy(TraceEnv, 16), norm_reward=False, training=True)
        model = SPPO("MlpPolicy", env, n_episodes=8, n_epochs=1, seed=7).learn(1)
        if disturb:
            for copy in env.unwrapped.envs:  # type: ignore[attr-defined]
                copy.reset(seed=123)
        model.learn(1, reset_num_timesteps=False)
        return th.nn.utils.parameters_to_vector(model.policy.parameters()).detach()

    assert th.equal(weights(False), weights(True))


def test_longest_is_what_the_helpers_say() -> None:
    lengths = [TraceEnv.length_of(draw) for draw in np.linspace(0, 0.999, 1000)]
    assert min(lengths) == 1
    assert max(lengths) == TRACE_LONGEST - 1
