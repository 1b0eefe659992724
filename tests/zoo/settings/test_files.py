"""One entry of a hyperparameter file is written: it changes in one place only, however people wrote it."""

from __future__ import annotations

import re

import pytest
import yaml

from sppo_rl.zoo.names import ALGORITHMS, UsageError
from sppo_rl.zoo.settings.files import with_entry
from sppo_rl.zoo.settings.hyperparameters import read_file

FILE = """\
# top

a/A-v0: &one
  x: 1  # one
  y: 2

a/B-v0: &two
  <<: *one
  y: 3

# of C
a/C-v0:
  <<: *two
  z: 1.5
"""


@pytest.mark.parametrize("env_id", ["a/A-v0", "a/B-v0", "a/C-v0", "a/D-v0"])
def test_one_entry_changes_and_every_comment_stays(env_id):
    before = yaml.safe_load(FILE)
    text = with_entry(FILE, env_id, {"x": 7, "rate": 0.000012}, "first")
    assert yaml.safe_load(text) == {**before, env_id: {"x": 7, "rate": 0.000012}}
    assert {"# top", "# of C", "# tuned: first"} <= set(text.splitlines())
    long = with_entry(text, env_id, {"x": 9}, "--word " * 60)
    assert "first" not in long
    assert max(map(len, long.splitlines())) < 140
    assert long.count("--word") == 60
    again = with_entry(long, env_id, {"x": 8}, "second")
    assert yaml.safe_load(again) == {**before, env_id: {"x": 8}}
    assert "first" not in again


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("A: &a-b\n  x: 1\n\nB:\n  <<: *a-b  # as A\n  y: 2  # two\n", ["  x: 1", "  y: 2  # two"]),
        ("A: &a\n  x: 1\n\nB:\n    <<: *a\n    y: 2\n", ["    x: 1"]),
        ("A: &a\n  x: 1\nB:\n  <<: [*a]\n  y: 2\nC: *a\n", ["  <<: [&a {x: 1}]", "C: *a"]),
        ("A: &a\n  x: 1\nB-v0: *a\nC:\n  <<: *a\n  # why\n  y: 2\n", ["  # why"]),
        ("A: &a {x: 1, z: {k: [1]}}\nB:\n  <<: *a\n", ["  <<: &a {x: 1, z: {k: [1]}}"]),
        ("A: &a\n  x: 1\nB:\n  x: 2\n\n  <<: *a\n", []),
        ("A:\n  x: 1\n\n# why\n  y: 2\n  # indented\n\n# of B\nB: {z: 1}\n", ["# of B"]),
        ('# top\n"A":\n  x: 1\nB: {z: 1}\n', ["# top"]),
        ("'A': {x: 1}\nB: {z: 1}\n", []),
        ("A :\n  x: 1\nB: {z: 1}\n", []),
        ("B: &b\n  z: 1\nA: *b\nC: *b\n", ["C: *b"]),
        ("A:\n  x: [1,\n2]\n  y: |\n    text\n\n# of B\nB:\n", ["# of B"]),
        ("B: {z: 1}", []),
        ("", []),
    ],
)
def test_an_entry_is_found_and_those_made_of_it_mean_what_they_meant(text, kept):
    before = yaml.safe_load(text) or {}
    for settings in ({"k": 7, "policy": "MlpPolicy"}, {"k": 8}):
        text = with_entry(text, "A", settings, "how")
        assert yaml.safe_load(text) == {**before, "A": settings}
        assert text.count("# tuned: how\nA:\n  k: ") == 1
        assert len(re.findall(r"""^["']?A["']? *:""", text, re.MULTILINE)) == 1
        assert set(kept) <= set(text.splitlines())


@pytest.mark.parametrize("text", ["{A: {x: 1}, B: {z: 1}}", "A: {x: &n {k: 1}}\nB: {z: *n}\n", "A: [\n"])
def test_what_cannot_be_replaced_is_refused(text):
    with pytest.raises(UsageError, match=r"^The (entry of A cannot be replaced|hyperparameter file is no valid YAML).*\.$"):
        with_entry(text, "A", {"k": 2}, "n")


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_the_shipped_files_can_be_written(algo):
    from importlib.resources import files

    text = files("sppo_rl.zoo").joinpath("hyperparams", f"{algo}.yml").read_text()
    for env_id in read_file(algo):
        text = with_entry(text, env_id, {"policy": "MlpPolicy", "n_timesteps": 1}, "n")
    assert all(entry == {"policy": "MlpPolicy", "n_timesteps": 1} for entry in yaml.safe_load(text).values())
