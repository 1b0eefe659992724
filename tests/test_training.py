"""Whole updates against a plain reimplementation of the paper's algorithm, and what surrounds their gradient steps."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch as th
from torch import nn

from sppo_rl import PPO, RLOO, SPPO
from sppo_rl.algorithm import SequenceAlgorithm
from sppo_rl.episodes import EpisodeBatch
from sppo_rl.estimators import Hybrid, Normalization
from sppo_rl.updates import ActorUpdate
from tests.helpers import FixedRewardEnv, GeneralPolicy, MatchEnv, control_batch, dummy, set_chunks, spy

CLIP = 0.2


def model_and_batch(
    algorithm: type[SequenceAlgorithm] = SPPO, policy: Any = "MlpPolicy", **kwargs: Any
) -> tuple[Any, EpisodeBatch]:
    """A model that has never learned, ready to train on handmade episodes."""
    env = dummy(lambda: MatchEnv(steps=3), 2)
    model: Any = algorithm(policy, env, **{"n_episodes": 8, "seed": 0, "policy_kwargs": {"net_arch": [8, 8]}, **kwargs})
    model._setup_learn(1000)
    generator = th.Generator().manual_seed(1)
    lengths = [3, 1, 7, 2, 5, 1, 4, 4]
    total = sum(lengths)
    observations = th.randn(total, 2, generator=generator)
    actions = th.randint(2, (total,), generator=generator)
    ends = th.tensor(lengths).cumsum(0) - 1
    outcome = th.tensor([1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0])
    with th.no_grad():
        old = model.policy.evaluate_decisions(observations, actions).log_prob
        if model.estimator.critic == "context":
            values = model.policy.predict_values(observations[ends + 1 - th.tensor(lengths)])[:, 0]
        else:
            values = model.policy.predict_values(observations)
    return model, control_batch(lengths, 2, actions, old, observations, outcome, values)


class Reference:
    """SPPO as the paper has it, in plain torch: two networks, two Adam optimizers, one scalar for each episode."""

    def __init__(self, model: Any, actor_rate: float, critic_rate: float):
        policy = copy.deepcopy(model.policy)
        self.actor = nn.Sequential(*policy.mlp_extractor.policy_net, policy.action_net)
        self.critic = nn.Sequential(*policy.mlp_extractor.value_net, policy.value_net)
        self.actor_optimizer = th.optim.Adam(self.actor.parameters(), lr=actor_rate, eps=1e-5)
        self.critic_optimizer = th.optim.Adam(self.critic.parameters(), lr=critic_rate, eps=1e-5)

    def values(self, contexts: Any) -> th.Tensor:
        return th.sigmoid(self.critic(contexts)[:, 0])

    def log_prob(self, batch: EpisodeBatch) -> th.Tensor:
        return th.distributions.Categorical(logits=self.actor(batch.observations)).log_prob(batch.actions)

    def update(self, batch: EpisodeBatch, epochs: int, clip: float, max_norm: float, standardize: bool) -> None:
        with th.no_grad():
            v = self.values(batch.contexts)
            advantage = batch.outcome - v
            if standardize:
                advantage = advantage / th.sqrt(v * (1 - v) + 1e-4)
            old = self.log_prob(batch)
        for _ in range(epochs):
            ratio = th.exp(self.log_prob(batch) - old)
            a = advantage[batch.sequence]
            loss = -th.minimum(ratio * a, th.clip(ratio, 1 - clip, 1 + clip) * a).mean()
            self.actor_optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.actor.parameters(), max_norm)
            self.actor_optimizer.step()
            v = self.values(batch.contexts)
            bce = -(batch.outcome * v.log() + (1 - batch.outcome) * (1 - v).log()).mean()
            self.critic_optimizer.zero_grad()
            bce.backward()
            nn.utils.clip_grad_norm_(self.critic.parameters(), max_norm)
            self.critic_optimizer.step()

    def assert_equal(self, model: Any) -> None:
        policy = model.policy
        theirs = nn.Sequential(*policy.mlp_extractor.policy_net, policy.action_net)
        th.testing.assert_close(dict(theirs.named_parameters()), dict(self.actor.named_parameters()), rtol=1e-4, atol=1e-5)
        theirs = nn.Sequential(*policy.mlp_extractor.value_net, policy.value_net)
        th.testing.assert_close(dict(theirs.named_parameters()), dict(self.critic.named_parameters()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("advantage", ["residual", "standardized"])
@pytest.mark.parametrize("max_grad_norm", [0.5, 0.01])
@pytest.mark.parametrize(("rates", "policy"), [((1e-3, 1e-3), "MlpPolicy"), ((3e-3, 1e-2), GeneralPolicy)])
def test_sppos_update_is_the_papers(advantage: str, max_grad_norm: float, rates: tuple[float, float], policy: Any) -> None:
    model, batch = model_and_batch(
        policy=policy,
        advantage=advantage,
        max_grad_norm=max_grad_norm,
        learning_rate=rates[0],
        critic_learning_rate=rates[1],
        n_epochs=10,
        clip_range=0.02,
    )
    reference = Reference(model, *rates)
    before = th.nn.utils.parameters_to_vector(model.policy.parameters()).clone()
    model.train(batch)
    reference.update(batch, 10, 0.02, max_grad_norm, advantage == "standardized")
    reference.assert_equal(model)
    moved = (th.nn.utils.parameters_to_vector(model.policy.parameters()) - before).abs().max()
    assert moved.item() > 5e-3, "far more than the tolerance of the comparison"
    assert model.logger.name_to_value["train/clip_fraction"] > 0.0, "the clip range mattered"


def test_a_whole_learn_call_is_the_papers_algorithm() -> None:
    """From collection to weights: values and old log-probabilities come from before the update, episode after episode."""
    model: Any = SPPO("MlpPolicy", dummy(lambda: MatchEnv(steps=3), 4), n_episodes=8, n_epochs=5, learning_rate=5e-3, seed=0)
    reference = Reference(model, 5e-3, 5e-3)
    batches = spy(model)
    model.learn(24 * 3)
    assert len(batches) == 3
    for batch in batches:
        th.testing.assert_close(batch.values, reference.values(batch.contexts).detach(), atol=2e-5, rtol=1e-4)
        th.testing.assert_close(batch.old_log_prob[:, 0], reference.log_prob(batch).detach(), atol=2e-5, rtol=1e-4)
        reference.update(batch, 5, 0.2, 0.5, False)
    reference.assert_equal(model)


def test_critic_targets_of_returns_are_normalised_and_advantages_scaled() -> None:
    model, batch = model_and_batch(critic_loss="mse", n_epochs=1, learning_rate=1e-3)
    outcome = batch.outcome * 400.0 - 300.0
    model.policy.value_scale.use_returns(outcome)
    with th.no_grad():
        logits = model.policy.context_value_logits(batch.contexts)
        values = model.policy.predict_values(batch.contexts)[:, 0]
    mean, std = outcome.mean(), outcome.std(unbiased=False)
    th.testing.assert_close(values, mean + std * logits)
    batch = batch._replace(outcome=outcome, values=values)
    model.train(batch)
    log = model.logger.name_to_value
    z = (outcome - mean) / std
    assert log["train/critic_loss"] == pytest.approx(float(((logits - z) ** 2).mean()), rel=1e-4)
    assert log["train/advantage_std"] == pytest.approx(float((z - logits).std(unbiased=False)), rel=1e-3)


def learned(algorithm: type[SequenceAlgorithm], **kwargs: Any) -> Any:
    """A model after three updates on outcomes in [0, 1]."""
    env = dummy(lambda: MatchEnv(steps=3), 4)
    return algorithm("MlpPolicy", env, n_episodes=8, learning_rate=5e-3, critic_loss="bce", seed=0, **kwargs).learn(24 * 3)


def test_hybrid_0_is_sppo_and_hybrid_1_is_ppo_without_normalisation() -> None:
    mixtures = {alpha: learned(SPPO, hybrid=alpha).policy.state_dict() for alpha in (0.0, 0.5, 1.0)}
    sppo, ppo = learned(SPPO).policy.state_dict(), learned(PPO, normalize_advantage=False).policy.state_dict()
    for name in sppo:
        assert th.equal(mixtures[0.0][name], sppo[name])
        assert th.equal(mixtures[1.0][name], ppo[name])
    assert not th.equal(mixtures[0.5]["action_net.weight"], sppo["action_net.weight"])
    assert not th.equal(mixtures[0.5]["action_net.weight"], ppo["action_net.weight"])


def test_hybrid_1_with_lambda_is_ppo_with_that_lambda() -> None:
    mixture = learned(SPPO, hybrid=1.0, gae_lambda=0.9).policy.state_dict()
    ppo = learned(PPO, normalize_advantage=False, gae_lambda=0.9).policy.state_dict()
    assert all(th.equal(mixture[name], ppo[name]) for name in ppo)
    assert not th.equal(mixture["action_net.weight"], learned(SPPO, hybrid=1.0).policy.state_dict()["action_net.weight"])


def test_a_normalised_hybrid_1_is_ppo_as_it_comes() -> None:
    mixture, ppo = learned(SPPO, hybrid=1.0, normalize_advantage=True).policy.state_dict(), learned(PPO).policy.state_dict()
    assert all(th.equal(mixture[name], ppo[name]) for name in ppo)


@pytest.mark.parametrize("hybrid", [0.0, 0.5])
@pytest.mark.parametrize("normalize", [True, False, "center"])
def test_normalised_advantages_need_no_scale_of_returns(hybrid: float, normalize: Normalization) -> None:
    model, batch = model_and_batch(hybrid=hybrid, critic_loss="mse", normalize_advantage=normalize, n_epochs=1)
    model.policy.value_scale.use_returns(batch.outcome * 14.0)  # their deviation is 7
    model.train(batch)
    expected = float(model.estimator(batch).advantages.std(unbiased=False)) / (1.0 if normalize is True else 7.0)
    assert model.logger.name_to_value["train/advantage_std"] == pytest.approx(expected, rel=1e-4)


def test_hybrid_advantages_of_returns_are_scaled_as_sppos_are() -> None:
    model, batch = model_and_batch(hybrid=0.5, critic_loss="mse", n_epochs=1)
    outcome = batch.outcome * 400.0 - 300.0
    model.policy.value_scale.use_returns(outcome)
    with th.no_grad():
        values = model.policy.predict_values(batch.observations)
    batch = batch._replace(outcome=outcome, values=values, rewards=batch.rewards * 400.0)
    ends = batch.sequence.unique_consecutive(return_counts=True)[1].cumsum(0) - 1
    batch.rewards[ends] -= 300.0
    model.train(batch)
    expected = Hybrid(0.5)(batch).advantages.std(unbiased=False) / outcome.std(unbiased=False)
    assert model.logger.name_to_value["train/advantage_std"] == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"hybrid": 1.5}, "hybrid must lie between 0 and 1, got 1.5"),
        ({"hybrid": -0.1}, "got -0.1"),
        ({"hybrid": 0.5, "gae_lambda": 1.1}, "gae_lambda must lie between 0 and 1, got 1.1"),
        ({"gae_lambda": 0.9}, "hybrid is 0, so there is none"),
        ({"hybrid": 0.5, "advantage": "standardized"}, "advantage is 'standardized'"),
    ],
)
def test_mixtures_that_cannot_be(kwargs: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SPPO("MlpPolicy", "CartPole-v1", **kwargs)


def test_a_mixture_is_saved_and_loaded(tmp_path: Any) -> None:
    learned(SPPO, hybrid=0.25, gae_lambda=0.9).save(tmp_path / "model")
    assert SPPO.load(tmp_path / "model").estimator == Hybrid(0.25, 0.9)


def test_warmup_trains_the_critic_alone_for_so_many_updates() -> None:
    model, batch = model_and_batch(critic_warmup=2)
    for update in range(3):
        actor = [p.clone() for p in model.policy.actor_parameters()]
        critic = [p.clone() for p in model.policy.critic_parameters()]
        model.train(batch)
        still = all(th.equal(a, b) for a, b in zip(actor, model.policy.actor_parameters(), strict=True))
        assert still == (update < 2)
        assert not all(th.equal(a, b) for a, b in zip(critic, model.policy.critic_parameters(), strict=True))
        assert not model.policy.optimizer.state or update == 2, "not even Adam's moments"


def count_steps(optimizer: th.optim.Optimizer) -> list[int]:
    """Count the optimizer's steps from now on, in a list that grows."""
    calls: list[int] = []
    step = optimizer.step

    def counting(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return step(*args, **kwargs)

    optimizer.step = counting  # type: ignore[method-assign]
    return calls


def test_target_kl_stops_the_actor_and_not_the_critic() -> None:
    model, batch = model_and_batch(target_kl=1e-4, n_epochs=10, learning_rate=3e-2, critic_learning_rate=1e-3)
    actor, critic = count_steps(model.policy.optimizer), count_steps(model.policy.critic_optimizer)
    model.train(batch)
    # the first step starts at KL = 0; the second finds it exceeded and, as in SB3, is not taken
    assert len(actor) == 1
    assert len(critic) == 10
    model.train(
        batch._replace(old_log_prob=model.policy.evaluate_decisions(batch.observations, batch.actions).log_prob.detach())
    )
    assert len(actor) == 2, "the next update begins anew"


def test_a_target_kl_that_is_not_reached_stops_nothing() -> None:
    model, batch = model_and_batch(target_kl=10.0, n_epochs=7)
    actor = count_steps(model.policy.optimizer)
    model.train(batch)
    assert len(actor) == 7


@pytest.mark.parametrize(("batch_size", "steps"), [(None, 1), (8, 1), (4, 2), (3, 3), (1, 8)])
def test_minibatches_cover_all_episodes_once_an_epoch(batch_size: int | None, steps: int) -> None:
    model, batch = model_and_batch(batch_size=batch_size, n_epochs=2)
    seen: list[list[int]] = []
    step = ActorUpdate.step

    def watching(self: ActorUpdate, sequences: th.Tensor, *limits: float) -> float:
        seen.append(sequences.tolist())
        return step(self, sequences, *limits)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ActorUpdate, "step", watching)
        model.train(batch)
    assert len(seen) == 2 * steps
    for epoch in (seen[:steps], seen[steps:]):
        assert sorted(s for part in epoch for s in part) == list(range(8))
    if batch_size in (3, 4):
        assert seen[:steps] != seen[steps:], "shuffled anew"


@pytest.mark.parametrize("algorithm", [SPPO, PPO, RLOO])
def test_chunks_do_not_change_an_update(algorithm: type[SequenceAlgorithm], monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for chunk_size in (1, 5, 4096):
        model, batch = model_and_batch(algorithm, batch_size=3, n_epochs=2, learning_rate=1e-2)
        set_chunks(model.policy, chunk_size, monkeypatch)
        batch = batch._replace(group=th.arange(8) // 4)
        model.train(batch)
        results.append(th.nn.utils.parameters_to_vector(model.policy.parameters()).detach())
    th.testing.assert_close(results[0], results[2], rtol=1e-3, atol=1e-4)
    th.testing.assert_close(results[1], results[2], rtol=1e-3, atol=1e-4)


def rates(model: Any) -> tuple[float, float]:
    return model.policy.optimizer.param_groups[0]["lr"], model.policy.critic_optimizer.param_groups[0]["lr"]


@pytest.mark.parametrize(
    ("actor", "critic", "expected"),
    # after a quarter of the run
    [
        (1e-3, 5e-3, (1e-3, 5e-3)),
        (1e-3, None, (1e-3, 1e-3)),
        ("lin_4e-3", None, (3e-3, 3e-3)),
        ("lin_4e-3", 1e-2, (3e-3, 1e-2)),
        (2e-3, "lin_8e-3", (2e-3, 6e-3)),
        ("0.002", lambda progress: progress**2, (2e-3, 0.5625)),
    ],
)
def test_actor_and_critic_follow_their_own_schedules(actor: Any, critic: Any, expected: tuple[float, float]) -> None:
    model, batch = model_and_batch(learning_rate=actor, critic_learning_rate=critic)
    model._current_progress_remaining = 0.75
    model.train(batch)
    assert rates(model) == pytest.approx(expected)
    log = model.logger.name_to_value
    assert (log["train/learning_rate"], log["train/critic_learning_rate"]) == pytest.approx(expected)


def test_the_clip_range_may_be_a_schedule() -> None:
    model, batch = model_and_batch(clip_range="lin_0.4")
    model._current_progress_remaining = 0.25
    model.train(batch)
    assert model.logger.name_to_value["train/clip_range"] == pytest.approx(0.1)


def test_a_schedule_never_runs_below_its_end() -> None:
    """The last update overshoots the total; a linear schedule of the user's own must not turn negative there."""
    seen: list[float] = []

    def rate(progress: float) -> float:
        seen.append(progress)
        return 1e-3 * progress

    SPPO("MlpPolicy", dummy(lambda: MatchEnv(steps=3), 2), n_episodes=8, learning_rate=rate, seed=0).learn(40)
    assert min(seen) >= 0.0


def test_logged_figures_of_an_sppo_update() -> None:
    model, batch = model_and_batch()
    v, r = batch.values, batch.outcome
    assert v is not None
    bce = -(r * v.log() + (1 - r) * (1 - v).log()).mean()
    model.n_epochs = 1
    model.train(batch)
    log = model.logger.name_to_value
    assert log["train/brier_score"] == pytest.approx(float(((v - r) ** 2).mean()))
    assert log["train/value_mean"] == pytest.approx(float(v.mean()))
    assert log["train/critic_loss"] == pytest.approx(float(bce), rel=1e-5)
    assert log["rollout/outcome_mean"] == pytest.approx(0.5)
    assert log["train/approx_kl"] == pytest.approx(0.0, abs=1e-6)
    assert log["train/clip_fraction"] == 0.0
    assert log["train/actor_grad_norm"] > 0
    assert log["train/critic_grad_norm"] > 0
    assert log["train/entropy"] == pytest.approx(math.log(2), abs=1e-3)


def test_the_brier_score_of_returns_is_not_reported() -> None:
    model, batch = model_and_batch(critic_loss="mse")
    model.policy.value_scale.use_returns(batch.outcome)
    model.train(batch)
    assert "train/brier_score" not in model.logger.name_to_value


def test_ppos_targets_outside_the_unit_interval_are_not_silently_clamped() -> None:
    """Rewards of -1 and then +2 sum to an outcome of 1, but the value of the second state is 2: no probability."""
    env = dummy(lambda: FixedRewardEnv([-1.0, 2.0]), 2)
    model = PPO("MlpPolicy", env, critic_loss="bce", n_episodes=4, seed=0)
    with pytest.raises(ValueError, match=r"bce.* 2\b"):
        model.learn(1)


def test_clipping_of_the_critic_may_be_a_schedule() -> None:
    model: Any = PPO("MlpPolicy", dummy(MatchEnv, 2), n_episodes=4, clip_range_vf=lambda progress: 0.1 + progress, seed=0)
    assert model.learn(8).clip_range_vf(0.5) == pytest.approx(0.6)
    fixed, scheduled = (learned_returns(clip_range_vf=value) for value in (0.01, lambda progress: 0.01))
    assert th.equal(fixed, scheduled)
    assert not th.equal(fixed, learned_returns(clip_range_vf=None))


def learned_returns(**kwargs: Any) -> th.Tensor:
    env = dummy(lambda: MatchEnv(steps=3, scale=5.0), 2)
    model = PPO("MlpPolicy", env, n_episodes=8, learning_rate=0.05, critic_loss="mse", seed=0, **kwargs).learn(48)
    return th.nn.utils.parameters_to_vector(model.policy.critic_parameters())
