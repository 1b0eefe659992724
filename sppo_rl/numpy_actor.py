"""Sampling from a plain MLP in NumPy.

While an environment is stepped, the network sees a few dozen observations at a time, and most of a torch call is overhead: 2 to 4
times what NumPy needs for a 64 x 64 network. The twin is a snapshot: it is made anew after every update.
"""

from __future__ import annotations

import numpy as np
import torch as th
from torch import nn

from sppo_rl.plain import PlainActor, take_apart


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
    A snapshot of a plain actor.

    :param plain: the actor's parts
    :param rng: source of randomness
    :param deterministic: take the mode instead of sampling
    """

    def __init__(self, plain: PlainActor, rng: np.random.Generator, deterministic: bool = False):
        # contiguous copies: BLAS is quicker on them, and an update does not change them
        self._layers = [
            (np.ascontiguousarray(_array(linear.weight).T), _array(linear.bias).copy()) for linear in plain.network.linears
        ]
        self._relu = plain.network.relu
        self._std = None if plain.log_std is None else np.exp(_array(plain.log_std))
        self._rng = rng
        self._deterministic = deterministic

    @classmethod
    def of(cls, policy: nn.Module, rng: np.random.Generator, deterministic: bool = False) -> NumpyActor | None:
        """
        Take a snapshot of a policy's actor.

        :param policy: any policy
        :param rng: source of randomness
        :param deterministic: take the mode instead of sampling
        :return: the snapshot, or ``None`` if the policy is not plain (see :func:`~sppo_rl.plain.take_apart`)
        """
        plain = take_apart(policy)
        return None if plain is None else cls(plain, rng, deterministic)

    def outputs(self, observations: np.ndarray) -> np.ndarray:
        """
        Run the network.

        :param observations: (n, *obs)
        :return: (n, act) float32: logits, or means
        """
        x = observations.reshape(len(observations), -1).astype(np.float32, copy=False)
        for (weight, bias), relu in zip(self._layers, self._relu, strict=False):
            x = x @ weight
            x += bias
            np.maximum(x, 0.0, out=x) if relu else np.tanh(x, out=x)
        weight, bias = self._layers[-1]
        return x @ weight + bias

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """
        Choose actions.

        :param observations: (n, *obs)
        :return: (n,) int64 for a categorical head, (n, act) float32 for a Gaussian one
        """
        return sample_head(self.outputs(observations), self._std, self._rng, self._deterministic)
