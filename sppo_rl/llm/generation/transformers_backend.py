"""Generation with the training model itself: works wherever PyTorch does, and has nothing to synchronise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import numpy as np
import torch as th
from transformers import PreTrainedModel

from sppo_rl.llm.generation.decoding import LlamaDecoding, ModelDecoding, why_not_lean
from sppo_rl.llm.generation.protocol import Response, Sampling, require_version
from sppo_rl.llm.models import attention_by, attention_for_any_shape, output_layer
from sppo_rl.llm.tokens import compute_in

COMPACT_BELOW = 0.9
"""Rows whose response has ended leave the batch once fewer than this share are still running: leaving copies some of the cache."""


class TransformersGenerator:
    """
    A loop over the model's key-value cache; see :class:`~sppo_rl.llm.generation.Generator`.

    On a CPU in float32, models of the Llama family are decoded by :class:`~.decoding.LlamaDecoding`, all others by their own forward pass.
    Samples depend on ``sampling.seed`` and the weights, not on PyTorch's global generator.

    :param model: a causal model; used as it is at each call
    :param dtype: what it computes in
    :param responses_per_pass: responses generated side by side; ``None`` for all. It bounds the cache.
    """

    def __init__(self, model: PreTrainedModel, dtype: th.dtype = th.float32, responses_per_pass: int | None = None):
        self.model, self.dtype, self.responses_per_pass = model, dtype, responses_per_pass
        # in a shorter precision a token at a time and all tokens at once round differently
        self.is_training_code = dtype is th.float32
        self.version: int | None = None
        self.lean: bool | None = None
        """Whether :class:`~.decoding.LlamaDecoding` is used; ``None`` before the first call."""
        self.why_not_lean: str | None = None
        """Why it is not."""

    def sync_weights(self, named_parameters: Iterable[tuple[str, th.Tensor]], version: int) -> None:
        """
        Note the version; the weights are the model's own.

        :param named_parameters: not looked at
        :param version: what the weights are called from now on
        """
        self.version = version

    def offload(self) -> None:
        """Nothing to hand back: the weights are the trainer's, and the cache lives as long as a call."""

    def generate(self, prompts: Sequence[np.ndarray], sampling: Sampling, version: int) -> list[Response]:
        """
        Sample one response to each prompt; see :class:`~sppo_rl.llm.generation.Generator`.

        :param prompts: token ids, (length,) int64 each
        :param sampling: see :class:`~sppo_rl.llm.generation.Sampling`
        :param version: the weights the caller means
        """
        require_version(self.version, version)
        device = self.model.device
        random = th.Generator(device).manual_seed(sampling.seed)
        was_training = self.model.training
        self.model.eval()
        size = self.responses_per_pass or max(len(prompts), 1)
        responses: list[Response] = []
        with _weights_converted_once(self.model, self.dtype):
            for first in range(0, len(prompts), size):
                responses += self._generate(prompts[first : first + size], sampling, random)
        self.model.train(was_training)
        return responses

    def _generate(self, prompts: Sequence[np.ndarray], sampling: Sampling, random: th.Generator) -> list[Response]:
        device, count, budget = self.model.device, len(prompts), sampling.max_new_tokens
        head = output_layer(self.model)
        ends = th.tensor(sampling.ends, device=device)
        sampled = th.full((count, budget), sampling.ends[0], dtype=th.int64, device=device)
        log_probs = th.zeros(count, budget, device=device)
        lengths = th.full((count,), budget, dtype=th.int64, device=device)
        rows = th.arange(count, device=device)
        running = th.ones(count, dtype=th.bool, device=device)
        decoding = (LlamaDecoding if self._is_lean() else ModelDecoding)(self.model.base_model, prompts)
        with _attention_for_one_token(self.model):
            for step in range(budget):
                tokens, log_prob = choose(head(decoding.hidden)[:, : sampling.vocab_size], sampling, random)
                # rows that have ended go on until they leave; nobody reads what they say
                sampled[rows, step], log_probs[rows, step] = tokens, log_prob
                ended = running & (tokens.unsqueeze(1) == ends).any(dim=1)
                lengths[rows[ended]] = step + 1
                running &= ~ended
                left = int(running.sum())
                if left == 0 or step + 1 == budget:
                    break
                if left < COMPACT_BELOW * len(rows):
                    keep = close_up(running)
                    decoding.keep(keep)
                    rows, running, tokens = rows[keep], running[keep], tokens[keep]
                decoding.append(tokens)
        each = zip(sampled.cpu().numpy(), log_probs.cpu().numpy(), lengths.tolist(), strict=True)
        return [Response(tokens[:end], log_prob[:end]) for tokens, log_prob, end in each]

    def _is_lean(self) -> bool:
        """Whether the model is decoded without its own forward pass; found out once, since it does not depend on the weights."""
        if self.lean is None:
            if self.dtype is not th.float32:
                self.why_not_lean = "it is for float32 on a CPU"
            else:
                with _attention_for_one_token(self.model):
                    self.why_not_lean = why_not_lean(self.model.base_model)
            self.lean = self.why_not_lean is None
        return self.lean


def close_up(running: th.Tensor) -> th.Tensor:
    """
    Which rows take the first places when the others leave: most stay where they are, and the last ones fill the gaps.

    :param running: (n,) bool
    :return: (m,) int64, of the m rows that are running
    """
    rows = running.nonzero().squeeze(1)
    kept = th.arange(len(rows), device=rows.device)
    gaps = (~running[: len(rows)]).nonzero().squeeze(1)
    kept[gaps] = rows[len(rows) - len(gaps) :]
    return kept


@contextmanager
def _weights_converted_once(model: PreTrainedModel, dtype: th.dtype) -> Iterator[None]:
    """
    One context for all tokens, without gradients, in which the model computes in a precision.

    Autocast keeps what it has made of a weight until the context ends, but only if the weight requires gradients, and not in inference
    mode. So frozen weights are passed off as trained ones. In float32 nothing is converted, and inference mode is quicker: ``no_grad``
    takes a tenth more with small models.
    """
    if dtype is th.float32:
        with th.inference_mode():
            yield
        return
    frozen = [weight for weight in model.parameters() if weight.is_floating_point() and not weight.requires_grad]
    try:
        for weight in frozen:
            weight.requires_grad = True
        with th.no_grad(), compute_in(dtype, model.device):
            yield
    finally:
        for weight in frozen:
            weight.requires_grad = False


@contextmanager
def _attention_for_one_token(model: PreTrainedModel) -> Iterator[None]:
    """On a CPU two products and a softmax are quicker than the fused kernel when there is one query (``benchmarks/LOG.md``)."""
    exchanged = attention_by(model, "eager") if model.device.type == "cpu" else nullcontext()
    with exchanged, attention_for_any_shape(model.device):
        yield


def choose(logits: th.Tensor, sampling: Sampling, random: th.Generator) -> tuple[th.Tensor, th.Tensor]:
    """
    Choose the next tokens.

    :param logits: (n, V)
    :param sampling: see :class:`~sppo_rl.llm.generation.Sampling`
    :param random: on the logits' device
    :return: (n,) int64, and (n,) float32 nats, at temperature 1 if greedy
    """
    if sampling.greedy:
        tokens = logits.argmax(dim=1)
        return tokens, logits.float().log_softmax(dim=1).gather(1, tokens.unsqueeze(1)).squeeze(1)
    probabilities = th.softmax(logits.float() / sampling.temperature, dim=1)
    # the first of V exponential clocks to ring, each at the rate of its probability, is a sample
    waiting = th.empty_like(probabilities).exponential_(generator=random)
    tokens = (probabilities / waiting).argmax(dim=1)
    return tokens, probabilities.gather(1, tokens.unsqueeze(1)).squeeze(1).log()
