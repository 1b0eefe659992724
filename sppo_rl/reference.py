"""The weights that training began with, for a penalty on the distance from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch as th
from torch import nn


@th.no_grad()
def copy_of(parameters: Sequence[nn.Parameter]) -> th.Tensor:
    """
    Copy parameters into one vector.

    :param parameters: of one dtype, on one device
    :return: (number of all their entries,)
    """
    return th.cat([parameter.detach().flatten() for parameter in parameters])


@contextmanager
def exchanged(parameters: Sequence[nn.Parameter], weights: th.Tensor) -> Iterator[None]:
    """
    Give parameters other values for the length of a ``with`` block. No second network is built.

    :param parameters: those that ``weights`` is a copy of, in the same order
    :param weights: as :func:`copy_of` gives them
    """
    own = [parameter.data for parameter in parameters]
    parts = weights.split([parameter.numel() for parameter in parameters])
    try:
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.data = part.view_as(parameter)
        yield
    finally:
        for parameter, data in zip(parameters, own, strict=True):
            parameter.data = data
