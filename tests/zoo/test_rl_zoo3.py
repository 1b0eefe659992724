"""rl_zoo3 with this package's algorithms: its own command line, from an installed wheel, and what we change inside it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import gymnasium as gym
import numpy as np
import pandas as pd
import pytest
import torch as th
import yaml
from stable_baselines3.common.vec_env import DummyVecEnv

import sppo_rl.zoo.rl_zoo3 as zoo
from sppo_rl import SPPO
from sppo_rl.vec_env import BatchedVecEnv
from sppo_rl.zoo.running.models import build_model
from sppo_rl.zoo.settings.hyperparameters import load_hyperparameters, read_file
from sppo_rl.zoo.shipped.prior import actor_weights, prior_weights

CARTPOLE = "sppo_rl/PrecisionCartPole200-v0"
MOUNTAINCAR = "sppo_rl/MountainCar-v0"
SEARCH = ("-n", "1000", "--n-trials", "4", "--n-evaluations", "1", "--eval-episodes", "1")
"""A search of four trials, as short as they come."""


@pytest.fixture(autouse=True, scope="module")
def _registered():
    # importing rl_zoo3 exchanges Gymnasium's TimeLimit for all who come after
    places = (gym.wrappers, gym.wrappers.common)
    before = [place.TimeLimit for place in places]
    zoo.register()
    yield
    for place, limit in zip(places, before, strict=True):
        place.TimeLimit = limit


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Run rl_zoo3's command line in this process and in an empty folder."""

    def run(*words: str) -> Path:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["rl_zoo3", *words])
        zoo.main()
        return tmp_path

    return run


@pytest.fixture
def manager(command, monkeypatch):
    """Run ``train`` and keep the experiment manager and the model it trained."""
    import rl_zoo3.train

    kept = []

    class Kept(rl_zoo3.train.ExperimentManager):
        def learn(self, model):
            kept[:] = [self, model]
            super().learn(model)

    monkeypatch.setattr(rl_zoo3.train, "ExperimentManager", Kept)

    def run(*words: str):
        command("train", "--n-timesteps", "1", "--eval-freq", "-1", "--verbose", "0", *words)
        return kept

    return run


# ------------------------------------------------------------------ from a wheel, where no repository is


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")

    def run(*words: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(folder / "site"), "OMP_NUM_THREADS": "1"}
        work = folder / "work"
        work.mkdir(exist_ok=True)
        command = [sys.executable, "-P", "-m", "sppo_rl.zoo.rl_zoo3", *words]
        done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        # the files of the wheel, not of the repository, were read
        assert str(folder / "site") in done.stdout
        return done.stdout

    run.folder = folder / "work"
    return run


def test_train_from_a_wheel_leaves_a_model_its_settings_and_its_episodes(installed):
    installed(
        "train", "--algo", "sppo", "--env", CARTPOLE, "--n-timesteps", "900", "--eval-freq", "400", "-params", "n_episodes:4"
    )
    run = installed.folder / "logs" / "sppo" / "sppo_rl-PrecisionCartPole200-v0_1"
    config = yaml.load((run / "sppo_rl-PrecisionCartPole200-v0" / "config.yml").read_text(), Loader=yaml.UnsafeLoader)
    # an update of 4 episodes instead of 64, still in as many minibatches
    assert dict(config) == {**read_file("sppo")[CARTPOLE], "n_episodes": 4, "batch_size": 1}
    model = SPPO.load(run / "sppo_rl-PrecisionCartPole200-v0.zip")
    assert model.num_timesteps >= 900
    episodes = pd.read_csv(run / "0.monitor.csv", skiprows=1)
    assert len(episodes) == model._episode_num
    assert episodes.l.sum() == model.num_timesteps
    assert (episodes.r == episodes.is_success).all()
    assert len(np.load(run / "evaluations.npz")["timesteps"]) >= 2


def test_optimize_from_a_wheel_searches_the_space_and_keeps_its_study(installed):
    words = ("--n-timesteps", "800", "--n-trials", "2", "--eval-episodes", "2", "-params", "n_episodes:4")
    study = ("--storage", "logs/study.log", "--study-name", "s")
    installed("train", "-optimize", "--no-optim-plots", "--algo", "sppo_ppo", "--env", CARTPOLE, *study, *words)
    (report,) = (installed.folder / "logs" / "sppo_ppo").glob("report_*.csv")
    trials = pd.read_csv(report)
    assert (trials.state == "COMPLETE").all()
    assert len(trials) == 2
    searched = {name.removeprefix("params_") for name in trials if name.startswith("params_")}
    assert searched == {
        *("learning_rate", "n_epochs", "n_minibatches", "clip_range", "ent_coef", "max_grad_norm"),
        *("critic_learning_rate", "critic_init", "gae_lambda", "normalize_advantage"),
    }
    assert (installed.folder / "logs" / "study.log").exists()


# ------------------------------------------------------------------ inside it


def test_rl_zoo3_keeps_its_own_algorithms():
    from rl_zoo3 import ALGOS
    from rl_zoo3.hyperparams_opt import HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER
    from stable_baselines3 import PPO

    before = dict(ALGOS)
    zoo.register()
    assert before == ALGOS
    assert ALGOS["ppo"] is PPO
    assert set(zoo.ALGORITHMS) <= set(ALGOS) & set(HYPERPARAMS_SAMPLER) & set(HYPERPARAMS_CONVERTER)


def test_ppo_with_bce_has_that_critic_without_an_entry_too():
    from rl_zoo3 import ALGOS

    for name, loss in (("sppo_ppo_bce", "bce"), ("sppo_ppo", "mse")):
        assert ALGOS[name]("MlpPolicy", "CartPole-v1", prior=False).critic_loss == loss


def test_training_is_that_of_our_own_command(manager):
    _, trained = manager("--algo", "sppo", "--env", MOUNTAINCAR, "--seed", "5")
    ours, from_prior = build_model("sppo", MOUNTAINCAR, load_hyperparameters("sppo", MOUNTAINCAR), seed=5)
    assert from_prior
    ours.learn(1)
    for name, weights in ours.policy.state_dict().items():
        assert th.equal(weights, trained.policy.state_dict()[name]), name


def test_training_starts_from_the_prior_unless_told_otherwise():
    cls = zoo.with_zoo_keys(SPPO, {})
    for prior, same in ((None, True), (True, True), (False, False)):
        model = cls("MlpPolicy", CARTPOLE, prior=prior, n_episodes=8, n_minibatches=4, seed=0)
        assert model.batch_size == 2
        wanted, got = prior_weights(CARTPOLE), actor_weights(model.policy)
        assert all(np.array_equal(wanted[name], got[name]) for name in wanted) is same
    with pytest.raises(FileNotFoundError, match="no prior"):
        cls("MlpPolicy", "CartPole-v1", prior=True)
    assert cls("MlpPolicy", "CartPole-v1").n_envs == 1


def test_a_prior_fits_where_only_rewards_are_normalized(manager):
    for norm_obs, same in ((False, True), (True, False)):
        normalize = f"normalize:dict(norm_obs={norm_obs}, norm_reward=False)"
        _, model = manager("--algo", "sppo", "--env", CARTPOLE, "-params", normalize, "learning_rate:0.0", "n_episodes:1")
        wanted, got = prior_weights(CARTPOLE), actor_weights(model.policy)
        assert all(np.array_equal(wanted[name], got[name]) for name in wanted) is same
    with pytest.raises(ValueError, match="Leave out 'normalize', give it norm_obs=False, or set prior to False"):
        manager("--algo", "sppo", "--env", CARTPOLE, "-params", "normalize:True", "prior:True")


def test_stacked_frames_do_not_fit_a_prior_and_the_way_out_is_named(manager):
    with pytest.raises(ValueError, match=r"frames not stacked; or start from random weights .*rl_zoo3 -params prior:False\)"):
        manager("--algo", "sppo", "--env", CARTPOLE, "-params", "frame_stack:2")
    manager("--algo", "sppo", "--env", CARTPOLE, "-params", "frame_stack:2", "prior:False", "n_episodes:1")


def test_minibatches_are_those_of_the_entry_that_is_used(manager, tmp_path):
    entry = {"policy": "MlpPolicy", "n_timesteps": 1, "n_episodes": 16, "batch_size": 8}
    (tmp_path / "own.yml").write_text(yaml.safe_dump({"default": entry}))
    _, model = manager("--algo", "sppo", "--env", CARTPOLE, "-conf", "own.yml", "-params", "n_episodes:4")
    assert (model.n_episodes, model.batch_size) == (4, 2)


def test_the_evaluation_environment_is_the_training_task(manager):
    experiment, model = manager("--algo", "rloo", "--env", MOUNTAINCAR)
    assert isinstance(model.env, BatchedVecEnv)
    assert model.env.num_envs == 8
    evaluation = experiment.create_envs(1, eval_env=True)
    assert isinstance(evaluation, BatchedVecEnv)
    assert evaluation.spec == model.env.spec


def test_the_evaluation_environment_gets_the_env_kwargs_of_the_file(manager, tmp_path):
    settings = {CARTPOLE: {"policy": "MlpPolicy", "n_timesteps": 1, "n_episodes": 1, "env_kwargs": {"horizon": 7}}}
    (tmp_path / "own.yml").write_text(yaml.safe_dump(settings))
    experiment, model = manager("--algo", "sppo", "--env", CARTPOLE, "-conf", "own.yml")
    evaluation = experiment.create_envs(1, eval_env=True)
    for env in (model.env, evaluation):
        assert isinstance(env, DummyVecEnv)
        assert env.get_attr("spec")[0].kwargs["horizon"] == 7


@pytest.mark.parametrize("words", [("-params", "n_envs:2"), ("-params", "env_wrapper:['gymnasium.wrappers.Autoreset']")])
def test_ordinary_copies_where_the_user_wants_their_own(manager, words):
    experiment, model = manager("--algo", "sppo", "--env", MOUNTAINCAR, *words)
    assert isinstance(model.env, DummyVecEnv)
    assert model.env.num_envs == experiment.n_envs == (2 if "n_envs:2" in words else 1)


def test_a_trial_with_nan_losses_is_pruned(command, monkeypatch, capsys):
    from rl_zoo3.hyperparams_opt import HYPERPARAMS_SAMPLER

    def sample(trial, *others):
        which = trial.suggest_categorical("which", (0, 1))
        return {"learning_rate": lambda progress: np.nan if which == 0 and progress < 0.5 else 1e-3}

    monkeypatch.setitem(HYPERPARAMS_SAMPLER, "sppo", sample)
    words = ("--algo", "sppo", "--env", CARTPOLE, "--n-timesteps", "2000", "--n-trials", "4", "--eval-episodes", "1")
    words += ("--seed", "1", "-params", "n_episodes:4")
    folder = command("train", "-optimize", "--no-optim-plots", *words)
    (report,) = (folder / "logs" / "sppo").glob("report_*.csv")
    trials = pd.read_csv(report)
    assert dict(zip(trials.params_which, trials.state, strict=True)) == {0: "PRUNED", 1: "COMPLETE"}


@pytest.mark.parametrize(
    ("algo", "changes", "drawn"),
    [
        ("sppo", ["hybrid:0.5", "n_episodes:2"], {}),
        ("grpo", ["n_episodes:12", "group_size:4"], {"params_group_size": {4}}),
    ],
)
def test_a_search_draws_nothing_that_the_runs_settings_rule_out(command, algo, changes, drawn):
    words = ("--algo", algo, "--env", CARTPOLE, *SEARCH, "--n-startup-trials", "4")
    folder = command("train", "-optimize", "--no-optim-plots", *words, "--seed", "0", "-params", *changes)
    (report,) = (folder / "logs" / algo).glob("report_*.csv")
    trials = pd.read_csv(report)
    assert list(trials.state) == 4 * ["COMPLETE"]
    assert "params_advantage" not in trials
    assert {name: set(trials[name]) for name in drawn} == drawn


def test_a_trial_that_cannot_be_built_is_pruned(command, monkeypatch, capsys):
    from rl_zoo3.hyperparams_opt import HYPERPARAMS_SAMPLER

    def sample(trial, *others):
        return {"n_epochs": trial.suggest_categorical("n_epochs", (0, 1))}

    monkeypatch.setitem(HYPERPARAMS_SAMPLER, "sppo", sample)
    words = ("--algo", "sppo", "--env", CARTPOLE, *SEARCH)
    folder = command("train", "-optimize", "--no-optim-plots", *words, "--seed", "1", "-params", "n_episodes:2")
    assert re.search(r"Trial \d pruned: n_epochs must be at least 1, got 0", capsys.readouterr().out)
    (report,) = (folder / "logs" / "sppo").glob("report_*.csv")
    trials = pd.read_csv(report)
    assert dict(zip(trials.params_n_epochs, trials.state, strict=True)) == {0: "PRUNED", 1: "COMPLETE"}


def test_what_no_trial_could_be_built_with_ends_the_search(command):
    words = ("--algo", "sppo", "--env", CARTPOLE, *SEARCH)
    with pytest.raises(ValueError, match="max_episode_steps must be at least 1, got 0"):
        command("train", "-optimize", "--no-optim-plots", *words, "-params", "max_episode_steps:0")


def test_enjoy_plays_what_train_saved(command, capsys):
    command("train", "--algo", "sppo", "--env", CARTPOLE, "--n-timesteps", "1", "--eval-freq", "-1", "-params", "n_episodes:2")
    command("enjoy", "--algo", "sppo", "--env", CARTPOLE, "-f", "logs", "--no-render", "-n", "400")
    assert "Success rate" in capsys.readouterr().out


def test_without_rl_zoo3_it_says_what_to_install(command, monkeypatch):
    monkeypatch.setitem(sys.modules, "rl_zoo3", None)
    with pytest.raises(SystemExit, match=r"pip install 'sppo-rl\[rl-zoo3\]'"):
        command("train", "--algo", "sppo")
