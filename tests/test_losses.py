"""The pure loss functions against hand-worked numbers and slow float64 loops."""

from __future__ import annotations

import math

import pytest
import torch as th

from sppo_rl.losses import (
    approximate_kl,
    binary_cross_entropy,
    clipped,
    clipped_surrogate,
    decision_weights,
    require_finite,
    squared_error,
    truncated_importance,
)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "slope"),
    # slope: derivative of the loss by the ratio, for ε = .2
    [
        (1.5, 1.0, -1.2, 0.0),  # good and already likelier: clipped
        (1.1, 2.0, -2.2, -2.0),
        (0.5, 1.0, -0.5, -1.0),  # good but less likely: pulled back
        (1.5, -1.0, 1.5, 1.0),  # bad but likelier: pushed down
        (0.9, -3.0, 2.7, 3.0),
        (0.5, -1.0, 0.8, 0.0),  # bad and already less likely: clipped
        (1.0, 0.0, 0.0, 0.0),
    ],
)
def test_clipped_surrogate_and_its_gradient_by_hand(ratio: float, advantage: float, loss: float, slope: float) -> None:
    log_prob = th.tensor([math.log(ratio) - 2.0], dtype=th.float64, requires_grad=True)
    old = th.tensor([-2.0], dtype=th.float64)
    result = clipped_surrogate(log_prob, old, th.tensor([advantage], dtype=th.float64), 0.2)
    assert result.item() == pytest.approx(loss)
    result.sum().backward()
    assert log_prob.grad is not None
    # d ratio / d log_prob = ratio
    assert log_prob.grad.item() == pytest.approx(slope * ratio)


@pytest.mark.parametrize("clip_range", [0.05, 0.2, 0.5])
def test_clipped_surrogate_against_a_loop_without_min_and_clamp(clip_range: float) -> None:
    generator = th.Generator().manual_seed(3)
    log_prob = th.randn(200, generator=generator, dtype=th.float64) * 0.4 - 1.0
    old = th.randn(200, generator=generator, dtype=th.float64) * 0.4 - 1.0
    advantages = th.randn(200, generator=generator, dtype=th.float64)
    got_in = log_prob.clone().requires_grad_()
    clipped_surrogate(got_in, old, advantages, clip_range).sum().backward()
    assert got_in.grad is not None
    kinds = set()
    for i in range(200):
        r, a = math.exp(log_prob[i] - old[i]), advantages[i].item()
        # PPO in words: progress beyond the clip range earns nothing more
        beyond = (a > 0 and r > 1 + clip_range) or (a < 0 and r < 1 - clip_range)
        kinds.add((a > 0, r > 1 + clip_range, r < 1 - clip_range))
        gain = a * (1 + clip_range if r > 1 else 1 - clip_range) if beyond else a * r
        single = clipped_surrogate(log_prob[i], old[i], advantages[i], clip_range)
        assert single.item() == pytest.approx(-gain, rel=1e-12)
        assert got_in.grad[i].item() == pytest.approx(0.0 if beyond else -a * r, rel=1e-12)
    assert len(kinds) == 6, "both signs of the advantage on both sides of the clip range and inside"


def test_decision_weights_by_hand() -> None:
    # two sequences of lengths 3 and 1
    mask, lengths = th.ones(4, 1, dtype=th.bool), th.tensor([3, 3, 3, 1])
    cases = {
        "decision-mean": [1 / 4, 1 / 4, 1 / 4, 1 / 4],
        "sequence-mean": [1 / 6, 1 / 6, 1 / 6, 1 / 2],
        "sequence-sum": [1 / 2, 1 / 2, 1 / 2, 1 / 2],
    }
    for name, expected in cases.items():
        th.testing.assert_close(decision_weights(mask, lengths, 2, name)[:, 0], th.tensor(expected))


def test_decision_weights_of_responses_with_padding() -> None:
    # tokens: lengths 2 and 3 of 3; five decisions in all
    mask = th.tensor([[True, True, False], [True, True, True]])
    lengths = th.tensor([2, 3])
    w = decision_weights(mask, lengths, 2, "decision-mean")
    th.testing.assert_close(w, th.tensor([[0.2, 0.2, 0.0], [0.2, 0.2, 0.2]]))
    w = decision_weights(mask, lengths, 2, "sequence-mean")
    th.testing.assert_close(w, th.tensor([[1 / 4, 1 / 4, 0.0], [1 / 6, 1 / 6, 1 / 6]]))
    w = decision_weights(mask, lengths, 2, "sequence-sum")
    th.testing.assert_close(w, th.tensor([[0.5, 0.5, 0.0], [0.5, 0.5, 0.5]]))


def test_decision_weights_name_what_exists() -> None:
    with pytest.raises(ValueError, match=r"decision-mean, sequence-mean, sequence-sum.*'mean'"):
        decision_weights(th.ones(1, 1, dtype=th.bool), th.ones(1), 1, "mean")


def test_binary_cross_entropy_is_the_papers_formula() -> None:
    logits = th.linspace(-4, 4, 17, dtype=th.float64)
    for target in (0.0, 1.0, 0.3):
        for logit in logits:
            v = 1.0 / (1.0 + math.exp(-logit))
            expected = -(target * math.log(v) + (1.0 - target) * math.log(1.0 - v))
            got = binary_cross_entropy(logit, th.tensor(target, dtype=th.float64))
            assert got.item() == pytest.approx(expected, rel=1e-10)


def test_binary_cross_entropy_survives_a_critic_that_is_certain() -> None:
    logits = th.tensor([200.0, -200.0], requires_grad=True)
    loss = binary_cross_entropy(logits, th.tensor([0.0, 1.0]))
    th.testing.assert_close(loss, th.tensor([200.0, 200.0]))
    loss.sum().backward()
    # the gradient of BCE by the logit is V - R
    th.testing.assert_close(logits.grad, th.tensor([1.0, -1.0]))


def test_squared_error_and_its_clipped_form_by_hand() -> None:
    values = th.tensor([1.0, 1.0, 0.9], requires_grad=True)
    targets, old = th.tensor([2.0, 0.0, 2.0]), th.tensor([0.5, 0.5, 0.8])
    th.testing.assert_close(squared_error(values, targets), th.tensor([1.0, 1.0, 1.21]))
    # ε = .2: clipped values .7, .7, .9 → errors 1.69, .49, 1.21; the larger: 1.69 (clipped, no gradient), 1 (plain), 1.21
    loss = squared_error(values, targets, old, 0.2)
    th.testing.assert_close(loss, th.tensor([1.69, 1.0, 1.21]))
    loss[:2].sum().backward()
    th.testing.assert_close(values.grad, th.tensor([0.0, 2.0, 0.0]))


def test_approximate_kl_by_hand_and_in_expectation() -> None:
    # r = 2: 2 - 1 - log 2; r = .5: -.5 + log 2
    log_two = math.log(2.0)
    got = approximate_kl(th.tensor([log_two, -log_two, 0.0]), th.zeros(3))
    th.testing.assert_close(got, th.tensor([1.0 - log_two, log_two - 0.5, 0.0]))
    # its mean under the old policy is the divergence itself
    p, q = th.tensor([0.5, 0.3, 0.2], dtype=th.float64), th.tensor([0.2, 0.3, 0.5], dtype=th.float64)
    expectation = (p * approximate_kl(q.log(), p.log())).sum()
    th.testing.assert_close(expectation, (p * (p / q).log()).sum())


def test_clipped_counts_both_sides() -> None:
    ratios = th.tensor([0.5, 0.81, 1.0, 1.19, 1.5])
    assert clipped(ratios.log(), th.zeros(5), 0.2).tolist() == [1.0, 0.0, 0.0, 0.0, 1.0]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_require_finite_names_the_tensor_and_the_value(bad: float) -> None:
    require_finite("train/loss", th.tensor([1.0, 2.0]))
    with pytest.raises(ValueError, match=rf"train/loss holds 1 NaN.*of 3.*{bad}"):
        require_finite("train/loss", th.tensor([1.0, bad, 2.0]))


def test_truncated_importance_by_hand() -> None:
    """The worked example: the policy's .5 against .4, .1 and .8 of the sampler, with a cap of 2."""
    old = th.full((3,), 0.5, requires_grad=True).log()
    weights = truncated_importance(old, th.tensor([0.4, 0.1, 0.8]).log(), 2.0)
    th.testing.assert_close(weights, th.tensor([1.25, 2.0, 0.625]))
    assert not weights.requires_grad
    assert truncated_importance(th.tensor([0.0]), th.tensor([-500.0]), 3.0).item() == 3.0, "an overflow is cut too"
