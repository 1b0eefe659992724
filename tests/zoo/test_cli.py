"""The command line: what it trains, writes and resumes, and what it says to those who mistype."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch as th
import yaml

import sppo_rl
from sppo_rl.callbacks import read_evaluations
from sppo_rl.collection import LONGEST_EPISODE
from sppo_rl.zoo.cli import COMMANDS, main
from sppo_rl.zoo.names import ALGORITHMS, UsageError
from sppo_rl.zoo.running.models import build_model, load_model
from sppo_rl.zoo.running.runs import RunSpec, read_config, run
from sppo_rl.zoo.settings.hyperparameters import defaults_of, read_file
from tests.killed import KillAt, Killed

CARTPOLE = "sppo_rl/PrecisionCartPole200-v0"
TINY = [
    "--env",
    CARTPOLE,
    "--no-prior",
    "--episodes",
    "16",
    "--eval-episodes",
    "2",
    "--hyperparams",
    "n_episodes=8",
    "n_epochs=1",
]


def weights(model):
    return th.cat([parameter.detach().flatten() for parameter in model.policy.parameters()])


# ------------------------------------------------------------------ messages


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["trian"], 2, "Did you mean 'train'"),
        (["train", "--env", "sppo_rl/Pendulm-v0"], 1, "Did you mean 'sppo_rl/Pendulum-v0'"),
        (["train", "--env", CARTPOLE, "--algo", "spo"], 1, "Did you mean 'sppo'"),
        (["train", "--env", CARTPOLE, "--hyperparams", "n_epoch=3"], 1, "Did you mean 'n_epochs'"),
        (["train", "--env", CARTPOLE, "--episodes", "0"], 1, "episodes must be at least 1, got 0"),
        (["train", "--env", CARTPOLE, "--threads", "0"], 1, "--threads must be at least 1, got 0"),
        (
            ["train", "--env", "CartPole-v1", "--hyperparams", "n_envs=-1"],
            1,
            "n_envs must be at least 1, got -1 in --hyperparams",
        ),
        (
            ["train", "--env", CARTPOLE, "--hyperparams", "n_timesteps=0"],
            1,
            "n_timesteps must be at least 1, got 0 in --hyper",
        ),
        (["compare", "--env", CARTPOLE, "--hyperparams", "ppo.n_timesteps=0"], 1, "n_timesteps must be at least 1, got 0"),
        (
            ["train", "--env", "CartPole-v1", "--hyperparams", "policy=MlpPolcy"],
            1,
            "sppo has no policy 'MlpPolcy'. Did you mean 'MlpPolicy'? It has: MlpPolicy, CnnPolicy, MultiInputPolicy.",
        ),
        (
            ["train", "--env", "CartPole-v1", "--hyperparams", "policy=CnnPolicy"],
            1,
            "sppo cannot be built for CartPole-v1 with policy=CnnPolicy: You should use NatureCNN only with images",
        ),
        (
            ["train", "--algo", "sb3-ppo", "--env", "CartPole-v1", "--hyperparams", "policy=MultiInputPolicy"],
            1,
            "with policy=MultiInputPolicy: 'Box' object has no attribute 'spaces'. MlpPolicy is for vectors, CnnPolicy for images",
        ),
        (
            ["train", "--algo", "sb3-ppo", "--env", "CartPole-v1", "--hyperparams", "batch_size=1"],
            1,
            "sb3-ppo cannot be built for CartPole-v1 with policy=MlpPolicy: `batch_size` must be greater than 1",
        ),
        (["train"], 1, "--env"),
        (["train", "--env", "CartPole-v1", "--from-prior"], 1, "There is no prior for 'CartPole-v1'"),
        (["evaluate", "--env", CARTPOLE, "--model", "nowhere.zip"], 1, "no model at nowhere.zip"),
        (["evaluate", "--env", "CartPole-v1", "--prior"], 1, "There is no prior for 'CartPole-v1'"),
        (["envs", "hopper"], 1, "Did you mean 'sppo_rl/Hopper-v0'"),
        (["compare", "--env", CARTPOLE, "--algos", "sppo", "p-po"], 1, "Did you mean 'ppo'"),
        (["compare", "--env", CARTPOLE, "--algos", "sppo", "--hyperparams", "ppo.gamma=1"], 1, "takes no part"),
        (["compare", "--env", CARTPOLE, "--seeds", "0"], 1, "must be at least 1, got 0"),
        (["compare", "--env", CARTPOLE, "--first-seed", "-1"], 1, "--first-seed must be at least 0, got -1"),
        (["plot", "nowhere"], 1, "no results at nowhere"),
        (["train", "--env", CARTPOLE, "--device", "gpu"], 1, "device must be cpu, cuda, auto"),
        (["evaluate", "--env", CARTPOLE, "--agent", "--algo", "grpo"], 1, "--algo belongs to a --model"),
        (["evaluate", "--env", CARTPOLE, "--model", "nowhere.npz"], 1, "nowhere.npz"),
        (
            ["enjoy", "--env", CARTPOLE, "--agent", "-o", "video.txt"],
            1,
            ".mp4, .gif, .mkv, .avi, .mov, .webm); got 'video.txt'",
        ),
    ],
)
def test_mistakes_are_answered_without_a_traceback(words, status, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == status
    errors = capsys.readouterr().err
    assert message in errors
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [["train", "--env", CARTPOLE, "-f"], ["compare", "--env", CARTPOLE, "--seeds", "1", "-o"]])
def test_a_file_where_a_folder_is_to_be_is_answered_in_one_line(words, tmp_path, capsys):
    path = tmp_path / "afile"
    path.touch()
    assert main([*words, str(path)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"sppo-rl {words[0]}: ")
    assert str(path) in line
    assert main(["--traceback", *words, str(path)]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_nobody_reads_any_more_is_no_failure_to_report(unbuffered):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "sppo_rl.zoo.cli", "envs", CARTPOLE]
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, env=environment, timeout=120)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


def test_a_pipe_to_another_process_that_breaks_is_reported(monkeypatch, capsys):
    def breaks(arguments):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("sppo_rl.zoo.commands.envs.run", breaks)
    assert main(["envs"]) == 1
    assert capsys.readouterr().err == "sppo-rl envs: [Errno 32] Broken pipe\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command, capsys):
    with pytest.raises(SystemExit) as status:
        main([command, "--help"])
    assert status.value.code == 0
    assert f"sppo-rl {command}" in capsys.readouterr().out.split("usage:")[1].split("\n", 1)[1]


def test_help_lists_every_command(capsys):
    assert main([]) == 0
    listed = capsys.readouterr().out
    assert all(re.search(rf"^ +{command}\s", listed, re.MULTILINE) for command in COMMANDS)


def test_the_version_is_the_packages(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.split() == ["sppo-rl", sppo_rl.__version__]


def test_envs_lists_ids_and_prints_cards(capsys):
    assert main(["envs"]) == 0
    table = capsys.readouterr().out
    assert "sppo_rl/Hopper-v0" in table
    assert "sppo_rl/PendulumDense-v0" in table
    assert main(["envs", "sppo_rl/PrecisionCartPole-v0"]) == 0
    assert "Success" in capsys.readouterr().out


# ------------------------------------------------------------------ train


def test_train_writes_what_rl_zoo3_users_expect_and_numbers_its_folders(tmp_path, capsys):
    for _ in range(2):
        assert main(["train", *TINY, "--seed", "3", "--log-folder", str(tmp_path)]) == 0
    folders = sorted(path.name for path in (tmp_path / "sppo").iterdir())
    assert folders == ["sppo_rl-PrecisionCartPole200-v0_1", "sppo_rl-PrecisionCartPole200-v0_2"]
    first, second = (tmp_path / "sppo" / name for name in folders)
    names = {path.name for path in first.iterdir()}
    assert names == {"config.yml", "evaluations.csv", "best_model.zip", "last_model.zip", "checkpoints", "tensorboard_1"}
    config = yaml.safe_load((first / "config.yml").read_text())
    assert config["hyperparameters"]["n_episodes"] == 8
    assert config["hyperparameters"]["learning_rate"] == read_file("sppo")[CARTPOLE]["learning_rate"]
    assert (config["algo"], config["env_id"], config["seed"], config["prior"]) == ("sppo", CARTPOLE, 3, False)
    assert [row["episodes"] for row in read_evaluations(first / "evaluations.csv")] == [0, 8, 16]
    # the same seed, the same weights
    assert th.equal(weights(load_model(first / "last_model.zip")), weights(load_model(second / "last_model.zip")))
    assert "random weights" in capsys.readouterr().out
    assert list((first / "tensorboard_1").glob("events*"))


def test_runs_started_together_have_folders_of_their_own(tmp_path, capsys, monkeypatch):
    seen = []

    def beside(spec, folder, *more, **options):
        # the other is started before this one has written anything
        seen.append(folder)
        if len(seen) < 3:
            main(["train", *TINY, "--log-folder", str(tmp_path)])
        raise ValueError("cannot be built")

    monkeypatch.setattr("sppo_rl.zoo.commands.train.train_run", beside)
    # a number that another process takes after the folders were listed
    monkeypatch.setattr("sppo_rl.zoo.running.folders.numbers_of", lambda base, stem: [])
    assert main(["train", *TINY, "--log-folder", str(tmp_path)]) == 1
    assert [folder.name for folder in seen] == [f"sppo_rl-PrecisionCartPole200-v0_{number}" for number in (1, 2, 3)]
    # a run that could not be built leaves nothing, not even what it was the first to need
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("algo", ["ppo-bce", "grpo", "remax", "sb3-ppo"])
def test_a_saved_model_knows_its_algorithm_with_and_without_its_folder(algo, tmp_path):
    overrides = {"n_envs": 2, "n_steps": 20, "batch_size": 40} if algo == "sb3-ppo" else {"n_episodes": 8, "n_epochs": 1}
    model, evaluation = run(
        RunSpec(algo, CARTPOLE, episodes=8, prior=False, overrides=overrides, eval_episodes=2).check(), tmp_path / "run"
    )
    assert evaluation.rows[-1]["episodes"] >= 8
    assert type(load_model(tmp_path / "run")) is ALGORITHMS[algo]
    alone = tmp_path / "alone.zip"
    (tmp_path / "run" / "last_model.zip").rename(alone)
    loaded = load_model(alone)
    observation = np.array([0.01, 0.0, 0.05, 0.1], dtype=np.float32)
    assert loaded.predict(observation, deterministic=True)[0] == model.predict(observation, deterministic=True)[0]
    assert th.equal(weights(loaded), weights(model))


def test_resume_goes_on_with_a_killed_run_bit_for_bit(tmp_path, capsys, monkeypatch):
    spec = RunSpec(
        "sppo", CARTPOLE, seed=5, episodes=80, prior=False, overrides={"n_episodes": 8}, eval_every=16, eval_episodes=3
    ).check()
    whole, _ = run(spec, tmp_path / "whole")
    folder = tmp_path / "sppo" / "sppo_rl-PrecisionCartPole200-v0_1"
    # started in another working folder
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(Killed):
        run(spec, Path("..") / folder.relative_to(tmp_path), [KillAt(6)], tensorboard=True)
    monkeypatch.chdir(tmp_path)
    before = read_evaluations(folder / "evaluations.csv")
    assert main(["train", "--resume", "--env", CARTPOLE, "--log-folder", str(tmp_path)]) == 0
    assert "Resumed at" in capsys.readouterr().out
    assert th.equal(weights(load_model(folder / "last_model.zip")), weights(whole))
    # TensorBoard's files are with the run
    assert len(list((folder / "tensorboard_1").glob("events*"))) == 2
    after, expected = read_evaluations(folder / "evaluations.csv"), read_evaluations(tmp_path / "whole" / "evaluations.csv")
    assert after[: len(before)] == before
    unclocked = [[{**row, "seconds": 0} for row in rows] for rows in (after, expected)]
    assert unclocked[0] == unclocked[1]
    assert main(["train", "--resume", str(folder)]) == 1
    assert "complete" in capsys.readouterr().err


class Long(gym.Env):
    """Episodes of 2,500 steps, without a limit that anyone could know of."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.steps += 1
        return np.zeros(1, np.float32), 0.0, self.steps == 2500, False, {}


@pytest.fixture
def long_env():
    gym.register("Long-v0", Long)
    yield "Long-v0"
    gym.registry.pop("Long-v0")


def test_a_budget_of_episodes_is_played_where_no_limit_is_stated(long_env, tmp_path):
    overrides = {"n_episodes": 2, "n_epochs": 1}
    spec = RunSpec("grpo", long_env, episodes=6, overrides={**overrides, "group_size": 2}, eval_episodes=1).check()
    _, evaluation = run(spec, tmp_path)
    assert evaluation.rows[-1]["episodes"] == 6
    assert replace(spec, overrides={"max_episode_steps": 300}).total_timesteps == 6 * 300
    assert defaults_of(ALGORITHMS["sppo"])["max_episode_steps"] == LONGEST_EPISODE


def test_a_resumed_run_goes_on_with_its_schedule(tmp_path):
    overrides = {"n_episodes": 8, "learning_rate": "lin_1e-2"}
    spec = RunSpec("sppo", CARTPOLE, episodes=40, prior=False, overrides=overrides, eval_episodes=1).check()
    whole, _ = run(spec, tmp_path / "whole")
    with pytest.raises(Killed):
        run(spec, tmp_path / "killed", [KillAt(3)])
    resumed, _ = run(spec, tmp_path / "killed", resume=True)
    assert whole.policy.optimizer.param_groups[0]["lr"] == 0.0
    assert th.equal(weights(resumed), weights(whole))


def test_stable_baselines_schedules_are_refused_with_a_budget_of_episodes():
    spec = RunSpec("sb3-ppo", CARTPOLE, episodes=16, overrides={"learning_rate": "lin_1e-3"})
    with pytest.raises(UsageError, match=r"PPO \(SB3\)'s schedules follow time steps.* learning_rate=lin_1e-3 .*--timesteps"):
        spec.check()
    replace(spec, episodes=None, timesteps=16).check()


def test_a_run_can_be_repeated_from_its_config(tmp_path):
    spec = RunSpec("grpo", CARTPOLE, seed=1, episodes=8, prior=False, overrides={"n_episodes": 8}, eval_episodes=1)
    run(spec, tmp_path)
    # its hyperparameters in full: the package's file may have changed since
    assert read_config(tmp_path) == replace(spec, entry=spec.hyperparameters().as_dict())


def test_hyperparameters_from_a_file_are_kept_with_the_run(tmp_path, capsys):
    own = tmp_path / "own.yml"
    own.write_text(f"{CARTPOLE}: {{n_timesteps: 1600, n_episodes: 4, n_epochs: 2, learning_rate: 0.002}}\n")
    words = [
        "train",
        "--env",
        CARTPOLE,
        "--no-prior",
        "--eval-episodes",
        "2",
        "--conf-file",
        str(own),
        "-params",
        "n_epochs=1",
    ]
    assert main([*words, "--log-folder", str(tmp_path)]) == 0
    own.unlink()
    folder = tmp_path / "sppo" / "sppo_rl-PrecisionCartPole200-v0_1"
    expected = {"n_timesteps": 1600, "policy": "MlpPolicy", "n_episodes": 4, "n_epochs": 1, "learning_rate": 0.002}
    assert read_config(folder).hyperparameters().as_dict() == expected
    assert 1600 <= load_model(folder / "last_model.zip").num_timesteps < 1600 + 4 * 200
    assert main(words) == 1
    assert "There is no hyperparameter file" in capsys.readouterr().err


def test_a_run_whose_losses_are_not_finite_says_so(tmp_path, capsys):
    words = ["train", *TINY[:-1], "learning_rate=1e38", "--log-folder", str(tmp_path)]
    with np.errstate(all="ignore"):
        assert main(words) == 1
    assert re.search("finite|NaN", capsys.readouterr().err)


# ------------------------------------------------------------------ priors


def test_runs_start_from_the_shipped_prior_stable_baselines_too(tmp_path):
    source = build_model("sppo", CARTPOLE, RunSpec("sppo", CARTPOLE).hyperparameters())[0]
    for algo in ("ppo-bce", "sb3-ppo"):
        model, from_prior = build_model(algo, CARTPOLE, RunSpec(algo, CARTPOLE).hyperparameters())
        assert from_prior
        assert type(model) is ALGORITHMS[algo]
        observations = th.randn(20, 4)
        ours, theirs = source.policy.get_distribution(observations), model.policy.get_distribution(observations)
        th.testing.assert_close(ours.distribution.logits, theirs.distribution.logits)
    assert model.n_steps == 200
    assert model.get_env().num_envs == 64
