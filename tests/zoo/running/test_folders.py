"""Each run has a folder of its own, also where several are started at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sppo_rl.zoo.cli import main
from sppo_rl.zoo.names import UsageError
from sppo_rl.zoo.running import folders
from sppo_rl.zoo.running.folders import alone, alone_in_run, new_folder
from sppo_rl.zoo.running.runs import RunSpec, run


def test_the_next_number_is_taken_at_once(tmp_path: Path) -> None:
    (tmp_path / "run_7").mkdir()
    (tmp_path / "run_seven").mkdir()
    (tmp_path / "runner_9").mkdir()
    with new_folder(tmp_path, "run") as first, new_folder(tmp_path, "run") as second:
        assert (first.name, second.name) == ("run_8", "run_9")
        assert first.is_dir()
        assert second.is_dir()
    assert first.is_dir(), "a run that went well keeps its folder, whatever is in it"


def fail(base: Path, *written: str) -> None:
    with new_folder(base, "run") as folder:
        for name in written:
            (folder / name).touch()
        raise KeyboardInterrupt


def test_a_run_that_fails_leaves_what_it_wrote_and_nothing_else(tmp_path: Path) -> None:
    logs = tmp_path / "logs" / "llm"
    with pytest.raises(KeyboardInterrupt):
        fail(logs)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(KeyboardInterrupt):
        fail(logs, "config.yml")
    assert [path.name for path in (logs / "run_1").iterdir()] == ["config.yml"]


def test_language_runs_started_together_have_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("transformers", reason="needs the [llm] extra")
    seen: list[Path] = []
    words = ["train-llm", "--config", "chain_sum_tiny", "--log-folder", str(tmp_path)]

    def beside(config: Any, seed: int, folder: Path, *more: Any, **options: Any) -> None:
        # the other is started before this one has written anything
        seen.append(folder)
        if len(seen) < 3:
            main(words)
        raise ValueError("cannot be built")

    monkeypatch.setattr("sppo_rl.zoo.language.runs.run", beside)
    assert main(words) == 1
    assert [folder.name for folder in seen] == [f"sppo_chain_sum_tiny_{number}" for number in (1, 2, 3)]
    assert list(tmp_path.iterdir()) == []


def test_one_process_is_at_work_and_its_lock_goes_with_it(tmp_path: Path) -> None:
    lock = tmp_path / "new" / "x.lock"
    with alone(lock, "the thing", "make thing"):
        refused = pytest.raises(
            UsageError, match=r"^Another process is at work on the thing\. Wait until it has ended, or not\.$"
        )
        with refused, alone(lock, "the thing", "make thing", ", or not"):
            pass
        # one that was killed leaves its file, and that is no lock
        lock.rename(tmp_path / "elsewhere")
        lock.touch()
        with alone(lock, "the thing", "make thing"):
            pass
    assert list(lock.parent.iterdir()) == []


def test_a_lock_on_a_file_that_is_gone_is_taken_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process before removes the file after this one has opened it: the lock would be on a file that nobody else sees."""
    lock, taken = tmp_path / "x.lock", []
    flock = folders.fcntl.flock

    def late(file: Any, how: int) -> None:
        if not taken:
            lock.unlink()
        taken.append(how)
        flock(file, how)

    monkeypatch.setattr(folders.fcntl, "flock", late)
    with alone(lock, "the thing", "make thing"):
        monkeypatch.undo()
        with pytest.raises(UsageError, match="Another process"), alone(lock, "the thing", "make thing"):
            pass
    assert len(taken) == 2


def test_a_run_that_is_going_is_not_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = RunSpec("sppo", "CartPole-v1", episodes=2, overrides={"n_episodes": 2}, eval_episodes=1)
    run(spec, tmp_path)
    (tmp_path / "last_model.zip").unlink()
    with alone_in_run(tmp_path, "sppo-rl train"):
        assert main(["train", "--resume", str(tmp_path)]) == 1
    assert f"Another process is at work on the run in {tmp_path}. Wait until it has ended." in capsys.readouterr().err
    assert main(["train", "--resume", str(tmp_path)]) == 0
    assert not list(tmp_path.glob("*.lock"))
