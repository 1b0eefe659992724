"""What both vLLM backends share: how a request is put, how a response is read, and how a weight update is checked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch as th
from torch import nn
from transformers import PreTrainedModel

from sppo_rl.llm.generation.protocol import Response, Sampling
from sppo_rl.llm.generation.vllm_extension import COMPARED
from sppo_rl.llm.models import output_layer
from sppo_rl.llm.tokens import compute_in

PROBE_TOKENS = 32
TOLERANCE = {th.float32: 1e-3, th.bfloat16: 0.2}
"""Mean absolute difference of log-probabilities, nats, between two implementations of the same model in one precision."""
EXCLUDED = -100.0
"""Added to logits of ids that are no tokens; the largest bias that vLLM takes. It leaves them a probability of about e^-100."""
MOST_EXCLUDED = 1024
"""Biases in a request that vLLM's second model runner, the one that it uses on GPUs, has room for (``MAX_NUM_LOGIT_BIAS_TOKENS``)."""


def num_outputs(model: PreTrainedModel) -> int:
    """
    Count the outputs of a model, of which some may belong to no token.

    :param model: causal
    """
    weight = output_layer(model).weight
    assert isinstance(weight, th.Tensor)
    return weight.shape[0]


def check_excluded(vocab_size: int | None, outputs: int) -> None:
    """
    Check that vLLM can be told of all outputs that belong to no token.

    :param vocab_size: ids from here on belong to no token; ``None`` where that is not known yet
    :param outputs: of the model's output layer
    :raises ValueError: if there are too many
    """
    if vocab_size is not None and outputs - vocab_size > MOST_EXCLUDED:
        raise ValueError(
            f"The model has {outputs} outputs and vocab_size={vocab_size}: {outputs - vocab_size} belong to no token and must not be "
            f"sampled, but vLLM takes at most {MOST_EXCLUDED} of them in a request. Sample with generator='transformers', or cut the "
            "output layer to the tokenizer (model.resize_token_embeddings)."
        )


def request_options(sampling: Sampling, outputs: int) -> dict[str, Any]:
    """
    Fields of vLLM's ``SamplingParams`` without the seed.

    Those that a model's ``generation_config`` would set (Qwen2.5 ships ``top_p=0.8`` and a repetition penalty) are all given, so that
    none of them leaks in.

    :param sampling: see :class:`~sppo_rl.llm.generation.Sampling`
    :param outputs: of the model's output layer; those from ``vocab_size`` on are excluded
    :raises ValueError: if those are more than vLLM takes
    """
    check_excluded(sampling.vocab_size, outputs)
    return {
        "max_tokens": sampling.max_new_tokens,
        "min_tokens": 0,
        "temperature": 0.0 if sampling.greedy else sampling.temperature,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "stop_token_ids": list(sampling.ends),
        # the model's own idea of an end does not count, only those above
        "ignore_eos": True,
        "logit_bias": {token: EXCLUDED for token in range(sampling.vocab_size, outputs)} or None,
        "logprobs": 0,
        "detokenize": False,
    }


def request_seeds(seed: int, count: int) -> list[int]:
    """
    One seed for each request of a batch, so that a response does not depend on how vLLM batches it.

    :param seed: of the batch
    :param count: number of requests
    :return: in [0, 2^63)
    """
    words = np.random.SeedSequence(seed).generate_state(count, np.uint64)
    return [int(word >> np.uint64(1)) for word in words]


def read_response(token_ids: Sequence[int], log_prob: Sequence[float], sampling: Sampling) -> Response:
    """
    Hold a response to what was asked for.

    :param token_ids: as vLLM returned them
    :param log_prob: of each token, nats
    :param sampling: what was asked for
    :raises RuntimeError: if it holds an id that is no token, goes on behind its end, or stops without reason
    """
    tokens = np.asarray(token_ids, dtype=np.int64)
    ends = np.flatnonzero(np.isin(tokens, sampling.ends))
    whole = len(ends) == 1 and ends[0] == len(tokens) - 1 if len(ends) else len(tokens) == sampling.max_new_tokens
    if (
        not 0 < len(tokens) <= sampling.max_new_tokens
        or not whole
        or tokens.max() >= sampling.vocab_size
        or len(log_prob) != len(tokens)
    ):
        raise RuntimeError(
            f"vLLM returned {len(tokens)} tokens with {len(log_prob)} log-probabilities: {tokens.tolist()[:20]}…; expected ids below "
            f"{sampling.vocab_size}, up to an end-of-sequence token {list(sampling.ends)} or {sampling.max_new_tokens} in all."
        )
    return Response(tokens, np.asarray(log_prob, dtype=np.float32))


def merged_names(model: nn.Module) -> set[str]:
    """
    Name what :func:`~sppo_rl.llm.lora.merged_parameters` goes through, without merging anything.

    :param model: with or without adapters
    """
    adapted = tuple(f"{name}." for name, module in model.named_modules() if name and hasattr(module, "base_layer"))
    names = set()
    for name, _ in model.named_parameters():
        layer, found, leaf = name.partition("base_layer.")
        if found and layer in adapted:
            names.add(layer + leaf)
        elif not name.startswith(adapted):
            names.add(name)
    return names


class Handover:
    """
    The weights of one update on their way to vLLM, one at a time: where adapters are merged each is a copy, and must not outlive its turn.

    What the check afterwards needs is kept. A name that the model's checkpoint does not have is left out rather than an error at once: a
    reload that stops half-way would go wrong the next time.

    :param named_parameters: gone through once
    :param expected: names in the checkpoint
    """

    def __init__(self, named_parameters: Iterable[tuple[str, th.Tensor]], expected: set[str]):
        self.sent: dict[str, th.Tensor] = {}
        """Parameters of one dimension, the first values: an engine stores them as they are, if it stores them under the same name."""
        self._expected, self._given = expected, set[str]()
        self._weights = self._pass_on(named_parameters)

    def __iter__(self) -> Iterator[tuple[str, th.Tensor]]:
        return self._weights

    def __reduce__(self) -> tuple[Any, ...]:
        # for vLLM's workers in processes of their own (tensor_parallel_size)
        return list, (list(self),)

    def _pass_on(self, named_parameters: Iterable[tuple[str, th.Tensor]]) -> Iterator[tuple[str, th.Tensor]]:
        for name, parameter in named_parameters:
            self._given.add(name)
            if name in self._expected:
                if parameter.ndim == 1:
                    self.sent[name] = parameter.detach()[:COMPARED].clone()
                yield name, parameter.detach()

    def finish(self) -> None:
        """
        Compare the names; one that vLLM does not know, or does not get, it may pass over in silence.

        :raises ValueError: if they are not those of the checkpoint; the message names some
        """
        for _ in self._weights:
            pass
        if self._expected != self._given:
            missing, unknown = sorted(self._expected - self._given), sorted(self._given - self._expected)
            raise ValueError(
                f"The parameters to synchronise are not those of the model's checkpoint: {len(missing)} missing {missing[:3]}, "
                f"{len(unknown)} unknown {unknown[:3]}. Pass model.named_parameters() of the causal model itself (tied weights once, "
                "adapters merged)."
            )


def probe_tokens(model: PreTrainedModel, longest: int | None = None) -> np.ndarray:
    """
    Tokens whose log-probabilities are compared after every update: fixed ones, from all over the vocabulary.

    :param model: causal
    :param longest: at most so many
    :return: (p,) int64
    """
    count = min(PROBE_TOKENS, longest or PROBE_TOKENS)
    return np.random.default_rng(0).integers(num_outputs(model), size=count)


@th.no_grad()
def trainer_log_probs(model: PreTrainedModel, tokens: np.ndarray, dtype: th.dtype) -> np.ndarray:
    """
    Log-probability of each token but the first, as the training model sees it, over all outputs and at temperature 1.

    :param model: causal
    :param tokens: (p,) int64
    :param dtype: what it computes in
    :return: (p - 1,) float32 nats
    """
    was_training = model.training
    model.eval()
    ids = th.as_tensor(tokens, device=model.device).unsqueeze(0)
    with compute_in(dtype, model.device):
        logits = model(input_ids=ids, use_cache=False).logits[0, :-1]
    model.train(was_training)
    chosen: np.ndarray = logits.float().log_softmax(dim=1).gather(1, ids[0, 1:, None]).squeeze(1).cpu().numpy()
    return chosen


def require_synced(
    sent: dict[str, th.Tensor],
    stored: dict[str, list[float]],
    trainer: np.ndarray,
    engine: np.ndarray,
    dtype: th.dtype,
) -> None:
    """
    Make sure that the engine computes with the weights it was sent.

    Two checks: parameters of one dimension, where the smallest step shows, must be stored exactly; and the probe's log-probabilities must
    agree, which all weights go into.

    :param sent: the first values of parameters of one dimension
    :param stored: the first values that the engine has of some of them
    :param trainer: (p,) nats
    :param engine: (p,) nats
    :param dtype: what the engine computes in
    :raises RuntimeError: if either fails; the message says what was seen
    """
    for name, values in stored.items():
        expected = sent[name].to(dtype).float().cpu()
        if not th.equal(expected, th.tensor(values)):
            raise RuntimeError(
                f"The weight update did not reach vLLM: its {name} begins with {values[:3]}, the trainer's with {expected.tolist()[:3]}."
            )
    gap = float(np.abs(trainer - engine).mean())
    if not gap <= TOLERANCE[dtype]:
        raise RuntimeError(
            f"After the weight update vLLM's log-probabilities are off by {gap:.3g} nats on average (at most {TOLERANCE[dtype]} is "
            f"rounding in {dtype}): vLLM {engine[:3].tolist()}, the trainer {trainer[:3].tolist()}. Some weights are wrong or missing in "
            "the engine, or it computes in another precision."
        )
