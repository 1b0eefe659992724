"""The tiny language prior: its tokenizer, how it is made, and whether the one that ships is what its card says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("transformers", reason="needs the [llm] extra")

import torch as th
from transformers import AutoModelForCausalLM, AutoTokenizer

from sppo_rl.envs.reasoning.bandit import ReasoningTask
from sppo_rl.envs.reasoning.encoding import load_tokenizer
from sppo_rl.evaluation import wilson_interval
from sppo_rl.llm.loading import load_policy
from sppo_rl.zoo.cli import main
from sppo_rl.zoo.commands.pretrain_llm import pretrain
from sppo_rl.zoo.language.chains import CHARACTERS, MAX_PROMPT_TOKENS, chain_problems, is_chain
from sppo_rl.zoo.language.models import PRIORS
from sppo_rl.zoo.language.prior import (
    LONG_NAME,
    NAME,
    RECIPES,
    SHIPPED,
    Measurement,
    Recipe,
    demonstration_batches,
    make_config,
    make_tokenizer,
    measure,
    respond,
    response_loss,
)
from sppo_rl.zoo.language.prior_card import LanguagePriorCard
from sppo_rl.zoo.names import UsageError

BRIEF = Recipe(problems=200, tokens_per_step=512, max_steps=20, steps_between=20, selection_problems=4)
TEXTS = [*CHARACTERS, CHARACTERS, "38+12-65=", "50-65:65-50:5-0=5,6-5=1>-15;\\boxed{-15}", "\\\\boxed", "dexob"]


def make(folder: Path, seed: int = 0, target: float = 1.0) -> tuple[LanguagePriorCard, Path, list[str]]:
    lines: list[str] = []
    card = pretrain(target, seed, folder, problems=4, recipe=BRIEF, report=lines.append)
    return card, folder / NAME, lines


# ------------------------------------------------------------------ the tokenizer


@pytest.mark.parametrize("of", ["made", "shipped", "auto"])
def test_every_character_is_a_token_and_comes_back(of: str) -> None:
    tokenizer = {"made": make_tokenizer, "shipped": lambda: load_tokenizer(SHIPPED), "auto": lambda: auto()}[of]()
    ids = [tokenizer.encode(character) for character in CHARACTERS]
    assert all(len(of_one) == 1 for of_one in ids)
    assert sorted(of_one[0] for of_one in ids) == list(range(2, 2 + len(CHARACTERS)))
    for text in TEXTS:
        assert tokenizer.encode(text) == [tokenizer.encode(character)[0] for character in text]
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (0, 1)
    assert len(tokenizer) == len(CHARACTERS) + 2 == make_config().vocab_size


def auto() -> Any:
    return AutoTokenizer.from_pretrained(SHIPPED)


# ------------------------------------------------------------------ the loss and its batches


def test_the_loss_is_that_of_the_responses_tokens() -> None:
    """Against the model's own logits, one token at a time."""
    th.manual_seed(0)
    model = AutoModelForCausalLM.from_config(make_config(), dtype=th.float32).eval()
    tokenizer = make_tokenizer()
    pairs = [("3+4=", "\\boxed{7}"), ("38+12-65=", "38+12:8+2=10,3+1+1=5>50;\\boxed{1}"), ("1-9-8=", "9")]
    rows = [[*tokenizer.encode(prompt + response), 1] for prompt, response in pairs]
    ids = th.zeros(3, max(map(len, rows)), dtype=th.int64)
    for row, of_row in enumerate(rows):
        ids[row, : len(of_row)] = th.tensor(of_row)
    total, count = 0.0, 0
    for (prompt, _), of_row in zip(pairs, rows, strict=True):
        with th.no_grad():
            logits = model(input_ids=th.tensor([of_row])).logits[0].double().numpy()
        for place in range(len(prompt), len(of_row)):
            before = logits[place - 1]
            total += np.log(np.exp(before).sum()) - before[of_row[place]]
            count += 1
    loss = response_loss(model, ids, th.tensor([len(prompt) for prompt, _ in pairs]))
    assert count == sum(len(response) + 1 for _, response in pairs)
    assert loss.item() == pytest.approx(total / count, rel=1e-5)
    # neither another prompt nor more padding is counted; the response is
    wider = th.cat([ids, th.zeros(3, 5, dtype=th.int64)], dim=1)
    lengths = th.tensor([len(prompt) for prompt, _ in pairs])
    assert response_loss(model, wider, lengths).item() == pytest.approx(loss.item(), rel=1e-5)
    assert response_loss(model, ids, lengths - 1).item() != pytest.approx(loss.item(), rel=1e-3)


def test_batches_hold_right_demonstrations_within_their_budget() -> None:
    problems = chain_problems(50, seed=1)
    answers = {problem.prompt: problem.answer for problem in problems}
    tokenizer, recipe = make_tokenizer(), replace(BRIEF, direct=0.25)
    chains = []
    batches = demonstration_batches(problems, tokenizer, recipe, np.random.default_rng(0))
    for _ in range(100):
        ids, lengths = next(batches)
        assert ids.numel() <= recipe.tokens_per_step
        for row, length in zip(ids, lengths.tolist(), strict=True):
            prompt, response = tokenizer.decode(row[:length]), row[length:]
            end = response.tolist().index(1)
            assert not response[end + 1 :].any()
            text = tokenizer.decode(response[:end])
            assert text.endswith(f"\\boxed{{{answers[prompt]}}}")
            chains.append(is_chain(text))
    # batches of one length are short ones or long ones, and these are a part of a pool
    assert 0.6 < np.mean(chains) < 0.9


# ------------------------------------------------------------------ making it


def test_same_command_and_seed_make_the_same_weights(tmp_path: Path) -> None:
    first, folder, lines = make(tmp_path / "a")
    again, same_folder, _ = make(tmp_path / "b")
    _, other_folder, _ = make(tmp_path / "c", seed=1)
    weights = (folder / "model.safetensors").read_bytes()
    assert weights == (same_folder / "model.safetensors").read_bytes()
    assert weights != (other_folder / "model.safetensors").read_bytes()
    assert (first.sampled, first.greedy) == (again.sampled, again.greedy)
    assert LanguagePriorCard.read(folder) == first
    # twenty steps teach next to nothing, and it says so
    assert any("the target 1 was not reached; the nearest was 0.000, after" in line for line in lines)
    assert "--target 1 --seed 0" in first.command
    # what was written is a plain folder, and its loss is lower than that of fresh weights
    model, tokenizer = load_policy(folder)
    ids, lengths = next(demonstration_batches(chain_problems(50, seed=9), tokenizer, BRIEF, np.random.default_rng(0)))
    th.manual_seed(0)
    fresh = AutoModelForCausalLM.from_config(make_config(), dtype=th.float32)
    with th.no_grad():
        assert response_loss(model, ids, lengths) < 0.95 * response_loss(fresh, ids, lengths)


def test_the_long_prior_goes_on_from_the_tiny_one(tmp_path: Path) -> None:
    """One step with a learning rate of nearly 0: the weights are those of the start, the positions are more."""
    still = replace(RECIPES[LONG_NAME], problems=200, max_steps=1, selection_problems=1, learning_rate=1e-9)
    card = pretrain(1.0, 0, tmp_path, problems=1, recipe=still, report=lambda line: None, prior=LONG_NAME)
    assert card.command == f"sppo-rl pretrain-llm --prior chain_sum_long --target 1 --seed 0 -o {tmp_path}"
    assert card.imitation.startswith("From chain_sum_tiny: AdamW")
    made, tiny = load_policy(tmp_path / LONG_NAME)[0], load_policy(SHIPPED)[0]
    for weights, expected in zip(made.parameters(), tiny.parameters(), strict=True):
        assert th.allclose(weights, expected, atol=1e-6)
    assert made.config.max_position_embeddings >= MAX_PROMPT_TOKENS + RECIPES[LONG_NAME].max_new_tokens


def test_wrong_arguments_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="between 0 and 1, got 15"):
        pretrain(15, output=tmp_path)
    with pytest.raises(UsageError, match="at least one problem, got 0"):
        pretrain(0.2, output=tmp_path, problems=0)
    with pytest.raises(UsageError, match=r"no recipe of a prior 'chain_sum_lng'\. Did you mean 'chain_sum_long'\?"):
        pretrain(0.2, output=tmp_path, prior="chain_sum_lng")
    with pytest.raises(ValueError, match="got 30000 and -1"):
        pretrain(0.2, -1, tmp_path)
    assert main(["pretrain-llm", "--target", "15", "-o", str(tmp_path)]) == 1
    assert "between 0 and 1, got 15" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------ cards


def test_card_round_trip(tmp_path: Path) -> None:
    sampled, greedy = Measurement(3, 20, 8, 2, 400), Measurement(1, 20, 0, 0, 220)
    card = LanguagePriorCard(
        "sums", "sppo-rl pretrain-llm", "2026-01-02", "net", 5, "dem", "imi", 0.15, sampled, greedy, 3, {"torch": "2"}
    )
    card.write(tmp_path / "x")
    assert LanguagePriorCard.read(tmp_path / "x") == card
    text = (tmp_path / "x.md").read_text(encoding="utf-8")
    low, high = wilson_interval(3, 20)
    assert f"| sampled | 0.150 [{low:.3f}, {high:.3f}] | 0.400 | 0.250 | 20.0 | 20 |" in text
    # no chains, so none was right
    assert "| 0.000 | 0.000 | 11.0 | 20 |" in text


shipped_priors = pytest.mark.parametrize(
    ("name", "option", "count"), [(NAME, "", 300), (LONG_NAME, "--prior chain_sum_long ", 100)]
)


@shipped_priors
def test_the_shipped_card_belongs_to_the_shipped_model(name: str, option: str, count: int) -> None:
    folder = PRIORS / name
    card = LanguagePriorCard.read(folder)
    assert folder.with_suffix(".md").read_text(encoding="utf-8") == card.markdown()
    assert card.sampled.responses == card.greedy.responses == 2000
    assert card.command == f"sppo-rl pretrain-llm {option}--target {card.target:g} --seed 0 -o priors"
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert sum(parameter.numel() for parameter in model.parameters()) == card.parameters
    config = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == "qwen2"
    made = make_config(RECIPES[name].max_new_tokens).to_dict()
    assert all(config[key] == made[key] for key in ("hidden_size", "vocab_size", "max_position_embeddings"))
    assert (folder / "model.safetensors").stat().st_size < 2_000_000


@shipped_priors
def test_the_shipped_model_has_the_rates_of_its_card(name: str, option: str, count: int) -> None:
    """Other problems than those on the card; 99.9 % intervals have to meet, for pass@1 and for the share of chains."""
    card = LanguagePriorCard.read(PRIORS / name)
    model, tokenizer = load_policy(PRIORS / name)
    problems = chain_problems(count, seed=77, held_out=True)
    task = ReasoningTask(problems, tokenizer, MAX_PROMPT_TOKENS, RECIPES[name].max_new_tokens)
    seen = measure(model, task, seed=5)
    greedy = measure(model, task, seed=5, greedy=True)
    assert task.dropped == 0
    for now, on_card in (
        ((seen.successes, count), (card.sampled.successes, 2000)),
        ((seen.chains, count), (card.sampled.chains, 2000)),
        ((greedy.successes, count), (card.greedy.successes, 2000)),
    ):
        low, high = wilson_interval(*now, confidence=0.999)
        card_low, card_high = wilson_interval(*on_card, confidence=0.999)
        assert low <= card_high
        assert card_low <= high
    assert seen.tokens / count == pytest.approx(card.sampled.tokens / 2000, rel=0.2)
    # the same seed, the same samples; the counts are those of the responses, judged here by Python
    infos = respond(model, task, seed=5)
    task.close()
    right = [info["text"].endswith(f"\\boxed{{{problem.answer}}}") for info, problem in zip(infos, problems, strict=True)]
    assert (sum(right), sum(info["response_tokens"] for info in infos)) == (seen.successes, seen.tokens)
