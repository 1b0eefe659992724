"""The same networks and updates on a GPU as on the CPU; needs one (``pytest -m gpu``)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from transformers import AutoModelForCausalLM

from sppo_rl import GRPO, PPO, RLOO, SPPO, ReMax
from sppo_rl.algorithm import SequenceAlgorithm
from sppo_rl.checkpoint import load_checkpoint, save_checkpoint
from sppo_rl.llm.generation import Sampling, TransformersGenerator
from tests.llm.conftest import (
    EOS,
    MASTERED,
    VOCABULARY,
    digit_learner,
    echo_env,
    greedy_success,
    tiny_config,
    tiny_model,
)
from tests.llm.test_policy import actions, make, observe, with_live_head

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not th.cuda.is_available(), reason="needs a GPU: what it compares with the CPU runs there"),
]


@pytest.fixture(autouse=True)
def exact_products() -> Iterator[None]:
    """float32 means float32 here: no TF32."""
    before = th.backends.cuda.matmul.allow_tf32
    th.backends.cuda.matmul.allow_tf32 = False
    yield
    th.backends.cuda.matmul.allow_tf32 = before


def to_gpu(tensors: Any) -> Any:
    return {name: tensor.cuda() for name, tensor in tensors.items()} if isinstance(tensors, dict) else tensors.cuda()


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-4), ("bfloat16", 0.15)])
def test_log_probs_values_and_gradients_are_the_cpus(packing: bool, dtype: str, tolerance: float) -> None:
    found = []
    for device, precision in (("cpu", "float32"), ("cuda", dtype)):
        th.manual_seed(0)
        policy = with_live_head(make(precision, packing=packing)).to(device)
        observations, responses = observe(), actions()
        if device == "cuda":
            observations, responses = to_gpu(observations), to_gpu(responses)
        evaluation = policy.evaluate_decisions(observations, responses)
        values = policy.context_value_logits(observations)
        assert evaluation.log_prob.dtype == values.dtype == th.float32
        (evaluation.log_prob[evaluation.mask].mean() + values.mean()).backward()
        gradient = th.cat([parameter.grad.flatten() for parameter in policy.parameters() if parameter.grad is not None])
        found.append([evaluation.log_prob.detach().cpu(), values.detach().cpu(), gradient.cpu() / gradient.norm().cpu()])
    for ours, expected in zip(found[1], found[0], strict=True):
        assert expected.abs().max() > 0.01
        assert (ours - expected).abs().max() < tolerance * max(1.0, float(expected.abs().max()))


def test_greedy_responses_are_the_cpus() -> None:
    prompts = [np.array(ids) for ids in ([5, 6, 7], [9], [4, 4, 8, 3, 2, 11])]
    sampling = Sampling(12, EOS, VOCABULARY, 1.0, 0, greedy=True)
    responses = []
    for device in ("cpu", "cuda"):
        generator = TransformersGenerator(tiny_model().to(device))
        generator.sync_weights([], 1)
        responses.append(generator.generate(prompts, sampling, 1))
    for ours, expected in zip(responses[1], responses[0], strict=True):
        np.testing.assert_array_equal(ours.token_ids, expected.token_ids)
        np.testing.assert_allclose(ours.log_prob, expected.log_prob, rtol=1e-3, atol=1e-4)


def test_samples_follow_the_policy_and_its_seed() -> None:
    """Frequencies of 4,000 first tokens against the model's probabilities."""
    model = tiny_model(initializer_range=0.1).cuda()
    generator = TransformersGenerator(model)
    generator.sync_weights([], 1)
    prompts = [np.array([5, 6, 7])] * 4000
    first, again, other = (
        [int(response.token_ids[0]) for response in generator.generate(prompts, Sampling(1, EOS, VOCABULARY, 1.0, seed), 1)]
        for seed in (1, 1, 2)
    )
    assert first == again != other
    with th.no_grad():
        logits = model(input_ids=th.tensor([[5, 6, 7]], device="cuda")).logits[0, -1, :VOCABULARY]
    expected = th.softmax(logits, dim=0).cpu().numpy()
    frequencies = np.bincount(first, minlength=VOCABULARY) / 4000
    assert (np.abs(frequencies - expected) < 4 * np.sqrt(expected / 4000) + 1e-3).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_sppo_masters_a_task(dtype: str) -> None:
    """As on the CPU: three prompts are learned, and the critic knows that no answer to the fourth is right."""
    model = digit_learner(MASTERED, "cuda", dtype=dtype).learn(128 * 24)
    assert greedy_success(model) == 0.75
    solvability = model.policy.critic.predict_solvability([prompt for prompt, _ in MASTERED])  # type: ignore[attr-defined]
    assert solvability[:3].min() > 0.6
    assert solvability[3] < 0.4


@pytest.mark.parametrize(
    ("algorithm", "options"),
    [
        (SPPO, {"hybrid": 0.5, "importance_cap": 2.0}),
        (PPO, {"critic_loss": "bce"}),
        (GRPO, {"group_size": 4}),
        (RLOO, {"group_size": 4}),
        (ReMax, {}),
        (SPPO, {"policy_kwargs": {"lora": {"r": 4, "target_modules": "all-linear"}, "gradient_checkpointing": True}}),
    ],
)
def test_an_update_in_bfloat16_is_finite_and_goes_on_from_a_checkpoint(
    algorithm: type[SequenceAlgorithm], options: dict[str, Any], tmp_path: Path
) -> None:
    def build() -> SequenceAlgorithm:
        own = options.get("policy_kwargs", {})
        return algorithm(
            "TransformerPolicy", echo_env(), learning_rate=1e-3, n_episodes=32, batch_size=16, n_epochs=1, seed=0, device="cuda",
            **{**options, "policy_kwargs": {"model": tiny_config(), "dtype": "bfloat16", **own}},
        )  # fmt: skip

    model = build().learn(32 * 6)
    assert all(bool(th.isfinite(parameter).all()) for parameter in model.policy.parameters())
    save_checkpoint(model, tmp_path)
    resumed = load_checkpoint(algorithm, tmp_path, build().env, "cuda")  # type: ignore[arg-type]
    assert resumed is not None
    for each in (model, resumed):
        each.learn(32, reset_num_timesteps=False, log_interval=None)
    assert resumed.num_timesteps == model.num_timesteps
    assert resumed.logger.name_to_value["rollout/success_rate"] == model.logger.name_to_value["rollout/success_rate"]
    # sums of a GPU may be added up in another order
    for name, weight in model.policy.state_dict().items():
        th.testing.assert_close(resumed.policy.state_dict()[name], weight, rtol=1e-2, atol=2e-3, msg=name)


def test_logits_of_a_whole_batch_never_exist_at_once() -> None:
    """512 tokens times 50,000 outputs would be 98 MiB in float32, and their gradient as much again."""
    config = tiny_config(vocab_size=50_000)
    policy = make(model=AutoModelForCausalLM.from_config(config), logits_per_pass=32).cuda()
    rows = 128
    observations = to_gpu(observe([[5, 6, 7, 8]] * rows))
    responses = to_gpu(actions([[3, 4, 5, 6, EOS]] * rows))
    policy.evaluate_decisions(observations, responses).log_prob.sum().backward()
    th.cuda.reset_peak_memory_stats()
    before = th.cuda.memory_allocated()
    policy.evaluate_decisions(observations, responses).log_prob.sum().backward()
    policy_gradients = 4 * sum(parameter.numel() for parameter in policy.model.parameters())
    assert th.cuda.max_memory_allocated() - before < 50e6 + policy_gradients


def test_control_takes_the_cpus_first_step() -> None:
    weights = []
    for device in ("cpu", "cuda"):
        model = SPPO("MlpPolicy", "CartPole-v1", n_episodes=8, n_epochs=1, critic_loss="mse", seed=3, device=device).learn(50)
        weights.append([parameter.detach().cpu() for parameter in model.policy.actor_parameters()])
    for ours, expected in zip(weights[1], weights[0], strict=True):
        th.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-4)
