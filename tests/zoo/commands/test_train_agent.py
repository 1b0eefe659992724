"""What ``sppo-rl train-agent`` refuses, it refuses before it trains; the agents it makes are tested in ``shipped/test_agent.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from sppo_rl import SPPO
from sppo_rl.zoo.cli import main
from sppo_rl.zoo.shipped.agent import AgentCard


def test_a_task_without_success_is_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(SPPO, "train", lambda self, batch: pytest.fail("trained in vain"))
    assert main(["train-agent", "--env", "CartPole-v1", "--episodes", "32", "-o", str(tmp_path / "agents")]) == 1
    assert "CartPole-v1 reported no success (info['is_success'] at the end) in 40 episodes" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_no_folder_to_write_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(SPPO, "train", lambda self, batch: pytest.fail("trained in vain"))
    (tmp_path / "agents").touch()
    assert main(["train-agent", "--env", "sppo_rl/Pendulum-v0", "--episodes", "32", "-o", str(tmp_path / "agents")]) == 1
    assert "agents is a file. Choose another with -o" in capsys.readouterr().err


def test_the_command_on_the_card_says_where_training_began(tmp_path: Path) -> None:
    words = ["train-agent", "--env", "sppo_rl/Pendulum-v0", "--episodes", "16", "-n", "4", "-o", str(tmp_path), "--no-prior"]
    assert main(words) == 0
    card = AgentCard.read(tmp_path / "sppo_rl-Pendulum-v0.npz")
    assert not card.from_prior
    assert "--no-prior" in card.command


class Coin(gym.Env):
    """One step that pays for action 0; action 1 is a success, and nothing is said of a failure."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        return np.zeros(1, np.float32), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        return np.zeros(1, np.float32), 1.0 - action, True, False, {"is_success": True} if action else {}


def test_no_success_after_training_is_a_rate_of_zero(tmp_path: Path) -> None:
    gym.register("Coin-v0", Coin)
    try:
        words = ["train-agent", "--env", "Coin-v0", "--episodes", "96", "-n", "10", "-o", str(tmp_path)]
        assert main([*words, "--hyperparams", "n_episodes=16", "learning_rate=0.02"]) == 0
    finally:
        gym.registry.pop("Coin-v0")
    card = AgentCard.read(tmp_path / "Coin-v0.npz")
    assert (card.greedy.successes, card.greedy.episodes) == (0, 10)
