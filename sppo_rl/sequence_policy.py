"""The contract between the engine and a network.

==============================  ======================  ==============================================================
symbol                          shape                   meaning
==============================  ======================  ==============================================================
``make_sampler(rng, …)``        (n, *act)               makes the function that chooses actions
``evaluate_decisions(o, a)``    3 x (n, K)              log-probability [nats], entropy [nats], mask of the K decisions
``context_value_logits(c)``     (n,)                    the critic's output for whole sequences, before scaling
``decision_value_logits(o,a)``  (n, K)                  the same before each decision
``value_scale(logits)``         as given                values in outcome units
==============================  ======================  ==============================================================
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch as th
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import VecEnv
from torch import nn

from sppo_rl.collection import Sampler
from sppo_rl.episodes import Tensors
from sppo_rl.estimators import CriticKind
from sppo_rl.plain import PlainActor, PlainNetwork
from sppo_rl.value_scale import ValueScale


class DecisionEvaluation(NamedTuple):
    """What a policy says of decisions that were taken; every field (n, K)."""

    log_prob: th.Tensor
    """Nats, at the sampling temperature; 0 where masked."""
    entropy: th.Tensor
    """Nats; an estimate (``-log_prob``) where a distribution has no closed form."""
    mask: th.Tensor
    """Bool, decisions that the policy sampled."""


class SequencePolicy(BasePolicy):
    """
    What :class:`~sppo_rl.algorithm.SequenceAlgorithm` asks of a policy: an actor and a critic that share no trained parameter, each
    with its own optimizer (``optimizer`` and ``critic_optimizer``).
    """

    optimizer: th.optim.Optimizer
    critic_optimizer: th.optim.Optimizer
    value_scale: ValueScale
    chunk_size: int = 4096
    """Environment steps in one forward and backward pass; gradients are accumulated over the chunks of a minibatch."""

    @abstractmethod
    def actor_parameters(self) -> list[nn.Parameter]:
        """Parameters that the policy loss trains."""

    @abstractmethod
    def critic_parameters(self) -> list[nn.Parameter]:
        """Parameters that the critic loss trains."""

    @abstractmethod
    def make_sampler(self, rng: np.random.Generator, deterministic: bool = False) -> Sampler:
        """
        Make a function that chooses actions with the weights of this moment.

        :param rng: source of randomness, where the policy does not use PyTorch's
        :param deterministic: the most likely actions instead of samples
        :return: see :data:`~sppo_rl.collection.Sampler`
        """

    def sampler_trains(self) -> bool:
        """Whether the log-probabilities that the sampler tells are the training code's own, so that nobody need compute them again."""
        return False

    def decision_mask(self, actions: th.Tensor) -> th.Tensor:
        """
        Tell which decisions of a step were sampled.

        :param actions: (n, *act)
        :return: (n, K) bool; one decision a step by default
        """
        return th.ones(len(actions), 1, dtype=th.bool)

    def sampling_ended(self) -> None:
        """Called when the episodes of an update are played: memory that only sampling needs may be handed back."""

    @abstractmethod
    def to_env(self, actions: np.ndarray) -> np.ndarray:
        """
        Turn sampled actions into what the environment takes.

        :param actions: (n, *act)
        """

    @abstractmethod
    def evaluate_decisions(self, observations: Tensors, actions: th.Tensor) -> DecisionEvaluation:
        """
        Evaluate actions under the current policy, with gradients.

        :param observations: (n, *obs)
        :param actions: (n, *act) as sampled
        """

    @abstractmethod
    def context_value_logits(self, contexts: Tensors) -> th.Tensor:
        """
        Run the critic on contexts.

        :param contexts: (n, *obs)
        :return: (n,), to be read through :attr:`value_scale`
        """

    def predict_values(self, contexts: Tensors) -> th.Tensor:
        """
        Give the critic's predictions, as SB3's policies do.

        :param contexts: (n, *obs)
        :return: (n, 1), in outcome units: a probability for a critic that predicts one
        """
        values: th.Tensor = self.value_scale(self.context_value_logits(contexts))
        return values.unsqueeze(1)

    @abstractmethod
    def decision_value_logits(self, observations: Tensors, actions: th.Tensor) -> th.Tensor:
        """
        Run the critic before each decision.

        :param observations: (n, *obs)
        :param actions: (n, *act), of which decision k may only see those before k
        :return: (n, K), to be read through :attr:`value_scale`
        """

    @abstractmethod
    def set_initial_value(self, value: float) -> None:
        """
        Make the critic predict the same value for every context.

        :param value: in outcome units
        """

    def plain_actor(self) -> PlainActor | None:
        """Take the actor apart if :mod:`sppo_rl.fused` may write its gradient; ``None`` where autograd must."""
        return None

    def plain_critic(self) -> PlainNetwork | None:
        """The same for the critic, which must see a single observation and take one decision in a step."""
        return None

    def check_critic(self, kind: CriticKind) -> None:
        """
        Refuse a critic that cannot judge what the estimator asks of it; none by default.

        :param kind: what it is asked for
        :raises ValueError: if it cannot
        """

    @classmethod
    def complete_kwargs(cls, kwargs: dict[str, Any], env: VecEnv | None, with_critic: bool) -> dict[str, Any]:
        """
        Add to ``policy_kwargs`` what a policy must know of its environment and algorithm; nothing by default.

        :param kwargs: given by the user, or kept from :meth:`rebuild_kwargs`
        :param env: ``None`` while a model is loaded without one
        :param with_critic: whether the algorithm's estimator asks for a critic
        """
        return kwargs

    def rebuild_kwargs(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """
        Give the ``policy_kwargs`` to save: they build these networks again, before the saved weights are read. The same by default.

        :param kwargs: what this policy was made from
        """
        return kwargs

    def chunks(self, rows: th.Tensor, observations: Tensors, actions: th.Tensor | None = None) -> Iterator[th.Tensor]:
        """
        Split the rows of a minibatch, in their order, into what one forward pass takes.

        :param rows: (n,) int64
        :param observations: of the whole batch, which the rows are of
        :param actions: of the whole batch; ``None`` where only observations are read
        """
        yield from rows.split(self.chunk_size)
