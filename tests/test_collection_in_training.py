"""Collection as learn() does it: steps are counted, groups start alike, callbacks stop it, seeds repeat it."""

from __future__ import annotations

import itertools
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack, VecNormalize

from sppo_rl import GRPO, RLOO, SPPO, ReMax
from sppo_rl.algorithm import SequenceAlgorithm
from tests.helpers import EndlessEnv, MatchEnv, TraceBatch, TraceEnv, dummy, spy
from tests.test_collection import KINDS


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


class Monitored(BaseCallback):
    """Reads what SB3's ``Monitor`` writes, as callbacks of SB3 and rl_zoo3 do."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[float, int]] = []

    def _on_step(self) -> bool:
        self.seen += [(info["episode"]["r"], info["episode"]["l"]) for info in self.locals["infos"] if "episode" in info]
        return True


@pytest.mark.parametrize("kind", KINDS)
def test_callbacks_find_the_statistics_of_every_episode(kind: str) -> None:
    model = SPPO("MlpPolicy", KINDS[kind](3), n_episodes=7, n_epochs=1, seed=0)
    batches, callback = spy(model), Monitored()
    model.learn(1, callback=callback)
    played = zip(batches[0].outcome.tolist(), batches[0].lengths.tolist(), strict=True)
    assert sorted(callback.seen) == sorted(played)


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


class AnsweringEnv(MatchEnv):
    """Counts the tokens of its episodes, and does not say whether a limit ended them."""

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        *rest, info = super().step(action)
        return *rest, {**info, "response_tokens": 3} if info else info  # type: ignore[return-value]


def test_tokens_are_counted_where_an_environment_tells_no_more(tmp_path: Path) -> None:
    model = SPPO("MlpPolicy", dummy(AnsweringEnv, 2), n_episodes=4, seed=0)
    model.set_logger(configure(str(tmp_path), ["json"]))
    model.learn(4)
    assert (model.num_episodes, model.num_tokens) == (4, 12)
    logged = json.loads((tmp_path / "progress.json").read_text())
    assert logged["rollout/response_length"] == 3.0
    assert "rollout/truncated" not in logged
