"""All five algorithms through learn(), a task that SPPO masters, and what is logged."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch as th

from sppo_rl import GRPO, PPO, RLOO, SPPO, ReMax
from sppo_rl.algorithm import SequenceAlgorithm
from sppo_rl.envs.reasoning import MathReasoningEnv, MathReasoningVecEnv, from_pairs
from tests.llm.conftest import EOS, TOKENIZER, VOCABULARY, echo_env, tiny_config

SMALL = {"model": tiny_config(16, 1)}


@pytest.mark.parametrize(
    ("algorithm", "options"),
    [
        (SPPO, {}),
        (SPPO, {"advantage": "standardized", "group_size": 4, "critic_init": "first_batch", "ent_coef": 0.01}),
        (PPO, {}),
        (PPO, {"critic_loss": "bce"}),
        (GRPO, {"group_size": 4}),
        (RLOO, {"group_size": 4, "loss_aggregation": "sequence-mean"}),
        (ReMax, {}),
    ],
)
def test_every_algorithm_trains(algorithm: type[SequenceAlgorithm], options: dict[str, Any]) -> None:
    model = algorithm(
        "TransformerPolicy",
        echo_env(),
        n_episodes=16,
        batch_size=8,
        n_epochs=1,
        policy_kwargs=SMALL,
        seed=0,
        device="cpu",
        **options,
    )
    before = [p.detach().clone() for p in model.policy.actor_parameters()]
    # learning from random weights needs a success now and then
    model.learn(16 * 6)
    assert any(not th.equal(a, b) for a, b in zip(before, model.policy.actor_parameters(), strict=True))
    assert all(bool(th.isfinite(p).all()) for p in model.policy.parameters())
    assert model.num_timesteps == 16 * 6, "a timestep is one response, greedy ones included"
    assert model._episode_num == 16 * (3 if algorithm is ReMax else 6)


def test_an_environment_object_is_used_in_its_batched_form() -> None:
    env = echo_env()
    model = SPPO("TransformerPolicy", env, n_episodes=12, policy_kwargs=SMALL, device="cpu")
    assert isinstance(model.env, MathReasoningVecEnv)
    assert model.env.num_envs == 12
    assert model.env.task is env.task, "neither the problems nor the verifier exist twice"


def test_groups_share_their_prompt() -> None:
    model = GRPO("TransformerPolicy", echo_env(), n_episodes=12, group_size=4, policy_kwargs=SMALL, seed=1, device="cpu")
    batches = []
    train = model.train
    model.train = lambda batch: (batches.append(batch), train(batch))[1]  # type: ignore[method-assign, assignment, func-returns-value]
    model.learn(24)
    problems = [batch.contexts["problem_id"].view(3, 4).tolist() for batch in batches]
    assert all(len(set(group)) == 1 for update in problems for group in update)
    assert sorted(group[0] for group in problems[0] + problems[1][:1]) == [0, 1, 2, 3], "a pass poses every problem once"


def test_sppo_masters_a_task_that_depends_on_the_prompt() -> None:
    """Chance is one in 18; the policy has 39,000 weights. No answer to the last prompt is right, and the critic comes to know it."""
    pairs = [("0?", "0"), ("a1?", "1"), ("ab2?", "2"), ("3?", "none")]
    model = SPPO(
        "TransformerPolicy",
        MathReasoningEnv(from_pairs(pairs), TOKENIZER, 8, 1, lambda response, gold: float(response == gold)),
        learning_rate=3e-3,
        critic_learning_rate=1e-2,
        n_episodes=128,
        batch_size=64,
        n_epochs=2,
        critic_init="first_batch",
        policy_kwargs={
            "model": tiny_config(64, 1, initializer_range=0.05),
            "critic": tiny_config(16, 1, initializer_range=0.2),
        },
        seed=0,
        device="cpu",
    )
    model.learn(128 * 20)
    assert model.env is not None
    responses, _ = model.predict(model.env.reset(), deterministic=True)  # type: ignore[arg-type]
    assert responses.shape == (128, 1)
    _, rewards, _, _ = model.env.step(responses)
    assert np.mean(rewards) == 0.75
    solvability = model.policy.critic.predict_solvability([prompt for prompt, _ in pairs])  # type: ignore[attr-defined]
    assert solvability[:3].min() > 0.7
    assert solvability[3] < 0.3


def test_lengths_and_truncation_are_logged() -> None:
    model = SPPO("TransformerPolicy", echo_env(budget=3), n_episodes=32, policy_kwargs=SMALL, seed=0, device="cpu")
    logged: dict[str, Any] = {}
    batches = []
    train = model.train
    model.train = lambda batch: (batches.append(batch), train(batch))[1]  # type: ignore[method-assign, assignment, func-returns-value]
    model.learn(0)
    model.learn(32, log_interval=None)  # type: ignore[arg-type]
    logged.update(model.logger.name_to_value)
    (batch,) = batches
    lengths = batch.mask.sum(dim=1).float()
    has_end = ((batch.actions == EOS) & batch.mask).any(dim=1)
    assert logged["rollout/response_length"] == pytest.approx(lengths.mean().item())
    assert logged["rollout/truncated"] == pytest.approx((~has_end).float().mean().item())
    assert model.num_tokens == int(lengths.sum())
    assert ((batch.actions == VOCABULARY) == ~batch.mask).all()


def test_without_transformers_it_is_said_what_to_install() -> None:
    script = (
        "import sys; sys.modules['transformers'] = None\n"
        "from sppo_rl import SPPO\n"
        "SPPO('MlpPolicy', 'CartPole-v1', device='cpu')\n"
        "try: SPPO('TransformerPolicy', 'CartPole-v1', device='cpu')\n"
        "except ImportError as error: print(error)\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "'TransformerPolicy' needs transformers: pip install 'sppo-rl[llm]'."
