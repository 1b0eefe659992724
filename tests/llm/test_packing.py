"""Rows packed without padding: the same states, log-probabilities, values and gradients as one row at a time; models that cannot do it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch as th
from transformers import AutoModelForCausalLM, GPT2Config, MistralConfig
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from sppo_rl.llm.generation import Sampling, TransformersGenerator
from sppo_rl.llm.models import attention_for_any_shape
from sppo_rl.llm.packing import PACKED, Boundaries, Reader, packed_hidden_states, why_not_packed
from tests.llm.conftest import EOS, VOCABULARY, tiny_model
from tests.llm.test_policy import actions, make, observe, with_live_head

LENGTHS = [3, 9, 1, 8, 9, 2]


def some_rows() -> tuple[th.Tensor, th.Tensor]:
    generator = th.Generator().manual_seed(1)
    lengths = th.tensor(LENGTHS)
    ids = th.randint(2, 12, (len(LENGTHS), max(LENGTHS)), generator=generator)
    return ids.where(th.arange(max(LENGTHS)) < lengths.unsqueeze(1), 0), lengths


def alike_rows() -> tuple[th.Tensor, th.Tensor]:
    """Groups of rows that begin alike: a prompt and its responses, one row that is the beginning of another, twins."""
    rows = [[5, 6, 7, 2], [5, 6, 7], [5, 6, 9, 2, 4, 4], [5, 8], [9, 3, 3], [9, 3, 3], [4]]
    lengths = th.tensor([len(row) for row in rows])
    return th.tensor([row + [0] * (6 - len(row)) for row in rows]), lengths


def test_rows_that_begin_alike_share_tokens_by_hand() -> None:
    boundaries = Boundaries(th.tensor([[5, 6, 7, 0], [5, 6, 9, 2], [5, 8, 0, 0]]), th.tensor([3, 4, 2]))
    assert boundaries.own.tolist() == [[True, True, True, False], [False, False, True, True], [False, True, False, False]]
    token = boundaries.token
    assert [token[0, :3].tolist(), token[1].tolist(), token[2, :2].tolist()] == [[0, 1, 2], [0, 1, 3, 4], [0, 5]]
    # rows of similar length in a block, the longest first; what stands at padding is not looked at
    assert boundaries.shapes == [(2, 4), (1, 2)]
    source = boundaries.source.tolist()
    assert source[:7] + source[8:] == [0, 1, 3, 4, 0, 1, 2, 0, 5]
    assert boundaries.place.tolist() == [4, 5, 6, 2, 3, 9], "tokens 0 to 2 in their own row, the first"
    assert boundaries.again.tolist() == [0, 1, 8]


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("alike", [False, True])
def test_states_and_gradients_are_those_of_each_row_alone(alike: bool, checkpointing: bool) -> None:
    ids, lengths = alike_rows() if alike else some_rows()
    if alike:
        rows, columns = (th.arange(ids.shape[1]) < lengths.unsqueeze(1)).nonzero(as_tuple=True)
        assert int(Boundaries(ids, lengths).own.sum()) == 13 < len(rows), "fewer tokens are computed than are read"
    else:
        rows, columns = th.tensor([4, 0, 1, 1, 2, 3, 5]), th.tensor([8, 2, 8, 0, 0, 5, 1])
    weights = th.randn(len(rows), 32, generator=th.Generator().manual_seed(2))
    results = []
    for packed in (False, True):
        model = tiny_model().train()
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        body = model.base_model
        if packed:
            assert why_not_packed(body) is None
            states = packed_hidden_states(body, ids, lengths, rows, columns)
        else:
            alone = [body(input_ids=ids[r : r + 1, : lengths[r]], use_cache=False).last_hidden_state[0] for r in rows]
            states = th.stack([state[column] for state, column in zip(alone, columns, strict=True)])
        (states * weights).sum().backward()
        results.append((states.detach(), th.cat([p.grad.flatten() for p in body.parameters()])))
    for found, expected in zip(results[1], results[0], strict=True):
        assert expected.abs().max() > 0.1
        th.testing.assert_close(found, expected, rtol=1e-4, atol=2e-5)


def test_no_token_sees_another_row() -> None:
    ids, lengths = some_rows()
    body = tiny_model().base_model
    assert why_not_packed(body) is None
    rows, columns = th.arange(len(LENGTHS)), lengths - 1
    with th.no_grad():
        before = packed_hidden_states(body, ids, lengths, rows, columns)
        ids[4, 0] = 13
        after = packed_hidden_states(body, ids, lengths, rows, columns)
    assert (before != after).any(dim=1).tolist() == [False, False, False, False, True, False]


def test_a_policy_gives_the_same_packed_and_padded() -> None:
    """Actor, prompt critic, token critic: values and the gradient of all three."""
    found: dict[bool, list[th.Tensor]] = {}
    for packing in (False, True):
        th.manual_seed(0)
        policy = with_live_head(make(packing=packing))
        assert policy.critic is not None
        evaluation = policy.evaluate_decisions(observe(), actions())
        prompt = policy.context_value_logits(observe())
        token = policy.decision_value_logits(observe(), actions())
        assert policy.reader.packed is policy.critic.reader.packed is packing
        (evaluation.log_prob.sum() + evaluation.entropy.sum() + prompt.sum() + token.sum()).backward()
        gradients = [p.grad for p in policy.parameters() if p.grad is not None]
        found[packing] = [evaluation.log_prob, evaluation.entropy, prompt, token, *gradients]
    assert len(found[True]) == len(found[False]) > 20
    for packed, padded in zip(found[True], found[False], strict=True):
        th.testing.assert_close(packed, padded, rtol=1e-4, atol=2e-5)


def test_only_real_tokens_go_through_the_linear_layers() -> None:
    seen = []
    policy = make()
    policy.model.model.layers[0].mlp.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape[:2]))
    with th.no_grad():
        policy.evaluate_decisions(observe(), actions())
        seen.clear()  # the first pass also tried the model out
        policy.evaluate_decisions(observe(), actions())
    assert seen == [(1, 3 + 1 + 1 + 4 + 6)]


def test_generation_is_what_it_was() -> None:
    prompts = [np.array([5, 6, 7]), np.array([9])]
    sampling = Sampling(max_new_tokens=6, eos_token_id=EOS, vocab_size=VOCABULARY, seed=3)
    texts = []
    for exchange in (False, True):
        model = tiny_model()
        assert not exchange or why_not_packed(model.base_model) is None
        assert model.config._attn_implementation == (PACKED if exchange else "sdpa")
        generator = TransformersGenerator(model)
        generator.sync_weights([], 0)
        texts.append([response.token_ids.tolist() for response in generator.generate(prompts, sampling, 0)])
    assert texts[0] == texts[1]


def test_learned_positions_are_those_within_the_row() -> None:
    config = GPT2Config(vocab_size=VOCABULARY, n_embd=16, n_layer=2, n_head=2, n_positions=16, initializer_range=0.5)
    th.manual_seed(0)
    body = AutoModelForCausalLM.from_config(config).eval().base_model
    ids, lengths = some_rows()
    rows, columns = th.arange(len(LENGTHS)), lengths - 1
    reader = Reader(packing=True)
    with th.no_grad():
        found = reader(body, ids, lengths, rows, columns)
        for row, length in enumerate(LENGTHS):
            alone = body(input_ids=ids[row : row + 1, :length]).last_hidden_state[0, -1]
            th.testing.assert_close(found[row], alone, rtol=1e-4, atol=1e-4)


def test_a_sliding_window_is_not_packed() -> None:
    config = MistralConfig(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, sliding_window=4, initializer_range=0.5,
    )  # fmt: skip
    th.manual_seed(0)
    body = AutoModelForCausalLM.from_config(config).eval().base_model
    ids, lengths = some_rows()
    rows, columns = th.arange(len(LENGTHS)), lengths - 1
    reader = Reader()
    with th.no_grad():
        found = reader(body, ids, lengths, rows, columns)
        alone = body(input_ids=ids[1:2, :9]).last_hidden_state[0, -1]
    th.testing.assert_close(found[1], alone, rtol=1e-4, atol=1e-5)
    assert reader.packed is False
    assert reader.reason == "MistralAttention is more than causal attention (sliding_window)."
    assert body.config._attn_implementation == "sdpa"
    with pytest.raises(ValueError, match="packing=True, but MistralModel cannot be packed: MistralAttention is more than"):
        Reader(packing=True)(body, ids, lengths, rows, columns)


def test_a_model_that_drops_the_boundaries_is_found_out() -> None:
    body = tiny_model().base_model
    attention = body.layers[1].self_attn
    forward = attention.forward
    attention.forward = lambda *args, boundaries=None, **kwargs: forward(*args, **kwargs)
    assert why_not_packed(body) == (
        "1 of 2 attention layers of Qwen2Model have used the rows' boundaries. Pass policy_kwargs={'packing': False}."
    )


def test_flash_attention_is_told_the_boundaries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its kernels need a GPU; here a loop over the rows that the boundaries name stands in for them."""
    seen = []

    def loop(module: Any, query: th.Tensor, key: th.Tensor, value: th.Tensor, mask: Any, **options: Any) -> Any:
        ends, longest = options["cu_seq_lens_q"], options["max_length_q"]
        assert ends.dtype == th.int32
        assert th.equal(ends, options["cu_seq_lens_k"])
        assert options["max_length_k"] == longest == int(ends.diff().max())
        seen.append(ends.tolist())
        rows = []
        for start, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
            part = [states[:, :, start:end] for states in (query, key, value)]
            rows.append(th.nn.functional.scaled_dot_product_attention(*part, is_causal=True, enable_gqa=True))
        return th.cat(rows, dim=2).transpose(1, 2), None

    ids, lengths = some_rows()
    rows, columns = th.arange(len(LENGTHS)), lengths - 1
    body = tiny_model().base_model
    with th.no_grad():
        expected = Reader(packing=False)(body, ids, lengths, rows, columns)
        monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, "flash_attention_2", loop)
        body.config._attn_implementation = "flash_attention_2"
        found = packed_hidden_states(body, ids, lengths, rows, columns)
    assert seen == [[0, 3, 12, 13, 21, 30, 32]] * 2
    th.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_on_a_gpu_attention_is_one_that_takes_any_shape() -> None:
    before = th.backends.cuda.cudnn_sdp_enabled()
    with attention_for_any_shape(th.device("cuda")):
        assert not th.backends.cuda.cudnn_sdp_enabled()
        assert th.backends.cuda.flash_sdp_enabled()
        assert th.backends.cuda.math_sdp_enabled()
    assert th.backends.cuda.cudnn_sdp_enabled() == before
