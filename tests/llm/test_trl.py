"""GRPO and RLOO held to TRL's own trainers on the same tokens: advantages, loss and gradient."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch as th
from datasets import Dataset
from gymnasium import spaces
from transformers import AutoModelForCausalLM
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from sppo_rl.episodes import EpisodeBatch
from sppo_rl.estimators import GroupNormalized, LeaveOneOut
from sppo_rl.llm import TransformerPolicy
from sppo_rl.updates import ActorUpdate
from tests.llm.conftest import TOKENIZER, VOCABULARY, tiny_model

GROUP, BUDGET, CLIP = 4, 6, 0.2
PROMPTS = ["ab1?", "c22?", "0?"]


def reward(completions: list[str], completion_ids: list[list[int]], **_: Any) -> list[float]:
    """Something that differs within a group: whether the first token's id is even."""
    return [float(ids[0] % 2 == 0) for ids in completion_ids]


def trainer_and_inputs(
    trainer_class: Any, config_class: Any, folder: Path, **options: Any
) -> tuple[Any, dict[str, th.Tensor]]:
    """A TRL trainer on a tiny model, and what it sampled and scored."""
    config = config_class(
        output_dir=str(folder), per_device_train_batch_size=GROUP * len(PROMPTS), num_generations=GROUP, max_completion_length=BUDGET,
        temperature=1.0, epsilon=CLIP, num_iterations=2, use_cpu=True, bf16=False, report_to="none", seed=0, **options,
    )  # fmt: skip
    # TRL loads its reference model from where the model came from
    tiny_model(vocab_size=VOCABULARY, tie_word_embeddings=False).save_pretrained(folder / "model")
    trainer = trainer_class(
        model=AutoModelForCausalLM.from_pretrained(folder / "model", dtype=th.float32),
        args=config,
        reward_funcs=reward,
        train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in PROMPTS]),
        processing_class=TOKENIZER,
    )
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    th.manual_seed(1)
    inputs = trainer._generate_and_score_completions([{"prompt": prompt} for prompt in PROMPTS for _ in range(GROUP)])
    return trainer, inputs


def our_batch(policy: TransformerPolicy, inputs: dict[str, th.Tensor], reference: Any = None) -> EpisodeBatch:
    """The same tokens as an :class:`EpisodeBatch`; TRL pads prompts on the left."""
    lengths = inputs["prompt_mask"].sum(dim=1)
    prompt_ids = th.zeros(len(lengths), 8, dtype=th.int64)
    for row, length in enumerate(lengths.tolist()):
        prompt_ids[row, :length] = inputs["prompt_ids"][row, -length:]
    mask = inputs["completion_mask"].bool()
    actions = th.full((len(lengths), BUDGET), VOCABULARY)
    actions[:, : mask.shape[1]] = th.where(mask, inputs["completion_ids"], VOCABULARY)
    observations = {"prompt_ids": prompt_ids, "prompt_len": lengths.unsqueeze(1), "problem_id": th.zeros(len(lengths), 1)}
    with th.no_grad():
        evaluation = policy.evaluate_decisions(observations, actions)
        reference_log_prob = None if reference is None else reference.evaluate_decisions(observations, actions).log_prob
    outcome = (actions[:, 0] % 2 == 0).float()
    rows = th.arange(len(outcome))
    return EpisodeBatch(
        contexts=observations,
        observations=observations,
        actions=actions,
        mask=evaluation.mask,
        old_log_prob=evaluation.log_prob,
        sampler_log_prob=None,
        sequence=rows,
        rewards=outcome,
        outcome=outcome,
        values=None,
        group=rows // GROUP,
        greedy_outcome=None,
        reference_log_prob=reference_log_prob,
    )


def our_policy(model: Any) -> TransformerPolicy:
    observation_space = spaces.Dict(
        prompt_ids=spaces.Box(0, VOCABULARY, (8,), int), prompt_len=spaces.Box(0, 8, (1,), int), problem_id=spaces.Discrete(3)
    )
    action_space = spaces.MultiDiscrete([VOCABULARY + 1] * BUDGET)
    return TransformerPolicy(
        observation_space, action_space, lambda _: 1e-4, copy.deepcopy(model), with_critic=False, tokenizer=TOKENIZER
    )


def gradients(model: Any) -> dict[str, th.Tensor]:
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def compare_steps(trainer: Any, inputs: dict[str, th.Tensor], policy: Any, batch: EpisodeBatch, aggregation: str) -> None:
    """Loss and gradient of one step, TRL's and ours."""
    trainer.model.zero_grad()
    loss = trainer.compute_loss(trainer.model, inputs)
    loss.backward()
    step = ActorUpdate(policy, batch, inputs["advantages"], CLIP, 0.0, 1e9, aggregation, skip_zero_advantage=False)
    step.step(th.arange(len(batch.outcome)))
    assert step.means()["policy_gradient_loss"] == pytest.approx(loss.item(), rel=1e-4, abs=1e-6)
    ours, theirs = gradients(policy.model), gradients(trainer.model)
    assert ours.keys() == theirs.keys()
    scale = max(float(gradient.abs().max()) for gradient in theirs.values())
    assert scale > 0.0
    for name, gradient in theirs.items():
        th.testing.assert_close(ours[name], gradient, rtol=1e-3, atol=1e-4 * scale)


@pytest.mark.parametrize(("loss_type", "aggregation"), [("grpo", "sequence-mean"), ("bnpo", "decision-mean")])
def test_grpo_is_trls(loss_type: str, aggregation: str, tmp_path: Path) -> None:
    trainer, inputs = trainer_and_inputs(GRPOTrainer, GRPOConfig, tmp_path, loss_type=loss_type, beta=0.0)
    policy = our_policy(trainer.model)
    batch = our_batch(policy, inputs)
    assert 0.0 < batch.outcome.mean() < 1.0
    assert len(set(batch.mask.sum(dim=1).tolist())) > 1, "responses of several lengths"
    th.testing.assert_close(GroupNormalized()(batch).advantages, inputs["advantages"], rtol=1e-4, atol=1e-5)
    # the policy has moved since it sampled: ratios on both sides of the clip range
    moved = 0.4 * th.randn(batch.old_log_prob.shape, generator=th.Generator().manual_seed(2))
    batch = batch._replace(old_log_prob=batch.old_log_prob + moved)
    inputs["old_per_token_logps"] = batch.old_log_prob[:, : inputs["completion_mask"].shape[1]]
    compare_steps(trainer, inputs, policy, batch, aggregation)


@pytest.mark.parametrize("kl_coef", [0.0, 0.3])
def test_rloo_is_trls(kl_coef: float, tmp_path: Path) -> None:
    """TRL's ratio is that of the whole response; on the policy that sampled, its gradient is the sum of the decisions'."""
    trainer, inputs = trainer_and_inputs(RLOOTrainer, RLOOConfig, tmp_path, beta=kl_coef)
    policy = our_policy(trainer.model)
    reference = our_policy(trainer.model)
    batch = our_batch(policy, inputs, reference)
    if kl_coef:
        # move away from the reference, and score the same responses again
        with th.no_grad():
            for parameter in trainer.model.parameters():
                parameter += 0.05 * th.randn(parameter.shape, generator=th.Generator().manual_seed(3))
        th.manual_seed(1)
        inputs = trainer._generate_and_score_completions([{"prompt": prompt} for prompt in PROMPTS for _ in range(GROUP)])
        policy = our_policy(trainer.model)
        batch = our_batch(policy, inputs, reference)
        assert batch.reference_log_prob is not None
        assert (batch.old_log_prob - batch.reference_log_prob).abs().max() > 0.05
    th.testing.assert_close(LeaveOneOut(kl_coef)(batch).advantages, inputs["advantages"], rtol=1e-3, atol=1e-4)
    trainer.model.zero_grad()
    trainer.compute_loss(trainer.model, inputs).backward()
    step = ActorUpdate(policy, batch, inputs["advantages"], CLIP, 0.0, 1e9, "sequence-sum", skip_zero_advantage=False)
    step.step(th.arange(len(batch.outcome)))
    ours, theirs = gradients(policy.model), gradients(trainer.model)
    scale = max(float(gradient.abs().max()) for gradient in theirs.values())
    for name, gradient in theirs.items():
        th.testing.assert_close(ours[name], gradient, rtol=1e-3, atol=1e-4 * scale)
