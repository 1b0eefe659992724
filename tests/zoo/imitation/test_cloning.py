"""Behaviour cloning is maximum likelihood, stops where it should, and touches the actor alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch as th

from sppo_rl import SPPO
from sppo_rl.evaluation import evaluate
from sppo_rl.zoo.imitation import experts
from sppo_rl.zoo.imitation.cloning import Checkpoint, clone, clone_until, negative_log_likelihood
from sppo_rl.zoo.imitation.demonstrations import Demonstrations, demonstrate

CAR = "sppo_rl/MountainCar-v0"
CART = "sppo_rl/PrecisionCartPole200-v0"


@pytest.fixture(scope="module")
def cart_demonstrations() -> Demonstrations:
    return demonstrate(CART, experts.cartpole, 32, noise=0.1, seed=0)


def fresh(env_id: str, seed: int = 0) -> SPPO:
    return SPPO("MlpPolicy", env_id, n_episodes=1, seed=seed, device="cpu")


def test_likelihood_of_a_gaussian_by_hand() -> None:
    policy = fresh(CAR).policy
    observations = np.array([[-0.5, 0.01], [0.1, -0.02]], dtype=np.float32)
    actions = np.array([[0.3], [1.7]], dtype=np.float32)
    with th.no_grad():
        policy.log_std.fill_(-0.4)
        means = policy.get_distribution(th.as_tensor(observations)).distribution.mean.numpy()  # type: ignore[operator]
    std = np.exp(-0.4)
    densities = np.exp(-0.5 * ((actions - means) / std) ** 2) / (std * np.sqrt(2 * np.pi))
    loss = negative_log_likelihood(policy, observations, actions)
    assert float(loss.detach()) == pytest.approx(float(-np.log(densities).mean()), rel=1e-5)


def test_the_standard_deviation_tends_to_the_demonstrators() -> None:
    """With the mean right, the likeliest standard deviation is that of the noise."""
    rng = np.random.default_rng(0)
    observations = rng.uniform(-1.0, 1.0, size=(4000, 2)).astype(np.float32)
    actions = (0.5 * observations[:, :1] + 0.2 * rng.standard_normal((4000, 1))).astype(np.float32)
    policy = fresh(CAR).policy
    steps = clone(policy, Demonstrations(observations, actions, np.zeros(4000, dtype=np.int64), 1, 1), 1e-2, 256, seed=0)
    for _ in range(400):
        next(steps)
    assert float(th.exp(policy.log_std.detach())) == pytest.approx(0.2, rel=0.1)


def test_cloning_raises_likelihood_and_success(cart_demonstrations: Demonstrations) -> None:
    model = fresh(CART)
    played = cart_demonstrations

    def loss() -> float:
        return float(negative_log_likelihood(model.policy, played.observations, played.actions).detach())

    before = loss(), evaluate(model, CART, 200).success_rate
    steps = clone(model.policy, played, 3e-3, 256, seed=0)
    for _ in range(400):
        next(steps)
    after = loss(), evaluate(model, CART, 200).success_rate
    # 10 % random actions, of which half are the expert's own: its entropy is .20 nats
    assert before[0] == pytest.approx(np.log(2.0), abs=0.01)
    assert 0.19 < after[0] < 0.35
    assert before[1] <= 0.02
    assert after[1] >= 0.25


def test_only_the_actor_is_trained(cart_demonstrations: Demonstrations) -> None:
    policy = fresh(CART).policy
    critic = [parameter.detach().clone() for parameter in policy.critic_parameters()]
    actor = [parameter.detach().clone() for parameter in policy.actor_parameters()]
    next(clone(policy, cart_demonstrations, 1e-3, 64, seed=0))
    assert all(th.equal(old, new) for old, new in zip(critic, policy.critic_parameters(), strict=True))
    assert not any(th.equal(old, new) for old, new in zip(actor, policy.actor_parameters(), strict=True))
    assert not policy.optimizer.state, "reinforcement learning must begin with a fresh optimizer"


def test_cloning_depends_on_the_seed_alone(cart_demonstrations: Demonstrations) -> None:
    def losses(seed: int) -> list[float]:
        steps = clone(fresh(CART).policy, cart_demonstrations, 1e-3, 64, seed)
        return [next(steps) for _ in range(5)]

    assert losses(0) == losses(0)
    assert losses(0) != losses(1)


def run_until(
    rates: list[float], target: float, max_steps: int, played: Demonstrations
) -> tuple[Checkpoint, list[Checkpoint], list]:
    """Clone with success rates that are told rather than measured; the weights at each checkpoint come along."""
    policy = fresh(CART).policy
    told, weights = iter(rates), []

    def success_rate() -> float:
        weights.append(policy.action_net.bias.detach().clone())  # type: ignore[union-attr]
        return next(told)

    nearest, checkpoints = clone_until(
        policy, played, target, success_rate, learning_rate=1e-3, batch_size=16, steps_between=3, max_steps=max_steps, seed=0
    )
    weights.append(policy.action_net.bias.detach().clone())  # type: ignore[union-attr]
    return nearest, checkpoints, weights


def test_the_nearest_checkpoint_is_restored(cart_demonstrations: Demonstrations) -> None:
    nearest, checkpoints, weights = run_until([0.0, 0.1, 0.18, 0.05, 0.5], 0.2, 300, cart_demonstrations)
    assert [checkpoint.step for checkpoint in checkpoints] == [0, 3, 6, 9, 12], "it stops once the target is passed"
    assert nearest == checkpoints[2]
    assert th.equal(weights[-1], weights[2])
    assert not th.equal(weights[-1], weights[4])


def test_cloning_ends_without_the_target_too(cart_demonstrations: Demonstrations) -> None:
    nearest, checkpoints, weights = run_until([0.0, 0.1, 0.05], 0.9, 6, cart_demonstrations)
    assert len(checkpoints) == 3
    assert nearest.success == 0.1
    assert th.equal(weights[-1], weights[1])


def test_an_untrained_policy_may_already_be_there(cart_demonstrations: Demonstrations) -> None:
    nearest, checkpoints, weights = run_until([0.3], 0.2, 300, cart_demonstrations)
    assert len(checkpoints) == 1
    assert nearest.step == 0
    assert th.equal(weights[0], weights[-1])


def test_nothing_to_clone_is_an_error() -> None:
    nothing = demonstrate(CART, lambda observations: np.zeros(len(observations), dtype=np.int64), 5, seed=0)
    assert nothing.successes == 0
    with pytest.raises(ValueError, match="none of 5 episodes of the demonstrator succeeded"):
        next(clone(fresh(CART).policy, nothing, 1e-3, 64, seed=0))
