"""TransformerPolicy and PromptCritic against computations that do one row, and one token, at a time."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch as th
from gymnasium import spaces
from transformers import AutoModelForCausalLM, Gemma2Config, GenerationConfig, GPT2Config, LlamaConfig

from sppo_rl import GRPO, PPO, SPPO
from sppo_rl.envs.reasoning import MathReasoningEnv, from_pairs
from sppo_rl.llm import TransformerPolicy
from tests.llm.conftest import EOS, TOKENIZER, VOCABULARY, echo_env, tiny_config, tiny_model

K, P = 5, 8
PROMPTS = [[5, 6, 7], [9], [4, 4, 8, 3, 2, 11]]
RESPONSES = [[3, EOS], [12, 4, 5, 6, 7], [EOS]]  # ended, cut off at the budget, ended at once


def make(dtype: str = "float32", **options: Any) -> TransformerPolicy:
    observation_space = spaces.Dict(
        {
            "prompt_ids": spaces.Box(0, VOCABULARY - 1, (P,), np.int64),
            "prompt_len": spaces.Box(1, P, (1,), np.int64),
            "problem_id": spaces.Box(0, 9, (1,), np.int64),
        }
    )
    action_space = spaces.MultiDiscrete([VOCABULARY + 1] * K)
    options = {"model": tiny_model(), "eos_token_id": EOS, "dtype": dtype, **options}
    return TransformerPolicy(observation_space, action_space, lambda _: 1e-3, **options)


def observe(prompts: list[list[int]] = PROMPTS) -> dict[str, th.Tensor]:
    return {
        "prompt_ids": th.tensor([ids + [0] * (P - len(ids)) for ids in prompts]),
        "prompt_len": th.tensor([[len(ids)] for ids in prompts]),
        "problem_id": th.zeros(len(prompts), 1, dtype=th.int64),
    }


def actions(responses: list[list[int]] = RESPONSES) -> th.Tensor:
    return th.tensor([ids + [VOCABULARY] * (K - len(ids)) for ids in responses])


def naive(model: Any, temperature: float) -> list[list[float]]:
    """Each row alone, the whole logits, a softmax over the tokens that exist."""
    rows = []
    for prompt, response in zip(PROMPTS, RESPONSES, strict=True):
        logits = model(input_ids=th.tensor([prompt + response])).logits[0, :, :VOCABULARY]
        log_probs = th.log_softmax(logits / temperature, dim=1)
        rows.append([float(log_probs[len(prompt) - 1 + k, token]) for k, token in enumerate(response)])
    return rows


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_log_probs_are_those_of_each_row_alone(temperature: float) -> None:
    policy = make(temperature=temperature, logits_per_pass=3)
    with th.no_grad():
        log_prob, entropy, mask = policy.evaluate_decisions(observe(), actions())
        expected = naive(policy.model, temperature)
    assert mask.sum(dim=1).tolist() == [2, 5, 1], "the end of sequence is a decision, padding is none"
    for row, values in enumerate(expected):
        np.testing.assert_allclose(log_prob[row, : len(values)], values, rtol=1e-4, atol=1e-5)
    assert log_prob[~mask].abs().max() == 0.0
    assert (entropy[mask] > 0.0).all()
    assert (entropy[mask] < np.log(VOCABULARY)).all()


def test_predicted_values_are_the_critics_probabilities() -> None:
    policy = make()
    with th.no_grad():
        values = policy.predict_values(observe())
        expected = th.sigmoid(policy.context_value_logits(observe()))
    assert th.equal(values, expected.unsqueeze(1))


def test_gradients_do_not_depend_on_the_chunks() -> None:
    gradients = []
    for budget in (1, 12, 10_000):
        policy = make(tokens_per_pass=budget, logits_per_pass=2 if budget == 12 else 1000)
        observations, taken = observe(), actions()
        parts = list(policy.chunks(th.arange(3), observations, taken))
        assert len(parts) == {1: 3, 12: 2, 10_000: 1}[budget]
        for rows in parts:
            seen = {name: values[rows] for name, values in observations.items()}
            policy.evaluate_decisions(seen, taken[rows]).log_prob.sum().backward()
        gradients.append(th.cat([p.grad.flatten() for p in policy.actor_parameters() if p.grad is not None]))
    assert gradients[0].abs().max() > 0.1
    for gradient in gradients[1:]:
        th.testing.assert_close(gradient, gradients[0], rtol=1e-4, atol=1e-5)


def test_gradient_checkpointing_changes_no_gradient() -> None:
    gradients = []
    for checkpointing in (False, True):
        policy = make(gradient_checkpointing=checkpointing)
        policy.set_training_mode(True)
        policy.evaluate_decisions(observe(), actions()).log_prob.sum().backward()
        gradients.append(th.cat([p.grad.flatten() for p in policy.actor_parameters() if p.grad is not None]))
    th.testing.assert_close(gradients[1], gradients[0], rtol=1e-5, atol=1e-6)


def with_live_head(policy: TransformerPolicy) -> TransformerPolicy:
    assert policy.critic is not None
    with th.no_grad():
        policy.critic.head.weight.normal_()
        policy.critic.head.bias.fill_(0.3)
    return policy


def test_the_critic_is_read_at_the_last_token_of_the_prompt() -> None:
    policy = with_live_head(make())
    assert policy.critic is not None
    with th.no_grad():
        found = policy.context_value_logits(observe())
        # Hugging Face's own forward of the same network, one prompt at a time
        expected = [float(policy.critic.model(input_ids=th.tensor([ids])).logits[0, len(ids) - 1, 0]) for ids in PROMPTS]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        behind = observe()
        behind["prompt_ids"][1, 3] = 5  # behind the second prompt's end
        th.testing.assert_close(policy.context_value_logits(behind), found)
        inside = observe()
        inside["prompt_ids"][1, 0] = 5
        assert (policy.context_value_logits(inside) != found).tolist() == [False, True, False]


def test_token_values_are_read_before_each_token() -> None:
    policy = with_live_head(make())
    assert policy.critic is not None
    with th.no_grad():
        found = policy.decision_value_logits(observe(), actions())
        for row, (prompt, response) in enumerate(zip(PROMPTS, RESPONSES, strict=True)):
            whole = policy.critic.model(input_ids=th.tensor([prompt + response])).logits[0, :, 0]
            expected = whole[len(prompt) - 1 : len(prompt) + len(response) - 1]
            np.testing.assert_allclose(found[row, : len(response)], expected, rtol=1e-4, atol=1e-5)
        th.testing.assert_close(found[:, 0], policy.context_value_logits(observe()))
        other = actions()
        other[1, 2] = 10
        changed = policy.decision_value_logits(observe(), other)[1] != found[1]
        assert changed.tolist() == [False, False, False, True, True], "token 2 is seen from the value before token 3 on"


def test_the_initial_value() -> None:
    policy = with_live_head(make())
    policy.set_initial_value(0.2)
    with th.no_grad():
        th.testing.assert_close(policy.value_scale(policy.context_value_logits(observe())), th.full((3,), 0.2))


def test_a_new_critic_has_the_actors_body_and_predicts_one_half() -> None:
    policy = make()
    assert policy.critic is not None
    for name, weight in policy.model.base_model.state_dict().items():
        assert th.equal(weight, policy.critic.model.base_model.state_dict()[name])
    assert policy.context_value_logits(observe()).abs().max() == 0.0
    shared = {id(p) for p in policy.actor_parameters()} & {id(p) for p in policy.critic_parameters()}
    assert not shared


def test_a_critic_of_another_architecture_and_size() -> None:
    config = GPT2Config(vocab_size=VOCABULARY, n_embd=8, n_layer=1, n_head=2, n_positions=32)
    policy = with_live_head(make(critic=config))
    assert policy.critic is not None
    policy.set_training_mode(True)
    # GPT-2 comes with dropout, which would make every prediction another one
    th.testing.assert_close(policy.context_value_logits(observe()), policy.context_value_logits(observe()))


def test_an_instance_is_copied() -> None:
    model = tiny_model()
    before = model.lm_head.weight.clone()
    policy = make(model=model)
    with th.no_grad():
        policy.model.lm_head.weight.add_(1.0)
    assert th.equal(model.lm_head.weight, before)


def test_bfloat16_computes_in_it_and_keeps_float32_weights() -> None:
    exact, short = make(), make(dtype="bfloat16")
    assert {p.dtype for p in short.parameters()} == {th.float32}
    with th.no_grad():
        a, b = (policy.evaluate_decisions(observe(), actions()).log_prob for policy in (exact, short))
    assert a.dtype == b.dtype == th.float32
    assert 0.0 < (a - b).abs().max() < 0.2


def test_frozen_weights_beside_adapters_are_held_in_the_dtype_that_computes() -> None:
    published = tiny_model().bfloat16().float()
    for dtype, expected in (("float32", th.float32), ("bfloat16", th.bfloat16)):
        policy = make(dtype, model=published, lora={"r": 2, "target_modules": ["q_proj"]})
        assert policy.model.model.layers[0].mlp.up_proj.weight.dtype is expected
        assert {parameter.dtype for parameter in policy.actor_parameters()} == {th.float32}


def test_frozen_weights_are_not_trained() -> None:
    model = tiny_model()
    model.model.embed_tokens.weight.requires_grad_(False)
    policy = make(model=model)
    assert all(p is not policy.model.model.embed_tokens.weight for p in policy.actor_parameters())


def test_algorithms_without_a_critic_hold_none() -> None:
    options = {"policy_kwargs": {"model": tiny_config()}, "n_episodes": 4, "device": "cpu"}
    assert GRPO("TransformerPolicy", echo_env(), group_size=4, **options).policy.critic is None  # type: ignore[attr-defined]
    for algorithm in (SPPO, PPO):
        assert algorithm("TransformerPolicy", echo_env(), **options).policy.critic is not None  # type: ignore[arg-type, attr-defined]


def test_the_environments_tokenizer_gives_the_end_of_sequence() -> None:
    model = SPPO("TransformerPolicy", echo_env(), policy_kwargs={"model": tiny_config()}, device="cpu")
    assert model.policy.eos_token_id == EOS  # type: ignore[attr-defined]
    assert model.policy.critic.tokenizer is TOKENIZER  # type: ignore[attr-defined]


def ending_model(folder: Path, ends: Any) -> Path:
    """A model whose generation_config names other ends than the tokenizer."""
    model = tiny_model(seed=4)
    model.generation_config = GenerationConfig(eos_token_id=ends)
    model.save_pretrained(folder)
    return folder


def test_the_models_own_ends_count_beside_the_tokenizers(tmp_path: Path) -> None:
    """Gemma's chat turns end in ``<end_of_turn>``, which only the generation_config says."""
    folder = ending_model(tmp_path, [4, EOS, VOCABULARY + 3])
    env = echo_env(budget=12)
    model = SPPO("TransformerPolicy", env, n_episodes=64, policy_kwargs={"model": folder}, device="cpu", learning_rate=0.0)
    assert model.policy.eos_token_id == (EOS, 4), "an id that is no token of the tokenizer is none"  # type: ignore[attr-defined]
    assert model.env is not None
    responses, _ = model.predict(model.env.reset())  # type: ignore[arg-type]
    lengths = (responses != VOCABULARY).sum(axis=1)
    last = responses[np.arange(64), lengths - 1]
    assert {EOS, 4} <= set(last[lengths < 12].tolist()) <= {EOS, 4}
    inside = responses[:, :-1][responses[:, 1:] != VOCABULARY]
    assert not np.isin(inside, [EOS, 4]).any()
    infos = model.env.step(responses)[3]
    assert [info["response_truncated"] for info in infos] == [
        bool(length == 12 and token != EOS) for length, token in zip(lengths, last, strict=True)
    ]
    assert [info["response_tokens"] for info in infos] == lengths.tolist()


def test_given_ends_count_alone(tmp_path: Path) -> None:
    folder = ending_model(tmp_path, [4, EOS])
    assert make(model=folder, eos_token_id=5).eos_token_id == 5
    assert make(model=folder, eos_token_id=[6, 5, 5]).eos_token_id == (5, 6)
    assert make(model=folder, eos_token_id=None).eos_token_id == (EOS, 4), "no tokenizer is needed for the model's"
    with pytest.raises(ValueError, match=rf"in \[0, {VOCABULARY}\), got \[1, 99\]\. .*a token or a list of them"):
        make(eos_token_id=[1, 99])
    with pytest.raises(ValueError, match="end-of-sequence token"):
        make(eos_token_id=[])


def test_the_default_of_an_architecture_is_no_end(tmp_path: Path) -> None:
    """Llama's configuration says 2 where nothing was said: here that is the digit 0."""
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
    )  # fmt: skip
    assert make(model=config, eos_token_id=None, tokenizer=TOKENIZER).eos_token_id == EOS
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    assert make(model=tmp_path, eos_token_id=None, tokenizer=TOKENIZER).eos_token_id == EOS


def test_a_folder_names_model_and_tokenizer(tmp_path: Path) -> None:
    tiny_model(seed=4).save_pretrained(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    env = MathReasoningEnv(from_pairs([("1+2=", "3")]), tmp_path, 8, 2, lambda response, gold: float(response == gold))
    model = SPPO(
        "TransformerPolicy", env, n_episodes=2, policy_kwargs={"model": str(tmp_path)}, device="cpu", learning_rate=0.0
    )
    assert env.reset()[0]["prompt_ids"][:4].tolist() == TOKENIZER.encode("1+2=")
    weights = tiny_model(seed=4).state_dict()
    for name, found in model.policy.model.state_dict().items():  # type: ignore[attr-defined]
        assert th.equal(found, weights[name])


def test_messages() -> None:
    with pytest.raises(ValueError, match=r"policy_kwargs=\{'model': …\} with a hub name"):
        SPPO("TransformerPolicy", echo_env(), device="cpu")
    with pytest.raises(ValueError, match="dtype must be"):
        make(dtype="float16")
    with pytest.raises(ValueError, match="temperature must be above 0"):
        make(temperature=0.0)
    with pytest.raises(ValueError, match="end-of-sequence token"):
        make(eos_token_id=None)
    with pytest.raises(ValueError, match=f"model knows 7 tokens, but the environment uses {VOCABULARY}"):
        make(model=tiny_config(vocab_size=7))
    with pytest.raises(ValueError, match=rf"also vocab_size={VOCABULARY - 1}, the model's number"):
        make(model=tiny_config(vocab_size=VOCABULARY - 1))
    with pytest.raises(ValueError, match="critic knows 7 tokens"):
        make(critic=tiny_config(vocab_size=7))
    with pytest.raises(ValueError, match=r"Dict\(prompt_ids, prompt_len"):
        SPPO("TransformerPolicy", "CartPole-v1", policy_kwargs={"model": tiny_config()}, device="cpu")
    capped = Gemma2Config(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, final_logit_softcapping=0.5, initializer_range=1.0,
    )  # fmt: skip
    with pytest.raises(ValueError, match="changes its logits after the output layer"):
        make(model=capped)


def test_a_model_with_adapters_is_refused() -> None:
    adapted = peft.get_peft_model(tiny_model(), peft.LoraConfig(target_modules=["q_proj"]))
    for role in ("model", "critic"):
        with pytest.raises(TypeError, match=rf"{role} must be a hub name, .* got PeftModel\..* merge_and_unload\(\); .*lora="):
            make(**{role: adapted})


@pytest.mark.parametrize("started", ["1", "", "2"])
def test_one_of_several_processes_is_refused(started: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", started)
    if started == "2":
        with pytest.raises(
            ValueError, match=r"WORLD_SIZE is 2: .* torchrun or accelerate launch .*Start one process.*'vllm-server'"
        ):
            make()
    else:
        make()


def test_the_way_of_working_can_be_changed() -> None:
    policy = make(tokens_per_pass=50)
    weights, version = policy.model.lm_head.weight, policy.weight_version
    before = policy.generator
    policy.change_operation(tokens_per_pass=7, responses_per_pass=2)
    assert (policy.tokens_per_pass, policy.logits_per_pass, policy.weight_version) == (7, 1024, version)
    assert policy.generator is not before
    assert policy.generator.responses_per_pass == 2  # type: ignore[attr-defined]
    assert policy.model.lm_head.weight is weights
    assert policy._get_constructor_parameters()["responses_per_pass"] == 2, "and it is saved"
    away = make(generator="vllm-server", generator_kwargs={"url": "http://here:1"})
    away.change_operation(generator_kwargs={"url": "http://there:2"})
    assert away.generator.url == "http://there:2"  # type: ignore[attr-defined]
    for wrong, message in (
        ({"tokens_per_pass": 0}, "tokens_per_pass must be at least 1, got 0"),
        ({"temperature": 0.5}, "temperature cannot be changed in a policy that is there; these can: tokens_per_pass"),
        ({"tokens_per_pass": 9, "responses_per_pass": 4}, "responses_per_pass=4 is for generator='transformers'"),
    ):
        with pytest.raises(ValueError, match=message):
            away.change_operation(**wrong)
    assert (away.tokens_per_pass, away.generator.url) == (None, "http://there:2")  # type: ignore[attr-defined]


def test_a_control_learning_rate_for_a_pretrained_model_is_pointed_out(tmp_path: Any) -> None:
    tiny_model().save_pretrained(tmp_path)
    for source in (str(tmp_path), tmp_path, tiny_model()):
        with pytest.warns(UserWarning, match="suits control tasks"):
            policy = make(model=source)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        make(model=tiny_config())
    assert isinstance(policy.model, type(AutoModelForCausalLM.from_config(tiny_config())))
