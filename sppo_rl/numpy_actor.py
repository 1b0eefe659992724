"""Sampling from a plain MLP in NumPy.

While an environment is stepped, the network sees a few dozen observations at a time, and most of a torch call is overhead: 2 to 4
times what NumPy needs for a 64 x 64 network. The twin is a snapshot: it is made anew after every update.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.distributions import CategoricalDistribution, DiagGaussianDistribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import FlattenExtractor, MlpExtractor
from torch import nn

_ACTIVATIONS: dict[type[nn.Module], Callable[[np.ndarray], np.ndarray]] = {
    nn.Tanh: lambda x: np.tanh(x, out=x),
    nn.ReLU: lambda x: np.maximum(x, 0.0, out=x),
}


def _array(tensor: th.Tensor) -> np.ndarray:
    array: np.ndarray = tensor.detach().cpu().numpy()
    return array


def sample_head(
    outputs: np.ndarray, std: np.ndarray | None, rng: np.random.Generator, deterministic: bool = False
) -> np.ndarray:
    """
    Choose actions from a network's outputs.

    :param outputs: (n, act) float32, logits or means; means are overwritten
    :param std: (act,) of a Gaussian; ``None`` for a categorical distribution
    :param rng: source of randomness
    :param deterministic: take the mode instead of sampling
    :return: (n,) int64 for a categorical distribution, (n, act) float32 for a Gaussian
    """
    if std is not None:
        if not deterministic:
            outputs += std * rng.standard_normal(outputs.shape, dtype=np.float32)
        return outputs
    if deterministic:
        return outputs.argmax(axis=1)
    # invert the cumulative distribution; the last category takes what rounding leaves over
    cumulative = np.exp(outputs - outputs.max(axis=1, keepdims=True)).cumsum(axis=1)
    threshold = rng.random(len(outputs), dtype=np.float32) * cumulative[:, -1]
    chosen: np.ndarray = (cumulative[:, :-1] <= threshold[:, None]).sum(axis=1)
    return chosen


class NumpyActor:
    """
    A snapshot of an actor: flat float observations, linear layers with tanh or ReLU, a categorical or Gaussian head.

    :param layers: alternating ``nn.Linear`` and activations
    :param log_std: (act,) of a Gaussian head; ``None`` for a categorical one
    :param rng: source of randomness
    :param deterministic: take the mode instead of sampling
    """

    def __init__(
        self, layers: list[nn.Module], log_std: th.Tensor | None, rng: np.random.Generator, deterministic: bool = False
    ):
        self._steps: list[tuple[np.ndarray, np.ndarray] | Callable[[np.ndarray], np.ndarray]] = []
        for layer in layers:
            if isinstance(layer, nn.Linear):
                self._steps.append((np.ascontiguousarray(_array(layer.weight).T), _array(layer.bias).copy()))
            else:
                self._steps.append(_ACTIVATIONS[type(layer)])
        self._std = None if log_std is None else np.exp(_array(log_std))
        self._rng = rng
        self._deterministic = deterministic

    @classmethod
    def of(cls, policy: ActorCriticPolicy, rng: np.random.Generator, deterministic: bool = False) -> NumpyActor | None:
        """
        Take a snapshot of a policy's actor.

        :param policy: any SB3 actor-critic policy
        :param rng: source of randomness
        :param deterministic: take the mode instead of sampling
        :return: the snapshot, or ``None`` if the policy is not of the kind this file knows
        """
        space = policy.observation_space
        plain = (
            policy.device.type == "cpu"
            and isinstance(space, spaces.Box)
            and space.dtype == np.float32
            and type(policy.features_extractor) is FlattenExtractor
            and type(policy.mlp_extractor) is MlpExtractor
            and type(policy.action_dist) in (CategoricalDistribution, DiagGaussianDistribution)
        )
        if not plain:
            return None
        layers = [*policy.mlp_extractor.policy_net, policy.action_net]
        if not all(isinstance(layer, nn.Linear) or type(layer) in _ACTIVATIONS for layer in layers):
            return None
        return cls(layers, getattr(policy, "log_std", None), rng, deterministic)

    def outputs(self, observations: np.ndarray) -> np.ndarray:
        """
        Run the network.

        :param observations: (n, *obs) float32
        :return: (n, act) float32: logits, or means
        """
        x = observations.reshape(len(observations), -1)
        for step in self._steps:
            if isinstance(step, tuple):
                weight, bias = step
                x = x @ weight
                x += bias
            else:
                x = step(x)
        return x

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """
        Choose actions.

        :param observations: (n, *obs) float32
        :return: (n,) int64 for a categorical head, (n, act) float32 for a Gaussian one
        """
        return sample_head(self.outputs(observations), self._std, self._rng, self._deterministic)
