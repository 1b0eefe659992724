"""``sppo-rl train-llm --resume`` after somebody has edited ``config.yml``: how a run works may change, what it is may not."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

pytest.importorskip("transformers", reason="needs the [llm] extra")


from sppo_rl import SPPO
from sppo_rl.algorithm import SequenceAlgorithm
from sppo_rl.checkpoint import load_checkpoint
from sppo_rl.llm.generation import Response, Sampling, TransformersGenerator, VLLMServerGenerator
from sppo_rl.llm.options import OPERATIONAL
from sppo_rl.zoo.cli import main
from sppo_rl.zoo.language import runs as language_runs
from sppo_rl.zoo.language.config import LanguageConfig, config_of
from sppo_rl.zoo.names import UsageError
from tests.killed import KillAt, Killed, tiny_language_settings


def config_in(folder: Path, **policy_kwargs: Any) -> LanguageConfig:
    settings = tiny_language_settings(folder / "problems.jsonl", learning_rate=1e-3, policy_kwargs=policy_kwargs)
    return config_of(settings)


def begin(folder: Path, **policy_kwargs: Any) -> Path:
    """A run with one checkpoint, of its first update."""
    with pytest.raises(Killed):
        language_runs.run(config_in(folder, **policy_kwargs), 0, folder / "run", [KillAt(1)], device="cpu")
    return folder / "run"


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return begin(tmp_path_factory.mktemp("begun"), logits_per_pass=300)


@pytest.fixture
def killed(begun: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(begun, tmp_path / "run"))


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    settings = yaml.safe_load((folder / "config.yml").read_text())
    change(settings)
    (folder / "config.yml").write_text(yaml.safe_dump(settings))


def go_on(folder: Path) -> Any:
    config, seed = language_runs.read_config(folder)
    return language_runs.run(config, seed, folder, resume=True, device="cpu")[0]


def test_how_a_run_works_is_read_from_the_file(killed: Path) -> None:
    edit(
        killed,
        lambda settings: settings["hyperparameters"].update(policy_kwargs={"tokens_per_pass": 64, "responses_per_pass": 3}),
    )
    model = go_on(killed)
    assert model.num_timesteps == 24
    env, held_out = language_runs.make_envs(language_runs.read_config(killed)[0])
    saved = load_checkpoint(SPPO, killed / "checkpoints", env, "cpu")
    env.close()
    held_out.close()
    assert saved is not None
    for policy in (model.policy, saved.policy):
        assert (policy.tokens_per_pass, policy.generator.responses_per_pass) == (64, 3)
        assert policy.logits_per_pass == 1024, "what the file no longer names is the default"


def test_a_run_may_go_on_with_another_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def sync(self: VLLMServerGenerator, weights: Any, version: int) -> None:
        asked.append(self.url)
        self.version = version

    def generate(self: VLLMServerGenerator, prompts: Sequence[np.ndarray], how: Sampling, version: int) -> list[Response]:
        own = TransformersGenerator(self.model)
        own.sync_weights([], version)
        return own.generate(prompts, how, version)

    monkeypatch.setattr(VLLMServerGenerator, "sync_weights", sync)
    monkeypatch.setattr(VLLMServerGenerator, "generate", generate)
    folder = begin(tmp_path, generator="vllm-server", generator_kwargs={"url": "http://node17:8000"})
    assert set(asked) == {"http://node17:8000"}
    asked.clear()
    address = "http://node18:8000"
    edit(folder, lambda settings: settings["hyperparameters"]["policy_kwargs"]["generator_kwargs"].update(url=address))
    assert main(["train-llm", "--resume", str(folder), "--device", "cpu"]) == 0
    assert set(asked) == {address}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (
            lambda all_: all_["hyperparameters"].update(learning_rate=2e-3),
            "hyperparameters.learning_rate was 0.001 and is 0.002",
        ),
        (lambda all_: all_["hyperparameters"].pop("n_epochs"), "hyperparameters.n_epochs was 1 and is not given"),
        (
            lambda all_: all_["hyperparameters"]["policy_kwargs"].update(temperature=0.5),
            "hyperparameters.policy_kwargs.temperature was not given and is 0.5",
        ),
        (lambda all_: all_.update(critic={"num_hidden_layers": 1}), "critic was None and is {'num_hidden_layers': 1}"),
        (lambda all_: all_.update(max_new_tokens=5), "max_new_tokens was 4 and is 5"),
        (lambda all_: all_.update(algo="ppo"), "algo was 'sppo' and is 'ppo'"),
        (lambda all_: all_.update(seed=1), "seed was 0 and is 1"),
        (lambda all_: all_["evaluation"].update(every=8), "evaluation.every was 24 and is 8"),
    ],
)
def test_what_a_run_is_stays(
    change: Callable[[dict[str, Any]], object], named: str, killed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(killed, change)
    before = sorted(path.name for path in killed.rglob("*"))
    assert main(["train-llm", "--resume", str(killed)]) == 1
    said = capsys.readouterr().err
    assert f"A run keeps its settings, and those of {killed} are not what it was begun with: {named}. Put them back" in said
    assert "or begin a run of its own" in said
    assert sorted(path.name for path in killed.rglob("*")) == before
    config, seed = language_runs.read_config(killed)
    with pytest.raises(UsageError, match="keeps its settings"):
        language_runs.run(config, seed, killed, resume=True)


def test_all_that_differs_is_named_and_what_may_differ_is_not(killed: Path) -> None:
    edit(
        killed,
        lambda settings: settings["hyperparameters"].update(learning_rate=1, n_epochs=2, policy_kwargs={"tokens_per_pass": 9}),
    )
    edit(killed, lambda settings: settings.update(responses=32))
    with pytest.raises(
        UsageError,
        match=r"with: hyperparameters\.n_epochs was 1 and is 2; hyperparameters\.learning_rate was 0\.001 and is 1\. Put",
    ):
        go_on(killed)


def test_a_run_may_become_longer(killed: Path) -> None:
    edit(killed, lambda settings: settings.update(responses=32))
    assert go_on(killed).num_timesteps == 32


def test_files_may_lie_elsewhere(killed: Path, tmp_path: Path) -> None:
    config, _ = language_runs.read_config(killed)
    there = tmp_path / "there" / "problems.jsonl"
    there.parent.mkdir()
    shutil.copy(config.problems["path"], there)
    for part in (lambda settings: settings["problems"], lambda settings: settings["evaluation"]["problems"]):
        edit(killed, lambda settings, part=part: part(settings).update(path=str(there)))
    assert go_on(killed).num_timesteps == 24
    edit(killed, lambda settings: settings["problems"].update(path=str(there.rename(there.with_name("others.jsonl")))))
    with pytest.raises(UsageError, match=r"problems\.path was .*problems\.jsonl' and is .*others\.jsonl'"):
        language_runs.require_unchanged(*language_runs.read_config(killed), killed)


def test_a_run_of_an_earlier_version_goes_on(killed: Path) -> None:
    """It has not written down what it was begun with."""
    (killed / "checkpoints" / language_runs.BEGUN).unlink()
    edit(killed, lambda settings: settings["hyperparameters"]["policy_kwargs"].update(tokens_per_pass=64))
    model = go_on(killed)
    assert isinstance(model, SequenceAlgorithm)
    assert (model.policy.tokens_per_pass, model.policy.logits_per_pass) == (64, 300)  # type: ignore[attr-defined]


def test_a_run_without_a_checkpoint_begins_with_what_the_file_says(killed: Path) -> None:
    for path in (killed / "checkpoints").glob("*.zip"):
        path.unlink()
    edit(killed, lambda settings: settings["hyperparameters"].update(learning_rate=2e-3))
    assert go_on(killed).learning_rate == 2e-3
    assert (
        yaml.safe_load((killed / "checkpoints" / language_runs.BEGUN).read_text())["hyperparameters"]["learning_rate"] == 2e-3
    )


def test_the_help_names_what_may_change(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train-llm", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    for name in ("responses", *OPERATIONAL):
        assert name in said.rpartition("--resume DIR")[2].partition("--device")[0]
