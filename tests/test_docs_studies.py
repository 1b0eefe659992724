"""Every table of figures on the pages of tuned runs and of single studies is that of the committed results."""

from __future__ import annotations

import csv
import json
from typing import Any

import pytest

from sppo_rl.zoo.results.rows import read_results, runs_of, summarize, summary_csv
from sppo_rl.zoo.settings.hyperparameters import read_file, update_size
from tests.figures import COMPARED, RESULTS, approximately, compared, decimals, measured, signed, summary
from tests.pages import DOCS, REPOSITORY, section, table


def pooled_on_hopper(label: str) -> dict[str, str]:
    """All runs of an algorithm on Hopper: those of the comparison, and those of causes.py, whose seeds have the same numbers."""
    rows = []
    for number, folder in enumerate(("control_comparison", "control_rivals", "control_more_seeds", "causes")):
        place = RESULTS / folder / ("hopper_other_seeds" if folder == "causes" else "Hopper")
        of = [row for row in read_results(place) if row["algo"] in (label, COMPARED[label])]
        rows += [{**row, "algo": label, "seed": (number, row["seed"])} for row in of]
    return next(csv.DictReader(summary_csv(summarize(rows)).splitlines()))


def test_hopper_with_other_seeds_is_the_committed_one() -> None:
    shown = list(table(section(DOCS / "results-studies.md", "## GRPO's lead on Hopper")))[1:]
    assert len(shown) == 10
    first = {**summary("control_comparison", "Hopper"), **summary("control_rivals", "Hopper")}
    other = summary("causes", "hopper_other_seeds")
    found = {("0–4", label): row for label, row in summary("causes", "hopper_baseline").items()}
    for label in ("SPPO", "GRPO"):
        found["0–4", label] = first[COMPARED[label]]
        found["5–9, of `causes.py`", label] = other[label]
        found["5–9, of the comparison", label] = summary("control_more_seeds", "Hopper")[COMPARED[label]]
        found["all fifteen", label] = pooled_on_hopper(label)
    assert {(seeds, label): cells for label, seeds, *cells in shown} == {key: measured(row)[:2] for key, row in found.items()}


STUDIES = {"SPPO's lead on LunarLander": "lunar_lander_loss", "LunarLander for longer": "lunar_lander_longer"}
STUDIES["Stable-Baselines3's lost runs on Hopper"] = "hopper_cut_episodes"


@pytest.mark.parametrize("heading", STUDIES)
def test_studies_of_causes_are_the_committed_ones(heading: str) -> None:
    page = DOCS / ("results-tuned.md" if heading == "LunarLander for longer" else "results-studies.md")
    shown = list(table(section(page, f"## {heading}")))[1:]
    assert shown == [[label, *measured(row)[:2]] for label, row in summary("causes", STUDIES[heading]).items()]


def in_short(algo: str, task: str, chosen: dict[str, Any]) -> list[str]:
    """What a search found."""
    start = read_file(algo, REPOSITORY / "benchmarks" / "hyperparams")[f"sppo_rl/{task}-v0"]
    # where no trial was better, the starting point: one minibatch, the constructor's clip range
    minibatches = update_size(algo, start) // chosen.get("batch_size", update_size(algo, start))
    return [f"{chosen['learning_rate']:g}", f"{chosen['n_epochs']} × {minibatches}", f"{chosen.get('clip_range', 0.2)}"]


@pytest.mark.parametrize("task", ["PrecisionCartPole200", "PrecisionCartPole", "Pendulum", "MountainCar"])
def test_tuned_results_are_the_committed_ones(task: str) -> None:
    folder = f"tuned_comparison/{task}"
    before, tuned = summary(folder, "as_in_the_file"), summary(folder, "tuned")
    settings = json.loads((RESULTS / f"{folder}.json").read_text())["tuned"]
    shown = list(table(section(DOCS / "results-tuned.md", f"## Tuned alike on {task}")))[1:]
    assert {COMPARED[row[0]] for row in shown} == set(settings) == set(tuned)
    for label, *cells in shown:
        algo = COMPARED[label]
        chosen = settings[algo]["hyperparameters"]
        assert cells == [measured(before[algo])[0], *measured(tuned[algo])[::2], *in_short(algo, task, chosen)]


@pytest.mark.parametrize(("task", "episodes"), [("LunarLander", 800), ("Hopper", 600)])
def test_tuned_results_beside_the_comparisons_starting_points_are_the_committed_ones(task: str, episodes: int) -> None:
    """Their starting points are the comparison's runs, at the evaluation nearest to the length of the tuned ones."""
    tuned = summary(f"tuned_comparison/{task}", "tuned")
    settings = json.loads((RESULTS / "tuned_comparison" / f"{task}.json").read_text())["tuned"]
    shown = list(table(section(DOCS / "results-tuned.md", f"## Tuned alike on {task}")))[1:]
    assert {COMPARED[row[0]] for row in shown} == set(settings) == set(tuned)
    for label, *cells in shown:
        algo = COMPARED[label]
        start, success, area = measured(compared(task, episodes)[algo])[0], *measured(tuned[algo])[::2]
        assert cells == [start, success, area, *in_short(algo, task, settings[algo]["hyperparameters"])]


def test_tuned_differences_are_the_committed_ones() -> None:
    claims = json.loads((RESULTS / "control_claims.json").read_text())["tuned_differences_from_sppo"]
    found = {(row["env"], row["rival"]): row for row in claims if row["metric"] == "success"}
    header, *shown = table(section(DOCS / "results-tuned.md", "## SPPO's differences"))
    assert len(shown) * (len(header) - 1) == len(found)
    for task, *cells in shown:
        for label, cell in zip(header[1:], cells, strict=True):
            assert signed(cell) == approximately(found[f"sppo_rl/{task}-v0", COMPARED[label]]), (task, label)


def test_ranks_of_hyperparameters_are_those_of_the_committed_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    import sensitivity

    tasks = sensitivity.read_trials()
    page = section(DOCS / "results-tuned.md", "## What the searches say of each hyperparameter")
    assert all(task in page for task in tasks)
    assert all(len(trials) == 7 * 20 for trials in tasks.values())
    assert list(table(page))[1:] == sensitivity.table(tasks, {"all": COMPARED.values(), "SPPO": ["sppo"]})


def test_a_trials_rank_is_its_place_in_its_own_study(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    import sensitivity

    empty = dict.fromkeys(sensitivity.SEARCHED, "")
    successes = {"sppo": [("0.001", 0.2), ("0.002", 0.9), ("0.0001", 0.4)], "ppo": [("0.01", 0.1), ("0.00012", 0.1)]}
    trials = [
        {**empty, "algo": algo, "success": str(success), "learning_rate": rate, "n_epochs": "4"}
        for algo, study in successes.items()
        for rate, success in study
    ]
    assert [rank for _, rank in sensitivity.ranked(trials)] == [0.0, 1.0, 0.5, 0.5, 0.5]
    assert sensitivity.table({"task": trials}, {"all": ["sppo", "ppo"], "SPPO": ["sppo"]}) == [
        ["`learning_rate`", "0.0001 to 0.00032", "0.50 (2)", "0.50 (1)"],
        ["`learning_rate`", "0.001 to 0.0032", "0.50 (2)", "0.50 (2)"],
        ["`learning_rate`", "0.0032 to 0.01", "0.50 (1)", ""],
        ["`n_epochs`", "4", "0.50 (5)", "0.50 (3)"],
    ]


@pytest.mark.parametrize(
    ("heading", "task"),
    [("## Why PPO + BCE is ahead, once tuned", "PrecisionCartPole200"), ("## The same on Pendulum", "Pendulum")],
)
def test_the_ladder_from_ppo_to_sppo_is_the_committed_one(heading: str, task: str) -> None:
    with open(RESULTS / "step_signal" / task / "summary.csv") as file:
        expected = [[row["algo"], measured(row)[0], measured(row)[2]] for row in csv.DictReader(file)]
    assert list(table(section(DOCS / "results-tuned.md", heading)))[1:] == expected


def test_lost_runs_are_the_committed_ones() -> None:
    expected = []
    for task in ("Pendulum", "MountainCar"):
        folder = RESULTS / "lost_runs" / task
        runs = {label: seeds.values() for (_, label), seeds in runs_of(read_results(folder)).items()}
        for label, row in summary("lost_runs", task).items():
            lost = sum(rows[-1]["success"] < rows[0]["success"] for rows in runs[label])
            success, _, area = measured(row)
            expected.append([task, label, f"{lost} of {len(runs[label])}", success, area])
    assert list(table(section(DOCS / "results-studies.md", "## Runs that are lost")))[1:] == expected


def test_runs_over_the_papers_budget_are_the_committed_ones() -> None:
    runs = runs_of(read_results(RESULTS / "paper_budget" / "results.csv"))
    labels = dict.fromkeys(label for _, label in runs)
    shown = {row[0]: row[1:] for row in list(table(section(DOCS / "results-studies.md", "## Over the paper's budget")))[1:]}
    assert list(shown) == list(labels)
    for (_, label), seeds in runs.items():
        for cell, rows in zip(shown[label], seeds.values(), strict=True):
            lowest = min(row["success"] for row in rows if row["episodes"] >= 5000)
            assert cell == f"{decimals(rows[-1]['success'])} ({decimals(lowest)})"
