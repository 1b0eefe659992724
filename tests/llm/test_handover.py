"""Handing weights to vLLM, as far as it goes without vLLM: what is alive meanwhile, and what is noticed."""

from __future__ import annotations

import gc
import pickle
import weakref
from typing import Any

import pytest
import torch as th
from torch import nn

from sppo_rl.llm.generation import VLLMGenerator, VLLMServerGenerator
from sppo_rl.llm.generation.vllm_backend import _Process
from sppo_rl.llm.generation.vllm_extension import COMPARED
from sppo_rl.llm.generation.vllm_sync import Handover, merged_names
from sppo_rl.llm.lora import add_lora, merged_parameters
from tests.llm.conftest import tiny_model

LORA = {"r": 2, "target_modules": "all-linear"}
INNER = 53
"""Width of the feed-forward layers: no other tensor of this process has this shape."""
LAYERS = 4


def adapted_model() -> Any:
    model = tiny_model(layers=LAYERS, intermediate_size=INNER)
    add_lora(model, LORA)
    return model


@pytest.mark.parametrize(
    "adapters", [{}, LORA, {"r": 2, "target_modules": ["q_proj", "down_proj"]}], ids=["none", "all", "two"]
)
@pytest.mark.parametrize("tied", [True, False])
def test_names_are_known_without_merging(adapters: dict[str, Any], tied: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(tie_word_embeddings=tied)
    plain = {name for name, _ in model.named_parameters()}
    if adapters:
        add_lora(model, adapters)
    assert {name for name, _ in merged_parameters(model)} == plain
    monkeypatch.setattr("sppo_rl.llm.lora._merge", lambda layer: pytest.fail("merged"))
    assert merged_names(model) == plain


class Engine:
    """Takes weights as vLLM does, one at a time, and counts those still alive that it was given before."""

    def __init__(self) -> None:
        self.given: list[weakref.ref[th.Tensor]] = []
        self.most_alive = 0
        self.stored: dict[str, th.Tensor] = {}

    def collective_rpc(self, method: str, args: tuple[Any, ...]) -> None:
        assert method == "sppo_load"
        for name, weight in args[0]:
            self.stored[name] = weight.to(th.bfloat16)
            self.given.append(weakref.ref(weight))
            self.most_alive = max(self.most_alive, sum(reference() is not None for reference in self.given))

    def reset_prefix_cache(self) -> bool:
        return True


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    made = Engine()
    monkeypatch.setattr(_Process, "holder", None)
    monkeypatch.setattr(VLLMGenerator, "_engine", lambda self: made)
    return made


def test_an_engine_is_given_merged_weights_one_at_a_time(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    model = adapted_model()
    expected = {name: weight.detach().clone() for name, weight in merged_parameters(model)}
    sent: dict[str, th.Tensor] = {}
    monkeypatch.setattr(VLLMGenerator, "_require_synced", lambda self, llm, vectors: sent.update(vectors))
    generator = VLLMGenerator(model)
    generator.sync_weights(merged_parameters(model), 3)
    assert generator.version == 3
    assert list(engine.stored) == list(expected)
    assert all(th.equal(engine.stored[name], weight.to(th.bfloat16)) for name, weight in expected.items())
    assert len(engine.given) > 7 * LAYERS
    assert engine.most_alive <= 2
    # what the check afterwards looks at, and no more
    assert set(sent) == {name for name, weight in expected.items() if weight.ndim == 1}
    assert all(th.equal(values, expected[name][:COMPARED]) for name, values in sent.items())
    assert {values.untyped_storage().nbytes() for values in sent.values()} == {4 * COMPARED}


def test_names_that_are_not_the_models_are_noticed_when_all_have_passed(engine: Engine) -> None:
    """An engine that was stopped half-way would count the weights of that layer wrongly the next time."""
    model = adapted_model()
    generator = VLLMGenerator(model)
    with pytest.raises(ValueError, match=r"40 missing .*down_proj\.weight.* unknown .*base_layer"):
        generator.sync_weights(model.named_parameters(), 0)
    assert generator.version is None
    assert set(engine.stored) < merged_names(model), "it is not given what it does not know"
    renamed = [(f"module.{name}", weight) for name, weight in model.named_parameters()]
    with pytest.raises(ValueError, match=r"missing .*model\.embed_tokens\.weight.* unknown .*module\.model\.embed_tokens"):
        generator.sync_weights(renamed, 0)


def test_workers_in_other_processes_are_sent_all_at_once() -> None:
    model = adapted_model()
    handover = Handover(merged_parameters(model), merged_names(model))
    received = pickle.loads(pickle.dumps(handover))
    assert [name for name, _ in received] == [name for name, _ in merged_parameters(model)]
    handover.finish()


def wide_tensors() -> set[int]:
    """Places of all float32 tensors of the feed-forward layers' shape."""
    shapes = {(INNER, 32), (32, INNER)}
    return {
        each.data_ptr()
        for each in gc.get_objects()
        if type(each) in (th.Tensor, nn.Parameter) and each.dtype is th.float32 and tuple(each.shape) in shapes
    }


def test_a_server_is_sent_weights_that_left_the_gpu_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server computes in bfloat16 here: its copies can be told from merged ones, which must be gone when the file is written."""
    model = adapted_model()
    generator = VLLMServerGenerator(model, th.bfloat16)
    asked: list[str] = []
    written: dict[str, th.Tensor] = {}
    alive: list[int] = []

    def save(weights: dict[str, th.Tensor], path: Any) -> None:
        written.update(weights)
        alive.append(len(wide_tensors()))

    def post(path: str, body: Any = None) -> Any:
        asked.append(path)
        return {"success": True, "results": None}

    monkeypatch.setattr("sppo_rl.llm.generation.vllm_server.save_file", save)
    monkeypatch.setattr(generator, "_meet", lambda: None)
    monkeypatch.setattr(generator, "_post", post)
    monkeypatch.setattr(generator, "_require_synced", lambda sent: None)
    own = len(wide_tensors())
    assert own >= 3 * LAYERS
    generator.sync_weights(merged_parameters(model), 1)
    assert alive[0] <= own
    assert written.keys() == merged_names(model)
    assert {weight.dtype for weight in written.values()} == {th.bfloat16}
    assert asked == ["/collective_rpc", "/reset_prefix_cache", "/update_weight_version"]
    with pytest.raises(ValueError, match=r"unknown .*base_layer"):
        generator.sync_weights(model.named_parameters(), 2)
    assert len(asked) == 3, "the server is told nothing of wrong weights"
