"""Policies for control: SB3's actor-critic policies behind the engine's contract (:mod:`sppo_rl.sequence_policy`)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any, cast

import numpy as np
import torch as th
import torch.nn.functional as F
from gymnasium import spaces
from stable_baselines3.common.distributions import (
    CategoricalDistribution,
    DiagGaussianDistribution,
    Distribution,
    StateDependentNoiseDistribution,
)
from stable_baselines3.common.policies import (
    ActorCriticCnnPolicy,
    ActorCriticPolicy,
    BasePolicy,
    MultiInputActorCriticPolicy,
)
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, MlpExtractor
from torch import nn

from sppo_rl.collection import Sampler
from sppo_rl.episodes import Arrays, Tensors
from sppo_rl.numpy_actor import NumpyActor, sample_head
from sppo_rl.plain import PlainActor, PlainNetwork, has_own_head, take_apart, take_critic_apart
from sppo_rl.sequence_policy import DecisionEvaluation, SequencePolicy
from sppo_rl.value_scale import ValueScale

__all__ = [
    "CnnPolicy",
    "DecisionEvaluation",
    "MlpPolicy",
    "MultiInputPolicy",
    "SequenceActorCritic",
    "SequencePolicy",
    "as_sequence_policy",
]


class SequenceActorCritic(SequencePolicy):
    """
    Makes an SB3 actor-critic policy a :class:`SequencePolicy`; a mixin that stands before it.

    The networks, initialisation, distributions and keyword arguments are SB3's. What differs: features extractors are not shared
    unless asked for, by ``policy_kwargs`` or by a policy class of SB3's kind (a shared one is trained by the actor alone), and the critic
    has an optimizer of its own.

    A policy class of SB3's kind is honoured where it overrides ``_build_mlp_extractor``, ``get_distribution`` or
    ``_get_action_dist_from_latent``. Its own ``forward``, ``evaluate_actions`` or ``predict_values`` would be hidden by this class; to
    change those, subclass :class:`MlpPolicy` and override ``evaluate_decisions`` and ``context_value_logits``.
    """

    action_net: nn.Module
    value_net: nn.Linear
    mlp_extractor: MlpExtractor
    pi_features_extractor: BaseFeaturesExtractor
    vf_features_extractor: BaseFeaturesExtractor
    share_features_extractor: bool
    action_dist: Distribution
    optimizer_class: type[th.optim.Optimizer]
    optimizer_kwargs: dict[str, Any]
    log_std: nn.Parameter

    def __init__(self, *args: Any, share_features_extractor: bool | None = None, **kwargs: Any):
        try:
            super().__init__(*args, share_features_extractor=bool(share_features_extractor), **kwargs)
        except TypeError as error:
            # a policy class of the user's may set it itself, or not know it
            if "'share_features_extractor'" not in str(error):
                raise
            super().__init__(*args, **kwargs)
            if share_features_extractor not in (None, self.share_features_extractor):
                raise

    def _build(self, lr_schedule: Callable[[float], float]) -> None:
        if self.optimizer_class is th.optim.Adam and self.optimizer_kwargs == {"eps": 1e-5}:
            # SB3's own choice where nothing is asked for; one kernel for all parameters
            self.optimizer_kwargs = {"eps": 1e-5, "fused": True}
        super()._build(lr_schedule)  # type: ignore[misc]
        self._critic_names = critic_names(self.mlp_extractor, self.vf_features_extractor.features_dim)
        self.value_scale = ValueScale()
        self.optimizer = self.optimizer_class(self.actor_parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]
        self.critic_optimizer = self.optimizer_class(  # type: ignore[call-arg]
            self.critic_parameters(), lr=lr_schedule(1), **self.optimizer_kwargs
        )

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "share_features_extractor": self.share_features_extractor}

    def actor_parameters(self) -> list[nn.Parameter]:
        """See :class:`SequencePolicy`."""
        critics = {id(parameter) for parameter in self.critic_parameters()}
        return [parameter for parameter in self.parameters() if id(parameter) not in critics]

    def critic_parameters(self) -> list[nn.Parameter]:
        """See :class:`SequencePolicy`."""
        branch = [parameter for name, parameter in self.mlp_extractor.named_parameters() if name in self._critic_names]
        features = [] if self.share_features_extractor else self.vf_features_extractor.parameters()
        return [*self.value_net.parameters(), *branch, *features]

    def plain_actor(self) -> PlainActor | None:
        """See :class:`SequencePolicy`."""
        steps = ("evaluate_decisions", "_log_prob_and_entropy", "_actor_latent")
        if any(getattr(type(self), step) is not getattr(SequenceActorCritic, step) for step in steps):
            return None
        if not all(parameter.requires_grad for parameter in self.actor_parameters()):
            # autograd knows how to leave a frozen layer alone
            return None
        return take_apart(self)

    def plain_critic(self) -> PlainNetwork | None:
        """See :class:`SequencePolicy`."""
        steps = ("context_value_logits", "decision_value_logits")
        if any(getattr(type(self), step) is not getattr(SequenceActorCritic, step) for step in steps):
            return None
        if not all(parameter.requires_grad for parameter in self.critic_parameters()):
            return None
        return take_critic_apart(self)

    def make_sampler(self, rng: np.random.Generator, deterministic: bool = False) -> Sampler:
        """See :class:`SequencePolicy`."""
        twin = NumpyActor.of(self, rng, deterministic)
        if twin is not None:
            return lambda observations, copies: twin(observations)  # type: ignore[arg-type]
        if type(self.action_dist) in (CategoricalDistribution, DiagGaussianDistribution) and not has_own_head(self):
            # the same random numbers as the twin draws, whatever network comes before the head
            std = np.exp(self.log_std.detach().cpu().numpy()) if hasattr(self, "log_std") else None

            def sample(observations: Arrays, copies: np.ndarray) -> np.ndarray:
                with th.no_grad():
                    tensors, _ = self.obs_to_tensor(observations)
                    outputs = self.action_net(self._actor_latent(tensors)).cpu().numpy()
                return sample_head(outputs, std, rng, deterministic)

            return sample
        return partial(self._sample_by_torch, deterministic=deterministic)

    def _sample_by_torch(self, observations: Arrays, copies: np.ndarray, deterministic: bool) -> np.ndarray:
        noise = self.action_dist if isinstance(self.action_dist, StateDependentNoiseDistribution) else None
        with th.no_grad():
            if noise is not None and not deterministic:
                # gSDE draws one exploration matrix for each copy, and each copy must keep its own
                everyone = noise.exploration_matrices
                noise.exploration_matrices, noise.exploration_mat = everyone[copies], everyone[copies[0]]
            tensors, _ = self.obs_to_tensor(observations)
            actions: np.ndarray = self._predict(tensors, deterministic=deterministic).cpu().numpy()
            if noise is not None and not deterministic:
                noise.exploration_matrices = everyone
        return actions

    def to_env(self, actions: np.ndarray) -> np.ndarray:
        """See :class:`SequencePolicy`: a squashed action is scaled, any other is clipped to the space."""
        if isinstance(self.action_space, spaces.Box):
            actions = actions.reshape((-1, *self.action_space.shape))
            if self.squash_output:
                return self.unscale_action(actions)
            # np.clip takes twice as long on a few actions
            return np.minimum(np.maximum(actions, self.action_space.low), self.action_space.high)
        return actions.reshape((-1, *(self.action_space.shape or ())))

    def evaluate_decisions(self, observations: Tensors, actions: th.Tensor) -> DecisionEvaluation:
        """See :class:`SequencePolicy`; K = 1."""
        log_prob, entropy = self._log_prob_and_entropy(observations, actions)
        entropy = -log_prob if entropy is None else entropy
        return DecisionEvaluation(
            log_prob.unsqueeze(1), entropy.unsqueeze(1), th.ones_like(log_prob, dtype=th.bool).unsqueeze(1)
        )

    def _actor_latent(self, observations: Tensors) -> th.Tensor:
        features = BasePolicy.extract_features(self, observations, self.pi_features_extractor)
        latent: th.Tensor = self.mlp_extractor.forward_actor(features)
        return latent

    def _log_prob_and_entropy(self, observations: Tensors, actions: th.Tensor) -> tuple[th.Tensor, th.Tensor | None]:
        """(n,) and (n,); the two common heads without torch.distributions, whose objects and checks cost as much as the network."""
        kind = None if has_own_head(self) else type(self.action_dist)
        if kind is CategoricalDistribution:
            log_probs = F.log_softmax(self.action_net(self._actor_latent(observations)), dim=1)
            chosen = log_probs.gather(1, actions.long().view(-1, 1)).squeeze(1)
            return chosen, -(log_probs.exp() * log_probs).sum(dim=1)
        if kind is DiagGaussianDistribution:
            log_std, means = self.log_std, self.action_net(self._actor_latent(observations))
            z = (actions.view(len(means), -1) - means) * th.exp(-log_std)
            constant = log_std.sum() + 0.5 * np.log(2.0 * np.pi) * log_std.numel()
            return -0.5 * (z * z).sum(dim=1) - constant, (constant + 0.5 * log_std.numel()).expand(len(means))
        if isinstance(self.action_space, spaces.MultiBinary):
            actions = actions.float()
        if isinstance(self.action_space, spaces.Box):
            actions = actions.reshape(len(actions), -1)
        distribution = cast(ActorCriticPolicy, self).get_distribution(observations)
        return distribution.log_prob(actions), distribution.entropy()

    def context_value_logits(self, contexts: Tensors) -> th.Tensor:
        """See :class:`SequencePolicy`."""
        features = BasePolicy.extract_features(self, contexts, self.vf_features_extractor)
        if self.share_features_extractor:
            features = features.detach()
        return self.value_net(self.mlp_extractor.forward_critic(features)).squeeze(1)

    def decision_value_logits(self, observations: Tensors, actions: th.Tensor) -> th.Tensor:
        """See :class:`SequencePolicy`: one decision for each observation, so the actions say nothing."""
        return self.context_value_logits(observations).unsqueeze(1)

    def predict_values(self, obs: Tensors) -> th.Tensor:
        """
        Predict the value of observations, as SB3's policies do.

        :param obs: (n, *obs)
        :return: (n, 1) in outcome units
        """
        return self.value_scale(self.context_value_logits(obs)).unsqueeze(1)

    def evaluate_actions(self, obs: Tensors, actions: th.Tensor) -> tuple[th.Tensor, th.Tensor, th.Tensor | None]:
        """
        Evaluate actions in the form that SB3's policies have.

        :param obs: (n, *obs)
        :param actions: (n, *act)
        :return: values (n, 1) in outcome units, log-probabilities (n,), entropies (n,) or ``None``
        """
        log_prob, entropy = self._log_prob_and_entropy(obs, actions)
        return self.predict_values(obs), log_prob, entropy

    def forward(self, obs: Tensors, deterministic: bool = False) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
        """
        Choose actions in the form that SB3's policies have.

        :param obs: (n, *obs)
        :param deterministic: the most likely actions instead of samples
        :return: actions (n, *act), values (n, 1) in outcome units, log-probabilities (n,)
        """
        actions, _, log_prob = super().forward(obs, deterministic)
        return actions, self.predict_values(obs), log_prob

    def set_initial_value(self, value: float) -> None:
        """See :class:`SequencePolicy`: the last layer's weights become 0 and its bias the value."""
        bias = self.value_scale.output_for(value)
        with th.no_grad():
            self.value_net.weight.zero_()
            self.value_net.bias.fill_(bias)


class MlpPolicy(SequenceActorCritic, ActorCriticPolicy):
    """Actor and critic as separate MLPs; keyword arguments as SB3's ``MlpPolicy`` (``net_arch=dict(pi=[...], vf=[...])``)."""


class CnnPolicy(SequenceActorCritic, ActorCriticCnnPolicy):
    """Actor and critic as separate CNNs on images; keyword arguments as SB3's ``CnnPolicy``."""


class MultiInputPolicy(SequenceActorCritic, MultiInputActorCriticPolicy):
    """Actor and critic on dictionary observations; keyword arguments as SB3's ``MultiInputPolicy``."""


def critic_names(extractor: Any, features_dim: int) -> set[str]:
    """
    Name the parameters of an extractor that the critic uses and the actor does not.

    :param extractor: SB3's ``MlpExtractor``, or a user's own with ``forward_actor`` and ``forward_critic``
    :param features_dim: numbers it reads
    """
    if type(extractor) is MlpExtractor:
        return {name for name, _ in extractor.named_parameters() if name.startswith("value_net.")}
    training, used = extractor.training, []
    extractor.eval()  # dropout would draw random numbers
    parameters = [parameter for parameter in extractor.parameters() if parameter.requires_grad]
    features = th.zeros(2, features_dim, device=parameters[0].device if parameters else None)
    for forward in (extractor.forward_critic, extractor.forward_actor):
        total = forward(features).sum()
        reached = th.autograd.grad(total, parameters, allow_unused=True) if total.requires_grad else [None] * len(parameters)
        used.append({id(parameter) for parameter, gradient in zip(parameters, reached, strict=True) if gradient is not None})
    extractor.train(training)
    return {name for name, parameter in extractor.named_parameters() if id(parameter) in used[0] - used[1]}


@cache
def as_sequence_policy(policy_class: type[BasePolicy]) -> type[SequencePolicy]:
    """
    Accept what users of SB3 pass: a :class:`SequencePolicy`, or any actor-critic policy of SB3's kind, which gets the mixin.

    :param policy_class: the class given by the user
    :raises ValueError: if it is neither
    """
    if issubclass(policy_class, SequencePolicy):
        return policy_class
    if issubclass(policy_class, ActorCriticPolicy):
        return type(policy_class.__name__, (SequenceActorCritic, policy_class), {"__module__": policy_class.__module__})
    raise ValueError(
        f"{policy_class.__name__} is no policy for this algorithm: pass 'MlpPolicy', 'CnnPolicy', 'MultiInputPolicy', or a subclass of "
        "sppo_rl.sequence_policy.SequencePolicy or of stable_baselines3's ActorCriticPolicy."
    )
