"""Each run has a folder of its own, also where several are started at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sppo_rl.zoo.cli import main
from sppo_rl.zoo.running.folders import new_folder


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
