"""Environments of the user's own on the command line: their module is imported, by workers and later runs too."""

from __future__ import annotations

import os
import sys

import gymnasium as gym
import pytest
import yaml

from sppo_rl.zoo.cli import main
from sppo_rl.zoo.names import UsageError, check_env_id, file_name, with_module
from sppo_rl.zoo.results.rows import read_results
from sppo_rl.zoo.running.models import build_model
from sppo_rl.zoo.running.runs import horizon, read_config
from sppo_rl.zoo.settings.hyperparameters import load_hyperparameters, read_file

MODULE = """
import gymnasium as gym
import numpy as np


class Guess(gym.Env):
    observation_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        return np.zeros(2, np.float32), float(action), True, False, {"is_success": bool(action)}


gym.register("Guess-v0", Guess, max_episode_steps=7)
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A folder of PYTHONPATH with a module that registers an environment; nothing has imported it."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "own_guesses.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))
    yield "own_guesses"
    sys.modules.pop("own_guesses", None)
    gym.registry.pop("Guess-v0", None)


SHORT = ["--episodes", "16", "--eval-episodes", "2"]


@pytest.mark.parametrize("env", [["own_guesses:Guess-v0"], ["Guess-v0", "--gym-packages", "own_guesses"]])
def test_train_imports_the_module_and_writes_it_down(env, module, tmp_path, capsys):
    own = tmp_path / "own.yml"
    own.write_text("Guess-v0: {n_episodes: 8}\n")
    words = ["train", "--env", *env, *SHORT, "--conf-file", str(own), "--log-folder", str(tmp_path)]
    assert main(words) == 0
    folder = tmp_path / "sppo" / "Guess-v0_1"
    spec = read_config(folder)
    assert spec.env_id == "own_guesses:Guess-v0"
    assert spec.hyperparameters().kwargs["n_episodes"] == 8
    assert horizon(spec.env_id) == 7
    assert main(["evaluate", "--model", str(folder), "--env", *env, "-n", "4"]) == 0
    assert "sampled: success" in capsys.readouterr().out


def test_workers_of_a_comparison_import_it_too(module, tmp_path):
    words = [
        "compare",
        "--env",
        "Guess-v0",
        "--gym-packages",
        module,
        "--algos",
        "sppo",
        "--seeds",
        "1",
        *SHORT,
        "--jobs",
        "1",
    ]
    assert main([*words, "-o", str(tmp_path / "out")]) == 0
    assert {row["env"] for row in read_results(tmp_path / "out")} == {"own_guesses:Guess-v0"}


def test_tune_writes_to_the_entry_that_the_file_has(module, tmp_path, monkeypatch):
    monkeypatch.setattr("sppo_rl.zoo.commands.tune._last_evaluation", lambda spec: {"success": 0.5, "seconds": 1.0})
    own = tmp_path / "own.yml"
    own.write_text("Guess-v0: {n_episodes: 8}\n")
    words = ["tune", "--env", "own_guesses:Guess-v0", "--trials", "1", "--episodes", "8", "--conf-file", str(own)]
    assert main([*words, "--write", "-o", str(tmp_path)]) == 0
    assert list(yaml.safe_load(own.read_text())) == ["Guess-v0"]


def test_what_cannot_be_imported_is_said(module):
    with pytest.raises(UsageError, match=r"module 'no_such_module'.* cannot be imported .*PYTHONPATH"):
        check_env_id("no_such_module:My-v0")
    with pytest.raises(UsageError, match="'own_guesses' registers no environment 'Gues-v0'"):
        check_env_id("own_guesses:Gues-v0")
    with pytest.raises(UsageError, match="--gym-packages MODULE"):
        check_env_id("NoSuchEnv-v0")
    # an id that another package brought keeps its name
    assert with_module("CartPole-v1", [module]) == "CartPole-v1"


def test_this_packages_tasks_are_found_behind_their_module():
    env_id = "sppo_rl:sppo_rl/PrecisionCartPole200-v0"
    assert check_env_id(env_id) == env_id
    assert file_name(env_id) == "sppo_rl-PrecisionCartPole200-v0"
    assert horizon(env_id) == 200
    chosen = load_hyperparameters("sppo", env_id)
    assert chosen.as_dict() == read_file("sppo")["sppo_rl/PrecisionCartPole200-v0"]
    model, from_prior = build_model("sppo", env_id, chosen)
    assert from_prior
    assert model.get_env().num_envs == chosen.kwargs["n_episodes"]
