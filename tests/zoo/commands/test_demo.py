"""The demo: what it refuses before it trains, and that it deletes nothing but what a demo has left."""

from __future__ import annotations

import re
import sys
from types import SimpleNamespace

import pytest

from sppo_rl.zoo.cli import main
from sppo_rl.zoo.commands import demo
from sppo_rl.zoo.parallel import comparison as comparing
from sppo_rl.zoo.results.rows import summarize, to_csv

RUNS = "runs/sppo_rl-PrecisionCartPole200-v0"


@pytest.fixture
def quick(monkeypatch):
    """Both parts are done at once; the list of those that were."""
    parts = []

    def compare(specs, folder, jobs, console):
        for job in (job for of in comparing.jobs_of(specs, folder) for job in of):
            assert not list(job.folder.glob("*")), "begun anew"
            job.prepare()
        parts.append("control")
        row = dict.fromkeys(comparing.RESULT_COLUMNS, 1.0)
        rows = [{**row, "env": spec.env_id, "algo": spec.algo, "seed": spec.seed} for spec in specs]
        (folder / "results.csv").write_text(to_csv(comparing.RESULT_COLUMNS, rows))
        reference = {**dict.fromkeys(comparing.REFERENCE_COLUMNS, 0.5), "env": demo.ENV, "policy": "prior"}
        (folder / "references.csv").write_text(to_csv(("env", "policy", *comparing.REFERENCE_COLUMNS), [reference]))
        return 0

    def language(folder, responses, console):
        assert {path.name for path in folder.iterdir()} == {demo.MARKER}, "begun anew"
        parts.append("language")
        (folder / "config.yml").write_text("of this demo\n")

    monkeypatch.setattr(demo, "compare", compare)
    monkeypatch.setitem(sys.modules, "sppo_rl.zoo.commands.demo_language", SimpleNamespace(language=language))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    return parts


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def words(folder, *more):
    return ["demo", "--seeds", "1", "-o", str(folder), *more]


def test_a_demo_is_begun_anew_as_often_as_one_likes(tmp_path, quick):
    folder = tmp_path / "demo"
    assert main(words(folder, "--seeds", "2")) == 0
    (folder / "notes.txt").write_text("mine")
    assert main(words(folder)) == 0
    assert quick == ["control", "language"] * 2
    assert not (folder / RUNS / "sppo" / "seed_1").exists()
    assert (folder / "notes.txt").read_text() == "mine"


def test_parts_leave_each_other_alone(tmp_path, quick):
    assert main(words(tmp_path, "--only", "language")) == 0
    before = files(tmp_path)
    assert main(words(tmp_path, "--only", "control")) == 0
    assert quick == ["language", "control"]
    assert before.items() <= files(tmp_path).items()


@pytest.mark.parametrize(
    ("there", "only"),
    [
        ("runs/precious/model.zip", "control"),
        (f"{RUNS}/sppo/seed_0/last_model.zip", "control"),
        (f"{RUNS}/sppo", "control"),
        ("runs/precious/model.zip", None),
        ("language/policy/model.safetensors", "language"),
        ("language/policy/model.safetensors", None),
        ("language/config.yml", None),
        ("language", None),
        ("provenance.json", "control"),
    ],
)
def test_what_no_demo_has_left_is_named_and_kept(tmp_path, quick, capsys, there, only):
    path = tmp_path / there
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("precious")
    before = files(tmp_path)
    assert main(words(tmp_path, *(() if only is None else ("--only", only)))) == 1
    found = re.search(r"holds what no demo has left: (\S+)\. .*another with -o", capsys.readouterr().err)
    assert found is not None
    assert str(path).startswith(found.group(1))
    assert len(found.group(1)) > len(str(tmp_path))
    assert files(tmp_path) == before
    assert quick == []


def test_many_strange_files_are_counted(tmp_path, quick, capsys):
    for number in range(5):
        (tmp_path / "runs" / f"my_{number}").mkdir(parents=True)
    assert main(words(tmp_path)) == 1
    runs = tmp_path / "runs"
    assert f": {runs / 'my_0'}, {runs / 'my_1'}, {runs / 'my_2'} and 2 more." in capsys.readouterr().err


def test_a_comparison_in_the_folder_of_a_demo_is_kept(tmp_path, quick, capsys):
    assert main(words(tmp_path)) == 0
    # as 'sppo-rl compare' leaves them
    (tmp_path / RUNS / "grpo" / "seed_0").mkdir(parents=True)
    (tmp_path / "provenance.json").write_text("[]")
    assert main(words(tmp_path)) == 1
    assert "provenance.json. A demo begins" in capsys.readouterr().err
    assert (tmp_path / RUNS / "grpo" / "seed_0").exists()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--seeds", "--seeds and --jobs must be at least 1, got 0 and 2"),
        ("--jobs", "--seeds and --jobs must be at least 1, got 3 and 0"),
        ("--episodes", "episodes must be at least 1, got 0"),
        ("--responses", "--responses must be at least 1, got 0"),
    ],
)
def test_numbers_are_checked_before_anything_is_deleted(tmp_path, quick, capsys, option, message):
    assert main(words(tmp_path)) == 0
    before = files(tmp_path)
    assert main(["demo", option, "0", "-o", str(tmp_path)]) == 1
    assert message in capsys.readouterr().err
    assert files(tmp_path) == before


@pytest.mark.parametrize("command", [["compare", "--env", demo.ENV], ["compare-llm", "--config", "chain_sum_tiny"]])
def test_comparisons_check_the_same_numbers(tmp_path, capsys, command):
    pytest.importorskip("transformers", reason="needs the [llm] extra")
    for counts in (("0", "1"), ("1", "0")):
        assert main([*command, "--seeds", counts[0], "--jobs", counts[1], "-o", str(tmp_path)]) == 1
        assert f"--seeds and --jobs must be at least 1, got {counts[0]} and {counts[1]}" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("timesteps", "said"), [(86_540, "87,000"), (4_326, "4,300"), (312, "310"), (1_234_567, "1,200,000")])
def test_the_speed_is_said_in_steps_a_second_whatever_it_is(timesteps, said):
    row = {"env": demo.ENV, "algo": "sppo", "seed": 0, "episodes": 100, "success": 0.5, "greedy_success": 0.5}
    summaries = summarize([{**row, "timesteps": 10 * timesteps, "seconds": 10.0}])
    assert f" in 10 s of training ({said} steps a second)" in demo.what_was_learned(summaries, 0.2)
