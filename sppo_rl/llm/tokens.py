"""Prompts and responses as one sequence of tokens, and the log-probabilities of the response's tokens.

Notation: n rows, P longest prompt, K token budget, V vocabulary (the index V is padding in an action), T fed tokens of the longest
row, D response tokens of all rows together, H hidden width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch as th
from torch import nn
from torch.utils.checkpoint import checkpoint


class Layout(NamedTuple):
    """
    Rows of prompt and response, padded on the right, and where each response token is predicted.

    A causal model never looks to the right, so right padding needs no attention mask and no positions of its own.
    """

    ids: th.Tensor
    """(n, T) int64: the prompt, then the response without its last token, which predicts nothing; then zeros."""
    lengths: th.Tensor
    """(n,) int64: tokens of each row of ``ids``."""
    mask: th.Tensor
    """(n, K) bool: the response's tokens, the end-of-sequence token included."""
    rows: th.Tensor
    """(D,) int64: the row of each response token, in the order of ``mask``."""
    columns: th.Tensor
    """(D,) int64: the place in ``ids`` that predicts it; for the first one the prompt's last token, ``prompt_len - 1``."""
    targets: th.Tensor
    """(D,) int64: the token itself."""


def response_mask(actions: th.Tensor, vocabulary: int) -> th.Tensor:
    """
    Tell the response's tokens from the padding behind them.

    :param actions: (n, K) int64
    :param vocabulary: V, the index of padding
    :return: (n, K) bool, true before the first padding
    """
    return (actions != vocabulary).cumprod(dim=1).bool()


def lay_out(prompt_ids: th.Tensor, prompt_len: th.Tensor, actions: th.Tensor, vocabulary: int) -> Layout:
    """
    Put each response behind its prompt.

    :param prompt_ids: (n, P) int64, padded on the right
    :param prompt_len: (n,) int64, at least 1
    :param actions: (n, K) int64
    :param vocabulary: V
    """
    mask = response_mask(actions, vocabulary)
    fed = prompt_len + (mask.sum(dim=1) - 1).clamp(min=0)
    column = th.arange(int(fed.max()), device=actions.device).expand(len(actions), -1)
    of_prompt = prompt_ids.gather(1, column.clamp(max=prompt_ids.shape[1] - 1))
    place = column - prompt_len.unsqueeze(1)
    of_response = actions.gather(1, place.clamp(0, actions.shape[1] - 1))
    ids = th.where(place < 0, of_prompt, th.where(column < fed.unsqueeze(1), of_response, 0))
    rows, numbers = mask.nonzero(as_tuple=True)
    return Layout(ids, fed, mask, rows, prompt_len[rows] - 1 + numbers, actions[rows, numbers])


def trim(prompt_ids: th.Tensor, prompt_len: th.Tensor) -> th.Tensor:
    """
    Cut prompts to the longest of them, with zeros as padding (a critic may not know the actor's padding token).

    :param prompt_ids: (n, P) int64, padded on the right
    :param prompt_len: (n,) int64
    :return: (n, longest) int64
    """
    column = th.arange(int(prompt_len.max()), device=prompt_ids.device)
    return th.where(column < prompt_len.unsqueeze(1), prompt_ids[:, : len(column)], 0)


def by_token_budget(rows: th.Tensor, lengths: th.Tensor, budget: int) -> Iterator[th.Tensor]:
    """
    Split rows, in their order, into parts of at most so many tokens.

    Lengths 5, 3, 8, 2 under a budget of 10: the first two, then the last two.

    :param rows: (m,) int64
    :param lengths: (m,) int64, tokens of each row
    :param budget: tokens, padding not counted; a single row may exceed it
    """
    start, tokens = 0, 0
    for number, length in enumerate(lengths.tolist()):
        if number > start and tokens + length > budget:
            yield rows[start:number]
            start, tokens = number, 0
        tokens += length
    if start < len(rows):
        yield rows[start:]


def similar_lengths(lengths: th.Tensor) -> list[th.Tensor]:
    """
    Group rows so that none is shorter than three quarters of the longest in its group: padding stays below a third.

    Lengths 3, 8, 7, 2: the second and third row (8, 7), the first (3), the last (2).

    :param lengths: (n,) int64
    :return: (·,) int64 row numbers, longest rows first
    """
    order = lengths.argsort(descending=True, stable=True)
    groups, start = [], 0
    falling = lengths[order].tolist()
    for number, length in enumerate(falling):
        if length < 0.75 * falling[start]:
            groups.append(order[start:number])
            start = number
    return [*groups, order[start:]]


def grouped_hidden_states(
    body: nn.Module, ids: th.Tensor, lengths: th.Tensor, rows: th.Tensor, columns: th.Tensor
) -> th.Tensor:
    """
    Run a model's body and read it at some places; rows of similar length go through it together.

    :param body: a Hugging Face model without its head
    :param ids: (n, T) int64, padded on the right
    :param lengths: (n,) int64, tokens of each row
    :param rows: (D,) int64
    :param columns: (D,) int64
    :return: (D, H)
    """
    states, places = [], []
    within = th.empty_like(lengths)
    for group in similar_lengths(lengths):
        within.fill_(-1)
        within[group] = th.arange(len(group), device=lengths.device)
        place = (within[rows] >= 0).nonzero().squeeze(1)
        hidden = body(input_ids=ids[group, : int(lengths[group[0]])], use_cache=False).last_hidden_state
        states.append(hidden[within[rows[place]], columns[place]])
        places.append(place)
    if len(states) == 1:
        return states[0]
    return th.cat(states)[th.cat(places).argsort()]


def token_log_probs(
    head: nn.Module, hidden: th.Tensor, targets: th.Tensor, vocabulary: int, temperature: float, at_once: int
) -> tuple[th.Tensor, th.Tensor]:
    """
    Log-probability of each token and entropy of the distribution it was drawn from, a piece of the tokens at a time.

    Logits are the largest tensor of language-model training (D × V). Here only ``at_once`` × V of them exist at any moment: the backward
    pass computes each piece anew. Values and gradients are those of the whole computation.

    :param head: maps (D, H) to logits (D, V or more); outputs beyond V belong to no token and are left out
    :param hidden: (D, H)
    :param targets: (D,) int64
    :param vocabulary: V
    :param temperature: the sampling temperature, which the log-probabilities are at
    :param at_once: tokens in a piece
    :return: (D,) nats and (D,) nats, float32
    """

    def piece(states: th.Tensor, chosen: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        logits = head(states)[:, :vocabulary].float() / temperature
        log_probs = logits.log_softmax(dim=1)
        return log_probs.gather(1, chosen.unsqueeze(1)).squeeze(1), -(log_probs.exp() * log_probs).sum(dim=1)

    if len(targets) <= at_once:
        return piece(hidden, targets)
    parts = [
        # one piece's logits at a time in the backward pass as well
        checkpoint(piece, states, chosen, use_reentrant=False, preserve_rng_state=False)
        if th.is_grad_enabled()
        else piece(states, chosen)
        for states, chosen in zip(hidden.split(at_once), targets.split(at_once), strict=True)
    ]
    log_prob, entropy = zip(*parts, strict=True)
    return th.cat(log_prob), th.cat(entropy)


def compute_in(dtype: th.dtype, device: th.device) -> AbstractContextManager[object]:
    """
    Compute in a precision while the weights stay in float32.

    :param dtype: ``torch.float32`` or a shorter one
    :param device: where the computation runs
    """
    return nullcontext() if dtype is th.float32 else th.autocast(device.type, dtype=dtype)
