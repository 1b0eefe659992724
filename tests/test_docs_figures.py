"""Every table of figures on a page is that of the committed results; those of studies are in test_docs_studies.py."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from typing import Any

import pytest
import yaml

from sppo_rl import SPPO
from sppo_rl.zoo.settings.hyperparameters import defaults_of, read_file
from tests.figures import COMPARED, RESULTS, approximately, compared, decimals, interval, measured, signed, summary
from tests.pages import DOCS, REPOSITORY, section, table


def test_the_comparison_on_the_results_page_is_the_committed_one() -> None:
    rows = list(table(section(DOCS / "results.md", "## Task by task")))
    shown = [row for row in rows if len(row) == 7 and row[0] != "task"]
    assert len(shown) == 18
    for task, label, seeds, success, greedy, area, seconds in shown:
        row = compared(task)[COMPARED[label]]
        assert [seeds, success, greedy, area] == [row["seeds"], *measured(row)]
        assert seconds == f"{float(row['seconds']):.1f}"


def test_differences_on_the_results_page_are_the_committed_ones() -> None:
    claims = json.loads((RESULTS / "control_claims.json").read_text())
    found = {(row["env"], row["rival"], row["metric"]): row for row in claims["differences_from_sppo"]}
    shown = [row for row in table(section(DOCS / "results.md", "## Task by task")) if len(row) == 5 and row[0] != "task"]
    assert len(shown) == 12
    assert len(found) == 6 * 6 * 3
    for task, rival, *cells in shown:
        for metric, cell in zip(("success", "greedy_success", "area"), cells, strict=True):
            row = found[f"sppo_rl/{task}-v0", COMPARED[rival], metric]
            assert signed(cell) == approximately(row), (task, rival, metric)


def curves() -> dict[str, dict[str, Any]]:
    """Label → task → what control_claims.json says of the runs."""
    rows = json.loads((RESULTS / "control_claims.json").read_text())["curves"]
    return {label: {row["env"][8:-3]: row for row in rows if row["algo"] == algo} for label, algo in COMPARED.items()}


def test_falls_and_lost_runs_on_the_results_page_are_the_committed_ones() -> None:
    found = curves()
    (_, *labels), *falls = table(section(DOCS / "results.md", "## The paper's claims").partition("Deepest falls")[2])
    assert len(falls) == 6
    for task, *cells in falls:
        of = [found[label][task] for label in labels]
        assert cells == [f"{decimals(row['deepest_fall_mean'])} ({decimals(row['steady_runs_fall_97.5%'])})" for row in of]
    (_, *tasks), *lost = (row for row in table(section(DOCS / "results.md", "## Over all tasks")) if len(row) == 8)
    assert len(lost) == 7
    for label, *cells in lost:
        counts = [found[label][task]["ended_below_start"] for task in tasks[:-1]]
        assert cells == [str(count) for count in (*counts, sum(counts))]


def test_the_first_finished_bias_is_the_committed_one() -> None:
    lines = (RESULTS / "first_finished_bias.csv").read_text().splitlines()
    found = {row["env"]: row for row in csv.DictReader(line for line in lines if not line.startswith("#"))}
    shown = list(table(section(DOCS / "results-studies.md", "## The first-finished bias")))[1:]
    assert len(shown) == len(found) == 6
    for task, *cells in shown:
        row = found[f"sppo_rl/{task.split(',')[0]}-v0"]
        assert cells == [f"{decimals(row[name])} {interval(row, name)}" for name in ("same_finished", "first_finished")]


def test_critic_init_is_the_committed_one() -> None:
    shown = list(table(section(DOCS / "results-studies.md", "## The critic's first prediction")))[1:]
    assert len(shown) == 6
    settings = read_file("sppo", REPOSITORY / "benchmarks" / "hyperparams")
    for task, choice, success, greedy, area in shown:
        in_file = settings[f"sppo_rl/{task}-v0"]["critic_init"] or "None"
        row = summary("control_comparison" if choice.strip("`") == in_file else "critic_init", task)["sppo"]
        assert [success, greedy, area] == measured(row)


def test_the_readme_has_the_committed_comparison() -> None:
    shown = [row for row in table((REPOSITORY / "README.md").read_text()) if len(row) == 4]
    heading = next(row for row in shown if row[0] == "task, episodes")
    rows = [row for row in shown if (RESULTS / "control_comparison" / row[0].split(",")[0]).is_dir()]
    assert len(rows) == 6
    for first, *cells in rows:
        task, _, episodes = first.partition(", ")
        of = compared(task)
        assert episodes == f"{float(of['sppo']['episodes']):,.0f}"
        for label, cell in zip(heading[1:], cells, strict=True):
            row = of[COMPARED[label]]
            assert cell == f"{decimals(row['success'])} {interval(row, 'success')}; {decimals(row['greedy_success'])}"


def test_speed_is_the_committed_one() -> None:
    rows = json.loads((RESULTS / "control_throughput.json").read_text())["rows"]
    cells = {
        (row["env"], row["minibatches_x_epochs"]): (
            f"{row['sppo_steps_per_second']:,} against {row['sb3_ppo_steps_per_second']:,}: "
            f"{row['ratio_median']:.1f} [{row['ratio_min']:.1f}, {row['ratio_max']:.1f}]"
        )
        for row in rows
    }
    shown = [row for row in table((DOCS / "results.md").read_text()) if len(row) == 3 and "against" in row[1]]
    assert len(shown) * 2 == len(cells)
    for task, *found in shown:
        assert found == [cells[f"sppo_rl/{task}-v0", schedule] for schedule in ("1x4", "4x10")]
    ratios = [row["ratio_median"] for row in rows]
    in_short = f"{min(ratios):.1f} to {max(ratios):.1f} times the environment steps per second of Stable-Baselines3's PPO"
    assert in_short in (REPOSITORY / "README.md").read_text()


@pytest.mark.parametrize("study", sorted(folder.name for folder in (RESULTS / "language").iterdir()))
def test_language_tables_are_the_committed_ones(study: str) -> None:
    page = section(DOCS / "results-language.md", f"## {study.replace('_', ' ').capitalize()}")
    committed = list(table((RESULTS / "language" / study / "table.md").read_text()))
    assert len(committed) >= 6
    assert [row for row in table(page) if row in committed] == committed


def test_shares_of_groups_that_agree_are_the_committed_ones() -> None:
    folder = RESULTS / "language" / "hard_problems"
    mixed, hard = json.loads((folder / "agreeing_groups.json").read_text())["rows"]
    page = section(DOCS / "results-language.md", "## Hard problems")
    assert hard["all_succeed"] == mixed["all_succeed"] == 0.0
    assert (
        f"({decimals(hard['all_fail'])}, all of them in failure, against {decimals(mixed['all_fail'])} among"
        in page.replace("\n", " ")
    )


def test_memorised_shares_are_the_committed_ones() -> None:
    with open(RESULTS / "language" / "finite_prompts" / "memorised.csv") as file:
        rows = list(csv.DictReader(file))
    shown = [row for row in table(section(DOCS / "results-language.md", "## Finite prompts")) if len(row) == 3][1:]
    assert len(shown) == 3
    for label, *cells in shown:
        of = [row for row in rows if row["algo"] == COMPARED[label]]
        assert cells == [decimals(sum(float(row[name]) for row in of) / len(of)) for name in ("trained_on", "new")]


def test_figures_of_the_verifier_are_the_committed_ones() -> None:
    found = json.loads((REPOSITORY / "benchmarks" / "verifier" / "results.json").read_text())
    page, _ = section(DOCS / "verifier.md", "## Measured").split("### A second corpus")
    rows = {row[0]: row[1:] for row in table(page)}

    def rate(value: float) -> str:
        return f"{value:.3f}".removeprefix("0") if value < 1.0 else "1.000"

    inputs = found["hostile"]["sppo_rl"]["inputs"]
    slow = {
        "sppo_rl": inputs - found["hostile"]["sppo_rl"]["within_5_s"],
        "math-verify 0.9.0": len(found["hostile"]["math-verify 0.9.0"]["over_5_s_or_died"]),
    }
    for shown, name in {"`sppo_rl`, in one process": "sppo_rl", "math-verify 0.9.0": "math-verify 0.9.0"}.items():
        figures = found["corpus"][name]
        expected = [rate(figures["true_positive_rate"]), rate(figures["false_positive_rate"])]
        assert rows[shown][:2] == expected
        assert float(rows[shown][2]) == pytest.approx(figures["seconds_per_1000"], rel=0.02)
        assert rows[shown][3].startswith(f"{slow[name]} of {inputs}")
    assert f"All of {inputs} hostile inputs" in (REPOSITORY / "README.md").read_text()


def test_language_speed_and_memory_are_the_committed_ones() -> None:
    page = section(DOCS / "llm.md", "## Speed and memory")
    speed, memory = (json.loads((RESULTS / f"llm_{name}.json").read_text()) for name in ("throughput", "memory"))
    rows = list(table(page))
    ratio = f"{speed['ratio_median']:.2f} [{speed['ratio_min']:.2f}, {speed['ratio_max']:.2f}]"
    assert rows[1] == ["", f"{speed['ours_tokens_per_second']:,}", f"{speed['trl_tokens_per_second']:,}", ratio]
    assert f"{ratio} times the speed of TRL" in (REPOSITORY / "README.md").read_text()
    assert rows[3:] == [
        [
            row["configuration"],
            f"{row['critic_parameters'] / 1e6:.1f}M",
            f"{row['memory_mib']:,.0f}",
            f"{row['collect_seconds']:.1f}",
            f"{row['update_seconds']:.1f}",
        ]
        for row in memory["rows"]
    ]


def test_rivals_on_the_results_page_are_the_committed_ones() -> None:
    page = section(DOCS / "results.md", "## The other rivals")
    shown = list(table(page))[1:]
    assert len(shown) == 24
    claims = json.loads((RESULTS / "control_claims.json").read_text())
    found = {(row["env"], row["rival"]): row for row in claims["differences_from_sppo"] if row["metric"] == "success"}
    for task, label, seeds, success, greedy, area, difference in shown:
        row = compared(task)[COMPARED[label]]
        assert [seeds, success, greedy, area] == [row["seeds"], *measured(row)]
        assert signed(difference) == approximately(found[f"sppo_rl/{task}-v0", COMPARED[label]])
    of_the_loss = {row["env"]: row for row in claims["ppo_bce_from_ppo"] if row["metric"] == "success"}
    _, _, sentence = page.partition("On LunarLander it ends above PPO by ")
    assert signed(sentence.partition("(")[0]) == approximately(of_the_loss["sppo_rl/LunarLander-v0"])


def test_calibration_in_the_verdicts_is_the_committed_one() -> None:
    found = json.loads((RESULTS / "calibration.json").read_text())["after_over_seeds"]
    text = section(
        REPOSITORY / "benchmarks" / "VERDICTS.md",
        "## Figure 7, what the critic knows: reproduced, and the prompt's length alone predicts it nearly as well",
    )
    shown = {row[0]: row[1:] for row in list(table(text))[1:]}
    for label, prefix in (("critic", ""), ("the prompt's length", "length_"), ("ceiling", "ceiling_")):
        of = [found[f"{prefix}{name}"] for name in ("pearson", "spearman")]
        assert shown[label] == [f"{decimals(row['mean'])} ± {decimals(row['std'])}" for row in of]
    for name in ("value_of_hopeless", "value_of_sure"):
        assert f"{decimals(found[name]['mean'], 2)} ± {decimals(found[name]['std'], 2)}" in text


def test_figures_over_all_tasks_are_those_of_the_report() -> None:
    report = [row for row in table((RESULTS / "report" / "report.md").read_text()) if len(row) == 4][:15]
    page = [row for row in table(section(DOCS / "results.md", "## Over all tasks")) if len(row) == 4]
    numbers = [[re.findall(r"\d*\.\d+", cell.replace("0.", ".")) for cell in row[1:]] for row in report]
    assert [[re.findall(r"\d*\.\d+", cell) for cell in row[1:]] for row in page] == numbers
    assert sum(len(cell) for row in numbers for cell in row) == (7 + 6) * 3 * 3


def test_hyperparameters_are_those_of_the_file() -> None:
    settings = read_file("sppo")
    defaults = defaults_of(SPPO)
    names, *rows = table(section(DOCS / "which-algorithm.md", "## Hyperparameters"))
    assert {row[0].strip("`") for row in rows} == set(settings)
    for env_id, *cells in rows:
        used = {**defaults, **settings[env_id.strip("`")]}
        for name, cell in zip(names[1:], cells, strict=True):
            written = None if cell == "all" else yaml.safe_load(cell.strip("`"))
            assert written == used[name.strip("`")], (env_id, name)


def test_the_blind_corpus_is_the_one_that_was_measured() -> None:
    """It met the verifier when both were finished, and has been frozen since."""
    folder = REPOSITORY / "benchmarks" / "verifier"
    frozen = b"".join((folder / name).read_bytes() for name in ("blind_corpus.py", "blind_answers.txt"))
    for results in ("blind_results.json", "blind_results_mended.json"):
        assert json.loads((folder / results).read_text())["corpus_sha256"] == hashlib.sha256(frozen).hexdigest()


def test_what_a_critic_on_every_state_costs_is_the_committed_measurement() -> None:
    rows = json.loads((RESULTS / "critic_cost.json").read_text())["rows"]
    cells = {
        (row["env"].removeprefix("sppo_rl/").removesuffix("-v0"), row["minibatches_x_epochs"]): (
            f"{decimals(row['sppo_time_over_ppo_time'], 2)} [{decimals(row['min'], 2)}, {decimals(row['max'], 2)}]"
        )
        for row in rows
    }
    expected = [[task, cells[task, "1x4"], cells[task, "4x10"]] for task, schedule in cells if schedule == "1x4"]
    shown = [row for row in table(section(DOCS / "results.md", "## Speed")) if "against" not in row[1]]
    assert shown[-len(expected) :] == expected
