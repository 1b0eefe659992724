"""Saving, loading without the hub, exact resume, export as Hugging Face folders."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from transformers import AutoModelForCausalLM, AutoModelForTokenClassification, AutoTokenizer, GenerationConfig

from sppo_rl import GRPO, PPO, SPPO
from sppo_rl.checkpoint import CheckpointCallback, load_checkpoint
from sppo_rl.llm import PromptCritic, TransformerPolicy
from sppo_rl.llm.models import Saved
from tests.llm.conftest import TOKENIZER, echo_env, tiny_config, tiny_model


def make(algorithm: Any = SPPO, **options: Any) -> Any:
    kwargs = {"model": tiny_model(width=16, layers=1), "critic": tiny_config(8, 1), "tokens_per_pass": 50}
    options = {"n_episodes": 16, "n_epochs": 2, "batch_size": 8, "seed": 3, "learning_rate": 1e-2, "device": "cpu", **options}
    return algorithm("TransformerPolicy", echo_env(), policy_kwargs=kwargs, **options)


def assert_same_weights(first: Any, second: Any) -> None:
    a, b = first.policy.state_dict(), second.policy.state_dict()
    assert a.keys() == b.keys()
    assert all(th.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("algorithm", [SPPO, GRPO])
def test_load_builds_from_the_saved_configuration(algorithm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make(algorithm, **({"group_size": 4} if algorithm is GRPO else {})).learn(32)
    model.save(tmp_path / "model")

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("loading a model must not fetch pre-trained weights")

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", refuse)
    monkeypatch.setattr(AutoModelForTokenClassification, "from_pretrained", refuse)
    alone = algorithm.load(tmp_path / "model", device="cpu")
    assert_same_weights(model, alone)
    observations = model.env.reset()
    np.testing.assert_array_equal(
        alone.predict(observations, deterministic=True)[0], model.predict(observations, deterministic=True)[0]
    )
    again = algorithm.load(tmp_path / "model", env=echo_env(), device="cpu")
    assert again.env.num_envs == 16
    again.learn(16, reset_num_timesteps=False)
    assert again.num_timesteps == 48


def test_a_policy_saves_every_option_it_was_made_with(tmp_path: Path) -> None:
    given = set(inspect.signature(TransformerPolicy).parameters) - {"use_sde"}
    policy = make().policy
    assert set(policy._get_constructor_parameters()) == given
    policy.save(tmp_path / "policy.pt")
    loaded = TransformerPolicy.load(tmp_path / "policy.pt", device="cpu")
    assert th.equal(next(iter(loaded.parameters())), next(iter(policy.parameters())))
    assert loaded.tokens_per_pass == 50


def test_every_option_is_kept_as_it_was_given() -> None:
    """One that was forgotten would be another after loading, without a word."""
    options: dict[str, Any] = {
        "critic_tokenizer": TOKENIZER,
        "lora": {"r": 2, "target_modules": ["q_proj"]},
        "critic_lora": {"r": 1, "target_modules": ["q_proj"]},
        "with_critic": True,
        "tokenizer": TOKENIZER,
        "use_chat_template": False,
        "eos_token_id": 5,
        "dtype": "bfloat16",
        "temperature": 0.7,
        "weight_decay": 0.1,
        "critic_weight_decay": 0.2,
        "gradient_checkpointing": True,
        "tokens_per_pass": 50,
        "logits_per_pass": 60,
        "packing": False,
        "responses_per_pass": None,
        "generator": "vllm-server",
        "generator_kwargs": {"url": "http://here:1"},
    }
    given_otherwise = {"observation_space", "action_space", "lr_schedule", "model", "critic", "use_sde"}
    assert set(options) == set(inspect.signature(TransformerPolicy).parameters) - given_otherwise
    env = echo_env().batched(2)
    policy = TransformerPolicy(env.observation_space, env.action_space, lambda _: 0.0, tiny_config(), **options)
    assert policy._options == options
    assert {name: policy._get_constructor_parameters()[name] for name in options} == options


def test_optimizers_make_no_copy_of_all_parameters() -> None:
    """PyTorch's choice on a GPU does; a file of an earlier version brings that choice along."""
    optimizers = (make().policy.optimizer, make().policy.critic_optimizer)
    for optimizer in optimizers:
        earlier = optimizer.state_dict()
        for group in earlier["param_groups"]:
            assert group["foreach"] is False
            group["foreach"] = None
        optimizer.load_state_dict(earlier)
        assert [group["foreach"] for group in optimizer.param_groups] == [False]


def test_a_saved_file_holds_the_weights_once(tmp_path: Path) -> None:
    """An instance given as ``model`` must not be pickled beside the weights that were trained."""
    model = make()
    model.save(tmp_path / "model")
    weights = sum(p.numel() * 4 for p in model.policy.parameters())
    assert "PreTrainedModel" not in str([type(value).__mro__ for value in model.policy_kwargs.values()])
    assert (tmp_path / "model.zip").stat().st_size < 2 * weights + 100_000


def test_ends_and_generation_config_survive_loading(tmp_path: Path) -> None:
    """Also in an export after it; a file of an earlier version, which holds neither, goes on with the tokenizer's end."""
    network = tiny_model(width=16, layers=1)
    network.generation_config = GenerationConfig(eos_token_id=[1, 4], top_p=0.8, do_sample=True)
    model = SPPO("TransformerPolicy", echo_env(), n_episodes=4, policy_kwargs={"model": network}, device="cpu")
    model.save(tmp_path / "model")
    loaded: Any = SPPO.load(tmp_path / "model", device="cpu")
    assert loaded.policy.eos_token_id == (1, 4)
    loaded.policy.export(tmp_path)
    exported = GenerationConfig.from_pretrained(tmp_path / "policy")
    assert (exported.eos_token_id, exported.top_p) == ([1, 4], 0.8)
    old = dict(model.policy_kwargs or {})
    old |= {"model": Saved(old["model"].config), "eos_token_id": None}
    object.__delattr__(old["model"], "generation_config")
    old["model"].config.eos_token_id = [1, 4]
    earlier = SPPO("TransformerPolicy", echo_env(), n_episodes=4, policy_kwargs=old, device="cpu")
    earlier.set_parameters(model.get_parameters())
    assert earlier.policy.eos_token_id == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("algorithm", [SPPO, PPO])
def test_a_resumed_run_ends_with_the_same_weights_bit_for_bit(algorithm: Any, tmp_path: Path) -> None:
    whole = make(algorithm).learn(16 * 5)
    make(algorithm).learn(16 * 2, callback=CheckpointCallback(tmp_path))
    th.manual_seed(12345)  # another process would not have this run's generators
    resumed = load_checkpoint(algorithm, tmp_path, echo_env(), device="cpu")
    assert resumed.num_timesteps == 32
    resumed.learn(16 * 3, reset_num_timesteps=False)
    assert resumed.num_timesteps == whole.num_timesteps
    assert resumed.num_tokens == whole.num_tokens
    assert_same_weights(resumed, whole)


def test_the_same_seed_gives_the_same_run() -> None:
    assert_same_weights(make().learn(32), make().learn(32))


def test_a_policy_alone_is_saved_and_loaded(tmp_path: Path) -> None:
    model = make().learn(16)
    model.policy.save(tmp_path / "policy.pth")
    loaded = TransformerPolicy.load(tmp_path / "policy.pth", device="cpu")
    assert all(th.equal(a, b) for a, b in zip(loaded.parameters(), model.policy.parameters(), strict=True))


def test_export_writes_hugging_face_folders(tmp_path: Path) -> None:
    model = make().learn(32)
    model.policy.export(tmp_path)
    prompt = "ab2?"
    ids = th.tensor([AutoTokenizer.from_pretrained(tmp_path / "policy").encode(prompt)])
    assert ids[0].tolist() == TOKENIZER.encode(prompt)

    actor = AutoModelForCausalLM.from_pretrained(tmp_path / "policy")
    with th.no_grad():
        th.testing.assert_close(actor(ids).logits, model.policy.model(ids).logits, rtol=0, atol=0)

    expected = model.policy.critic.predict_solvability([prompt])
    critic = PromptCritic.load(tmp_path / "critic")
    np.testing.assert_array_equal(critic.predict_solvability([prompt]), expected)
    np.testing.assert_array_equal(critic.predict_solvability([ids[0].tolist()]), expected)
    plain = AutoModelForTokenClassification.from_pretrained(tmp_path / "critic")
    with th.no_grad():
        np.testing.assert_allclose(th.sigmoid(plain(ids).logits[0, -1, 0]), expected[0], rtol=1e-5)

    # and a new run starts from both, the critic's head included
    kwargs = {"model": str(tmp_path / "policy"), "critic": str(tmp_path / "critic")}
    following = SPPO("TransformerPolicy", echo_env(), learning_rate=1e-5, policy_kwargs=kwargs, device="cpu")
    assert_same_weights(following, model)


def test_a_critic_starts_from_a_causal_models_folder(tmp_path: Path) -> None:
    body = tiny_model(seed=4, width=16, layers=1)
    body.save_pretrained(tmp_path)
    model = SPPO(
        "TransformerPolicy", echo_env(), policy_kwargs={"model": tiny_config(), "critic": str(tmp_path)}, device="cpu"
    )
    critic = model.policy.critic  # type: ignore[attr-defined]
    for name, weight in body.base_model.state_dict().items():
        assert th.equal(weight, critic.model.base_model.state_dict()[name])
    np.testing.assert_allclose(critic.predict_solvability(["0?", "ab2?"]), 0.5)


def test_a_critic_of_returns_is_not_exported_as_probabilities(tmp_path: Path) -> None:
    model = make(PPO).learn(16)
    with pytest.raises(ValueError, match="critic_loss='bce'"):
        model.policy.export(tmp_path)


def test_predict_solvability_does_not_depend_on_its_batches() -> None:
    model = make().learn(32)
    prompts = ["0?", "a1?", "ab2?", "3?", "ab2?"]
    found = model.policy.critic.predict_solvability(prompts)
    np.testing.assert_allclose(model.policy.critic.predict_solvability(prompts, batch_size=2), found, rtol=1e-5)
    assert found[2] == pytest.approx(found[4], rel=1e-5), "the same prompt"
    assert len(set(found.round(6).tolist())) >= 4, "another prompt, another probability"
    with pytest.raises(ValueError, match="Prompt 1 has no tokens"):
        model.policy.critic.predict_solvability([[5], []])


def test_loading_initialises_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither PyTorch's layers nor transformers draw a number for weights that are then read from the file."""
    model = make().learn(16)
    model.save(tmp_path / "model")
    drawn = []
    for name in ("normal_", "uniform_", "trunc_normal_"):
        draw = getattr(th.Tensor, name, None)
        if draw is not None:
            monkeypatch.setattr(
                th.Tensor,
                name,
                lambda self, *args, _draw=draw, **kwargs: (drawn.append(self.shape), _draw(self, *args, **kwargs))[1],
            )
    loaded = SPPO.load(tmp_path / "model", device="cpu")
    assert drawn == []
    assert_same_weights(loaded, model)
    assert loaded.policy.model.lm_head.weight is loaded.policy.model.model.embed_tokens.weight, "tied as they were"
    make()
    assert drawn, "what is looked for would be seen"


def test_settings_of_another_model_without_its_weights_are_refused() -> None:
    first = make()
    second = SPPO("TransformerPolicy", echo_env(), n_episodes=16, policy_kwargs=first.policy_kwargs, device="cpu")
    with pytest.raises(RuntimeError, match="name no weights"):
        second.learn(16)
    second.set_parameters(first.get_parameters())
    second.learn(16)
