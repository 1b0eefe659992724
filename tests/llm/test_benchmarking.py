"""k responses to every problem: each exactly k times, the same after a kill, summed up as worked by hand."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("transformers", reason="needs the [llm] extra")

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from sppo_rl.envs.reasoning import Problem, VerifierPool, from_pairs
from sppo_rl.envs.reasoning.bandit import ReasoningTask
from sppo_rl.llm.benchmarking import (
    Record,
    batch_seed,
    outcomes,
    plan,
    read_completions,
    respond_into_file,
    responder,
    same_answers,
    summarise,
)
from sppo_rl.llm.generation import Sampling, TransformersGenerator
from sppo_rl.llm.loading import fingerprint, load_policy
from tests.llm.conftest import EOS, TOKENIZER, VOCABULARY, tiny_model

SETTINGS = {"model": "tiny", "temperature": 1.0}


def make_task(problems: Sequence[Problem] | None = None, budget: int = 6) -> ReasoningTask:
    """Right is a response with the prompt's digit in it: neither never nor always so for a random model."""
    pairs = [("abc"[: number % 3] + f"{number}?", str(number)) for number in range(5)]
    return ReasoningTask(problems or from_pairs(pairs), TOKENIZER, 8, budget, lambda response, gold: float(gold in response))


class Counting:
    """The tiny model, counting what it is asked and dying where it is told to."""

    def __init__(self, budget: int = 6, die_at: int | None = None):
        model = tiny_model()
        generator = TransformersGenerator(model)
        generator.sync_weights(model.named_parameters(), 0)
        self.respond = responder(generator, Sampling(budget, EOS, VOCABULARY), 0)
        self.asked: list[tuple[int, ...]] = []
        self.die_at = die_at

    def __call__(self, prompts: Sequence[np.ndarray], seed: int) -> list[np.ndarray]:
        if self.die_at is not None and len(self.asked) >= self.die_at:
            raise KeyboardInterrupt
        self.asked += [tuple(prompt.tolist()) for prompt in prompts]
        return self.respond(prompts, seed)


def run(path: Path, respond: Any, k: int = 3, batch_size: int = 4, seed: int = 0, **settings: Any) -> list[Record]:
    return respond_into_file(path, {**SETTINGS, **settings}, make_task(), respond, k, batch_size, seed)


def test_plan_poses_every_problem_exactly_k_times() -> None:
    assert plan(2, 2, 3) == [[(0, 0), (0, 1), (1, 0)], [(1, 1)]]
    for problems, k, size in [(7, 3, 4), (1, 1, 9), (5, 16, 16)]:
        batches = plan(problems, k, size)
        assert sorted(pair for batch in batches for pair in batch) == [(p, s) for p in range(problems) for s in range(k)]
        assert max(map(len, batches)) <= size
    with pytest.raises(ValueError, match="at least 1, got 3, 0 and 4"):
        plan(3, 0, 4)


def test_the_model_is_asked_every_problem_exactly_k_times(tmp_path: Path) -> None:
    counting = Counting()
    records = run(tmp_path / "set.jsonl", counting, k=3)
    assert set(Counter(counting.asked).values()) == {3}
    assert len(set(counting.asked)) == 5
    assert [(record["problem"], record["sample"]) for record in records] == [(str(p), s) for p in range(5) for s in range(3)]
    assert {record["truncated"] for record in records} == {True, False}
    assert 0 < sum(record["score"] for record in records) < 15, "the scores mean something"
    assert read_completions(tmp_path / "set.jsonl") == records


def test_records_say_what_was_sampled(tmp_path: Path) -> None:
    records = run(tmp_path / "set.jsonl", Counting())
    task = make_task()
    seeds = {batch_seed(0, task, batch) for batch in plan(5, 3, 4)}
    assert {record["seed"] for record in records} == seeds
    assert len(seeds) == 4
    for record in records:
        # an end-of-sequence token counts as a token and shows in no text; neither do the tokenizer's other special ones
        assert record["truncated"] <= (record["tokens"] == 6)
        assert len(record["text"]) <= record["tokens"] - (not record["truncated"])
        assert record["score"] == float(record["problem"] in record["text"])
    assert len({record["text"] for record in records if record["problem"] == "0"}) > 1, "samples of a problem differ"


@pytest.mark.parametrize("left", ["nothing", "half a line", "one line of a batch", "whole batches"])
def test_a_killed_run_gives_the_bytes_of_one_that_was_not(left: str, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    run(whole, Counting())
    dying = Counting(die_at=0 if left == "nothing" else 8)
    with pytest.raises(KeyboardInterrupt):
        run(killed, dying)
    content = killed.read_bytes()
    # a batch is written at once, but a crash of the machine may leave any part of it
    if left == "half a line":
        killed.write_bytes(content[:-20])
    elif left == "one line of a batch":
        killed.write_bytes(b"".join(content.splitlines(keepends=True)[:5]))
    kept = {"nothing": 0, "half a line": 4, "one line of a batch": 4, "whole batches": 8}[left]
    going_on = Counting()
    records = run(killed, going_on)
    assert killed.read_bytes() == whole.read_bytes()
    assert records == read_completions(whole)
    assert len(going_on.asked) == 15 - kept, "what was complete is not sampled again"
    untouched = Counting()
    assert run(killed, untouched) == records
    assert untouched.asked == []


def test_samples_depend_on_the_seed_and_not_on_what_came_before(tmp_path: Path) -> None:
    alone = run(tmp_path / "a.jsonl", Counting())
    same = Counting()
    run(tmp_path / "other.jsonl", same, seed=7)
    assert run(tmp_path / "b.jsonl", same) == alone
    assert read_completions(tmp_path / "other.jsonl") != alone


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k": 4}, "k was 3 and is now 4"),
        ({"seed": 1}, "seed was 0 and is now 1"),
        ({"batch_size": 5}, "batch_size was 4 and is now 5"),
        ({"temperature": 0.6}, "temperature was 1.0 and is now 0.6"),
        ({"model": "another"}, "model was 'tiny' and is now 'another'"),
    ],
)
def test_other_settings_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    run(tmp_path / "set.jsonl", Counting())
    before = (tmp_path / "set.jsonl").read_bytes()
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "set.jsonl", Counting(), **changes)
    assert (tmp_path / "set.jsonl").read_bytes() == before


def test_other_problems_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    run(path, Counting())
    other = make_task(from_pairs([(f"{n}?", "9") for n in range(5)]))
    with pytest.raises(ValueError, match=r"problems was '[0-9a-f]{16}' and is now"):
        respond_into_file(path, SETTINGS, other, Counting(), 3, 4, 0)


def test_files_that_are_not_of_this_evaluation_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    run(path, Counting())
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[1], lines[0], *lines[2:]]))
    with pytest.raises(ValueError, match=r"Line 1 of .* answers \('0', 1\), but \('0', 0\) was to come there"):
        run(path, Counting())
    path.write_bytes(b"".join([*lines, lines[0]]))
    with pytest.raises(ValueError, match=r"Line 16 .* but nothing was to come there"):
        run(path, Counting())
    path.write_bytes(b"".join([lines[0], b"garbage\n", *lines[2:]]))
    with pytest.raises(ValueError, match=r"Line 2 of .* is no JSON object"):
        run(path, Counting())
    (tmp_path / "set.settings.json").unlink()
    with pytest.raises(ValueError, match=r"set\.settings\.json, which says how it was made, is not"):
        run(path, Counting())


def test_line_separators_in_a_response_do_not_split_it(tmp_path: Path) -> None:
    record = {"problem": "0", "sample": 0, "text": "a\u2028b\x85c\r\nd"}
    (tmp_path / "odd.jsonl").write_bytes(json.dumps(record, ensure_ascii=False).encode() + b"\n")
    assert read_completions(tmp_path / "odd.jsonl") == [record]


def records_of(rows: list[list[tuple[str | None, float]]]) -> list[Record]:
    return [
        {"score": score, "extracted": answer, "tokens": 10 + sample, "truncated": answer is None, "reason": "r"}
        for row in rows
        for sample, (answer, score) in enumerate(row)
    ]


def test_summary_by_hand_with_the_verifiers_own_comparison() -> None:
    first = [
        [("1/2", 0.0), ("0.5", 0.0), ("3", 1.0), (None, 0.0)],  # two halves outvote the right answer
        [(r"\frac{1}{3}", 1.0), ("7", 0.0), ("1/3", 1.0), ("8", 0.0)],
        [(None, 0.0)] * 4,
    ]
    second = [[("2", 1.0)] * 4]
    with VerifierPool(num_workers=1) as pool:
        parts = [outcomes(records_of(rows), 4, same_answers(pool)) for rows in (first, second)]
    scores = summarise(parts[:1])
    assert scores.avg.value == pytest.approx((1 / 4 + 2 / 4 + 0) / 3)
    assert scores.passed.value == pytest.approx(2 / 3)
    assert scores.majority is not None
    assert scores.majority.value == pytest.approx(1 / 3)
    assert (scores.problems, scores.k, scores.tokens) == (3, 4, 11.5)
    assert scores.truncated == pytest.approx(5 / 12) == 1 - scores.answered
    both = summarise(parts)
    assert both.avg.value == pytest.approx((0.25 + 1.0) / 2), "each data set counts the same"
    assert both.problems == 4
    assert json.loads(json.dumps(both.as_dict()))["maj@4"]["value"] == pytest.approx((1 / 3 + 1) / 2)


def test_no_vote_where_a_function_judges_whole_responses() -> None:
    part = outcomes(records_of([[(None, 1.0), (None, 0.0)]]), 2, lambda pairs: [])
    assert part.solved_by_majority is None
    assert summarise([part]).majority is None
    assert summarise([part]).as_dict()["maj@2"] is None


def test_fingerprint_tells_a_model_from_itself_after_a_step() -> None:
    model, again = tiny_model(), tiny_model()
    assert fingerprint(model) == fingerprint(again) != fingerprint(tiny_model(seed=1))
    again.model.layers[0].mlp.up_proj.weight.data[0, 0] += 1e-3
    assert fingerprint(model) != fingerprint(again)


def test_a_character_tokenizer_beside_a_qwen2_model_keeps_white_space(tmp_path: Path) -> None:
    """``AutoTokenizer`` gives this folder Qwen2's pre-tokenizer, which drops what it does not know."""
    characters = {"<pad>": 0, "<eos>": 1, **{character: k + 2 for k, character in enumerate("12+= \n")}}
    backend = Tokenizer(models.WordLevel(characters, unk_token="<pad>"))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Split("", "isolated"), decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>", pad_token="<pad>")
    tiny_model().save_pretrained(tmp_path / "policy")
    tokenizer.save_pretrained(tmp_path / "policy")
    model, loaded = load_policy(tmp_path)
    assert fingerprint(model) == fingerprint(tiny_model())
    assert loaded.encode("1 + 1\n= 2") == tokenizer.encode("1 + 1\n= 2")
    assert loaded.eos_token_id == 1


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no model: neither"):
        load_policy(tmp_path)
