"""Adapters: what is trained, what stays, and that a merged model is the same policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from peft import LoraConfig
from transformers import AutoModelForCausalLM

from sppo_rl import RLOO, SPPO
from sppo_rl.checkpoint import CheckpointCallback, load_checkpoint
from sppo_rl.llm import PromptCritic, TransformerPolicy
from sppo_rl.llm.generation import TransformersGenerator
from sppo_rl.llm.lora import merged_parameters
from tests.llm.conftest import TOKENIZER, digit_learner, echo_env, greedy_success, tiny_config, tiny_model
from tests.llm.test_policy import actions, make, observe
from tests.llm.test_precision import rounded
from tests.llm.test_saving import assert_same_weights

LORA = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "lora_dropout": 0.1}


def perturb(policy: TransformerPolicy) -> TransformerPolicy:
    """Adapters begin as nothing: give them something to say."""
    generator = th.Generator().manual_seed(5)
    with th.no_grad():
        for parameter in policy.actor_parameters() + policy.critic_parameters():
            parameter.add_(0.1 * th.randn(parameter.shape, generator=generator))
    return policy


def test_only_adapters_and_the_critics_head_are_trained() -> None:
    policy = make(lora=LORA, critic_lora=LoraConfig(r=2, target_modules=["q_proj"]))
    trained = {name for name, p in policy.named_parameters() if p.requires_grad}
    ours = {id(p) for p in policy.actor_parameters() + policy.critic_parameters()}
    assert {id(p) for name, p in policy.named_parameters() if name in trained} == ours
    of_actor = {name for name in trained if name.startswith("model.")}
    assert len(of_actor) == 2 * 7 * 2, "two matrices for each of seven linear layers in two layers"
    assert all("lora_" in name for name in of_actor)
    of_critic = trained - of_actor
    assert {name for name in of_critic if "lora_" not in name} == {"critic.model.score.weight", "critic.model.score.bias"}
    assert len(of_critic) == 2 * 2 + 2
    policy.evaluate_decisions(observe(), actions()).log_prob.sum().backward()
    assert all((p.grad is not None) == p.requires_grad for p in policy.model.parameters())
    # training mode is where dropout would act
    policy.set_training_mode(True)
    perturb(policy)
    first, second = (policy.evaluate_decisions(observe(), actions()).log_prob for _ in range(2))
    assert th.equal(first, second)


def test_an_output_layer_that_is_not_tied_is_frozen_as_well() -> None:
    policy = make(model=tiny_config(16, 1, tie_word_embeddings=False), lora=LORA)
    assert policy.model.lm_head.weight is not policy.model.get_input_embeddings().weight
    assert all("lora_" in name for name, p in policy.model.named_parameters() if p.requires_grad)


def test_new_adapters_change_nothing_and_trained_ones_are_merged_exactly() -> None:
    plain, adapted = make(), make(lora=LORA)
    with th.no_grad():
        before = plain.evaluate_decisions(observe(), actions()).log_prob
        th.testing.assert_close(adapted.evaluate_decisions(observe(), actions()).log_prob, before)
        found = perturb(adapted).evaluate_decisions(observe(), actions()).log_prob
        assert (found - before).abs().max() > 0.05
        merged = dict(merged_parameters(adapted.model))
        assert list(merged) == [name for name, _ in plain.model.named_parameters()]
        for name, parameter in plain.model.named_parameters():
            assert parameter.shape == merged[name].shape
            parameter.copy_(merged[name])
        th.testing.assert_close(plain.evaluate_decisions(observe(), actions()).log_prob, found, rtol=1e-4, atol=1e-5)


def test_the_generator_is_given_merged_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, th.Tensor] = {}
    monkeypatch.setattr(TransformersGenerator, "sync_weights", lambda self, weights, version: given.update(weights))
    policy = perturb(make(lora=LORA))
    policy.make_sampler(np.random.default_rng(0))
    assert list(given) == [name for name, _ in tiny_model().named_parameters()]
    layer = policy.model.model.layers[0].mlp.up_proj
    delta = layer.lora_B["default"].weight @ layer.lora_A["default"].weight * (8 / 4)
    th.testing.assert_close(given["model.layers.0.mlp.up_proj.weight"], layer.base_layer.weight + delta)


def make_model(algorithm: Any = SPPO, **options: Any) -> Any:
    kwargs = {
        "model": tiny_model(width=16, layers=1), "critic": tiny_config(8, 1), "lora": LORA, "critic_lora": {"r": 2},
    }  # fmt: skip
    options = {"n_episodes": 16, "n_epochs": 2, "batch_size": 8, "seed": 3, "learning_rate": 1e-2, "device": "cpu", **options}
    if algorithm is SPPO:
        options["critic_init"] = 0.4
    return algorithm("TransformerPolicy", echo_env(), policy_kwargs=kwargs, **options)


def test_saving_exporting_resuming(tmp_path: Path) -> None:
    whole = make_model().learn(16 * 4)
    base = tiny_model(width=16, layers=1).state_dict()
    for name, weight in whole.policy.model.state_dict().items():
        if "lora_" not in name:
            assert th.equal(weight, base[name.replace("base_layer.", "")]), f"{name} is frozen"
    assert any(p.abs().max() > 0 for name, p in whole.policy.model.named_parameters() if "lora_B" in name)

    whole.save(tmp_path / "model")
    assert_same_weights(SPPO.load(tmp_path / "model", device="cpu"), whole)

    make_model().learn(16 * 2, callback=CheckpointCallback(tmp_path / "checkpoints"))
    resumed = load_checkpoint(SPPO, tmp_path / "checkpoints", echo_env(), device="cpu")
    assert resumed is not None
    resumed.learn(16 * 2, reset_num_timesteps=False)
    assert_same_weights(resumed, whole)

    whole.policy.export(tmp_path / "export")
    actor = AutoModelForCausalLM.from_pretrained(tmp_path / "export" / "policy")
    critic = PromptCritic.load(tmp_path / "export" / "critic")
    ids = th.tensor([TOKENIZER.encode("ab2?")])
    with th.no_grad():
        expected = whole.policy.model(ids).logits
        th.testing.assert_close(actor(ids).logits, expected, rtol=1e-4, atol=1e-5)
    prompts = ["0?", "ab2?"]
    expected = whole.policy.critic.predict_solvability(prompts)
    np.testing.assert_allclose(critic.predict_solvability(prompts), expected, rtol=1e-5)
    assert (expected != 0.4).all()


def frozen_layers(model: Any) -> dict[str, th.dtype]:
    return {name: p.dtype for name, p in model.policy.named_parameters() if name.endswith("base_layer.weight")}


def test_in_bfloat16_frozen_weights_are_held_short_through_saving_and_resuming(tmp_path: Path) -> None:
    """Actor and critic; the run is the one that holds them in float32, bit for bit."""

    def run() -> Any:
        model = rounded(tiny_model(width=16, layers=1), th.bfloat16)
        kwargs = {
            "model": model,
            "critic": rounded(tiny_model(1, width=8, layers=1), th.bfloat16),
            "lora": LORA,
            "critic_lora": LORA,
        }
        return SPPO(
            "TransformerPolicy", echo_env(), 1e-2, n_episodes=16, n_epochs=2, batch_size=8, critic_init=0.4, seed=3, device="cpu",
            policy_kwargs={**kwargs, "dtype": "bfloat16"},
        )  # fmt: skip

    whole, plain = run(), run()
    assert len(frozen_layers(whole)) == 14
    assert set(frozen_layers(whole).values()) == {th.bfloat16}
    for module in plain.policy.modules():
        if hasattr(module, "base_layer"):
            module.base_layer.float()
    whole.learn(16 * 3)
    plain.learn(16 * 3)
    for ours, expected in zip(whole.policy.parameters(), plain.policy.parameters(), strict=True):
        assert th.equal(ours.float(), expected)
    assert any(p.abs().max() > 0 for name, p in whole.policy.named_parameters() if "lora_B" in name)

    for model in (whole, plain):
        # a file of an earlier version holds them in float32
        model.save(tmp_path / "model")
        loaded = SPPO.load(tmp_path / "model", device="cpu")
        assert frozen_layers(loaded) == frozen_layers(whole)
        assert_same_weights(loaded, whole)
    run().learn(16 * 2, callback=CheckpointCallback(tmp_path / "checkpoints"))
    resumed = load_checkpoint(SPPO, tmp_path / "checkpoints", echo_env(), device="cpu")
    assert resumed is not None
    assert frozen_layers(resumed) == frozen_layers(whole)
    resumed.learn(16, reset_num_timesteps=False)
    assert_same_weights(resumed, whole)

    whole.policy.export(tmp_path / "export")
    merged = dict(merged_parameters(whole.policy.model))
    actor = AutoModelForCausalLM.from_pretrained(tmp_path / "export" / "policy")
    assert all(th.equal(weight, merged[name]) for name, weight in actor.named_parameters())
    PromptCritic.load(tmp_path / "export" / "critic").predict_solvability(["0?"])


def test_rloos_reference_is_the_model_without_what_the_adapters_learnt() -> None:
    model = make_model(RLOO, group_size=4, kl_coef=0.1)
    reference = model.reference.clone()
    model.learn(16 * 3)
    assert len(reference) == sum(p.numel() for p in model.policy.actor_parameters())
    assert th.equal(model.reference, reference)
    assert any(not th.equal(p, q) for p, q in zip(
        th.cat([p.flatten() for p in model.policy.actor_parameters()]).split(50), reference.split(50), strict=True
    ))  # fmt: skip


def test_a_run_learns_the_digit() -> None:
    """The frozen weights are random: what is learnt is in the adapters alone."""
    pairs = [(f"{n}?", str(n)) for n in range(3)]
    model = digit_learner(pairs, "cpu", learning_rate=1e-2, lora={**LORA, "r": 16, "lora_alpha": 32})
    assert greedy_success(model.learn(128 * 20)) == 1.0


def test_messages() -> None:
    with pytest.raises(ValueError, match=r"modules_to_save=\['norm'\] trains copies of whole layers"):
        make(lora={**LORA, "modules_to_save": ["norm"]})
    with pytest.raises(ValueError, match="names the input embeddings"):
        make(lora={"r": 2, "target_modules": ["embed_tokens"]})
    with pytest.raises(ValueError, match=r"names \['lm_head'\], which the body"):
        make(lora={"r": 2, "target_modules": ["q_proj", "lm_head"]})
