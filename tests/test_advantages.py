"""Every estimator against numbers worked by hand, against SB3's buffer and against the paper's closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer

from sppo_rl.advantages import (
    generalized_advantage,
    group_mean_std,
    group_normalized,
    hybrid,
    leave_one_out,
    residual,
    standardized,
    whiten,
    whiten_sequences,
)
from sppo_rl.episodes import EpisodeBatch
from sppo_rl.estimators import (
    DecisionLevel,
    GreedyBaseline,
    GroupNormalized,
    Hybrid,
    LeaveOneOut,
    Normalization,
    SequenceLevel,
)


def tensor(*values: float) -> th.Tensor:
    return th.tensor(values, dtype=th.float32)


def batch_of(**fields: Any) -> EpisodeBatch:
    """A batch of which only some fields matter."""
    return EpisodeBatch(**{**dict.fromkeys(EpisodeBatch._fields), **fields})


def token_batch(mask: list[list[int]], rewards: list[float], values: list[list[float]]) -> EpisodeBatch:
    """One step for each sequence, K decisions in a step."""
    return batch_of(
        mask=th.tensor(mask, dtype=th.bool),
        sequence=th.arange(len(mask)),
        rewards=th.tensor(rewards),
        outcome=th.tensor(rewards),
        values=th.tensor(values),
    )


# ---------------------------------------------------------------- SPPO


def test_residual_is_outcome_less_value() -> None:
    # 1 - .25, 0 - .25, 1 - .75, 0 - .75
    th.testing.assert_close(residual(tensor(1, 0, 1, 0), tensor(0.25, 0.25, 0.75, 0.75)), tensor(0.75, -0.25, 0.25, -0.75))


def test_sppo_estimator_takes_the_outcome_as_critic_target_and_one_scalar_per_sequence() -> None:
    result = SequenceLevel()(batch_of(outcome=tensor(1, 0), values=tensor(0.3, 0.3)))
    th.testing.assert_close(result.advantages, tensor(0.7, -0.3))
    assert result.critic_targets is not None
    th.testing.assert_close(result.critic_targets, tensor(1, 0))


def test_standardized_divides_by_the_bernoulli_deviation() -> None:
    # V = .2: sqrt(.2 * .8) = .4, so (1 - .2) / .4 = 2 and (0 - .2) / .4 = -.5; V = .5: deviation .5, so ±1
    got = standardized(tensor(1, 0, 1, 0), tensor(0.2, 0.2, 0.5, 0.5))
    th.testing.assert_close(got, tensor(2, -0.5, 1, -1), atol=1e-3, rtol=0)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_standardized_stays_bounded_where_the_critic_is_certain_and_wrong(value: float) -> None:
    got = standardized(tensor(1.0 - value), tensor(value), eps=1e-4)
    # (±1) / sqrt(0 + 1e-4) = ±100
    th.testing.assert_close(got.abs(), tensor(100.0))


@pytest.mark.parametrize("outcome", [-0.5, 1.5])
def test_standardized_refuses_outcomes_that_are_no_probabilities(outcome: float) -> None:
    with pytest.raises(ValueError, match=rf"{outcome:g}"):
        SequenceLevel("standardized")(batch_of(outcome=tensor(0, outcome), values=tensor(0.5, 0.5)))


# ---------------------------------------------------------------- groups


def test_group_mean_std_of_interleaved_groups() -> None:
    # group 7: 1, 0, 0, 0 → mean .25, squares .5625 + 3 * .0625 = .75, unbiased variance .25, deviation .5
    # group 3: 1, 0 → mean .5, deviation sqrt(.25 + .25)
    outcome, group = tensor(1, 1, 0, 0, 0, 0), th.tensor([7, 3, 7, 3, 7, 7])
    mean, std, count = group_mean_std(outcome, group)
    th.testing.assert_close(mean, tensor(0.25, 0.5, 0.25, 0.5, 0.25, 0.25))
    th.testing.assert_close(std, tensor(0.5, math.sqrt(0.5), 0.5, math.sqrt(0.5), 0.5, 0.5))
    th.testing.assert_close(count, tensor(4, 2, 4, 2, 4, 4))


def test_group_normalized_by_hand() -> None:
    # (1 - .25) / .5 = 1.5 and (0 - .25) / .5 = -.5
    got = group_normalized(tensor(1, 0, 0, 0), th.zeros(4, dtype=th.int64), eps=0.0)
    th.testing.assert_close(got, tensor(1.5, -0.5, -0.5, -0.5))


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, 0.7, -123.4])
def test_groups_that_agree_earn_exactly_nothing(value: float) -> None:
    assert th.equal(group_normalized(th.full((7,), value), th.zeros(7, dtype=th.int64)), th.zeros(7))


@pytest.mark.parametrize("successes", [1, 100, 350, 500, 900, 999])
def test_group_normalized_is_the_papers_bernoulli_formula(successes: int) -> None:
    # Appendix A of the paper: (R - p) / sqrt(p (1 - p)); n / (n - 1) of the unbiased variance is all that differs
    outcome = th.zeros(1000, dtype=th.float64)
    outcome[:successes] = 1.0
    p = successes / 1000
    expected = (outcome - p) / math.sqrt(p * (1 - p))
    th.testing.assert_close(group_normalized(outcome, th.zeros(1000, dtype=th.int64), eps=0.0), expected, rtol=6e-4, atol=0)


def test_standardized_sppo_with_a_perfect_critic_is_grpo_with_endless_samples() -> None:
    outcome = (th.arange(1000) < 300).float()
    grpo = group_normalized(outcome, th.zeros(1000, dtype=th.int64))
    th.testing.assert_close(standardized(outcome, th.full((1000,), 0.3)), grpo, rtol=2e-3, atol=0)


def test_leave_one_out_by_hand() -> None:
    # the others' means: 0 for the success; (1 + 0 + 0) / 3 for each failure. Second group, 2, 4, 9: 2 - 6.5, 4 - 5.5, 9 - 3
    outcome, group = tensor(1, 0, 0, 0, 2, 4, 9), th.tensor([0, 0, 0, 0, 1, 1, 1])
    third = 1.0 / 3.0
    th.testing.assert_close(leave_one_out(outcome, group), tensor(1, -third, -third, -third, -4.5, -1.5, 6))


def test_leave_one_out_against_a_loop() -> None:
    generator = th.Generator().manual_seed(0)
    outcome, group = th.randn(30, generator=generator), th.arange(30) % 6
    for i, got in enumerate(leave_one_out(outcome, group)):
        others = [outcome[j].item() for j in range(30) if j != i and group[j] == group[i]]
        assert got.item() == pytest.approx(outcome[i].item() - sum(others) / len(others), abs=1e-5)


def test_leave_one_out_refuses_a_group_of_one() -> None:
    with pytest.raises(ValueError, match="at least two"):
        leave_one_out(tensor(1, 0, 1), th.tensor([0, 0, 1]))


def test_grpo_and_rloo_estimators_read_the_group_and_want_no_critic() -> None:
    batch = batch_of(outcome=tensor(1, 0, 1, 1), group=th.tensor([0, 0, 1, 1]))
    # deviation of (1, 0) is sqrt(.5): (1 - .5) / sqrt(.5) = sqrt(.5)
    root = math.sqrt(0.5)
    th.testing.assert_close(GroupNormalized()(batch).advantages, tensor(root, -root, 0, 0), atol=2e-4, rtol=0)
    th.testing.assert_close(LeaveOneOut()(batch).advantages, tensor(1, -1, 0, 0))
    assert GroupNormalized()(batch).critic_targets is None
    assert LeaveOneOut()(batch).critic_targets is None


def test_remax_subtracts_the_greedy_outcome() -> None:
    result = GreedyBaseline()(batch_of(outcome=tensor(1, 0, 1, 0), greedy_outcome=tensor(1, 1, 0, 0)))
    th.testing.assert_close(result.advantages, tensor(0, -1, 1, 0))
    assert result.critic_targets is None


# ---------------------------------------------------------------- GAE


def test_gae_by_hand() -> None:
    # γ = λ = 1: 1 - .5, 1 - .6, 1 - .9.  Second sequence of one step, reward 2, value 5: -3
    got = generalized_advantage(tensor(0, 0, 1, 2), tensor(0.5, 0.6, 0.9, 5), th.tensor([0, 0, 0, 1]))
    th.testing.assert_close(got, tensor(0.5, 0.4, 0.1, -3))
    # γ = .5, λ = .5: δ2 = 1 - .9 = .1, δ1 = .45 - .6 = -.15, δ0 = .3 - .5 = -.2
    # A2 = .1, A1 = -.15 + .25 * .1 = -.125, A0 = -.2 + .25 * -.125 = -.23125
    got = generalized_advantage(tensor(0, 0, 1), tensor(0.5, 0.6, 0.9), th.zeros(3, dtype=th.int64), 0.5, 0.5)
    th.testing.assert_close(got, tensor(-0.23125, -0.125, 0.1))


@pytest.mark.parametrize("gamma", [1.0, 0.99, 0.7, 0.0])
@pytest.mark.parametrize("gae_lambda", [1.0, 0.95, 0.5, 0.0])
def test_gae_equals_sb3s_rollout_buffer(gamma: float, gae_lambda: float) -> None:
    rng = np.random.default_rng(1)
    lengths = [1, 7, 3, 1, 12, 2, 1]
    total = sum(lengths)
    rewards, values = rng.normal(size=total).astype(np.float32), rng.normal(size=total).astype(np.float32)
    buffer = RolloutBuffer(
        total, spaces.Box(-1, 1, (1,)), spaces.Discrete(2), device="cpu", gae_lambda=gae_lambda, gamma=gamma, n_envs=1
    )
    starts = np.zeros(total, dtype=np.float32)
    starts[np.cumsum([0, *lengths[:-1]])] = 1.0
    for i in range(total):
        buffer.add(
            np.zeros((1, 1)),
            np.zeros((1, 1)),
            rewards[i : i + 1],
            starts[i : i + 1],
            th.tensor(values[i : i + 1]),
            th.zeros(1),
        )
    buffer.compute_returns_and_advantage(last_values=th.full((1,), 99.0), dones=np.ones(1))
    sequence = th.arange(len(lengths)).repeat_interleave(th.tensor(lengths))
    got = generalized_advantage(th.tensor(rewards), th.tensor(values), sequence, gamma, gae_lambda)
    np.testing.assert_allclose(got.numpy(), buffer.advantages[:, 0], atol=2e-6)


def test_ppo_with_gamma_and_lambda_one_is_return_to_go_less_value() -> None:
    rng = np.random.default_rng(2)
    lengths = [5, 1, 9]
    total = sum(lengths)
    rewards, values = rng.normal(size=total), rng.normal(size=total)
    sequence = np.repeat(np.arange(3), lengths)
    to_go = np.array([sum(rewards[j] for j in range(i, total) if sequence[j] == sequence[i]) for i in range(total)])
    batch = batch_of(
        mask=th.ones(total, 1, dtype=th.bool),
        sequence=th.tensor(sequence),
        rewards=th.tensor(rewards),
        values=th.tensor(values).unsqueeze(1),
    )
    result = DecisionLevel(normalize=False)(batch)
    np.testing.assert_allclose(result.advantages.numpy()[:, 0], to_go - values, atol=1e-12)
    assert result.critic_targets is not None
    np.testing.assert_allclose(result.critic_targets.numpy()[:, 0], to_go, atol=1e-12)


def test_ppo_targets_are_lambda_returns_and_not_whitened() -> None:
    # λ = 0: targets are r + γ V(s'): 0 + .9 * .6, 1 + 0
    batch = batch_of(
        mask=th.ones(2, 1, dtype=th.bool),
        sequence=th.zeros(2, dtype=th.int64),
        rewards=tensor(0, 1),
        values=tensor(0.5, 0.6).unsqueeze(1),
    )
    result = DecisionLevel(gamma=0.9, gae_lambda=0.0, normalize=True)(batch)
    assert result.critic_targets is not None
    th.testing.assert_close(result.critic_targets[:, 0], tensor(0.54, 1.0))
    # and the advantages .04 and .4 are whitened: ±sqrt(.5) for two numbers with the unbiased deviation
    th.testing.assert_close(result.advantages[:, 0], tensor(-math.sqrt(0.5), math.sqrt(0.5)))


def test_ppo_on_tokens_pays_the_reward_at_the_last_decision_and_skips_padding() -> None:
    # values at padding are garbage on purpose; a response of 3 tokens, one of 1 (left-aligned), one with a hole
    batch = token_batch(
        mask=[[1, 1, 1, 0], [1, 0, 0, 0], [1, 0, 1, 0]],
        rewards=[1.0, 0.5, 2.0],
        values=[[0.5, 0.6, 0.9, 77.0], [0.25, 77.0, 77.0, 77.0], [1.0, 77.0, 3.0, 77.0]],
    )
    result = DecisionLevel(normalize=False)(batch)
    expected = th.tensor([[0.5, 0.4, 0.1, 0.0], [0.25, 0.0, 0.0, 0.0], [1.0, 0.0, -1.0, 0.0]])
    th.testing.assert_close(result.advantages, expected)
    assert result.critic_targets is not None
    mask = batch.mask
    th.testing.assert_close(result.critic_targets[mask], th.tensor([1.0, 1.0, 1.0, 0.5, 2.0, 2.0]))
    # λ = 0 shows where the reward is paid: δ = γ V' - V inside, R - V at the end
    result = DecisionLevel(gae_lambda=0.0, normalize=False)(batch)
    expected = th.tensor([[0.1, 0.3, 0.1, 0.0], [0.25, 0.0, 0.0, 0.0], [2.0, 0.0, -1.0, 0.0]])
    th.testing.assert_close(result.advantages, expected)


# ---------------------------------------------------------------- hybrid


def test_hybrid_by_hand() -> None:
    # first sequence: .5 for the whole; .75 * .5 + .25 * (.5, .4, .1). Second: -3 for the whole; .75 * -3 + .25 * (-1, 1)
    of_sequence, of_decisions, sequence = tensor(0.5, -3), tensor(0.5, 0.4, 0.1, -1, 1), th.tensor([4, 4, 4, 6, 6])
    th.testing.assert_close(hybrid(of_sequence, of_decisions, sequence, 0.25), tensor(0.5, 0.475, 0.4, -2.5, -2))
    assert th.equal(hybrid(of_sequence, of_decisions, sequence, 0.0), tensor(0.5, 0.5, 0.5, -3, -3))
    assert th.equal(hybrid(of_sequence, of_decisions, sequence, 1.0), of_decisions)


def test_hybrid_on_tokens_by_hand() -> None:
    batch = token_batch(
        mask=[[1, 1, 1, 0], [0, 1, 0, 1]],
        rewards=[1.0, 0.0],
        values=[[0.5, 0.6, 0.9, 77.0], [77.0, 0.25, 77.0, 0.75]],
    )
    result = Hybrid(0.5)(batch)
    # (1 - .5 + 1 - V_t) / 2 and (0 - .25 + 0 - V_t) / 2
    th.testing.assert_close(result.advantages, th.tensor([[0.5, 0.45, 0.3, 0.0], [0.0, -0.25, 0.0, -0.5]]))
    assert result.critic_targets is not None
    th.testing.assert_close(result.critic_targets[batch.mask], tensor(1, 1, 1, 0, 0))
    # λ = 0: A_t is V_{t+1} - V_t, and R - V_t at the end; what the whole sequence earns is R - V_0 all the same
    result = Hybrid(0.5, gae_lambda=0.0)(batch)
    th.testing.assert_close(result.advantages, th.tensor([[0.3, 0.4, 0.3, 0.0], [0.0, 0.125, 0.0, -0.5]]))
    assert result.critic_targets is not None
    th.testing.assert_close(result.critic_targets[batch.mask], tensor(0.6, 0.9, 1, 0.75, 0))


def test_hybrid_between_sppo_and_ppo() -> None:
    rng = np.random.default_rng(3)
    lengths = [4, 1, 6]
    outcome = th.tensor([1.0, 0.0, 1.0])
    sequence = th.arange(3).repeat_interleave(th.tensor(lengths))
    ends = th.tensor(lengths).cumsum(0) - 1
    values = th.tensor(rng.uniform(size=(11, 1)), dtype=th.float32)
    fields = {"mask": th.ones(11, 1, dtype=th.bool), "sequence": sequence, "outcome": outcome}
    batch = batch_of(**fields, values=values, rewards=th.zeros(11).index_fill(0, ends, 1.0) * outcome[sequence])
    first = batch_of(outcome=outcome, values=values[ends + 1 - th.tensor(lengths), 0])
    sppo, ppo = SequenceLevel()(first).advantages[sequence].unsqueeze(1), DecisionLevel(normalize=False)(batch)
    for alpha in (0.0, 0.3, 1.0):
        got = Hybrid(alpha)(batch)
        th.testing.assert_close(got.advantages, (1 - alpha) * sppo + alpha * ppo.advantages)
        assert th.equal(got.critic_targets, ppo.critic_targets)


# ---------------------------------------------------------------- whitening


def test_whiten_by_hand() -> None:
    # counted: 1, 2, 3 with mean 2 and unbiased deviation 1; the masked 100 counts for nothing
    got = whiten(th.tensor([[1.0, 2.0], [3.0, 100.0]]), th.tensor([[True, True], [True, False]]))
    th.testing.assert_close(got, th.tensor([[-1.0, 0.0], [1.0, 0.0]]))


def test_whiten_leaves_a_single_decision_alone() -> None:
    got = whiten(th.tensor([[0.3, 5.0]]), th.tensor([[True, False]]))
    th.testing.assert_close(got, th.tensor([[0.3, 0.0]]))


def test_whiten_of_equal_advantages_is_zero_and_finite() -> None:
    assert th.equal(whiten(th.full((4, 1), 0.25), th.ones(4, 1, dtype=th.bool)), th.zeros(4, 1))


@pytest.mark.parametrize("scale", [True, False])
def test_rounding_is_not_whitened(scale: bool) -> None:
    """Equal advantages have no mean in single precision that is exactly theirs, and R - V may be off by the last digit of V."""
    generator = th.Generator().manual_seed(0)
    for size in (1, 3, 12, 64):
        for value in th.rand(100, generator=generator):
            equal = -value.repeat(size)
            nearly = equal * (1.0 + 6e-8 * th.randint(-1, 2, (size,), generator=generator))
            decisions = th.randint(2, 1000, (size,), generator=generator)
            for advantages in (equal, nearly):
                assert not whiten_sequences(advantages, decisions, scale).any()
                if size > 1:
                    assert not whiten(advantages.unsqueeze(1), th.ones(size, 1, dtype=th.bool), scale).any()
    small = th.tensor([1e-5, 2e-5, 3e-5])
    expected = th.tensor([-1.0, 0.0, 1.0]) * (1.0 if scale else 1e-5)
    th.testing.assert_close(
        whiten(small.unsqueeze(1), th.ones(3, 1, dtype=th.bool), scale).squeeze(1), expected, rtol=1e-2, atol=0
    )
    th.testing.assert_close(whiten_sequences(small, th.ones(3), scale), expected, rtol=1e-2, atol=0)


def test_whitened_sequences_by_hand() -> None:
    # three decisions at .5, one at -.5: mean .25, sum of squares 3 / 16 + 9 / 16 over 3
    th.testing.assert_close(whiten_sequences(tensor(0.5, -0.5), tensor(3, 1)), tensor(0.5, -1.5))
    th.testing.assert_close(whiten_sequences(tensor(0.5, -0.5), tensor(3, 1), scale=False), tensor(0.25, -0.75))
    assert th.equal(whiten_sequences(tensor(0.3), tensor(1)), tensor(0.3))


@pytest.mark.parametrize("normalize", [True, "center"])
@pytest.mark.parametrize("form", ["residual", "standardized"])
def test_whitened_sequences_are_what_whitening_gives_their_decisions(form: str, normalize: Normalization) -> None:
    mask = th.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1], [0, 1, 0]], dtype=th.bool)
    fields = {"mask": mask, "sequence": th.tensor([0, 0, 1, 2]), "outcome": tensor(1, 0, 1), "values": tensor(0.2, 0.3, 0.9)}
    plain, whitened = (SequenceLevel(form, to)(batch_of(**fields)).advantages for to in (False, normalize))
    of_decisions = plain[fields["sequence"]].unsqueeze(1).expand_as(mask)
    expected = whiten(of_decisions, mask, scale=normalize is True)
    th.testing.assert_close(whitened[fields["sequence"]].unsqueeze(1) * mask, expected)
    assert not th.allclose(plain, whitened)


def test_a_centered_critic_that_is_wrong_about_everything_is_as_good_as_one_that_is_right() -> None:
    """Seven failures and a success: with V = .97 for all the plain residual pushes away from every action, the successful one too."""
    outcome = tensor(1, *[0] * 7)
    fields = {"mask": th.ones(8, 1, dtype=th.bool), "sequence": th.arange(8), "outcome": outcome}
    wrong, right = (batch_of(**fields, values=th.full((8,), value)) for value in (0.97, 0.125))
    assert SequenceLevel()(wrong).advantages[0] < 0.04
    centered = SequenceLevel(normalize="center")
    th.testing.assert_close(centered(wrong).advantages, tensor(0.875, *[-0.125] * 7))
    th.testing.assert_close(centered(wrong).advantages, SequenceLevel()(right).advantages)


@pytest.mark.parametrize("make", [DecisionLevel, lambda normalize: Hybrid(0.5, normalize=normalize)], ids=["PPO", "hybrid"])
def test_advantages_of_decisions_can_be_shifted_alone(make: Callable[..., DecisionLevel | Hybrid]) -> None:
    batch = token_batch([[1, 1], [1, 0]], [1.0, 0.0], [[0.5, 0.9], [0.3, 0.0]])
    plain = make(normalize=False)(batch).advantages
    mean = plain[batch.mask].mean()
    assert abs(float(mean)) > 0.01
    th.testing.assert_close(make(normalize="center")(batch).advantages, th.where(batch.mask, plain - mean, 0.0))
