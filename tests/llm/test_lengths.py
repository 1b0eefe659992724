"""Context lengths: what a model cannot read is said when the policy is made, not in the middle of training."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch as th
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, Phi3Config, PreTrainedConfig

from sppo_rl import PPO, SPPO
from sppo_rl.llm.lengths import check_rotary_positions
from tests.llm.conftest import EOS, VOCABULARY, echo_env, tiny_config
from tests.llm.test_policy import K, P, make

LONGEST = P + K - 1
"""Tokens that are read of a prompt and its response."""


def table(positions: int) -> GPT2Config:
    return GPT2Config(vocab_size=VOCABULARY, n_embd=8, n_layer=1, n_head=2, n_positions=positions)


def rotary(**settings: Any) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, eos_token_id=EOS,
        initializer_range=0.5,
        **settings,
    )  # fmt: skip


def test_a_table_of_positions_that_is_too_short_is_refused(tmp_path: Any) -> None:
    with pytest.raises(
        ValueError, match=rf"The model was made for {LONGEST - 1} tokens .* may be given {LONGEST}, .*max_new_tokens"
    ):
        make(model=table(LONGEST - 1))
    with pytest.raises(ValueError, match=f"The critic was made for {P - 1} tokens"):
        make(critic=table(P - 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        make(model=table(LONGEST), critic=table(P))
    # and it is enough: a response that fills the budget behind the longest prompt
    model = SPPO("TransformerPolicy", echo_env(5, 4), n_episodes=8, policy_kwargs={"model": table(8 + 5 - 1)}, device="cpu")
    model.learn(8)
    model.save(tmp_path / "model")
    SPPO.load(tmp_path / "model", device="cpu")


def test_a_critic_that_is_read_before_every_token_needs_positions_for_the_response() -> None:
    budget = 5
    longest = 8 + budget - 1

    def made(algorithm: type[PPO] | type[SPPO], positions: int, **settings: Any) -> PPO | SPPO:
        kwargs = {"model": table(longest), "critic": table(positions)}
        return algorithm(
            "TransformerPolicy", echo_env(budget, 4), n_episodes=8, policy_kwargs=kwargs, device="cpu", **settings
        )

    made(SPPO, longest - 1).learn(8)
    for algorithm, settings in ((PPO, {}), (SPPO, {"hybrid": 0.5})):
        with pytest.raises(ValueError, match=f"The critic was made for {longest - 1} tokens .* may be given {longest}, "):
            made(algorithm, longest - 1, **settings)
        made(algorithm, longest, **settings).learn(8)


def test_rotary_positions_beyond_the_length_are_warned_of() -> None:
    with pytest.warns(UserWarning, match=rf"made for {LONGEST - 1} tokens .*may be given {LONGEST}: beyond its length"):
        make(model=tiny_config(max_position_embeddings=LONGEST - 1))


@pytest.mark.parametrize(
    "config",
    [
        rotary(max_position_embeddings=LONGEST - 1, rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}),
        Phi3Config(
            vocab_size=VOCABULARY, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, pad_token_id=0,
            initializer_range=0.5,
            max_position_embeddings=128, original_max_position_embeddings=LONGEST - 1,
            rope_parameters={
                "rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 4, "long_factor": [8.0] * 4,
                "original_max_position_embeddings": LONGEST - 1,
            },
        ),
    ],
    ids=["dynamic", "longrope"],
)  # fmt: skip
def test_positions_that_depend_on_the_neighbours_are_refused(config: PreTrainedConfig) -> None:
    th.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    short = th.randint(2, VOCABULARY, (1, LONGEST - 2))
    with th.no_grad():
        alone = model(short).logits
        model(th.randint(2, VOCABULARY, (1, LONGEST)))
        beside = model(th.cat([short, th.zeros(1, 2, dtype=th.int64)], dim=1)).logits[:, : LONGEST - 2]
    assert (alone - beside).abs().max() > 1e-4, "what is guarded against"
    with pytest.raises(
        ValueError, match=rf"longer than {LONGEST - 1} tokens, and here one may have {LONGEST}: .*max_prompt_tokens"
    ):
        make(model=config)
    check_rotary_positions(model, LONGEST - 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        make(model=rotary(max_position_embeddings=2))
