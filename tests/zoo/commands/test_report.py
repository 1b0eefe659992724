"""The page made of results, and the record of where they come from."""

from __future__ import annotations

import base64
import csv
import json
import re

import imageio.v2 as imageio
import pytest

from sppo_rl.zoo.cli import main
from sppo_rl.zoo.commands.report import write_report
from sppo_rl.zoo.names import UsageError
from sppo_rl.zoo.results import aggregates, provenance


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(aggregates, "REPEATS", 100)


HEADER = "env,algo,seed,episodes,timesteps,seconds,success,greedy_success\n"


def comparison(folder, env, finals, failed=0, first_seed=0):
    """A folder with runs of two evaluations."""
    folder.mkdir()
    lines = [
        f"{env},{algo},{seed},{episodes},{episodes * 10},{episodes / 10},{success},\n"
        for algo, successes in finals.items()
        for seed, final in enumerate(successes, first_seed)
        for episodes, success in ((0, 0.1), (100, final))
    ]
    (folder / "results.csv").write_text(HEADER + "".join(lines))
    (folder / "references.csv").write_text(f"env,policy,success,greedy_success,episodes\n{env},prior,0.125,0.4,500\n")
    (folder / "summary.csv").write_text(f"env,algo,failed\n{env},{next(iter(finals))},{failed}\n")
    return folder


@pytest.fixture
def folders(tmp_path):
    one = comparison(tmp_path / "one", "A", {"sppo": [0.5, 0.7, 0.9], "ppo": [0.4, 0.4, 0.4]}, failed=2)
    two = comparison(tmp_path / "two", "B", {"sppo": [0.8, 0.8, 0.8], "ppo": [0.9, 0.9, 0.9], "grpo": [0.3]})
    entry = {
        "command": "sppo-rl compare --env 'B'",
        "date": "2026-01-02",
        "commit": None,
        "machine": "m",
        "versions": {"torch": "2"},
    }
    (two / provenance.PROVENANCE).write_text(json.dumps([entry]))
    return [one, two]


def test_the_page_tells_what_the_results_say(folders, tmp_path):
    write_report(folders, tmp_path / "out", "Two tasks & more")
    text = (tmp_path / "out" / "report.md").read_text()
    # of .5 .7 .9 .8 .8 .8 the lowest and the highest go: .775
    assert re.search(r"\| SPPO \| 0\.775 \[0\.\d+, 0\.\d+\] \| – \|", text)
    # A: 9 of 9 pairs won, B: 9 of 9 lost
    assert re.search(r"\| PPO \| 0\.500 \[0\.500, 0\.500\]", text)
    assert "left out here: GRPO" in text
    assert "prior: 0.125 sampled" in text
    assert "3 (2 failed)" in text
    assert "    sppo-rl compare --env 'B'" in text
    assert f"`{folders[0]}`: the command was not recorded" in text
    images = re.findall(r"!\[.*?\]\((.*?)\)", text)
    assert {f"curves_{x}.png" for x in ("episodes", "timesteps", "seconds")} < set(images)
    assert all(imageio.imread(tmp_path / "out" / name).std() > 0 for name in images)


def test_the_html_page_needs_no_other_file(folders, tmp_path):
    write_report(folders, tmp_path / "out", "Two tasks & more")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<title>Two tasks &amp; more</title>" in page
    assert "<td>SPPO</td>" in page
    sources = re.findall(r'src="([^"]*)"', page)
    images = re.findall(r"\((.*?\.png)\)", (tmp_path / "out" / "report.md").read_text())
    assert len(sources) == len(images)
    for source, name in zip(sources, images, strict=True):
        assert base64.b64decode(source.removeprefix("data:image/png;base64,")) == (tmp_path / "out" / name).read_bytes()


def test_one_seed_of_one_algorithm_makes_a_page(tmp_path):
    write_report([comparison(tmp_path / "one", "A", {"ppo": [0.5]})], tmp_path / "out", "T")
    text = (tmp_path / "out" / "report.md").read_text()
    assert "| PPO | 0.500 |" in text
    assert "Probability that" not in text


def test_without_an_algorithm_on_all_tasks_nothing_is_averaged_over_them(tmp_path):
    folders = [comparison(tmp_path / env, env, {algo: [0.5, 0.6]}) for env, algo in (("A", "ppo"), ("B", "sppo"))]
    write_report(folders, tmp_path / "out", "T")
    assert "No algorithm ran on every task" in (tmp_path / "out" / "report.md").read_text()


def test_a_run_given_twice_and_an_unknown_reference_are_refused(folders, tmp_path):
    with pytest.raises(UsageError, match=r"sppo on A with seed 0 is in .*one and in .*results\.csv"):
        write_report([*folders, folders[0] / "results.csv"], tmp_path / "out", "T")
    with pytest.raises(UsageError, match="'rloo' took no part: sppo, ppo, grpo did"):
        write_report(folders, tmp_path / "out", "T", "rloo")
    assert not (tmp_path / "out").exists()


def test_a_report_does_not_go_into_a_comparison_that_it_is_about(folders, tmp_path):
    before = (folders[0] / "summary.csv").read_text()
    for given, output in ((folders, folders[0]), ([folders[0] / "results.csv"], tmp_path / "two" / ".." / "one")):
        with pytest.raises(UsageError, match=r"one holds the comparison itself, whose summary\.csv .* Choose another folder"):
            write_report(given, output, "T")
    assert (folders[0] / "summary.csv").read_text() == before


def test_a_folder_and_its_file_make_the_same_page(folders, tmp_path):
    for name, given in (("folders", folders), ("files", [folder / "results.csv" for folder in folders])):
        write_report(given, tmp_path / name, "T")
    for name in ("report.md", "summary.csv"):
        assert (tmp_path / "files" / name).read_text() == (tmp_path / "folders" / name).read_text()


def test_seeds_of_two_machines_count_together(folders, tmp_path):
    more = comparison(tmp_path / "more", "A", {"sppo": [0.1], "ppo": [0.6]}, failed=1, first_seed=3)
    write_report([*folders, more], tmp_path / "out", "A page")
    with open(tmp_path / "out" / "summary.csv") as file:
        rows = {(row["env"], row["algo"]): row for row in csv.DictReader(file)}
    assert set(rows) == {("A", "sppo"), ("A", "ppo"), ("B", "sppo"), ("B", "ppo"), ("B", "grpo")}
    assert (rows["A", "sppo"]["seeds"], rows["A", "sppo"]["failed"]) == ("4", "3")
    assert float(rows["A", "sppo"]["success"]) == pytest.approx(0.55)
    assert float(rows["A", "ppo"]["success"]) == pytest.approx(0.45)
    assert "4 (3 failed)" in (tmp_path / "out" / "report.md").read_text()


def test_the_command_writes_both_files(folders, tmp_path, capsys):
    assert main(["report", str(folders[0]), "-o", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "report.html").exists()
    assert main(["report", str(tmp_path / "nowhere"), "-o", str(tmp_path / "no")]) == 1
    assert "no results at" in capsys.readouterr().err


def test_where_results_come_from_is_recorded_once(tmp_path):
    for words in (["a", "b c"], ["a", "b c"], ["d"]):
        provenance.record(tmp_path, words)
    entries = provenance.read(tmp_path)
    assert [entry["command"] for entry in entries] == ["a 'b c'", "d"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", entries[0]["date"])
    assert entries[0]["versions"]["torch"]
    assert re.fullmatch(r"[0-9a-f]{12}\+?", entries[0]["commit"])


RETURNS = HEADER.strip() + ",mean_return,greedy_mean_return\n"


def silent_comparison(folder, env, header, cells):
    folder.mkdir()
    rows = [f"{env},sppo,{seed},{n},{n * 10},1.0,,{cells}\n" for seed in (0, 1) for n in (0, 100)]
    (folder / "results.csv").write_text(header + "".join(rows))
    (folder / "references.csv").write_text(f"env,policy,success,greedy_success,episodes\n{env},untrained,,,500\n")
    return folder


def test_a_task_without_success_is_shown_by_its_return_and_not_averaged(folders, tmp_path):
    silent = silent_comparison(tmp_path / "silent", "C", RETURNS, ",195.5,200.0")
    write_report([*folders, silent], tmp_path / "out", "T")
    text = (tmp_path / "out" / "report.md").read_text()
    assert "2 tasks; runs of each: SPPO 3, PPO 3." in text
    assert "report no success and are left out, too: C." in text
    assert "| algorithm | A | B | C (return) |" in text
    assert re.search(r"\| SPPO \| 0\.\d+ .*\| 195\.500 \[195\.500, 195\.500\] \|", text)
    assert "| final return ± std [95 %] |" in text
    write_report([silent], tmp_path / "alone", "T")
    assert "No task reports success" in (tmp_path / "alone" / "report.md").read_text()


def test_results_with_neither_success_nor_return_make_a_page(tmp_path):
    write_report([silent_comparison(tmp_path / "old", "C", HEADER, "")], tmp_path / "out", "T")
    assert (tmp_path / "out" / "report.html").exists()
