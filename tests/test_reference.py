"""The weights that training began with, and RLOO's penalty on the distance from them."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch as th

from sppo_rl import RLOO
from sppo_rl.advantages import penalized
from sppo_rl.checkpoint import load_checkpoint, save_checkpoint
from sppo_rl.estimators import LeaveOneOut
from sppo_rl.reference import copy_of, exchanged
from tests.helpers import MatchEnv, control_batch, dummy, spy


def make(kl_coef: float = 0.1, **kwargs: object) -> RLOO:
    return RLOO("MlpPolicy", dummy(MatchEnv, 2), n_episodes=8, kl_coef=kl_coef, learning_rate=0.01, seed=0, **kwargs)


def test_penalty_by_hand() -> None:
    """The example of the docstring."""
    got = penalized(th.tensor([1.0, 1.0]), th.tensor([0.1, 0.3, -0.2]), th.tensor([0, 0, 1]), 0.5)
    th.testing.assert_close(got, th.tensor([0.8, 1.1]))


def test_the_penalty_is_paid_before_the_others_are_subtracted() -> None:
    """Two sequences of one group, log-ratios .4 and 0: penalised outcomes .8 and 0 at β = .5."""
    batch = control_batch(
        [2, 1], 2, th.zeros(3, dtype=th.int64), th.tensor([[-0.5], [-0.5], [-0.7]]), th.zeros(3, 2), th.tensor([1.0, 0.0])
    )
    batch = batch._replace(group=th.tensor([0, 0]), reference_log_prob=th.tensor([[-0.6], [-0.8], [-0.7]]))
    th.testing.assert_close(LeaveOneOut(0.5)(batch).advantages, th.tensor([0.8, -0.8]))
    th.testing.assert_close(LeaveOneOut()(batch).advantages, th.tensor([1.0, -1.0]))


def test_a_negative_coefficient_is_refused() -> None:
    with pytest.raises(ValueError, match=r"kl_coef must not be negative, got -0\.1"):
        make(-0.1)


def test_exchanged_weights_come_back_even_after_an_error() -> None:
    parameters = [th.nn.Parameter(th.tensor([1.0, 2.0])), th.nn.Parameter(th.tensor([[3.0]]))]
    other = th.tensor([7.0, 8.0, 9.0])

    def fail() -> None:
        with exchanged(parameters, other):
            assert [p.tolist() for p in parameters] == [[7.0, 8.0], [[9.0]]]
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert copy_of(parameters).tolist() == [1.0, 2.0, 3.0]


def test_the_reference_is_where_learning_began() -> None:
    """Not where construction ended: a prior may have been loaded since."""
    model = make()
    with th.no_grad():
        model.policy.action_net.bias += th.tensor([1.0, -1.0])
    began = copy_of(model.policy.actor_parameters())
    batches = spy(model)
    model.learn(60)
    first, last = batches[0], batches[-1]
    assert first.reference_log_prob is not None
    assert last.reference_log_prob is not None
    th.testing.assert_close(first.reference_log_prob, first.old_log_prob)
    assert (last.reference_log_prob - last.old_log_prob).abs().max() > 0.01, "the policy has moved, the reference has not"
    assert th.equal(model.reference, began)
    with exchanged(model.policy.actor_parameters(), began):
        expected = model.policy.evaluate_decisions(last.observations, last.actions).log_prob.detach()
    th.testing.assert_close(last.reference_log_prob, expected)


def test_without_a_penalty_nothing_is_kept() -> None:
    model = make(0.0)
    batches = spy(model)
    model.learn(30)
    assert batches[-1].reference_log_prob is None
    assert model.reference.numel() == 0


def test_the_reference_survives_saving_and_a_checkpoint(tmp_path: Path) -> None:
    model = make().learn(60)
    began = model.reference.clone()
    assert not th.equal(began, copy_of(model.policy.actor_parameters()))
    file = io.BytesIO()
    model.save(file)
    file.seek(0)
    loaded = RLOO.load(file, env=dummy(MatchEnv, 2))
    assert th.equal(loaded.reference, began)
    loaded.learn(30, reset_num_timesteps=False)
    assert th.equal(loaded.reference, began), "going on is no new beginning"
    save_checkpoint(model, tmp_path)
    resumed = load_checkpoint(RLOO, tmp_path, dummy(MatchEnv, 2))
    assert resumed is not None
    assert th.equal(resumed.reference, began)


def test_a_strong_penalty_keeps_the_policy_where_it_was() -> None:
    """MatchEnv pays for one of two actions; β = 1000 makes any distance cost more than it pays."""
    moved = []
    for kl_coef in (0.0, 1000.0):
        model = make(kl_coef, batch_size=8)
        before = copy_of(model.policy.actor_parameters())
        batches = spy(model)
        model.learn(1200)
        assert not th.equal(before, copy_of(model.policy.actor_parameters()))
        moved.append(float(batches[-1].outcome.mean()))
    assert moved[0] > moved[1] + 0.1
