"""Comparisons of language runs: studies change what they say, times are read off curves, and a folder resumes."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sppo_rl.zoo.cli import main
from sppo_rl.zoo.commands import compare_llm as command
from sppo_rl.zoo.language.config import load_config
from sppo_rl.zoo.language.study import changed, load_study, study_of
from sppo_rl.zoo.language.table import markdown, ratio_of_medians, time_to
from sppo_rl.zoo.names import UsageError
from sppo_rl.zoo.parallel.worker import RESULT
from sppo_rl.zoo.results.rows import area_under_curve

STUDIES = sorted((Path(__file__).parents[3] / "benchmarks" / "language").glob("*.yml"))


def study_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "study.yml"
    path.write_text(text)
    return path


def test_a_variant_is_the_configuration_with_the_changes_of_all_and_its_own(tmp_path: Path) -> None:
    path = study_file(
        tmp_path,
        "config: chain_sum_tiny\n"
        "every_run: {responses: 100, evaluation: {count: 8}, hyperparameters: {learning_rate: 0.5, policy_kwargs: {temperature: 0.7}}}\n"
        "variants:\n"
        "  grpo: {responses: 200, hyperparameters: {group_size: 4}}\n"
        "  small: {algo: sppo, critic: {hidden_size: 24}}\n",
    )
    base, study = load_config("chain_sum_tiny"), load_study(path)
    assert list(study.variants) == ["grpo", "small"]
    grpo, small = study.variants.values()
    assert (grpo.algo, grpo.responses, small.algo, small.responses) == ("grpo", 200, "sppo", 100)
    assert small.critic == {"hidden_size": 24}
    assert grpo.critic is None
    for config in (grpo, small):
        assert config.evaluation.count == 8
        assert config.evaluation.every == base.evaluation.every
        kwargs = config.constructor_kwargs()
        assert kwargs["learning_rate"] == 0.5
        assert kwargs["n_episodes"] == base.hyperparameters["n_episodes"]
        assert kwargs["policy_kwargs"] == {**base.hyperparameters["policy_kwargs"], "temperature": 0.7}
    assert grpo.constructor_kwargs()["group_size"] == 4
    assert "group_size" not in small.constructor_kwargs()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("config: chain_sum_tiny\nvariants: {small: {}}", "'small' is not named like an algorithm"),
        ("config: chain_sum_tiny\nvariants: {sppo: {reponses: 3}}", "unknown key 'reponses'. Did you mean 'responses'?"),
        ("config: chain_sum_tiny\nvariants: {sppo: {hyperparameters: {n_episode: 3}}}", "n_episode"),
        ("config: chain_sum_tiny\nvariants: {sppo: {responses: 0}}", "responses must be a whole number of at least 1, got 0"),
        ("config: chain_sum_tiny\nvariants: {sppo: {evaluation: {often: 3}}}", "unknown key 'often' of evaluation"),
        ("config: chain_sum_tiny\nvariants: {}", "at least one entry under variants"),
        ("config: chain_sum_tiny\nruns: {sppo: {}}", "unknown key 'runs'"),
        ("config: chains\nvariants: {sppo: {}}", "There is no configuration 'chains'"),
        ("[1", "no valid YAML"),
        ("1", "must be a mapping"),
        (
            "config: chain_sum_tiny\nvariants: {sppo: 5}",
            "The variant 'sppo' must map keys of the configuration to values, got 5",
        ),
        (
            "config: chain_sum_tiny\nvariants: {sppo: [1]}",
            "The variant 'sppo' must map keys of the configuration to values, got [1]",
        ),
        (
            "config: chain_sum_tiny\nvariants: {sppo: 0}",
            "The variant 'sppo' must map keys of the configuration to values, got 0",
        ),
        (
            "config: chain_sum_tiny\nevery_run: 7\nvariants: {sppo: }",
            "every_run must map keys of the configuration to values, got 7",
        ),
        (
            "config: chain_sum_tiny\nvariants: {sppo: {evaluation: }}",
            "'sppo' changes evaluation, which must map names to values, to None",
        ),
        (
            "config: chain_sum_tiny\nvariants: {sppo: {hyperparameters: [1]}}",
            "'sppo' changes hyperparameters, which must map names to values, to [1]",
        ),
        ("config: chain_sum_tiny\nvariants: {sppo: {5: 1}}", "'sppo' changes an unknown key 5."),
        ("config: chain_sum_tiny\nvariants: {sppo: {evaluation: {5: 1}}}", "'sppo' changes an unknown key 5 of evaluation."),
        ("config: chain_sum_tiny\nvariants: {small: {algo: [sppo]}}", "'small' is not named like an algorithm"),
    ],
)
def test_what_is_wrong_with_a_study_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        load_study(study_file(tmp_path, text))
    assert message in str(error.value)


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_committed_studies_hold_together(path: Path) -> None:
    assert load_study(path).variants


def test_equal_prompts_are_equal() -> None:
    """Prompts in an update and optimizer steps, counted from the constructor's parameters."""
    study = load_study(next(path for path in STUDIES if path.stem == "equal_prompts"))
    for config in study.variants.values():
        kwargs = config.constructor_kwargs()
        assert kwargs["n_episodes"] / kwargs.get("group_size", 1) == 256
        assert kwargs["n_episodes"] / kwargs["batch_size"] == 4


def run_of(*points: tuple[float, float]) -> list[dict[str, Any]]:
    return [{"tokens": tokens, "seconds": tokens / 10, "success": success} for tokens, success in points]


def test_the_time_to_a_level_lies_between_two_evaluations() -> None:
    run = run_of((0, 0.1), (100, 0.3), (200, 0.2), (300, 0.6))
    assert time_to(run, 0.2, "tokens") == pytest.approx(50)
    assert time_to(run, 0.4, "tokens") == pytest.approx(250)
    assert time_to(run, 0.4, "seconds") == pytest.approx(25)
    assert time_to(run, 0.05, "tokens") == 0
    assert time_to(run, 0.7, "tokens") == float("inf")


def test_the_area_is_the_mean_over_what_was_spent() -> None:
    assert area_under_curve(run_of((0, 0.0), (100, 1.0), (300, 1.0)), 200, x="tokens") == pytest.approx(0.75, abs=1e-3)


def test_a_disturbed_run_does_not_make_the_seconds_of_all() -> None:
    def row(seconds: float, tokens: float) -> dict[str, Any]:
        rest = dict.fromkeys(("episodes", "timesteps", "greedy_success", "mean_length", "prompts"), 0.0)
        return {**rest, "env": "x", "algo": "sppo", "seconds": seconds, "tokens": tokens, "success": 0.5}

    rows = [{**of, "seed": seed} for seed, end in enumerate((100.0, 110.0, 900.0)) for of in (row(0, 0), row(end, 10))]
    line = next(line for line in markdown(rows, "sppo").splitlines() if line.startswith("| SPPO"))
    assert line.split("|")[-2].strip() == "110"


def test_ratios_count_runs_that_never_arrive_as_infinitely_late() -> None:
    never = float("inf")
    value, low, high = ratio_of_medians(np.array([10.0, 12.0, 14.0]), np.array([4.0, 6.0, never]))
    assert value == pytest.approx(2.0)
    assert low == 0.0, "resamples in which most never arrive"
    assert high == pytest.approx(14 / 4)
    assert np.isnan(ratio_of_medians(np.array([10.0, 12.0, 14.0]), np.array([4.0, never, never]))[0])
    assert ratio_of_medians(np.full(5, 6.0), np.full(5, 3.0)) == (2.0, 2.0, 2.0)


def test_a_comparison_writes_its_results_resumes_and_times_variants(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = study_file(
        tmp_path,
        "config: chain_sum_tiny\n"
        "every_run:\n"
        "  responses: 32\n"
        "  problems: {source: chain_sum, size: 64}\n"
        "  evaluation: {every: 16, problems: {source: chain_sum, size: 8, seed: 2, held_out: true}}\n"
        "  hyperparameters: {n_episodes: 16, batch_size: 16}\n"
        "variants:\n"
        "  sppo: {}\n"
        "  'SPPO, one layer': {algo: sppo, critic: {num_hidden_layers: 1}}\n",
    )
    words = ["compare-llm", "--study", str(path), "--jobs", "2", "-o", str(tmp_path / "out"), "--reference", "sppo"]
    assert main([*words, "--seeds", "1"]) == 0
    out = capsys.readouterr().out
    assert "2 runs, 2 at a time; 0 done before" in out
    results = (tmp_path / "out" / "results.csv").read_text().splitlines()
    assert results[0] == "env,algo,seed,episodes,timesteps,seconds,success,greedy_success,mean_length,prompts,tokens"
    # before training, after 16 responses and after 32, of both
    rows = list(csv.DictReader(results))
    assert [(row["algo"], row["episodes"]) for row in rows] == [
        (name, count) for name in ("sppo", "SPPO, one layer") for count in ("0", "16", "32")
    ]
    table = (tmp_path / "out" / "table.md").read_text()
    assert "| SPPO | 1 |" in table
    assert "SPPO, one layer" in table
    assert "| 1 of 1 runs |" in table
    assert {file.name for file in (tmp_path / "out").glob("*.png")} == {
        "plot_tokens.png",
        "plot_prompts.png",
        "plot_seconds.png",
    }
    assert main([*words, "--seeds", "1"]) == 0
    assert "2 done before" in capsys.readouterr().out
    assert (tmp_path / "out" / "results.csv").read_text().splitlines() == results
    # each run has counted its evaluations, and a file that lost one is refused
    evaluations = tmp_path / "out" / "runs" / "sppo" / "seed_0" / "evaluations.csv"
    whole = evaluations.read_text()
    evaluations.write_text("".join(whole.splitlines(keepends=True)[:-1]))
    assert main([*words, "--seeds", "1"]) == 1
    assert f"{evaluations} has 2 of 3 evaluations, and the run is done" in capsys.readouterr().err
    evaluations.write_text(whole)
    path.write_text(path.read_text().replace("responses: 32", "responses: 48"))
    assert main([*words, "--seeds", "1"]) == 1
    assert "was made with config" in capsys.readouterr().err


def test_algorithms_are_compared_under_a_configuration_as_it_is() -> None:
    study = study_of("chain_sum_tiny", ["sppo", "remax"], "x")
    assert study.variants["remax"] == changed(load_config("chain_sum_tiny"), [], "remax")
    assert study.variants["remax"].algo == "remax"


def test_a_reference_must_take_part(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["compare-llm", "--config", "chain_sum_tiny", "--algos", "sppo", "--reference", "grpo", "-o", str(tmp_path)]
    assert main(words) == 1
    assert "'grpo' takes no part: sppo do" in capsys.readouterr().err


def test_variants_of_one_folder_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sppo_rl.zoo.commands.compare_llm.compare", lambda *of, **options: 0)
    text = "config: chain_sum_tiny\nvariants:\n  'small, fast': {algo: sppo}\n  'small; fast': {algo: ppo}\n"
    out = tmp_path / "out"
    assert main(["compare-llm", "--study", str(study_file(tmp_path, text)), "--seeds", "1", "-o", str(out)]) == 1
    said = capsys.readouterr().err
    assert "'small, fast, seed 0' and 'small; fast, seed 0' would work in the same folder" in said
    assert not out.exists()


def test_a_refused_comparison_leaves_nothing_behind(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run = tmp_path / "runs" / "sppo" / "seed_0"
    run.mkdir(parents=True)
    (run / "job.json").write_text('{"kind": "language", "config": {}, "seed": 0}')
    (run / "evaluations.csv").write_text("")
    before = sorted(tmp_path.rglob("*"))
    assert main(["compare-llm", "--config", "chain_sum_tiny", "--algos", "grpo", "sppo", "-o", str(tmp_path)]) == 1
    assert "was made with config = {}" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_that_failed_before_still_counts_as_failed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The folder has all it was asked for: nothing is run, and what failed is not forgotten."""
    words = ["compare-llm", "--config", "chain_sum_tiny", "--algos", "sppo", "--seeds", "1", "-o", str(tmp_path)]
    (job,) = command._jobs(study_of("chain_sum_tiny", ["sppo"], tmp_path.name), 1, tmp_path).values()
    job.prepare()
    (job.folder / RESULT).write_text('{"status": "failed", "error": "the loss is NaN"}')
    assert main(words) == 1
    assert "1 done before" in capsys.readouterr().out.replace("\n", " ")
    line = f"- SPPO, seed 0: the loss is NaN (to try it again, delete {job.folder / RESULT})\n"
    assert (tmp_path / "table.md").read_text() == f"No run is finished yet.\n\nFailed:\n\n{line}"


def test_nothing_finished_is_said() -> None:
    assert markdown([], "grpo") == "No run is finished yet.\n"
