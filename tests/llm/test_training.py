"""All five algorithms through learn(), a task that SPPO masters, and what is logged."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch as th

from sppo_rl import GRPO, PPO, RLOO, SPPO, ReMax
from sppo_rl.algorithm import SequenceAlgorithm
from sppo_rl.envs.reasoning import MathReasoningVecEnv
from sppo_rl.episodes import EpisodeBatch
from tests.helpers import spy
from tests.llm.conftest import EOS, MASTERED, VOCABULARY, digit_learner, echo_env, greedy_success, tiny_config

SMALL = {"model": tiny_config(16, 1)}


@pytest.mark.parametrize(
    ("algorithm", "options"),
    [
        (SPPO, {}),
        (SPPO, {"advantage": "standardized", "group_size": 4, "critic_init": "first_batch", "ent_coef": 0.01}),
        (SPPO, {"hybrid": 0.5}),
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
    model.learn(16 * 12)
    assert any(not th.equal(a, b) for a, b in zip(before, model.policy.actor_parameters(), strict=True))
    assert all(bool(th.isfinite(p).all()) for p in model.policy.parameters())
    assert model.num_timesteps == 16 * 12, "a timestep is one response, greedy ones included"
    assert model._episode_num == 16 * (6 if algorithm is ReMax else 12)


def test_an_environment_object_is_used_in_its_batched_form() -> None:
    env = echo_env()
    model = SPPO("TransformerPolicy", env, n_episodes=12, policy_kwargs=SMALL, device="cpu")
    assert isinstance(model.env, MathReasoningVecEnv)
    assert model.env.num_envs == 12
    assert model.env.task is env.task, "neither the problems nor the verifier exist twice"


def test_groups_share_their_prompt() -> None:
    model = GRPO("TransformerPolicy", echo_env(), n_episodes=12, group_size=4, policy_kwargs=SMALL, seed=1, device="cpu")
    batches = spy(model)
    model.learn(24)
    problems = [batch.contexts["problem_id"].view(3, 4).tolist() for batch in batches]
    assert all(len(set(group)) == 1 for update in problems for group in update)
    assert sorted(group[0] for group in problems[0] + problems[1][:1]) == [0, 1, 2, 3], "a pass poses every problem once"


def test_sppo_masters_a_task_that_depends_on_the_prompt() -> None:
    """No answer to the last prompt is right, and the critic comes to know it."""
    model = digit_learner(MASTERED, "cpu").learn(128 * 20)
    assert greedy_success(model) == 0.75
    solvability = model.policy.critic.predict_solvability([prompt for prompt, _ in MASTERED])  # type: ignore[attr-defined]
    assert solvability[:3].min() > 0.7
    assert solvability[3] < 0.3


def test_lengths_and_truncation_are_logged() -> None:
    model = SPPO("TransformerPolicy", echo_env(budget=3), n_episodes=32, policy_kwargs=SMALL, seed=0, device="cpu")
    logged: dict[str, Any] = {}
    batches = spy(model)
    model.learn(0)
    model.learn(32, log_interval=None)
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


def one_batch(model: SPPO) -> EpisodeBatch:
    """The episodes of one update, which is not made."""
    batches: list[EpisodeBatch] = []
    train, model.train = model.train, batches.append  # type: ignore[method-assign]
    model.learn(model.n_episodes, log_interval=None)
    model.train = train  # type: ignore[method-assign]
    return batches[0]


def test_the_samplers_log_probs_are_logged_and_truncated_importance_weighs_each_decision() -> None:
    """A sampler that is off by known factors: the step is minus the gradient of a loss written down here."""
    cap, rate = 1.5, 0.25
    model = SPPO(
        "TransformerPolicy", echo_env(budget=3), n_episodes=16, n_epochs=1, max_grad_norm=1e9, importance_cap=cap,
        policy_kwargs=SMALL, seed=0, device="cpu",
    )  # fmt: skip
    model.policy.generator.is_training_code = False  # as if another engine had sampled
    batch = one_batch(model)
    assert batch.sampler_log_prob is not None
    assert (batch.old_log_prob - batch.sampler_log_prob).abs().max() < 1e-4, "the model itself samples"
    assert (batch.sampler_log_prob[~batch.mask] == 0.0).all()
    factors = th.linspace(0.5, 2.5, batch.mask.numel()).view_as(batch.old_log_prob)
    batch = batch._replace(sampler_log_prob=batch.old_log_prob - factors.log())
    policy: Any = model.policy
    policy.optimizer = th.optim.SGD(policy.actor_parameters(), lr=rate)
    model.lr_schedule = lambda _: rate
    before = [parameter.detach().clone() for parameter in policy.actor_parameters()]
    log_prob = policy.evaluate_decisions(batch.observations, batch.actions).log_prob
    assert batch.values is not None
    advantage = (batch.outcome - batch.values).unsqueeze(1)
    loss = -(factors.clamp(max=cap) * log_prob * advantage)[batch.mask].mean()
    gradients = th.autograd.grad(loss, policy.actor_parameters())
    model.train(batch)
    for old, new, gradient in zip(before, policy.actor_parameters(), gradients, strict=True):
        th.testing.assert_close(new, old - rate * gradient, rtol=1e-4, atol=1e-6)
    gaps = factors.log().abs()[batch.mask]
    logged = model.logger.name_to_value
    assert logged["rollout/sampler_log_prob_gap"] == pytest.approx(gaps.mean().item(), rel=1e-4)
    assert logged["rollout/sampler_log_prob_gap_max"] == pytest.approx(gaps.max().item(), rel=1e-4)


def test_truncated_importance_needs_a_sampler_that_tells() -> None:
    model = SPPO("MlpPolicy", "CartPole-v1", importance_cap=2.0, n_episodes=2, device="cpu")
    with pytest.raises(ValueError, match=r"importance_cap=2\.0 needs the sampler's log-probabilities, but MlpPolicy"):
        model.learn(1)
    with pytest.raises(ValueError, match=r"importance_cap must be positive, got 0\.0"):
        SPPO("MlpPolicy", "CartPole-v1", importance_cap=0.0, device="cpu")


def test_log_probs_stay_with_their_responses_when_copies_play_several_episodes() -> None:
    env = echo_env(budget=3).batched(3)
    model = SPPO("TransformerPolicy", env, n_episodes=8, policy_kwargs=SMALL, seed=0, device="cpu")
    model.policy.generator.is_training_code = False  # so that both are there to be compared
    batch = one_batch(model)
    assert batch.sampler_log_prob is not None
    assert len({tuple(row) for row in batch.actions.tolist()}) > 4
    th.testing.assert_close(batch.sampler_log_prob, batch.old_log_prob, rtol=0.0, atol=1e-4)


@pytest.mark.parametrize(("dtype", "again"), [("float32", False), ("bfloat16", True)])
def test_log_probabilities_are_computed_twice_only_where_the_sampler_rounds_otherwise(dtype: str, again: bool) -> None:
    model = SPPO(
        "TransformerPolicy",
        echo_env(budget=5),
        n_episodes=24,
        policy_kwargs={**SMALL, "dtype": dtype, "temperature": 0.8},
        seed=0,
        device="cpu",
    )
    batch = one_batch(model)
    with th.no_grad():
        evaluation = model.policy.evaluate_decisions(batch.observations, batch.actions)
    assert th.equal(batch.mask, evaluation.mask)
    assert (batch.sampler_log_prob is not None) == again
    th.testing.assert_close(batch.old_log_prob, evaluation.log_prob, rtol=1e-4, atol=1e-4)


def test_the_gap_of_log_probabilities_that_are_taken_over_is_logged() -> None:
    """The generator's own are used as they are; the first minibatch, read before its step, tells how far they are off."""
    model = SPPO(
        "TransformerPolicy",
        echo_env(budget=3),
        n_episodes=16,
        batch_size=8,
        n_epochs=2,
        policy_kwargs=SMALL,
        seed=0,
        device="cpu",
    )
    batch = one_batch(model)
    assert batch.sampler_log_prob is None, "taken over"
    off = 0.25
    model.train(batch._replace(old_log_prob=th.where(batch.mask, batch.old_log_prob - off, 0.0)))
    logged = model.logger.name_to_value
    assert logged["rollout/sampler_log_prob_gap"] == pytest.approx(off, abs=1e-3)
    assert logged["rollout/sampler_log_prob_gap_max"] == pytest.approx(off, abs=1e-3)


@pytest.mark.parametrize("target_kl", [None, 1e-9], ids=["trained", "beyond the limit"])
def test_no_gradient_lies_beside_a_generation(target_kl: float | None) -> None:
    """On a GPU they would be as large as the weights of both networks, where the generator wants its cache."""
    model = SPPO("TransformerPolicy", echo_env(), n_episodes=4, n_epochs=2, target_kl=target_kl, policy_kwargs=SMALL, seed=0)
    policy: Any = model.policy
    seen: list[int] = []
    generate = policy.generator.generate

    def watching(*args: Any, **kwargs: Any) -> Any:
        seen.append(sum(p.grad is not None for p in policy.parameters()))
        return generate(*args, **kwargs)

    policy.generator.generate = watching
    model.learn(12)
    assert seen == [0] * len(seen)
    assert len(seen) >= 3
