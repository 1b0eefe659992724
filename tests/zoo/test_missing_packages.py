"""What the command line says where a package is not installed, and where it is not that."""

from __future__ import annotations

import sys

import pytest

from sppo_rl.zoo.cli import main


@pytest.mark.parametrize(
    ("words", "package"),
    [
        (["tune", "--env", "sppo_rl/PrecisionCartPole200-v0", "--trials", "1", "--episodes", "8"], "optuna"),
        (["envs"], "rich.console"),
    ],
)
def test_a_package_that_is_not_installed_is_named_with_its_extra(words, package, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, f"sppo_rl.zoo.commands.{words[0]}", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    assert main(words) == 1
    shown = capsys.readouterr().err
    assert f"sppo-rl {words[0]}: " in shown
    assert package in shown
    assert "[zoo]" in shown
    assert "Traceback" not in shown


def test_an_import_that_fails_in_the_code_is_not_taken_for_a_missing_package(monkeypatch):
    def run(arguments):
        from collections import NoSuchThing  # noqa: F401

    monkeypatch.setattr("sppo_rl.zoo.commands.envs.run", run)
    with pytest.raises(ImportError, match="NoSuchThing"):
        main(["envs"])
