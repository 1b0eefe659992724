"""Tasks that report ``is_success`` only where it is true: evaluation counts the other episodes as failures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback

from sppo_rl import SPPO
from sppo_rl.callbacks import EvaluationCallback, read_evaluations
from sppo_rl.evaluation import evaluate


class Bandit(gym.Env):
    """One step; action 1 succeeds and pays 11, action 0 fails and pays 1, of which ``info`` says nothing."""

    observation_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        success = bool(action == 1)
        return np.zeros(1, np.float32), 11.0 if success else 1.0, True, False, {"is_success": True} if success else {}


def choose(model: SPPO, share: float) -> SPPO:
    """Make the policy succeed in so many of its sampled episodes; the greedy ones all do, or none does."""
    with th.no_grad():
        model.policy.action_net.weight.zero_()
        model.policy.action_net.bias.copy_(th.tensor([1.0 - share, share]).clamp(min=1e-12).log())
    return model


def make() -> SPPO:
    return SPPO("MlpPolicy", Bandit(), n_episodes=4, learning_rate=1e-9, critic_loss="mse", seed=0, device="cpu")


class Follow(BaseCallback):
    """Gives the policy another share of successes before each update."""

    def __init__(self, shares: list[float]):
        super().__init__()
        self.shares = list(shares)

    def _on_rollout_start(self) -> None:
        assert isinstance(self.model, SPPO)
        choose(self.model, self.shares.pop(0))

    def _on_step(self) -> bool:
        return True


def learn(model: SPPO, shares: list[float], folder: Path, **kwargs: Any) -> list[dict[str, float]]:
    """One update for each share, evaluated before each and at the end; returns what the file says."""
    evaluation = EvaluationCallback(
        Bandit(), every=4, n_episodes=200, csv_path=folder / "e.csv", best_model_path=folder / "best.zip"
    )
    model.learn(4 * len(shares), callback=[Follow(shares), evaluation], **kwargs)
    rows = read_evaluations(folder / "e.csv")
    np.testing.assert_equal(rows, evaluation.rows)
    return rows


def rates(rows: list[dict[str, float]]) -> list[float]:
    return [row["success"] for row in rows]


def of_the_best(folder: Path) -> float:
    return evaluate(SPPO.load(folder / "best.zip", device="cpu"), Bandit(), 200).success_rate


def test_an_episode_that_reports_nothing_failed_where_another_succeeded() -> None:
    result = evaluate(choose(make(), 0.5), Bandit(), 100)
    assert result.successes is not None
    np.testing.assert_array_equal(result.successes, result.outcomes == 11.0)
    assert 0.3 < result.success_rate < 0.7


def test_no_report_at_all_is_no_success_rate(tmp_path: Path) -> None:
    assert evaluate(choose(make(), 0.0), Bandit(), 10).successes is None
    assert np.isnan(rates(learn(make(), [0.0, 0.0], tmp_path))).all()


def test_success_is_the_measure_once_it_was_seen(tmp_path: Path) -> None:
    """The first policy has a mean return of 1, which no success rate exceeds."""
    rows = learn(make(), [0.0, 0.5, 0.8, 0.0, 0.3], tmp_path)
    assert rates(rows) == pytest.approx([0.0, 0.5, 0.8, 0.0, 0.3, 0.3], abs=0.1)
    assert [row["greedy_success"] for row in rows] == [0.0, 0.0, 1.0, 0.0, 0.0, 0.0]
    assert of_the_best(tmp_path) == max(rates(rows))


def test_a_resumed_run_fills_in_the_evaluations_of_before(tmp_path: Path) -> None:
    model = make()
    assert np.isnan(rates(learn(model, [0.0, 0.0], tmp_path))).all()
    rows = learn(model, [0.0, 0.3, 0.1], tmp_path, reset_num_timesteps=False)
    # the evaluation at the end of the first part is the one at the start of the second
    assert rates(rows) == pytest.approx([0.0, 0.0, 0.0, 0.3, 0.1, 0.1], abs=0.1)
    assert of_the_best(tmp_path) == max(rates(rows))
    rows = learn(model, [0.1, 0.0, 0.2], tmp_path, reset_num_timesteps=False)
    assert rates(rows)[6:] == pytest.approx([0.0, 0.2, 0.2], abs=0.1)
    assert of_the_best(tmp_path) == max(rates(rows)) == rates(rows)[3]


def test_the_log_counts_them_too() -> None:
    model = SPPO("MlpPolicy", Bandit(), n_episodes=100, learning_rate=1e-9, critic_loss="mse", seed=0, device="cpu")
    model.learn(200, callback=Follow([0.5, 0.1]), log_interval=None)
    assert model.ep_success_buffer is not None
    assert np.mean(model.ep_success_buffer) == pytest.approx(0.1, abs=0.1)
    assert len(model.ep_success_buffer) == 100


def test_a_policy_that_says_nothing_beside_others_that_succeed_never_does() -> None:
    from sppo_rl.zoo.parallel.worker import _mean_rate

    assert _mean_rate([float("nan"), 0.5]) == 0.25
    assert np.isnan(_mean_rate([float("nan"), float("nan")]))
