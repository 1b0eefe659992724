"""The outcome wrapper, on an environment whose every step is known."""

from __future__ import annotations

import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit, TransformReward

from sppo_rl.envs import DenseWrapper, Ending, OutcomeWrapper


class Counter(gym.Env):
    """Counts its steps, pays 5 for each, ends or truncates where it is told to."""

    observation_space = spaces.Box(0, 1000, (1,))
    action_space = spaces.Discrete(2)

    def __init__(self, ends_at: int | None = None, truncates_at: int | None = None):
        self.ends_at, self.truncates_at, self.count = ends_at, truncates_at, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.count = 0
        return np.array([0.0], dtype=np.float32), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.count += 1
        observation = np.array([self.count], dtype=np.float32)
        return observation, 5.0, self.count == self.ends_at, self.count == self.truncates_at, {"count": self.count}


def reached_four(end: Ending) -> bool:
    return bool(end.observation[0] >= 4)


def play(env: gym.Env) -> list[tuple[Any, ...]]:
    """Every step of one episode: observation, reward, terminated, truncated, info."""
    env.reset(seed=0)
    steps = [env.step(0)]
    while not (steps[-1][2] or steps[-1][3]):
        steps.append(env.step(0))
    return steps


@pytest.mark.parametrize(("horizon", "outcome"), [(3, 0.0), (4, 1.0), (7, 1.0)])
def test_pays_once_at_the_horizon_and_terminates(horizon: int, outcome: float) -> None:
    steps = play(OutcomeWrapper(Counter(), reached_four, horizon))
    assert [step[1] for step in steps] == [0.0] * (horizon - 1) + [outcome]
    assert [step[2] for step in steps] == [False] * (horizon - 1) + [True]
    assert not any(step[3] for step in steps)
    assert ["is_success" in step[4] for step in steps] == [False] * (horizon - 1) + [True]
    assert steps[-1][4] == {"count": horizon, "is_success": outcome == 1.0}


@pytest.mark.parametrize(("where", "outcome"), [(2, 0.0), (5, 1.0)])
@pytest.mark.parametrize("how", ["ends_at", "truncates_at"])
def test_an_episode_that_ends_early_is_judged_there(where: int, outcome: float, how: str) -> None:
    steps = play(OutcomeWrapper(Counter(**{how: where}), reached_four, 10))
    assert len(steps) == where
    assert steps[-1][1:4] == (outcome, True, False)


def test_an_inner_time_limit_is_no_clock_of_the_task() -> None:
    assert len(play(OutcomeWrapper(TimeLimit(Counter(), 3), reached_four, 6))) == 6
    buried = TransformReward(TimeLimit(TimeLimit(Counter(), 3), 4), lambda reward: reward)
    assert len(play(OutcomeWrapper(buried, reached_four, 6))) == 6
    assert len(play(OutcomeWrapper(gym.make("MountainCar-v0"), reached_four_never, 250))) == 250  # it has a limit of 200


def reached_four_never(end: Ending) -> bool:
    return False


def test_the_test_sees_the_last_step_and_is_asked_once() -> None:
    seen: list[Ending] = []

    def success(end: Ending) -> bool:
        seen.append(end)
        return True

    goal, clock = Counter(ends_at=2), Counter()
    play(OutcomeWrapper(goal, success, 5))
    play(OutcomeWrapper(TransformReward(clock, lambda reward: 0.0), success, 5))
    assert [(end.env, end.observation[0], end.terminated, end.info) for end in seen] == [
        (goal, 2, True, {"count": 2}),
        (clock, 5, False, {"count": 5}),
    ]


def test_every_reset_starts_the_clock_anew() -> None:
    env = OutcomeWrapper(Counter(), reached_four, 3)
    env.reset()
    env.step(0)
    env.step(0)
    assert len(play(env)) == 3


def test_says_what_is_wrong() -> None:
    with pytest.raises(TypeError, match=r"success must be a function.*0.5"):
        OutcomeWrapper(Counter(), 0.5)  # type: ignore[arg-type]
    for horizon in (0, -3, 2.5, True):
        with pytest.raises(ValueError, match=f"horizon must be a whole number.*{horizon}"):
            OutcomeWrapper(Counter(), reached_four, horizon)  # type: ignore[arg-type]
    env = OutcomeWrapper(Counter(), lambda end: 0.7, horizon=1)  # type: ignore[arg-type, return-value]
    env.reset()
    with pytest.raises(TypeError, match=r"must return True or False, got 0\.7"):
        env.step(0)


def test_dense_twin_has_the_same_episodes_and_its_own_reward() -> None:
    own = play(DenseWrapper(Counter(), reached_four, 4))
    assert [step[1] for step in own] == [5.0] * 4
    shaped = play(DenseWrapper(Counter(), reached_four, 4, lambda before, action, after, ended: 10 * before[0] + after[0]))
    assert [step[1] for step in shaped] == [1.0, 12.0, 23.0, 34.0]
    for steps in (own, shaped):
        assert [step[2] for step in steps] == [False] * 3 + [True]
        assert steps[-1][4]["is_success"] is True


class InPlace(Counter):
    """Gives the same array at every step."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        self.shown, info = super().reset(seed=seed)
        return self.shown, info

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.shown[:], *rest = super().step(action)
        return self.shown, *rest  # type: ignore[return-value]


def test_the_observation_before_a_step_is_not_the_one_after_it() -> None:
    shaped = play(DenseWrapper(InPlace(), reached_four, 4, lambda before, action, after, ended: 10 * before[0] + after[0]))
    assert [step[1] for step in shaped] == [1.0, 12.0, 23.0, 34.0]


def test_pickles_and_can_be_made_from_its_spec() -> None:
    env = pickle.loads(pickle.dumps(OutcomeWrapper(Counter(), reached_four, 4)))
    assert play(env)[-1][1] == 1.0
    again = gym.make(OutcomeWrapper(gym.make("CartPole-v1"), reached_four_never, 7).spec)
    again.reset(seed=0)
    steps = [again.step(i % 2) for i in range(7)]
    assert [step[2] for step in steps] == [False] * 6 + [True]
    assert steps[-1][4]["is_success"] is False
