"""Damaged files: each is named in one line that says what to do, whichever command reads it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sppo_rl import SPPO
from sppo_rl.zoo.cli import main
from sppo_rl.zoo.names import UsageError
from sppo_rl.zoo.parallel import comparison
from sppo_rl.zoo.reading import read_json, read_mapping, read_yaml
from sppo_rl.zoo.results import provenance
from sppo_rl.zoo.running.runs import RunSpec
from sppo_rl.zoo.shipped.agent import FOLDER, AgentCard

CARTPOLE = "sppo_rl/PrecisionCartPole200-v0"
NAME = "sppo_rl-PrecisionCartPole200-v0"


def evaluated(model: Path) -> list[str]:
    return ["evaluate", "--env", CARTPOLE, "-n", "2", "--model", str(model)]


def run_folder(folder: Path) -> Path:
    """What rl_zoo3 leaves of a run with ``normalize``, and a configuration as this package writes it."""
    SPPO("MlpPolicy", CARTPOLE, n_episodes=1).save(folder / f"{NAME}.zip")
    (folder / NAME).mkdir()
    (folder / NAME / "vecnormalize.pkl").write_bytes(b"")
    (folder / "config.yml").write_text("algo: sppo\n")
    return folder


def agent_files(folder: Path) -> Path:
    for ending in ("npz", "json"):
        shutil.copy(FOLDER / f"{NAME}.{ending}", folder)
    return folder / f"{NAME}.npz"


def cut(path: Path) -> bytes:
    whole = path.read_bytes()
    return whole[: len(whole) // 2]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_text(""), "must map names to settings, as a run writes it, and holds None"),
        (lambda path: path.write_text("- sppo\n"), "and holds ['sppo']. Name the algorithm with --algo (sppo, "),
        (lambda path: path.write_text("algo: ["), "is no valid YAML: while parsing"),
        (lambda path: path.write_bytes(b"algo: \xff"), "is no valid YAML: 'utf-8' codec"),
    ],
)
def test_the_configuration_beside_a_model(
    damage: Callable[[Path], object], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run_folder(tmp_path) / "config.yml"
    damage(path)
    answered(evaluated(tmp_path), path, message, capsys)


@pytest.mark.parametrize("content", [b"", b"\x80\x04\x95"])
def test_the_statistics_beside_a_model(content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run_folder(tmp_path) / NAME / "vecnormalize.pkl"
    path.write_bytes(content)
    answered(evaluated(tmp_path), path, "copy the file again, or train again", capsys)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(cut(path)),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"nothing of the kind"),
        lambda path: path.write_bytes(bytes([*path.read_bytes()[:300], 7, 7, 7, *path.read_bytes()[303:]])),
        lambda path: np.save(path.open("wb"), np.zeros(3)),
    ],
)
def test_weights(damage: Callable[[Path], object], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = agent_files(tmp_path)
    damage(path)
    answered(evaluated(path), path, "is damaged, or no archive of weights (", capsys)


@pytest.mark.parametrize(
    ("text", "message"), [("[1]", "it must map names to values, and holds [1]"), ('{"algo"', "no valid JSON")]
)
def test_a_card(text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = agent_files(tmp_path)
    path.with_suffix(".json").write_text(text)
    answered(evaluated(path), path.with_suffix(".json"), message, capsys)
    with pytest.raises(UsageError, match=f"Copy it again: it describes {NAME}"):
        AgentCard.read(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "must be a list of entries with command, date, commit, machine, versions, and holds [1]"),
        ('[{"command": "x"}]', "must be a list of entries with"),
        ("{}", "must be a list of entries with"),
        ("", "is damaged: it is no valid JSON"),
        ('[{"command"', "is damaged: it is no valid JSON"),
    ],
)
def test_where_results_come_from(text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "comparison"
    folder.mkdir()
    rows = "".join(f"{CARTPOLE},sppo,0,{count},{count},1.0,0.5,0.5\n" for count in (0, 9))
    (folder / "results.csv").write_text("env,algo,seed,episodes,timesteps,seconds,success,greedy_success\n" + rows)
    (folder / provenance.PROVENANCE).write_text(text)
    answered(["report", str(folder), "-o", str(tmp_path / "out")], folder / provenance.PROVENANCE, message, capsys)


@pytest.mark.parametrize("name", ["job.json", "result.json"])
@pytest.mark.parametrize("text", ["", '{"status": "do', "[1]"])
@pytest.mark.parametrize("algo", ["sppo", "ppo"])
def test_what_a_comparison_keeps_of_a_run(
    algo: str, text: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = comparison._run_job(RunSpec("sppo", CARTPOLE, episodes=8, eval_episodes=200), tmp_path)
    job.prepare()
    (job.folder / "result.json").write_text("{}")
    (job.folder / name).write_text(text)
    # asked for itself, or found in the folder when another is
    words = ["compare", "--env", CARTPOLE, "--algos", algo, "--seeds", "1", "--episodes", "8", "-o", str(tmp_path)]
    answered(words, job.folder / name, " is damaged: ", capsys)


def test_a_run_of_a_language_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("transformers", reason="needs the [llm] extra")
    (tmp_path / "config.yml").write_text("algo: [\nseed: 0\n")
    answered(["train-llm", "--resume", str(tmp_path)], tmp_path / "config.yml", "is no valid YAML", capsys)


def answered(words: list[str], path: Path, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The command fails with one line that names the file."""
    assert main(words) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"sppo-rl {words[0]}: ")
    assert str(path) in line
    assert message in line


def test_what_is_whole_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text('{"a": [1, null]}')
    assert read_json(path, "") == read_mapping(path, "") == read_yaml(path) == {"a": [1, None]}
    path.write_text("[" + "1, " * 100 + "1]")
    with pytest.raises(UsageError, match=r"holds \[1(, 1)+.*\.\.\.\. Do that\.$"):
        read_mapping(path, "Do that.")
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "y", "")
