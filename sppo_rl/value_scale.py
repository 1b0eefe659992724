"""The units of a critic: probabilities, or normalised returns."""

from __future__ import annotations

import numpy as np
import torch as th
from torch import nn

_PROBABILITY = {"probability": 1.0, "mean": 0.0, "variance": 1.0, "count": 0.0}
"""Buffers of a critic that predicts a probability."""


class ValueScale(nn.Module):
    """
    Turns a critic's output into outcome units and back.

    A probability (``sigmoid``) for outcomes in [0, 1]; otherwise ``mean + std * output`` with the running mean and standard deviation of
    all returns seen. Its buffers are part of the policy's parameters, so a saved policy predicts in the right units.
    """

    probability: th.Tensor
    mean: th.Tensor
    variance: th.Tensor
    count: th.Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, value in _PROBABILITY.items():
            self.register_buffer(name, th.tensor(value))

    @property
    def is_probability(self) -> bool:
        """Whether the critic predicts a probability."""
        return bool(self.probability > 0.5)

    @property
    def std(self) -> th.Tensor:
        """Standard deviation of the returns seen, never below 1e-4, nor below what single precision can tell apart at their mean."""
        return th.maximum(self.variance.sqrt().clamp(min=1e-4), 1e-5 * self.mean.abs())

    def forward(self, logits: th.Tensor) -> th.Tensor:
        """
        Map the critic's output to outcome units.

        :param logits: any shape
        """
        return th.sigmoid(logits) if self.is_probability else self.mean + self.std * logits

    def normalize(self, targets: th.Tensor) -> th.Tensor:
        """
        Map returns to the units of the critic's output; for a critic that does not predict a probability.

        :param targets: any shape, outcome units
        """
        return (targets - self.mean) / self.std

    def output_for(self, value: float) -> float:
        """
        Give the critic's output that stands for a value.

        :param value: in outcome units
        :raises ValueError: if it is no probability where one is predicted
        """
        if not self.is_probability:
            return float(self.normalize(th.tensor(value, device=self.mean.device)))
        if not 0.0 < value < 1.0:
            raise ValueError(f"The critic's initial value must lie strictly between 0 and 1, got {value:g}.")
        return float(np.log(value / (1.0 - value)))

    def use_probability(self) -> None:
        """Predict a probability from now on, as at first: forget the returns seen."""
        for name, value in _PROBABILITY.items():
            getattr(self, name).fill_(value)

    def use_returns(self, outcome: th.Tensor) -> None:
        """
        Predict normalised returns from now on, and take these into the running statistics (Chan's parallel update).

        :param outcome: (S,)
        """
        batch, size = outcome.to(self.mean.device, th.float64), float(len(outcome))
        mean, count = self.mean.double(), self.count.double()
        total = count + size
        delta = batch.mean() - mean
        spread = self.variance.double() * count + batch.var(unbiased=False) * size + delta**2 * count * size / total
        self.mean.copy_(mean + delta * size / total)
        self.variance.copy_(spread / total)
        self.count.copy_(total)
        self.probability.fill_(0.0)
