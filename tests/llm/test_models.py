"""What a source brings along besides its weights: settings of ``generate`` that cannot be saved, attention that runs on GPUs only."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from transformers import AutoModelForCausalLM, GenerationConfig
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from sppo_rl import SPPO
from sppo_rl.llm.models import Saved, attention_by, causal_model, end_tokens
from tests.llm.conftest import echo_env, tiny_config, tiny_model
from tests.llm.test_policy import actions, make, observe

SAMPLING = {"temperature": 0.9, "top_p": 0.6, "eos_token_id": [1, 4], "bos_token_id": 1, "pad_token_id": 0}
"""As in several models on the hub: for sampling, but without ``do_sample``."""


def folder_with(settings: dict[str, Any], folder: Path) -> str:
    tiny_model(width=16, layers=1).save_pretrained(folder)
    (folder / "generation_config.json").write_text(json.dumps(settings))
    return str(folder)


def test_sampling_settings_without_do_sample_survive_training_and_export(tmp_path: Path) -> None:
    kwargs = {"model": folder_with(SAMPLING, tmp_path / "model"), "critic": tiny_config(8, 1)}
    model: Any = SPPO(
        "TransformerPolicy", echo_env(), learning_rate=1e-5, n_episodes=4, batch_size=4, policy_kwargs=kwargs, device="cpu"
    )
    model.learn(4)
    model.save(tmp_path / "run")
    for name, trained in (("trained", model), ("loaded", SPPO.load(tmp_path / "run", device="cpu"))):
        trained.policy.export(tmp_path / name)
        read = AutoModelForCausalLM.from_pretrained(tmp_path / name / "policy")
        assert th.equal(read.lm_head.weight, model.policy.model.lm_head.weight)
        found = read.generation_config.to_dict()
        assert found["do_sample"] is True
        assert {key: found[key] for key in SAMPLING} == SAMPLING
    # and the export is a model like any other
    following = SPPO("TransformerPolicy", echo_env(), 1e-5, policy_kwargs={**kwargs, "model": str(tmp_path / "loaded/policy")})
    assert following.policy.eos_token_id == (1, 4)  # type: ignore[attr-defined]


def test_a_file_of_an_earlier_version_can_be_exported(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = causal_model(Saved(tiny_config(), GenerationConfig(temperature=0.9, top_p=0.6)))
    model.save_pretrained(tmp_path)


def test_settings_that_contradict_each_other_are_dropped_with_a_warning(tmp_path: Path) -> None:
    source = tiny_model(width=16, layers=1)
    source.generation_config = GenerationConfig(eos_token_id=[1, 4], early_stopping=True, temperature=0.9)
    with pytest.warns(UserWarning, match="generation_config contradicts itself"):
        model = causal_model(source)
    assert end_tokens(model) == [1, 4]
    assert source.generation_config.early_stopping is True, "the user's own model is left alone"
    model.save_pretrained(tmp_path)


def test_settings_that_can_be_saved_stay_as_they_are() -> None:
    source = tiny_model(width=16, layers=1)
    source.generation_config = GenerationConfig(eos_token_id=4, num_beams=3, early_stopping=True)
    assert causal_model(source).generation_config.to_dict() == source.generation_config.to_dict()


def flash(module: Any, query: th.Tensor, key: th.Tensor, value: th.Tensor, mask: Any, **options: Any) -> Any:
    """Stands in for flash attention, whose kernels need a GPU: as choosy as they are, and rows by their boundaries."""
    if th.get_autocast_dtype("cpu") is not th.bfloat16 or not th.is_autocast_enabled("cpu"):
        raise RuntimeError("FlashAttention only support fp16 and bf16 data type")
    ends = options.get("cu_seq_lens_q", th.tensor([0, query.shape[2]]))
    parts = [states.split(ends.diff().tolist(), dim=2) for states in (query, key, value)]
    rows = [
        th.nn.functional.scaled_dot_product_attention(*part, is_causal=True, enable_gqa=True)
        for part in zip(*parts, strict=True)
    ]
    return th.cat(rows, dim=2).transpose(1, 2), None


def test_a_model_with_flash_attention_is_taken_and_used(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = make("bfloat16", critic=tiny_config(8, 1)).evaluate_decisions(observe(), actions()).log_prob
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, "flash_attention_2", flash)
    source = tiny_model()
    source.config._attn_implementation = "flash_attention_2"
    policy = make("bfloat16", model=source, critic=tiny_config(8, 1))
    assert policy.model.config._attn_implementation == "flash_attention_2"
    found = policy.evaluate_decisions(observe(), actions()).log_prob
    assert policy.reader.packed
    th.testing.assert_close(found, expected, rtol=0.0, atol=0.1)
    # on a CPU generation has attention of its own
    prompts = {name: values.numpy() for name, values in observe().items()}
    sampled = policy.make_sampler(np.random.default_rng(0))(prompts, np.arange(3))
    assert np.isfinite(sampled.log_prob).all()
    assert policy.model.config._attn_implementation == "flash_attention_2"


def test_exchanged_attention_comes_back_after_an_error() -> None:
    model = tiny_model()
    with attention_by(model, "eager"):
        assert model.model.layers[0].self_attn.config._attn_implementation == "eager"
    with pytest.raises(KeyError), attention_by(model, "eager"):
        raise KeyError
    assert model.config._attn_implementation == "sdpa"
