"""What an evaluation callback leaves out if asked to: all evaluations but the last, and greedy episodes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3 import PPO as SB3PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure

from sppo_rl import SPPO
from sppo_rl.callbacks import EvaluationCallback, read_evaluations
from sppo_rl.evaluation import evaluate
from tests.helpers import MatchEnv, dummy


def sppo(env: Any = MatchEnv) -> Any:
    return SPPO("MlpPolicy", dummy(env, 2), n_episodes=8, n_epochs=1, seed=0)


def sb3_ppo() -> Any:
    return SB3PPO("MlpPolicy", dummy(MatchEnv, 2), n_steps=16, batch_size=32, n_epochs=1, seed=0)


@pytest.mark.parametrize("make", [sppo, sb3_ppo])
def test_a_run_may_be_evaluated_at_its_end_alone(make: Any, tmp_path: Path) -> None:
    every = EvaluationCallback(dummy(MatchEnv, 1), 32, n_episodes=10)
    whole = make().learn(100, callback=every)
    assert len(every.rows) > 3
    callback = EvaluationCallback(
        dummy(MatchEnv, 1), None, n_episodes=10, csv_path=tmp_path / "e.csv", best_model_path=tmp_path / "best.zip"
    )
    last = make().learn(100, callback=callback)
    assert [{**row, "seconds": 0.0} for row in callback.rows] == [{**every.rows[-1], "seconds": 0.0}]
    assert read_evaluations(tmp_path / "e.csv") == callback.rows
    assert (tmp_path / "best.zip").exists()
    # a call of learn() that goes on has an end of its own
    last.learn(100, callback=callback, reset_num_timesteps=False)
    assert [row["timesteps"] for row in callback.rows] == [whole.num_timesteps, last.num_timesteps]


class SaysOnlySuccess(gym.Env):
    """One step; reports no failure."""

    observation_space = spaces.Box(0.0, 1.0, (1,), np.float32)
    action_space = spaces.Discrete(2)
    succeeds = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        return np.zeros(1, np.float32), float(self.succeeds), True, False, {"is_success": True} if self.succeeds else {}


class SucceedsFromNowOn(BaseCallback):
    def __init__(self, env: SaysOnlySuccess):
        super().__init__()
        self.env = env

    def _on_rollout_start(self) -> None:
        self.env.succeeds = True

    def _on_step(self) -> bool:
        return True


def test_without_greedy_episodes_their_columns_are_empty_and_not_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    played = []

    def counted(*args: Any, **kwargs: Any) -> Any:
        played.append(kwargs["deterministic"])
        return evaluate(*args, **kwargs)

    monkeypatch.setattr("sppo_rl.callbacks.evaluate", counted)
    env = SaysOnlySuccess()
    model = sppo(SaysOnlySuccess)
    model.set_logger(configure(str(tmp_path), ["json"]))
    callback = EvaluationCallback(env, 8, n_episodes=2, csv_path=tmp_path / "e.csv", verbose=1, greedy=False)
    model.learn(16, callback=[callback, SucceedsFromNowOn(env)])
    rows = read_evaluations(tmp_path / "e.csv")
    # the first reported nothing, and was filled in when the second had reported
    assert [row["success"] for row in rows] == [0.0, 1.0, 1.0]
    assert played == [False] * 3
    for row in rows:
        assert {name for name in row if np.isnan(row[name])} == {"greedy_success", "greedy_mean_return", "greedy_mean_length"}
    logged = {key for line in (tmp_path / "progress.json").read_text().splitlines() for key in json.loads(line)}
    assert {"eval/success_rate", "eval/mean_reward", "eval/mean_ep_length"} <= logged
    assert not any("greedy" in key for key in logged)
    assert "success 1.000 sampled; return 1.00" in capsys.readouterr().out
