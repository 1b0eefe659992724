"""``sppo-rl evaluate --benchmarks`` on problems of one's own, with a tiny model made here."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers", reason="needs the [llm] extra")

import torch as th
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedTokenizerFast, Qwen2Config

from sppo_rl.llm.benchmarking import read_completions
from sppo_rl.zoo.cli import main
from sppo_rl.zoo.commands.evaluate_llm import load_problems

TURN_END = 2


@pytest.fixture(scope="module")
def parts() -> tuple[Any, Any]:
    """A model with random weights and a tokenizer with one token for each character of ASCII, and one that ends turns."""
    characters = [chr(c) for c in (10, *range(32, 127))]
    vocabulary = {"<pad>": 0, "<eos>": 1, "<end_of_turn>": TURN_END, **{c: k + 3 for k, c in enumerate(characters)}}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Split("", "isolated"), decoders.Fuse()
    backend.add_special_tokens(["<end_of_turn>"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>", pad_token="<pad>")
    th.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=512, tie_word_embeddings=True,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config), tokenizer


def save(parts: tuple[Any, Any], folder: Path) -> Path:
    for part in parts:
        part.save_pretrained(folder)
    return folder


def rows_into(file: Path, rows: list[dict[str, Any]]) -> str:
    file.parent.mkdir(exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def words(model: Path, output: Path, *more: str) -> list[str]:
    small = ["--max-new-tokens", "6", "--max-prompt-tokens", "100", "--instruction", "", "--device", "cpu"]
    return ["evaluate", "--model", str(model), "--output", str(output), *small, *more]


def test_the_models_own_ends_count(parts: tuple[Any, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Weights under which every next token is the one that ends a turn, which only the generation_config names."""
    network, tokenizer = parts
    model = AutoModelForCausalLM.from_config(network.config)
    model.load_state_dict(network.state_dict())
    with th.no_grad():
        embedding = model.get_input_embeddings().weight
        embedding.zero_()
        embedding[3:] = 0.1 * th.randn(16)
        hidden = model.model(input_ids=th.tensor([[5]])).last_hidden_state[0, 0]
        embedding[TURN_END] = 10 * hidden
    file = rows_into(tmp_path / "sums.jsonl", [{"problem": "1 + 1 =", "answer": "2"}])
    options = ["--benchmarks", file, "--greedy", "-k", "1"]
    folder = save((model, tokenizer), tmp_path / "model")
    assert main(words(folder, tmp_path / "out", *options)) == 0
    (record,) = read_completions(tmp_path / "out" / "sums.jsonl")
    assert (record["tokens"], record["truncated"]) == (6, True), "nothing says yet that this token ends a response"
    GenerationConfig(eos_token_id=[1, TURN_END]).save_pretrained(folder)
    assert main(words(folder, tmp_path / "out", *options)) == 1
    assert "eos_token_id was None and is now [1, 2]" in capsys.readouterr().err
    assert main(words(folder, tmp_path / "new", *options)) == 0
    (record,) = read_completions(tmp_path / "new" / "sums.jsonl")
    assert (record["tokens"], record["truncated"], record["text"]) == (1, False, "")


def test_two_files_of_one_name_are_refused(parts: tuple[Any, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Their results would stand in one file; the same file twice is one benchmark."""
    folder = save(parts, tmp_path / "model")
    a, b = (rows_into(tmp_path / name / "test.jsonl", [{"problem": name, "answer": "1"}]) for name in "ab")
    assert main(words(folder, tmp_path / "out", "--benchmarks", a, b)) == 1
    assert f"{a} and {b} would both be called 'test'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main(words(folder, tmp_path / "out", "--benchmarks", a, a, "-k", "1")) == 0
    assert [record["problem"] for record in read_completions(tmp_path / "out" / "test.jsonl")] == ["0"]


def test_the_name_of_the_mean_is_no_benchmarks(
    parts: tuple[Any, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save(parts, tmp_path / "model")
    files = [rows_into(tmp_path / f"{name}.jsonl", [{"problem": name, "answer": "1"}]) for name in ("mean", "other")]
    assert main(words(folder, tmp_path / "out", "--benchmarks", *files)) == 1
    assert f"{files[0]} would be called 'mean' in the results, as the mean over all is" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_malformed_gold_takes_no_other_problem_of_its_id_along(tmp_path: Path) -> None:
    rows = [("first", r"\frac{1}{", "a"), ("second", "2", "a"), ("third", "3", "b")]
    file = rows_into(tmp_path / "ids.jsonl", [{"problem": p, "answer": g, "id": i} for p, g, i in rows])
    loaded = load_problems(file, "")
    assert [problem.prompt for problem in loaded.problems] == ["second", "third"]
    assert loaded.malformed == ["a"]


def test_a_file_without_problems_is_answered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = rows_into(tmp_path / "rows.jsonl", [{"text": "1 + 1"}])
    assert main(["evaluate", "--benchmarks", file, "--check-golds"]) == 1
    assert "cannot be read: Row 0 has the columns ['text']" in capsys.readouterr().err


def test_a_context_that_is_too_short_is_pointed_out(parts: tuple[Any, Any], tmp_path: Path) -> None:
    """Held against the prompts that there are, not against the longest that would be taken."""
    folder, file = save(parts, tmp_path / "model"), rows_into(tmp_path / "a.jsonl", [{"problem": "1 + 1", "answer": "2"}])
    options = ["--benchmarks", file, "-k", "1", "--max-prompt-tokens", "2000"]
    with pytest.warns(UserWarning, match=r"made for 512 tokens .*may be given 513: .*smaller --max-new-tokens"):
        assert main(words(folder, tmp_path / "long", *options, "--max-new-tokens", "509")) == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert main(words(folder, tmp_path / "short", *options, "--max-new-tokens", "3")) == 0
