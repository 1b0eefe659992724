"""Tiny models and a tokenizer made here: nothing is downloaded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("transformers", reason="needs the [llm] extra")

import torch as th
from transformers import AutoModelForCausalLM, Qwen2Config

from sppo_rl import SPPO
from sppo_rl.envs.reasoning import MathReasoningEnv, from_pairs

DIGITS = "0123456789?+=abc"


def make_tokenizer() -> Any:
    """One token for each character; ids 0 and 1 are padding and end of sequence."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {"<pad>": 0, "<eos>": 1, **{character: k + 2 for k, character in enumerate(DIGITS)}}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<pad>")


TOKENIZER = make_tokenizer()
VOCABULARY = len(TOKENIZER)
EOS = 1


def tiny_config(width: int = 32, layers: int = 2, **changes: Any) -> Qwen2Config:
    """Qwen2's architecture; five outputs more than there are tokens, as in Qwen2.5."""
    options = {
        "vocab_size": VOCABULARY + 5,
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "initializer_range": 0.3,
        "tie_word_embeddings": True,
        **changes,
    }
    return Qwen2Config(**options)


def tiny_model(seed: int = 0, **changes: Any) -> Any:
    th.manual_seed(seed)
    return AutoModelForCausalLM.from_config(tiny_config(**changes)).eval()


def echo_env(budget: int = 2, digits: int = 4) -> MathReasoningEnv:
    """Right is the response that begins with the prompt's digit; prompts of different lengths."""
    pairs = [("abc"[: number % 3] + f"{number}?", str(number)) for number in range(digits)]
    return MathReasoningEnv(from_pairs(pairs), TOKENIZER, 8, budget, lambda response, gold: float(response[:1] == gold))


MASTERED = [("0?", "0"), ("a1?", "1"), ("ab2?", "2"), ("3?", "none")]
"""Prompts and answers of one token; no answer to the last one is right."""


def digit_learner(pairs: list[tuple[str, str]], device: str, learning_rate: float = 3e-3, **policy_kwargs: Any) -> SPPO:
    """SPPO where chance is one in 18: a policy of 39,000 weights and a small critic."""
    env = MathReasoningEnv(from_pairs(pairs), TOKENIZER, 8, 1, lambda response, gold: float(response == gold))
    networks = {"model": tiny_config(64, 1, initializer_range=0.05), "critic": tiny_config(16, 1, initializer_range=0.2)}
    return SPPO(
        "TransformerPolicy", env, learning_rate=learning_rate, critic_learning_rate=1e-2, n_episodes=128, batch_size=64, n_epochs=2,
        critic_init="first_batch", policy_kwargs={**networks, **policy_kwargs}, seed=0, device=device,
    )  # fmt: skip


def greedy_success(model: SPPO) -> float:
    """Mean reward of the most likely responses to a batch of prompts."""
    assert model.env is not None
    responses, _ = model.predict(model.env.reset(), deterministic=True)  # type: ignore[arg-type]
    assert responses.shape == (128, 1)
    return float(np.mean(model.env.step(responses)[1]))
