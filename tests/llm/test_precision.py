"""bfloat16: weights are converted once, keys and values are kept short, frozen weights are held short, and no number changes by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from safetensors.torch import load_file
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM, DynamicCache, GPT2Config, MistralConfig, PreTrainedConfig

from sppo_rl.llm.generation import Sampling, TransformersGenerator, decoding, transformers_backend
from sppo_rl.llm.generation.decoding import ModelDecoding
from sppo_rl.llm.lora import add_lora, merged_parameters, save_merged
from sppo_rl.llm.packing import Reader
from tests.llm.conftest import EOS, VOCABULARY, tiny_config
from tests.llm.test_decoding import SIZES

PROMPTS = [np.array(ids) for ids in ([5, 6, 7], [9], [4, 4, 8, 3, 2, 11], [7, 7], [9])]
LORA = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"}
MODELS: dict[str, PreTrainedConfig] = {
    "qwen2": tiny_config(),
    "a sliding window": MistralConfig(**SIZES, sliding_window=4),
    "gpt2": GPT2Config(vocab_size=VOCABULARY + 5, n_embd=32, n_layer=2, n_head=4, n_positions=64, initializer_range=0.3),
}


def model_of(config: PreTrainedConfig, published_in: th.dtype = th.bfloat16) -> Any:
    th.manual_seed(4)
    return rounded(AutoModelForCausalLM.from_config(config).eval(), published_in)


def rounded(model: Any, dtype: th.dtype) -> Any:
    """In float32, but as if read from a file of another precision: the parameters alone, not the frequencies of rotary positions."""
    with th.no_grad():
        for weight in model.parameters():
            weight.copy_(weight.to(dtype))
    return model


def adapted(dtype: th.dtype, published_in: th.dtype = th.bfloat16, config: PreTrainedConfig | None = None) -> Any:
    """With adapters that say something; always the same ones."""
    model = model_of(config or tiny_config(), published_in)
    add_lora(model, LORA, dtype=dtype)
    random = th.Generator().manual_seed(6)
    with th.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.add_(0.1 * th.randn(weight.shape, generator=random))
    return model


def generate(model: Any, dtype: th.dtype = th.bfloat16, **changes: Any) -> list[Any]:
    made = TransformersGenerator(model, dtype)
    made.sync_weights([], 0)
    options = {"max_new_tokens": 20, "eos_token_id": EOS, "vocab_size": VOCABULARY, "seed": 5, **changes}
    return made.generate(PROMPTS * 3, Sampling(**options), 0)


# ---------------------------------------------------------------- generation


class Conversions(TorchDispatchMode):
    """Counts how often a matrix of a model is converted to bfloat16."""

    def __init__(self, model: Any):
        super().__init__()
        self.count = 0
        self.weights = {weight.data_ptr() for weight in model.parameters() if weight.ndim == 2}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        # the second is what is seen in inference mode
        converts = func in (th.ops.aten._to_copy.default, th.ops.aten.to.dtype)
        if converts and th.bfloat16 in (kwargs.get("dtype"), *args[1:2]):
            self.count += args[0].data_ptr() in self.weights
        return func(*args, **kwargs)


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (lambda: model_of(tiny_config()), 15),
        # the output layer and two matrices of each adapter
        (lambda: adapted(th.bfloat16), 1 + 28),
        # frozen weights that bfloat16 cannot hold
        (lambda: adapted(th.bfloat16, th.float32), 15 + 28),
    ],
    ids=["all weights trained", "adapters", "adapters, published in float32"],
)
def test_a_weight_is_converted_once_however_many_tokens_are_sampled(made: Any, expected: int) -> None:
    model = made()
    # nothing ends a response here
    for tokens in (2, 6):
        with Conversions(model) as seen:
            found = generate(model, max_new_tokens=tokens, eos_token_id=VOCABULARY)
        assert {len(response.token_ids) for response in found} == {tokens}
        assert seen.count == expected


@pytest.mark.parametrize("fails", [False, True])
def test_generating_leaves_the_weights_as_they_were(fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frozen ones frozen, and fit to be trained: nothing of autocast's is left behind."""
    model = adapted(th.bfloat16)
    before = [(weight.requires_grad, weight.dtype) for weight in model.parameters()]
    if fails:
        monkeypatch.setattr(transformers_backend, "choose", None)
        with pytest.raises(TypeError):
            generate(model)
    else:
        generate(model)
    assert [(weight.requires_grad, weight.dtype) for weight in model.parameters()] == before
    with th.autocast("cpu", dtype=th.bfloat16):
        model(input_ids=th.tensor([[5, 6, 7]])).logits.float().logsumexp(2).sum().backward()
    assert all((weight.grad is not None) == weight.requires_grad for weight in model.parameters())


@pytest.mark.parametrize("kind", MODELS)
def test_keys_and_values_are_kept_in_the_precision_of_attention(kind: str) -> None:
    body = model_of(MODELS[kind]).base_model
    sizes = []
    for short in (False, True):
        with th.no_grad(), th.autocast("cpu", dtype=th.bfloat16, enabled=short):
            reading = ModelDecoding(body, PROMPTS)
            reading.append(th.tensor([2, 3, 4, 5, 6]))
            reading.keep(th.tensor([0, 1, 3]))
        kept = [states for layer in reading.cache.layers for states in (layer.keys, layer.values)]
        assert {states.dtype for states in kept} == {th.bfloat16 if short else th.float32}
        sizes.append(sum(states.nbytes for states in kept))
    assert sizes[0] == 2 * sizes[1] > 0


@pytest.mark.parametrize("kind", MODELS)
def test_a_short_cache_changes_no_sample_and_no_log_probability(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(MODELS[kind])
    found = generate(model)
    monkeypatch.setattr(decoding, "_Cache", DynamicCache)
    expected = generate(model)
    lengths = {len(response.token_ids) for response in expected}
    assert min(lengths) < max(lengths), "rows must leave at different times for this test to mean something"
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours.token_ids, theirs.token_ids)
        np.testing.assert_array_equal(ours.log_prob, theirs.log_prob)


# ---------------------------------------------------------------- frozen weights


def frozen_matrices(model: Any) -> dict[str, th.dtype]:
    return {
        name: weight.dtype
        for name, weight in model.named_parameters()
        if not weight.requires_grad and weight.ndim == 2 and "embed" not in name
    }


def states_and_gradients(model: Any) -> tuple[th.Tensor, th.Tensor]:
    ids, lengths = th.tensor([[5, 6, 7, 2], [5, 6, 0, 0], [9, 2, 4, 0]]), th.tensor([4, 2, 3])
    rows, columns = (th.arange(4) < lengths.unsqueeze(1)).nonzero(as_tuple=True)
    with th.autocast("cpu", dtype=th.bfloat16):
        hidden = Reader()(model.base_model, ids, lengths, rows, columns)
        log_probs = model.get_output_embeddings()(hidden).float().log_softmax(dim=1)
    log_probs[:, 3].sum().backward()
    return log_probs.detach(), th.cat([weight.grad.flatten() for weight in model.parameters() if weight.requires_grad])


@pytest.mark.parametrize("config", [tiny_config(), MODELS["gpt2"]], ids=["qwen2", "gpt2"])
def test_frozen_weights_are_held_short_and_say_the_same(config: PreTrainedConfig) -> None:
    short, plain = adapted(th.bfloat16, config=config), adapted(th.float32, config=config)
    held = {weight.dtype for name, weight in short.named_parameters() if name.endswith("base_layer.weight")}
    assert held == {th.bfloat16}
    others = [weight for name, weight in short.named_parameters() if not name.endswith("base_layer.weight")]
    assert {weight.dtype for weight in others} == {th.float32}, "adapters, norms, biases, embeddings and what is tied to them"
    assert any(weight is short.get_input_embeddings().weight for weight in others)
    for ours, expected in zip(states_and_gradients(short), states_and_gradients(plain), strict=True):
        assert expected.abs().max() > 0.1
        assert th.equal(ours, expected)
    with th.no_grad():
        merged, expected_merge = dict(merged_parameters(short)), dict(merged_parameters(plain))
    assert list(merged) == list(expected_merge)
    assert all(th.equal(merged[name], weight) and merged[name].dtype is th.float32 for name, weight in expected_merge.items())


def test_rows_are_packed_with_short_frozen_weights_too() -> None:
    model = adapted(th.bfloat16)
    reader = Reader(packing=True)
    with th.no_grad(), th.autocast("cpu", dtype=th.bfloat16):
        reader(model.base_model, th.tensor([[5, 6], [9, 0]]), th.tensor([2, 1]), th.tensor([0, 1]), th.tensor([1, 0]))
    assert reader.packed


def test_frozen_layers_without_adapters_are_held_short_too() -> None:
    model = model_of(tiny_config())
    add_lora(model, {"r": 2, "target_modules": ["q_proj"]}, dtype=th.bfloat16)
    found = frozen_matrices(model)
    assert len(found) == 14
    assert set(found.values()) == {th.bfloat16}


def test_what_would_lose_bits_stays_as_it_is() -> None:
    """Layer by layer: initialisations such as PiSSA change some of them."""
    model = model_of(tiny_config())
    with th.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 5] += 1e-4
    add_lora(model, LORA, dtype=th.bfloat16)
    found = frozen_matrices(model)
    assert [name for name, dtype in found.items() if dtype is th.float32] == ["model.layers.1.mlp.up_proj.base_layer.weight"]
    assert set(frozen_matrices(adapted(th.bfloat16, th.float32)).values()) == {th.float32}
    assert set(frozen_matrices(adapted(th.float32)).values()) == {th.float32}, "a model that computes in float32"


@pytest.mark.parametrize("published_in", [th.bfloat16, th.float32])
@pytest.mark.parametrize("saved_by", [th.bfloat16, th.float32])
def test_reading_gives_the_precision_that_writing_had(saved_by: th.dtype, published_in: th.dtype) -> None:
    """Whatever the new model's weights were; files of policies in float32, and of earlier versions, hold float32."""
    written = adapted(saved_by, published_in)
    for unread in (False, True):
        # weights that bfloat16 can hold, until others are read
        read = model_of(tiny_config())
        add_lora(read, LORA, unread=unread, dtype=th.bfloat16)
        read.load_state_dict(written.state_dict())
        assert set(frozen_matrices(read).values()) == {published_in}
        for ours, theirs in zip(read.parameters(), written.parameters(), strict=True):
            assert th.equal(ours.float(), theirs.float())
    plain = adapted(th.float32)
    plain.load_state_dict(written.state_dict())
    assert {weight.dtype for weight in plain.parameters()} == {th.float32}


def test_what_is_exported_is_the_merge_in_float32(tmp_path: Path) -> None:
    model = adapted(th.bfloat16)
    # a step that bfloat16's eight bits would swallow
    with th.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.mul_(1e-3)
    save_merged(model, tmp_path)
    read = AutoModelForCausalLM.from_pretrained(tmp_path)
    merged = dict(merged_parameters(model))
    for name, weight in read.named_parameters():
        assert weight.dtype is th.float32
        assert th.equal(weight, merged[name])
    layer = model.model.layers[0].mlp.up_proj
    delta = layer.lora_B["default"].weight @ layer.lora_A["default"].weight * (8 / 4)
    th.testing.assert_close(
        merged["model.layers.0.mlp.up_proj.weight"] - layer.base_layer.weight.float(), delta, rtol=1e-2, atol=1e-7
    )
    assert set(frozen_matrices(model).values()) == {th.bfloat16}, "merging leaves the model alone"


def test_an_exported_file_has_one_precision(tmp_path: Path) -> None:
    """Frozen layers without adapters among them."""
    model = model_of(tiny_config())
    add_lora(model, {"r": 2, "target_modules": ["q_proj"]}, dtype=th.bfloat16)
    save_merged(model, tmp_path)
    assert {weight.dtype for weight in load_file(tmp_path / "model.safetensors").values()} == {th.float32}
