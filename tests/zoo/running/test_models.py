"""Models from files: of which class they are, and what rl_zoo3 keeps beside them."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import PPO as StableBaselinesPPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from sppo_rl import GRPO, RLOO, SPPO, ReMax
from sppo_rl.evaluation import evaluate
from sppo_rl.zoo.cli import main
from sppo_rl.zoo.commands import enjoy
from sppo_rl.zoo.commands.evaluate import describe
from sppo_rl.zoo.running.models import load_model

CARTPOLE = "sppo_rl/PrecisionCartPole200-v0"


@pytest.mark.parametrize("cls", [SPPO, GRPO, RLOO, ReMax])
def test_a_file_is_of_the_class_that_wrote_it(cls: type[SPPO], tmp_path: Path) -> None:
    class Mine(cls):  # type: ignore[misc, valid-type]
        """A user's own: the nearest that the zoo knows."""

    for number, of in enumerate((cls, Mine)):
        of("MlpPolicy", CARTPOLE, n_episodes=8).save(tmp_path / f"{number}.zip")
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            assert type(load_model(tmp_path / f"{number}.zip")) is cls


def test_an_older_file_is_told_by_its_parameters(tmp_path: Path) -> None:
    model = SPPO("MlpPolicy", CARTPOLE, n_episodes=8)
    del model._class_names
    model.save(tmp_path / "old.zip")
    assert type(load_model(tmp_path / "old.zip")) is SPPO


def normalized_run(folder: Path, cls: type[BaseAlgorithm]) -> BaseAlgorithm:
    """What rl_zoo3 leaves of a run with ``normalize``, with statistics that change what the policy does."""
    env = VecNormalize(make_vec_env(CARTPOLE, n_envs=1))
    env.obs_rms.mean, env.obs_rms.var = np.array([0.5, -0.5, 0.2, 0.0]), np.full(4, 1e-2)  # type: ignore[union-attr]
    model = cls("MlpPolicy", env, seed=3, device="cpu")
    name = "sppo_rl-PrecisionCartPole200-v0"
    (folder / name).mkdir(parents=True)
    model.save(folder / f"{name}.zip")
    env.save(str(folder / name / "vecnormalize.pkl"))
    return model


@pytest.mark.parametrize("cls", [SPPO, StableBaselinesPPO])
def test_a_normalized_run_of_rl_zoo3_sees_normalized_observations(
    cls: type[BaseAlgorithm], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = normalized_run(tmp_path / "run_1", cls)
    expected = [describe(evaluate(model, CARTPOLE, 20, greedy)) for greedy in (False, True)]
    assert main(["evaluate", "--model", str(tmp_path / "run_1"), "--env", CARTPOLE, "-n", "20"]) == 0
    assert [line.partition(": ")[2] for line in capsys.readouterr().out.splitlines()[1:]] == expected
    # beside the file, elsewhere, there are no statistics
    alone = tmp_path / "alone.zip"
    next((tmp_path / "run_1").glob("*.zip")).rename(alone)
    assert [describe(evaluate(load_model(alone), CARTPOLE, 20, greedy)) for greedy in (False, True)] != expected


def test_its_video_shows_what_the_evaluation_measures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained, loaded = normalized_run(tmp_path / "run_1", SPPO), load_model(tmp_path / "run_1")
    env, wrapped = gym.make(CARTPOLE), trained.get_vec_normalize_env()
    assert wrapped is not None
    first, _ = env.reset(seed=7)
    seen = []
    monkeypatch.setattr(enjoy, "frame", lambda env: None)
    predict = loaded.predict
    monkeypatch.setattr(
        loaded, "predict", lambda observation, **how: (seen.append(observation), predict(observation, **how))[1]
    )
    enjoy.play(loaded, env, 7, True, SimpleNamespace(append_data=lambda frame: None))
    np.testing.assert_array_equal(seen[0], wrapped.normalize_obs(first))
    assert np.abs(seen[0] - first).max() > 0.1
