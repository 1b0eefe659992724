"""The episode buffer: whole ragged episodes come out as they went in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecNormalize

from sppo_rl import SPPO
from sppo_rl.episodes import EpisodeArrays, EpisodeBuffer, as_tensors, concatenate, put, take
from tests.helpers import SpaceEnv, control_batch, dummy, spy

BOX = spaces.Box(-10.0, 10.0, (2,), np.float32)


def fill(buffer: EpisodeBuffer, episodes: list[list[int]], dictionary: bool = False, box_actions: bool = False) -> None:
    """
    Play copies side by side; copy c plays episodes of the lengths ``episodes[c]`` and leaves.

    Every number written tells copy, episode and step: observation (copy, 100 * episode + t), action t % 4, reward 1 / length.
    """
    position = [(0, 0)] * len(episodes)
    while running := [c for c, (e, _) in enumerate(position) if e < len(episodes[c])]:
        rows = np.array(running)
        seen = np.array([[c, 100 * position[c][0] + position[c][1]] for c in running], dtype=np.float32)
        lengths = [episodes[c][position[c][0]] for c in running]
        steps = np.array([position[c][1] for c in running])
        ends = np.array([t + 1 == n for t, n in zip(steps, lengths, strict=True)])
        observations: Any = {"pair": seen, "copy": seen[:, 0].astype(np.int64)} if dictionary else seen
        actions = np.stack([steps / 8, -steps / 8], axis=1) if box_actions else steps % 4
        buffer.add(rows, observations, actions, np.array([1.0 / n for n in lengths]), ends)
        for c, end in zip(running, ends, strict=True):
            position[c] = (position[c][0] + 1, 0) if end else (position[c][0], position[c][1] + 1)


def check(arrays: EpisodeArrays, episodes: list[list[int]]) -> None:
    pairs = arrays.observations["pair"] if isinstance(arrays.observations, dict) else arrays.observations
    expected = [(c, 100 * e + t) for c, lengths in enumerate(episodes) for e, n in enumerate(lengths) for t in range(n)]
    assert pairs.tolist() == [list(map(float, pair)) for pair in expected]
    flat = [n for lengths in episodes for n in lengths]
    assert arrays.sequence.tolist() == [s for s, n in enumerate(flat) for _ in range(n)]
    np.testing.assert_allclose(arrays.outcome, np.ones(len(flat)), atol=1e-6)
    np.testing.assert_allclose(arrays.rewards, [1.0 / n for n in flat for _ in range(n)], rtol=1e-6)


@pytest.mark.parametrize(
    "episodes",
    [
        [[1]],
        [[3, 1, 2], [5], [1, 1]],
        [[64], [64]],  # exactly what is set aside at first
        [[65, 3], [1, 200], [130]],  # grows twice, with episodes running
        [[1] * 150],
    ],
)
@pytest.mark.parametrize("dictionary", [False, True])
def test_ragged_episodes_come_out_whole_and_in_order(episodes: list[list[int]], dictionary: bool) -> None:
    space: spaces.Space = BOX
    if dictionary:
        space = spaces.Dict({"pair": BOX, "copy": spaces.Discrete(10)})
    buffer = EpisodeBuffer(space, spaces.Discrete(4), len(episodes))
    fill(buffer, episodes, dictionary)
    arrays = buffer.finish()
    check(arrays, episodes)
    assert arrays.actions.tolist() == [t % 4 for lengths in episodes for n in lengths for t in range(n)]
    if isinstance(arrays.observations, dict):
        assert arrays.observations["copy"].dtype == np.int64
        assert arrays.observations["copy"].tolist() == arrays.observations["pair"][:, 0].tolist()


def test_box_actions_keep_the_samples_precision_and_shape() -> None:
    buffer = EpisodeBuffer(BOX, spaces.Box(-1, 1, (2,), np.float64), 2)
    fill(buffer, [[70], [3]], box_actions=True)
    actions = buffer.finish().actions
    assert actions.dtype == np.float32
    assert actions[:, 0].tolist() == [t / 8 for n in (70, 3) for t in range(n)]
    assert actions[:, 1].tolist() == [-t / 8 for n in (70, 3) for t in range(n)]


def test_a_copy_that_never_plays_leaves_no_trace() -> None:
    buffer = EpisodeBuffer(BOX, spaces.Discrete(4), 3)
    fill(buffer, [[2], [], [4]])
    check(buffer.finish(), [[2], [], [4]])


def test_a_slice_means_every_copy() -> None:
    buffer = EpisodeBuffer(BOX, spaces.Discrete(4), 2)
    buffer.add(slice(None), np.array([[1, 2], [3, 4]]), np.array([0, 1]), np.array([0.0, 0.5]), np.array([False, True]))
    buffer.add(np.array([0]), np.array([[5, 6]]), np.array([2]), np.array([1.0]), np.array([True]))
    arrays = buffer.finish()
    assert isinstance(arrays.observations, np.ndarray)
    assert arrays.observations.tolist() == [[1, 2], [5, 6], [3, 4]]
    assert arrays.actions.tolist() == [0, 2, 1]
    assert arrays.outcome.tolist() == [1.0, 0.5]


@pytest.mark.parametrize("unfinished", [0, 1, 2])
def test_an_unfinished_episode_is_an_error_that_names_the_copy(unfinished: int) -> None:
    buffer = EpisodeBuffer(BOX, spaces.Discrete(4), 3)
    fill(buffer, [[2], [2], [2]])
    buffer.add(np.array([unfinished]), np.zeros((1, 2)), np.zeros(1), np.zeros(1), np.array([False]))
    with pytest.raises(RuntimeError, match=rf"\[{unfinished}\]"):
        buffer.finish()


def test_outcome_of_a_long_episode_is_summed_without_float32_drift() -> None:
    """A thousand rewards of .001 are an outcome of 1, not of 1.0000001, which a critic of probabilities would refuse."""
    for count, reward, expected in ((1000, 0.001, 1.0), (20_000, 0.1, 2000.0)):
        buffer = EpisodeBuffer(BOX, spaces.Discrete(4), 1)
        for t in range(count):
            buffer.add(slice(None), np.zeros((1, 2)), np.zeros(1), np.array([reward]), np.array([t + 1 == count]))
        assert buffer.finish().outcome.tolist() == [expected]


def test_take_put_concatenate_work_alike_on_arrays_and_dictionaries() -> None:
    a = np.arange(6).reshape(3, 2)
    assert take(a, [2, 0]).tolist() == [[4, 5], [0, 1]]
    assert take({"a": a}, [1])["a"].tolist() == [[2, 3]]
    target = {"a": np.zeros((3, 2))}
    put(target, np.array([1]), {"a": np.array([[7, 8]])})
    assert target["a"].tolist() == [[0, 0], [7, 8], [0, 0]]
    assert concatenate([{"a": a}, {"a": a[:1]}])["a"].shape == (4, 2)
    assert as_tensors({"a": a})["a"].tolist() == a.tolist()


def test_batch_lengths_count_steps() -> None:
    lengths = [3, 1, 4]
    batch = control_batch(lengths, 2, th.zeros(8), th.zeros(8), th.zeros(8, 2))
    assert batch.lengths.tolist() == lengths


def test_observations_are_kept_as_the_policy_saw_them() -> None:
    """Normalised, whole numbers are whole no longer: cut off again, log-probabilities would be those of other observations."""
    whole = spaces.Box(0, 200, (3,), np.int32)
    env = VecNormalize(dummy(lambda: SpaceEnv(whole, spaces.Discrete(2)), 2), norm_reward=False)
    model = SPPO("MlpPolicy", env, n_episodes=4, n_epochs=1, seed=0)
    batches = spy(model)
    model.learn(12)
    observations = batches[0].observations
    assert isinstance(observations, th.Tensor)
    assert observations.dtype == th.float32
    assert (observations != observations.round()).any()
    plain = SPPO("MlpPolicy", dummy(lambda: SpaceEnv(whole, spaces.Discrete(2)), 2), n_episodes=4, n_epochs=1, seed=0)
    batches = spy(plain)
    plain.learn(12)
    assert isinstance(batches[0].observations, th.Tensor)
    assert batches[0].observations.dtype == th.int32
