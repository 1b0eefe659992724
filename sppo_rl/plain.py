"""Recognises the plain MLPs that have faster ways of sampling and training than PyTorch's general ones."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch as th
from gymnasium import spaces
from stable_baselines3.common.distributions import CategoricalDistribution, DiagGaussianDistribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import FlattenExtractor, MlpExtractor
from torch import nn

_STEPS = ("_predict", "get_distribution", "_get_action_dist_from_latent")


class PlainNetwork(NamedTuple):
    """Linear layers, each but the last followed by tanh or ReLU."""

    linears: list[nn.Linear]
    relu: list[bool]
    """Whether a hidden layer ends in ReLU; otherwise in tanh."""


class PlainActor(NamedTuple):
    """A policy's actor taken apart."""

    network: PlainNetwork
    """Flattened observations to logits or means."""
    log_std: nn.Parameter | None
    """(act,) of a Gaussian head; ``None`` for a categorical one."""


def has_own_head(policy: nn.Module) -> bool:
    """
    Tell whether a policy is no actor-critic of SB3's, or overrides a step between its network and an action.

    :param policy: any policy
    """
    return not isinstance(policy, ActorCriticPolicy) or any(
        getattr(type(policy), step) is not getattr(ActorCriticPolicy, step) for step in _STEPS
    )


def take_apart(policy: nn.Module) -> PlainActor | None:
    """
    Recognise an actor of linear layers, each hidden one followed by tanh or ReLU, with a categorical or Gaussian head on the CPU.

    :param policy: a subclass that overrides a step between observation and action is of another kind
    :return: its parts, or ``None`` if it is of another kind
    """
    if has_own_head(policy):
        return None
    assert isinstance(policy, ActorCriticPolicy)
    if type(policy.features_extractor) is not FlattenExtractor:
        return None
    if type(policy.action_dist) not in (CategoricalDistribution, DiagGaussianDistribution):
        return None
    network = _plain(policy, "policy_net", policy.action_net)
    return None if network is None else PlainActor(network, getattr(policy, "log_std", None))


def take_critic_apart(policy: nn.Module) -> PlainNetwork | None:
    """
    Recognise a critic of linear layers, each hidden one followed by tanh or ReLU, on the CPU.

    :param policy: any policy
    :return: its layers, from flattened observations to one number, or ``None`` if it is of another kind
    """
    if not isinstance(policy, ActorCriticPolicy) or type(policy.vf_features_extractor) is not FlattenExtractor:
        return None
    return _plain(policy, "value_net", policy.value_net)


def _plain(policy: ActorCriticPolicy, branch: str, last: nn.Module) -> PlainNetwork | None:
    """One branch of SB3's ``MlpExtractor`` with the layer behind it."""
    space = policy.observation_space
    if not isinstance(space, spaces.Box) or is_image_space(space) or policy.device.type != "cpu":
        return None
    if type(policy.mlp_extractor) is not MlpExtractor:
        return None
    hidden = list(getattr(policy.mlp_extractor, branch))
    linears, activations = [*hidden[0::2], last], hidden[1::2]
    if (
        not all(type(layer) is nn.Linear and layer.bias is not None for layer in linears)
        or len(linears) != len(activations) + 1
    ):
        return None
    if any(layer._forward_pre_hooks or layer._forward_hooks for layer in (*linears, *activations)):
        # such as torch.nn.utils.spectral_norm: the weights are made when the layer is called
        return None
    if not all(type(layer) in (nn.Tanh, nn.ReLU) for layer in activations):
        return None
    return PlainNetwork(cast(list[nn.Linear], linears), [type(layer) is nn.ReLU for layer in activations])


def flat_observations(observations: Any) -> th.Tensor:
    """
    Observations as a plain network reads them.

    :param observations: (M, *obs)
    :return: (M, obs) float32
    """
    assert isinstance(observations, th.Tensor)
    return observations.flatten(1).float()


def flat_decisions(observations: Any, actions: th.Tensor, plain: PlainActor) -> tuple[th.Tensor, th.Tensor]:
    """
    Observations and actions as a plain actor reads them.

    :param observations: (M, *obs)
    :param actions: (M, *act)
    :param plain: the actor's parts
    :return: (M, obs) float32; (M,) int64 or (M, act) float32
    """
    flat = actions.flatten().long() if plain.log_std is None else actions.reshape(len(actions), -1)
    return flat_observations(observations), flat
