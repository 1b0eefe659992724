"""``sppo-rl evaluate --benchmarks`` on the real files, with a tiny model made here."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers", reason="needs the [llm] extra")

import torch as th
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen2Config

from sppo_rl.llm import PromptCritic
from sppo_rl.llm.benchmarking import read_completions
from sppo_rl.llm.models import critic_model
from sppo_rl.zoo.cli import main

SIZES = {"aime24": 30, "aime25": 30, "amc23": 40, "math500": 500, "minerva": 204}
"""Problems with a well-formed gold answer; 68 of Minerva's are cut off."""


@pytest.fixture(autouse=True)
def data_dir(monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = Path(os.environ.get("SPPO_DATA") or Path(__file__).resolve().parents[4] / "shared" / "data")
    if not (folder / "benchmarks" / "math500.jsonl").is_file():
        pytest.skip("the benchmark files are not here; SPPO_DATA names their folder")
    monkeypatch.setenv("SPPO_DATA", str(folder))
    return folder


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``policy.export`` writes: random weights, one token for each character of ASCII."""
    folder = tmp_path_factory.mktemp("export")
    characters = {"<pad>": 0, "<eos>": 1, **{chr(c): k + 2 for k, c in enumerate([10, *range(32, 127)])}}
    backend = Tokenizer(models.WordLevel(characters, unk_token="<pad>"))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Split("", "isolated"), decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>", pad_token="<pad>")
    th.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=8192, tie_word_embeddings=True,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder / "policy")
    tokenizer.save_pretrained(folder / "policy")
    PromptCritic(critic_model(model, model), tokenizer).save(folder / "critic")
    return folder


def words(export: Path, output: Path, *more: str) -> list[str]:
    small = ["--max-new-tokens", "6", "--max-prompt-tokens", "4000", "-k", "2", "--limit", "5", "--device", "cpu"]
    return ["evaluate", "--model", str(export), "--output", str(output), *small, *more]


def test_every_problem_of_every_benchmark_exactly_k_times(
    export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All 804 problems, four tokens each, most of the time being the prompts."""
    arguments = words(export, tmp_path, "--benchmarks", *SIZES, "--limit", "1000", "-k", "2", "--max-new-tokens", "2")
    assert main(arguments) == 0
    for name, size in SIZES.items():
        records = read_completions(tmp_path / f"{name}.jsonl")
        counts = Counter(record["problem"] for record in records)
        assert (len(counts), set(counts.values())) == (size, {2})
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert {name: part["problems"] for name, part in summary["benchmarks"].items()} == SIZES
    assert len(summary["benchmarks"]["minerva"]["malformed_golds"]) == 68
    assert summary["mean"]["avg@2"]["value"] == 0.0
    assert 0.0 < summary["mean"]["avg@2"]["high"] < 0.01, "two random tokens solve nothing, which is no proof that they cannot"
    table = (tmp_path / "table.md").read_text().splitlines()
    assert table[0] == "| benchmark | problems | avg@2 | pass@2 | maj@2 | tokens | cut | answered |"
    assert [line.split("|")[1].strip() for line in table[2:]] == [*SIZES, "mean"]
    printed = capsys.readouterr().out
    assert "204 (+68)" in printed
    assert max(len(line) for line in printed.splitlines() if not line.startswith("Written")) <= 80


def test_gold_answers_are_checked_and_the_malformed_ones_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--benchmarks", *SIZES, "--check-golds"]) == 0
    printed = capsys.readouterr().out
    for name, size in SIZES.items():
        assert f"{name}: {size} of {size} accepted" in printed
    listed = printed.partition("malformed: ")[2].split(", ")
    assert len(listed) == 68
    assert listed[0] == "minerva-012"


def test_a_killed_run_goes_on_to_the_same_bytes(export: Path, tmp_path: Path) -> None:
    options = ["--benchmarks", "aime24", "--limit", "30", "--batch-size", "4", "-k", "3", "--max-new-tokens", "40"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main(words(export, whole, *options)) == 0
    command = [sys.executable, "-m", "sppo_rl.zoo.cli", *words(export, killed, *options)]
    file = killed / "aime24.jsonl"
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    end = time.monotonic() + 120
    while not (file.exists() and file.stat().st_size) and time.monotonic() < end and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 0 < len(read_completions(file)) < 90, "the kill must come in the middle for this test to mean something"
    with file.open("ab") as torn:
        torn.write(b'{"problem": "aime24-0')
    assert main(words(export, killed, *options)) == 0
    assert file.read_bytes() == (whole / "aime24.jsonl").read_bytes()
    assert (killed / "table.md").read_bytes() == (whole / "table.md").read_bytes()


def test_other_settings_are_refused(export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = words(export, tmp_path, "--benchmarks", "amc23")
    assert main(options) == 0
    assert main([*options, "--temperature", "1.0"]) == 1
    assert "temperature was 0.6 and is now 1.0" in capsys.readouterr().err
    assert main([*options, "--limit", "6"]) == 1
    assert "problems was" in capsys.readouterr().err
    assert main([*options, "--benchmarks", "amc23", "aime25"]) == 0, "another benchmark may join"


def test_own_problems_and_calibration(export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"problem": f"{n} + 1 =", "answer": str(n + 1)} for n in range(6)] + [{"problem": "cut", "answer": r"\frac{1}{"}]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ["--benchmarks", str(tmp_path / "sums.jsonl"), "--limit", "9", "--calibration", "--greedy", "-k", "1"]
    assert main(words(export, tmp_path / "out", *options)) == 0
    records = read_completions(tmp_path / "out" / "sums.jsonl")
    assert [record["problem"] for record in records] == [str(n) for n in range(6)]
    calibration: dict[str, Any] = json.loads((tmp_path / "out" / "calibration.json").read_text())
    # the critic's new head says .5 everywhere, nothing is solved
    assert calibration["brier"] == pytest.approx(0.25)
    assert calibration["pearson"] is None
    assert (tmp_path / "out" / "calibration.png").stat().st_size > 5000
    assert "V(prompt) against avg@1 of 6 prompts: Pearson –" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--benchmarks", "amc2"], "Did you mean 'amc23'"),
        (["--benchmarks", "nowhere.jsonl"], "There is no file nowhere.jsonl"),
        (["--benchmarks", "aime24", "--greedy"], "-k 1, not -k 2"),
        (["--benchmarks", "aime24", "--temperature", "0"], "0 is --greedy -k 1"),
        (["--benchmarks", "aime24", "-k", "0"], "--samples must be at least 1, got 0"),
        (["--benchmarks", "aime24", "--limit", "0"], "--limit must be at least 1, got 0"),
        (["--benchmarks", "aime24", "--model", "."], "holds no model: neither config.json nor policy/config.json"),
        (["--benchmarks", "aime24", "--calibration", "no/critic"], "There is no critic at no/critic"),
        (["--benchmarks", "aime24", "--max-prompt-tokens", "9"], "fits into max_prompt_tokens=9"),
        (["--benchmarks", "aime24", "--env", "CartPole-v1"], "Say what to evaluate on"),
        ([], "Say what to evaluate on"),
        (["--env", "CartPole-v1", "--model", "nowhere.zip"], "no model at nowhere.zip"),
    ],
)
def test_mistakes_are_answered_before_anything_is_written(
    more: list[str],
    message: str,
    export: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words(export, tmp_path / "out", *more)) == 1
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
