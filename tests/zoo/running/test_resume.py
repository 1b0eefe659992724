"""What a killed run goes on with: its evaluations where nothing is left to do, and this process's folder and wishes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm

from sppo_rl.callbacks import read_evaluations
from sppo_rl.zoo.cli import main
from sppo_rl.zoo.running.models import load_model
from sppo_rl.zoo.running.runs import CONFIG, EVALUATIONS, LAST_MODEL, RunSpec, read_config, run
from tests.killed import KillAt, Killed, tiny_language_settings

CARTPOLE = "sppo_rl/PrecisionCartPole200-v0"


def spec_of(**settings: Any) -> RunSpec:
    given = {"prior": False, "overrides": {"n_episodes": 8, "n_epochs": 1}, "eval_every": 8, "eval_episodes": 2, **settings}
    return RunSpec("sppo", CARTPOLE, seed=2, **given).check()


def weights(folder: Path) -> th.Tensor:
    return th.cat([parameter.detach().flatten() for parameter in load_model(folder / LAST_MODEL).policy.parameters()])


def unclocked(folder: Path) -> list[dict[str, float]]:
    return [{**row, "seconds": 0} for row in read_evaluations(folder / EVALUATIONS)]


# the last one's final evaluation comes after its last checkpoint, by the steps of a collection that was cut short
@pytest.mark.parametrize("length", [{"timesteps": 130}, {"episodes": 16}, {"episodes": 12, "eval_every": 100}])
def test_a_run_killed_after_its_last_checkpoint_is_not_evaluated_again(
    length: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, evaluation = run(spec_of(**length), tmp_path)
    rows, end, written = unclocked(tmp_path), weights(tmp_path), (tmp_path / EVALUATIONS).read_bytes()
    assert len(rows) > 1
    (tmp_path / LAST_MODEL).unlink()
    assert main(["train", "--resume", str(tmp_path)]) == 0
    assert f"Done: {evaluation.rows[-1]['episodes']} episodes" in capsys.readouterr().out
    assert th.equal(weights(tmp_path), end)
    assert unclocked(tmp_path) == rows
    if "eval_every" not in length:
        assert (tmp_path / EVALUATIONS).read_bytes() == written


def run_control(folder: Path, **options: Any) -> BaseAlgorithm:
    return run(spec_of(episodes=24), folder, tensorboard=True, **options)[0]


def run_language(folder: Path, **options: Any) -> BaseAlgorithm:
    pytest.importorskip("transformers", reason="needs the [llm] extra")
    from sppo_rl.zoo.language import runs as language_runs
    from sppo_rl.zoo.language.config import config_of

    settings = tiny_language_settings(folder.absolute().parent.parent / "problems.jsonl")
    return language_runs.run(config_of(settings), 0, folder, tensorboard=True, device="cpu", **options)[0]


@pytest.mark.parametrize("run_of_a_kind", [run_control, run_language])
def test_a_resumed_run_logs_into_its_folder_and_prints_what_is_asked_now(
    run_of_a_kind: Callable[..., BaseAlgorithm],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("here", "elsewhere"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(Killed):
        run_of_a_kind(Path("run"), callbacks=[KillAt(1)])
    assert "| time/ " not in capsys.readouterr().out
    monkeypatch.chdir(tmp_path / "elsewhere")
    model = run_of_a_kind(Path("..") / "here" / "run", resume=True, verbose=1)
    assert model._n_updates == 3
    assert list((tmp_path / "elsewhere").iterdir()) == [], "no stray logs"
    assert len(list((tmp_path / "here" / "run" / "tensorboard_1").glob("events*"))) == 2
    assert "| time/ " in capsys.readouterr().out
    assert model.verbose == 1


def test_the_folder_of_a_language_run_is_named_as_such(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / CONFIG).write_text("algo: sppo\nresponses: 96\nhyperparameters: {}\nseed: 0\n")
    assert main(["train", "--resume", str(tmp_path)]) == 1
    assert f"a language run. Go on with it by: sppo-rl train-llm --resume {tmp_path}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "and has no keys"),
        ("- sppo\n", "and has no keys"),
        ("algo: sppo\nenv_id: CartPole-v1\nhyperparameters:\n", "and has algo, env_id, hyperparameters"),
        ("algo: sppo\nhyperparameters: {}\n", "it must have algo, env_id and hyperparameters"),
        ("algo: [", "is no valid YAML"),
    ],
)
def test_a_config_that_says_no_run_is_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / CONFIG).write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read_config(tmp_path)
    assert str(tmp_path / CONFIG) in str(error.value)
