"""The units of a critic: probabilities, or normalised returns."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch as th
from torch import nn

CriticLoss = Literal["auto", "bce", "mse"]
CriticInit = float | Literal["first_batch"] | None

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


def choose_units(
    scale: ValueScale, critic_loss: CriticLoss, outcome: th.Tensor, trained: bool, from_a_file: bool
) -> str | None:
    """
    Decide between probabilities and normalised returns, and take the outcomes into the statistics of the latter.

    :param scale: of the critic; changed in place
    :param critic_loss: as the user gave it
    :param outcome: (S,) of the episodes just played
    :param trained: whether the critic has been trained in the units that it has now
    :param from_a_file: whether the model was loaded since the last update
    :return: what to tell the user, or ``None``
    :raises ValueError: if an outcome lies outside [0, 1] with ``critic_loss="bce"``
    """
    outside = outcome[(outcome < 0.0) | (outcome > 1.0)]
    if critic_loss == "bce":
        if outside.numel():
            raise ValueError(
                f"critic_loss='bce' needs outcomes in [0, 1], but an episode returned {outside[0].item():g}. Use critic_loss='mse' (or "
                "'auto'), or make the task pay 0 or 1 at its end (sppo_rl.envs.OutcomeWrapper)."
            )
        if scale.is_probability:
            return None
        scale.use_probability()
        return (
            "the critic predicted normalised returns, from training before, and predicts a probability from now on, as critic_loss='bce' "
            "asks: it has to learn anew."
        )
    if critic_loss == "auto" and scale.is_probability and not outside.numel():
        return None
    message = None
    if scale.is_probability and outside.numel() and trained:
        message = (
            f"an episode returned {outside[0].item():g}, and all before it lay in [0, 1]: the critic, which predicted a probability, "
            "predicts normalised returns from now on and has to learn them anew. Pass critic_loss='mse' to begin with them."
        )
    elif from_a_file and critic_loss == "auto" and not outside.numel() and not 0.0 <= scale.mean <= 1.0:
        message = (
            "outcomes lie in [0, 1] now, and the critic still predicts returns normalised by those of training before, which did not. "
            "Load the model with critic_loss='bce' for a critic that predicts a probability."
        )
    scale.use_returns(outcome)
    return message


def initial_value(critic_init: float | Literal["first_batch"], outcome: th.Tensor, is_probability: bool) -> float:
    """
    Give what an untrained critic is to predict.

    :param critic_init: as the user gave it
    :param outcome: (S,) of the first episodes
    :param is_probability: whether it predicts a probability
    :return: in outcome units
    """
    if critic_init != "first_batch":
        return float(critic_init)
    mean = float(outcome.mean())
    # no success in S episodes is no proof that there are none
    least = 0.5 / len(outcome)
    return min(max(mean, least), 1.0 - least) if is_probability else mean
