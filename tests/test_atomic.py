"""A file is the whole new one or the old one, whatever happens while it is written and whoever else writes it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sppo_rl import SPPO
from sppo_rl.atomic import replacing, save_atomically, write_atomically
from tests.helpers import MatchEnv, dummy


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    write_atomically(path, "old")
    # found out when the file is open
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "\ud800")
    assert {file.name: file.read_text() for file in path.parent.iterdir()} == {"file.txt": "old"}


def test_two_processes_do_not_mix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.txt"
    with replacing(path) as ours:
        ours.write_text("o")
        monkeypatch.setattr(os, "getpid", lambda: 1)
        with replacing(path) as theirs:
            theirs.write_text("theirs")
        assert path.read_text() == "theirs"
        with ours.open("a") as file:
            file.write("urs")
    assert path.read_text() == "ours"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_kill_has_left_is_not_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    with replacing(path) as name:
        name.touch()
    name.write_text("of a process with this number")
    with replacing(path) as part:
        assert part == name
        with part.open("a") as file:
            file.write("ours")
    assert path.read_text() == "ours"


@pytest.mark.parametrize("name", ["best.zip", "best"])
def test_a_model_is_saved_under_the_name_that_was_asked_for(name: str, tmp_path: Path) -> None:
    model = SPPO("MlpPolicy", dummy(MatchEnv, 1), n_episodes=1, seed=0)
    save_atomically(model, tmp_path / "models" / name)
    assert [path.name for path in (tmp_path / "models").iterdir()] == [name]
    assert SPPO.load(tmp_path / "models" / name).n_episodes == 1
