"""What the policy asks of a generator."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch as th


@dataclass(frozen=True)
class Sampling:
    """
    How to sample. There is no top-p or top-k: they change the distribution that the training log-probabilities are of.

    :param max_new_tokens: longest response, the token that ends it included
    :param eos_token_id: ends a response and is its last token; or several, of which any does
    :param vocab_size: ids from here on belong to no token and are never sampled
    :param temperature: of the softmax, above 0
    :param seed: of this batch's samples
    :param greedy: the most likely token each time, whatever temperature and seed say
    """

    max_new_tokens: int
    eos_token_id: int | tuple[int, ...]
    vocab_size: int
    temperature: float = 1.0
    seed: int = 0
    greedy: bool = False

    @property
    def ends(self) -> tuple[int, ...]:
        """The tokens that end a response."""
        return (self.eos_token_id,) if isinstance(self.eos_token_id, int) else tuple(self.eos_token_id)


class Response(NamedTuple):
    """One sampled response."""

    token_ids: np.ndarray
    """(length,) int64: at most ``max_new_tokens``, nothing behind the token that ends it."""
    log_prob: np.ndarray
    """(length,) float32 nats, as the sampler computed them: at the sampling temperature; at temperature 1 for greedy responses."""


class Generator(Protocol):
    """
    Samples responses with weights that are handed over before each collection.

    A generator may hold a copy of the weights elsewhere, so every batch names the version it must be sampled with.
    """

    is_training_code: bool
    """Whether its log-probabilities are those that the training code would compute, up to rounding."""

    def sync_weights(self, named_parameters: Iterable[tuple[str, th.Tensor]], version: int) -> None:
        """
        Take over the policy's weights.

        :param named_parameters: under the names they have in the causal model; tied weights come once
        :param version: what these weights are called from now on
        """

    def generate(self, prompts: Sequence[np.ndarray], sampling: Sampling, version: int) -> list[Response]:
        """
        Sample one response to each prompt.

        :param prompts: token ids, (length,) int64 each
        :param sampling: see :class:`Sampling`
        :param version: the weights the caller means
        :raises RuntimeError: if the generator's weights are of another version
        """

    def offload(self) -> None:
        """Hand memory back until the next :meth:`sync_weights`; nothing can be sampled in between."""


def require_version(held: int | None, asked: int) -> None:
    """
    Refuse to sample with other weights than the caller means.

    :param held: version of the generator's weights; ``None`` for no weights
    :param asked: version the caller means
    :raises RuntimeError: if they differ
    """
    if held != asked:
        raise RuntimeError(
            f"The generator has weights of version {held}, but version {asked} was asked for: call sync_weights() after every change of "
            "the weights."
        )
