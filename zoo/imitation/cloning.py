"""Behaviour cloning: stage three of the paper's priors. Maximum likelihood on demonstrations, stopped at a chosen success rate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch as th

from sppo_rl.sequence_policy import SequencePolicy
from sppo_rl.zoo.imitation.demonstrations import Demonstrations


@dataclass(frozen=True)
class Checkpoint:
    """
    Where cloning stood.

    :param step: gradient steps taken
    :param loss: negative log-likelihood of the demonstrations since the checkpoint before, nats per decision; NaN before the first
    :param success: success rate of the sampled policy
    """

    step: int
    loss: float
    success: float


def negative_log_likelihood(policy: SequencePolicy, observations: np.ndarray, actions: np.ndarray) -> th.Tensor:
    """
    Mean negative log-likelihood of decisions under a policy.

    :param policy: its actor is evaluated
    :param observations: (n, *obs)
    :param actions: (n, *act)
    :return: () nats per decision, differentiable
    """
    device = policy.device
    evaluation = policy.evaluate_decisions(th.as_tensor(observations, device=device), th.as_tensor(actions, device=device))
    return -evaluation.log_prob[evaluation.mask].mean()


def clone(
    policy: SequencePolicy, demonstrations: Demonstrations, learning_rate: float, batch_size: int, seed: int
) -> Iterator[float]:
    """
    Fit the actor to demonstrations by Adam on minibatches, one gradient step for each item asked for; endless.

    Every parameter of the actor is fitted, the standard deviation of a Gaussian head among them. The policy's own optimizer is not used,
    so reinforcement learning begins with a fresh one.

    :param policy: is trained in place
    :param demonstrations: what to imitate
    :param learning_rate: of Adam
    :param batch_size: decisions in a minibatch, drawn with replacement
    :param seed: of the minibatches
    :return: the losses of the steps, nats per decision
    :raises ValueError: if there are no demonstrations
    """
    if not len(demonstrations.actions):
        raise ValueError(f"nothing to clone: none of {demonstrations.attempts} episodes of the demonstrator succeeded.")
    rng = np.random.default_rng(seed)
    optimizer = th.optim.Adam(policy.actor_parameters(), lr=learning_rate)
    policy.set_training_mode(True)
    while True:
        rows = rng.integers(len(demonstrations.actions), size=batch_size)
        loss = negative_log_likelihood(policy, demonstrations.observations[rows], demonstrations.actions[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield float(loss.detach())


def clone_until(
    policy: SequencePolicy,
    demonstrations: Demonstrations,
    target: float,
    success_rate: Callable[[], float],
    *,
    learning_rate: float,
    batch_size: int,
    steps_between: int,
    max_steps: int,
    seed: int,
    report: Callable[[Checkpoint], None] = lambda checkpoint: None,
) -> tuple[Checkpoint, list[Checkpoint]]:
    """
    Clone until the success rate reaches a target, and leave the policy at the checkpoint whose rate is nearest to it.

    :param policy: is trained in place
    :param demonstrations: what to imitate
    :param target: success rate of the sampled policy
    :param success_rate: measures the policy as it is, always on the same seeds
    :param learning_rate: see :func:`clone`
    :param batch_size: see :func:`clone`
    :param steps_between: gradient steps between two checkpoints; the untrained policy is the first
    :param max_steps: gradient steps after which cloning ends, target reached or not
    :param seed: see :func:`clone`
    :param report: is told of every checkpoint
    :return: the checkpoint chosen (the first of several that are as near), and all of them
    """
    steps = clone(policy, demonstrations, learning_rate, batch_size, seed)
    checkpoints = [Checkpoint(0, float("nan"), success_rate())]
    report(checkpoints[0])
    nearest, weights = checkpoints[0], _copy(policy)
    while checkpoints[-1].success < target and checkpoints[-1].step < max_steps:
        losses = [next(steps) for _ in range(steps_between)]
        checkpoint = Checkpoint(checkpoints[-1].step + steps_between, float(np.mean(losses)), success_rate())
        checkpoints.append(checkpoint)
        report(checkpoint)
        if abs(checkpoint.success - target) < abs(nearest.success - target):
            nearest, weights = checkpoint, _copy(policy)
    policy.load_state_dict(weights)
    return nearest, checkpoints


def _copy(policy: SequencePolicy) -> dict[str, th.Tensor]:
    return {name: tensor.clone() for name, tensor in policy.state_dict().items()}
