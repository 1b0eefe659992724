"""The lean decoder is the model's own forward pass, token by token, or it is not used."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch as th
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, MistralConfig, PreTrainedConfig

from sppo_rl.llm.generation import Sampling, TransformersGenerator
from sppo_rl.llm.generation.decoding import LlamaDecoding, ModelDecoding, why_not_lean
from sppo_rl.llm.lora import add_lora
from tests.llm.conftest import EOS, VOCABULARY, tiny_config, tiny_model

PROMPTS = [np.array(ids) for ids in ([5, 6, 7], [9], [4, 4, 8, 3, 2, 11], [7, 7], [9])]
SIZES = {
    "vocab_size": VOCABULARY + 5,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 32}
FAMILY: dict[str, PreTrainedConfig] = {
    "qwen2": tiny_config(),
    "qwen2, a key for each query": tiny_config(num_key_value_heads=4, tie_word_embeddings=False),
    "llama": LlamaConfig(**SIZES),
    "llama with biases, wide heads and other norms": LlamaConfig(
        **SIZES, attention_bias=True, mlp_bias=True, head_dim=12, rms_norm_eps=1e-2, hidden_act="gelu"
    ),
    "llama with scaled positions": LlamaConfig(**SIZES, rope_parameters=YARN),
    "mistral without a window": MistralConfig(**SIZES, sliding_window=None),
}


def model_of(config: PreTrainedConfig) -> Any:
    th.manual_seed(3)
    model = AutoModelForCausalLM.from_config(config).eval()
    with th.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or "bias" in name:  # they start at one and at zero, where mistakes do not show
                parameter.add_(0.3 * th.randn_like(parameter))
    return model


def respond(model: Any, lean: bool, **changes: Any) -> tuple[TransformersGenerator, list[Any]]:
    generator = TransformersGenerator(model)
    generator.sync_weights(model.named_parameters(), 0)
    if not lean:
        generator.lean = False
    options = {"max_new_tokens": 50, "eos_token_id": EOS, "vocab_size": VOCABULARY, "seed": 5, **changes}
    return generator, generator.generate(PROMPTS * 4, Sampling(**options), 0)


@pytest.mark.parametrize("kind", FAMILY)
def test_states_are_those_of_the_models_own_forward_pass(kind: str) -> None:
    """Forty tokens, so that the cache grows twice; in between rows leave, the longest prompt's among them."""
    body = model_of(FAMILY[kind]).base_model
    assert why_not_lean(body) is None
    random = th.Generator().manual_seed(0)
    with th.no_grad():
        own, lean = ModelDecoding(body, PROMPTS), LlamaDecoding(body, PROMPTS)
        for step in range(40):
            tokens = th.randint(VOCABULARY, (len(own.hidden),), generator=random)
            for decoding in (own, lean):
                decoding.append(tokens)
                if step in (20, 30):
                    decoding.keep(th.tensor([0, 1, 3] if step == 20 else [2, 0]))
            assert own.hidden.abs().max() > 0.1
            th.testing.assert_close(lean.hidden, own.hidden, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("greedy", [False, True])
@pytest.mark.parametrize("kind", FAMILY)
def test_the_same_samples_and_log_probabilities(kind: str, greedy: bool) -> None:
    model = model_of(FAMILY[kind])
    (generator, found), (_, expected) = (respond(model, lean, greedy=greedy) for lean in (True, False))
    assert generator.lean
    lengths = {len(response.token_ids) for response in expected}
    assert greedy or min(lengths) < 10 < 30 < max(lengths), (
        "rows must leave at different times for this test to mean something"
    )
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.token_ids.tolist() == theirs.token_ids.tolist()
        np.testing.assert_allclose(ours.log_prob, theirs.log_prob, rtol=0.0, atol=1e-5)


def test_adapters_take_part() -> None:
    model = model_of(tiny_config())
    _, before = respond(model, True)
    add_lora(model, {"r": 4, "target_modules": "all-linear"})
    with th.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    (generator, found), (_, expected) = (respond(model, lean) for lean in (True, False))
    assert generator.lean
    assert [r.token_ids.tolist() for r in found] == [r.token_ids.tolist() for r in expected]
    assert [r.token_ids.tolist() for r in found] != [r.token_ids.tolist() for r in before]


OTHERS: dict[str, PreTrainedConfig] = {
    "'gpt2'": GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=64),
    "sliding_attention": MistralConfig(**SIZES, sliding_window=4),
}


@pytest.mark.parametrize("reason", OTHERS)
def test_models_of_other_kinds_are_decoded_by_themselves(reason: str) -> None:
    model = model_of(OTHERS[reason])
    generator, found = respond(model, True, max_new_tokens=12, greedy=True, vocab_size=VOCABULARY + 5)
    assert not generator.lean
    assert reason in str(generator.why_not_lean)
    whole = model.generate(
        th.as_tensor(PROMPTS[2]).unsqueeze(0), max_new_tokens=12, do_sample=False, eos_token_id=EOS, pad_token_id=0
    )
    assert found[2].token_ids.tolist() == whole[0, len(PROMPTS[2]) :].tolist()


def test_a_model_that_does_something_else_under_a_familiar_name_is_decoded_by_itself() -> None:
    model = tiny_model()
    for layer in model.base_model.layers:
        layer.self_attn.register_forward_hook(lambda module, args, output: (1.1 * output[0], *output[1:]))
    generator, _ = respond(model, True)
    assert not generator.lean
    assert "differ" in str(generator.why_not_lean)


def test_short_precision_is_left_to_the_model() -> None:
    model = tiny_model()
    generator = TransformersGenerator(model, th.bfloat16)
    generator.sync_weights(model.named_parameters(), 0)
    generator.generate(PROMPTS, Sampling(4, EOS, VOCABULARY), 0)
    assert not generator.lean
    assert "float32 on a CPU" in str(generator.why_not_lean)
