"""The transformers backend: its samples are what the training pass says they are."""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch as th

from sppo_rl.llm.generation import Sampling, TransformersGenerator, VLLMGenerator, VLLMServerGenerator, make_generator
from sppo_rl.llm.generation.serve import command
from sppo_rl.llm.generation.transformers_backend import COMPACT_BELOW, choose
from sppo_rl.llm.generation.vllm_extension import WeightSync, require_vllm
from sppo_rl.llm.generation.vllm_sync import read_response, request_options
from tests.llm.conftest import EOS, VOCABULARY, tiny_config, tiny_model
from tests.llm.test_policy import P, make

PROMPTS = [np.array(ids) for ids in ([5, 6, 7], [9], [4, 4, 8, 3, 2, 11], [7, 7])]


def generator(model: Any, **options: Any) -> TransformersGenerator:
    made = TransformersGenerator(model, **options)
    made.sync_weights(model.named_parameters(), 3)
    return made


def sampling(**changes: Any) -> Sampling:
    return Sampling(**{"max_new_tokens": 12, "eos_token_id": EOS, "vocab_size": VOCABULARY, "seed": 5, **changes})


def test_greedy_responses_are_those_of_hugging_faces_generate() -> None:
    model = tiny_model(seed=1)
    found = generator(model).generate(PROMPTS, sampling(greedy=True, vocab_size=VOCABULARY + 5), 3)
    for prompt, response in zip(PROMPTS, found, strict=True):
        whole = model.generate(
            th.as_tensor(prompt).unsqueeze(0), max_new_tokens=12, do_sample=False, eos_token_id=EOS, pad_token_id=0
        )
        assert response.token_ids.tolist() == whole[0, len(prompt) :].tolist()


@pytest.mark.parametrize("responses_per_pass", [None, 3])
def test_every_token_is_the_choice_that_its_own_prefix_gives(responses_per_pass: int | None) -> None:
    """Left padding, cache and leaving rows change nothing: one row at a time, without a cache, gives the same probabilities."""
    model = tiny_model()
    made = generator(model, responses_per_pass=responses_per_pass)
    prompts = PROMPTS * 8
    found = made.generate(prompts, sampling(temperature=0.7), 3)
    responses = [response.token_ids for response in found]
    lengths = [len(response) for response in responses]
    assert min(lengths) < 6 < max(lengths), "rows must leave at different times for this test to mean something"
    # replay: the same random numbers on the probabilities of each prefix alone must choose the same tokens
    random = th.Generator().manual_seed(5)
    size = responses_per_pass or len(prompts)
    for first in range(0, len(prompts), size):
        rows = list(range(first, min(first + size, len(prompts))))
        for step in range(12):
            running = [row for row in rows if len(responses[row]) > step]
            if not running:
                break
            prefixes = [
                np.concatenate([prompts[row], responses[row][:step]])[None] if row in running else None for row in rows
            ]
            with th.no_grad():
                logits = [
                    th.zeros(VOCABULARY) if prefix is None else model(th.as_tensor(prefix)).logits[0, -1, :VOCABULARY]
                    for prefix in prefixes
                ]
            seen = choose(th.stack(logits), sampling(temperature=0.7), random)[0].tolist()
            for row, token in zip(rows, seen, strict=True):
                if row in running:
                    assert token == responses[row][step]
            ended = [row for row in rows if len(responses[row]) == step + 1]
            left = len(running) - len(ended)
            if left < COMPACT_BELOW * len(rows):
                # the last ones take the places of those that have ended
                stay = [row for row in running if row not in ended]
                kept = [row if row in stay else None for row in rows[:left]]
                moved = iter([row for row in rows[left:] if row in stay])
                rows = [next(moved) if row is None else row for row in kept]


def test_samples_follow_the_training_distribution() -> None:
    """8,000 first tokens at temperature .7 against the training pass's probabilities: a chi-squared test."""
    policy = make(model=tiny_model(seed=2), temperature=0.7)
    observations = {
        "prompt_ids": np.tile(np.array([5, 6, 7] + [0] * (P - 3)), (8000, 1)),
        "prompt_len": np.full((8000, 1), 3),
    }
    taken = policy.make_sampler(np.random.default_rng(0))(observations, np.arange(8000)).actions
    counts = np.bincount(taken[:, 0], minlength=VOCABULARY)
    one = {name: th.as_tensor(values[:1]) for name, values in observations.items()}
    answers = th.full((VOCABULARY, taken.shape[1]), VOCABULARY)
    answers[:, 0] = th.arange(VOCABULARY)
    with th.no_grad():
        log_prob = policy.evaluate_decisions({k: v.expand(VOCABULARY, -1) for k, v in one.items()}, answers).log_prob[:, 0]
    probability = log_prob.double().exp().numpy()
    np.testing.assert_allclose(probability.sum(), 1.0, rtol=1e-5)
    often = probability * 8000 >= 5
    chi_squared = ((counts - 8000 * probability) ** 2 / (8000 * probability))[often].sum()
    assert often.sum() >= 5
    assert chi_squared < often.sum() + 4 * np.sqrt(2 * often.sum())


def test_a_response_ends_with_its_end_of_sequence_or_at_the_budget() -> None:
    policy = make(model=tiny_model())
    observations = {"prompt_ids": np.tile(np.array([5] + [0] * (P - 1)), (300, 1)), "prompt_len": np.ones((300, 1), np.int64)}
    taken = policy.make_sampler(np.random.default_rng(0))(observations, np.arange(300)).actions
    assert taken.shape == (300, 5)
    ended = 0
    for row in taken:
        response = row[row != VOCABULARY]
        assert (row[len(response) :] == VOCABULARY).all(), "padding stands at the end only"
        assert EOS not in response[:-1]
        assert response[-1] == EOS or len(response) == 5
        ended += response[-1] == EOS
    assert 0 < ended < 300
    assert taken[taken != VOCABULARY].max() < VOCABULARY, "an output that belongs to no token was sampled"


@pytest.mark.parametrize("device_loop", ["lean", "own forward pass"])
def test_a_response_ends_with_any_of_several_tokens(device_loop: str) -> None:
    """Greedy, as Hugging Face's ``generate`` with the same list."""
    made = generator(tiny_model(seed=1))
    made.lean = None if device_loop == "lean" else False
    asked = sampling(greedy=True, eos_token_id=0, vocab_size=VOCABULARY + 5)
    second = int(made.generate(PROMPTS, asked, 3)[0].token_ids[3])
    ends = (EOS, second)
    found = made.generate(PROMPTS, replace(asked, eos_token_id=ends), 3)
    for prompt, response in zip(PROMPTS, found, strict=True):
        whole = made.model.generate(
            th.as_tensor(prompt).unsqueeze(0), max_new_tokens=12, do_sample=False, eos_token_id=list(ends), pad_token_id=0
        )
        assert response.token_ids.tolist() == whole[0, len(prompt) :].tolist()
    assert found[0].token_ids[-1] == second
    assert len(found[0].token_ids) <= 4


def test_vllm_is_asked_for_several_ends_and_held_to_them() -> None:
    asked = sampling(eos_token_id=(EOS, 4))
    assert request_options(asked, VOCABULARY)["stop_token_ids"] == [EOS, 4]
    assert request_options(sampling(), VOCABULARY)["stop_token_ids"] == [EOS]
    for tokens in ([5, EOS], [5, 4], [4]):
        assert read_response(tokens, [-0.5] * len(tokens), asked).token_ids.tolist() == tokens
    for tokens in ([4, 5, EOS], [5, 4, 4]):
        with pytest.raises(RuntimeError, match=r"up to an end-of-sequence token \[1, 4\]"):
            read_response(tokens, [-0.5] * len(tokens), asked)


def test_the_seed_decides_and_pytorchs_generator_is_left_alone() -> None:
    made = generator(tiny_model())
    before = th.get_rng_state()
    first, again = (made.generate(PROMPTS, sampling(), 3) for _ in range(2))
    other = made.generate(PROMPTS, sampling(seed=6), 3)
    assert th.equal(th.get_rng_state(), before)
    assert [r.token_ids.tolist() for r in first] == [r.token_ids.tolist() for r in again]
    assert [r.token_ids.tolist() for r in first] != [r.token_ids.tolist() for r in other]


def test_weights_of_another_version_are_refused() -> None:
    with pytest.raises(RuntimeError, match="weights of version 3, but version 4"):
        generator(tiny_model()).generate(PROMPTS, sampling(), 4)
    policy = make()
    observations = {"prompt_ids": np.full((1, P), 5), "prompt_len": np.full((1, 1), 2)}
    sample = policy.make_sampler(np.random.default_rng(0))
    sample(observations, np.arange(1))
    policy.optimizer.step()
    policy.make_sampler(np.random.default_rng(0))
    with pytest.raises(RuntimeError, match="sync_weights"):
        sample(observations, np.arange(1))


def test_the_mode_of_the_model_is_left_as_it_was() -> None:
    model = tiny_model().train()
    generator(model).generate(PROMPTS, sampling(), 3)
    assert model.training


# ---------------------------------------------------------------- vLLM's backends, as far as they go without vLLM


def test_generators_by_name() -> None:
    model = tiny_model()
    options = {"url": "http://somewhere:1"}
    made = make_generator("vllm-server", model, th.float32, 20, None, options)
    assert isinstance(made, VLLMServerGenerator)
    assert made.url == "http://somewhere:1"
    engine = make_generator("vllm", model, th.bfloat16, 20, None, {"max_num_seqs": 8})
    assert isinstance(engine, VLLMGenerator)
    assert (engine.dtype, engine.max_model_len, engine.engine_options) == (th.bfloat16, 20, {"max_num_seqs": 8})
    with pytest.raises(ValueError, match="generator must be 'transformers', 'vllm' or 'vllm-server', got 'sglang'"):
        make_generator("sglang", model, th.float32, 20)
    with pytest.raises(ValueError, match=r"responses_per_pass=4 is for generator='transformers'\..* max_num_seqs"):
        make_generator("vllm", model, th.float32, 20, 4)


@pytest.mark.parametrize("name", ["vllm", "vllm-server"])
def test_more_unused_outputs_than_vllm_can_exclude_are_refused_at_once(name: str) -> None:
    """Its runner on GPUs would refuse every request."""
    wide = tiny_config(width=4, layers=1, vocab_size=VOCABULARY + 1100)
    message = (
        rf"{VOCABULARY + 1100} outputs and vocab_size={VOCABULARY}: 1100 belong to no token .* at most 1024 .*'transformers'"
    )
    with pytest.raises(ValueError, match=message):
        make(model=wide, generator=name)
    with pytest.raises(ValueError, match=message):
        request_options(sampling(), VOCABULARY + 1100)
    make(model=wide)
    fitting = tiny_config(width=4, layers=1, vocab_size=VOCABULARY + 1024)
    assert make(model=fitting, generator=name).generator.version is None  # type: ignore[attr-defined]
    assert len(request_options(sampling(), VOCABULARY + 1024)["logit_bias"]) == 1024


def test_a_server_that_is_not_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # taken, but nobody listens
        made = VLLMServerGenerator(tiny_model(), url=f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(ConnectionError, match=rf"{made.url} .*python -m sppo_rl.llm.generation.serve MODEL --port PORT"):
            made.sync_weights(made.model.named_parameters(), 0)


def test_the_servers_command_lets_the_user_have_the_last_word() -> None:
    line = command("some/model", ["--host", "0.0.0.0", "--port", "7"])
    assert line[line.index("--model") + 1] == "some/model"
    assert [line[k + 1] for k, word in enumerate(line) if word == "--host"] == ["127.0.0.1", "0.0.0.0"]
    assert line[line.index("--worker-extension-cls") + 1] == f"{WeightSync.__module__}.{WeightSync.__qualname__}"


@pytest.mark.parametrize("version", ["0.10.2", "0.31.0rc1", "0.9"])
def test_a_vllm_that_is_too_old_is_refused(version: str) -> None:
    with pytest.raises(RuntimeError, match=rf"vLLM {version} is too old: .* 0\.32"):
        require_vllm(version)
    require_vllm("0.32.0+cpu")
    require_vllm("1.0.0")


@pytest.mark.parametrize(
    "tokens",
    [[], [5, 6], [5, EOS, 6], [EOS, EOS], [5, VOCABULARY, EOS], [5] * 13, [5] * 12 + [EOS]],
    ids=["empty", "stopped without reason", "goes on", "two ends", "no token", "too long", "end behind the budget"],
)
def test_responses_that_no_policy_could_give_are_refused(tokens: list[int]) -> None:
    with pytest.raises(RuntimeError, match=f"vLLM returned {len(tokens)} tokens"):
        read_response(tokens, [-1.0] * len(tokens), sampling())


def test_responses_that_are_as_asked_for() -> None:
    for tokens in ([EOS], [5, EOS], [5] * 11 + [EOS], [5] * 12):
        response = read_response(tokens, [-0.5] * len(tokens), sampling())
        assert response.token_ids.tolist() == tokens
        assert response.token_ids.dtype == np.int64
        assert response.log_prob.dtype == np.float32
    with pytest.raises(RuntimeError, match="with 1 log-probabilities"):
        read_response([5, EOS], [-0.5], sampling())
