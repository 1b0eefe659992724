"""
Generators: what turns prompts into sampled responses. The policy owns one; neither environment nor algorithm knows it.

- what the policy asks of one: ``protocol``
- the training model itself: ``transformers_backend``, ``decoding``
- vLLM: ``vllm_backend`` (in this process), ``vllm_server`` (over HTTP; ``serve`` starts one), ``vllm_sync`` (what both share),
  ``vllm_extension`` (what runs in vLLM's worker)
"""

from __future__ import annotations

from typing import Any

import torch as th
from transformers import PreTrainedModel

from sppo_rl.llm.generation.protocol import Generator, Response, Sampling
from sppo_rl.llm.generation.transformers_backend import TransformersGenerator
from sppo_rl.llm.generation.vllm_backend import VLLMGenerator
from sppo_rl.llm.generation.vllm_server import VLLMServerGenerator

__all__ = [
    "Generator",
    "Response",
    "Sampling",
    "TransformersGenerator",
    "VLLMGenerator",
    "VLLMServerGenerator",
    "make_generator",
]


def make_generator(
    name: str,
    model: PreTrainedModel,
    dtype: th.dtype,
    max_length: int,
    responses_per_pass: int | None = None,
    options: dict[str, Any] | None = None,
    vocab_size: int | None = None,
) -> Generator:
    """
    Make the generator that a configuration names.

    :param name: ``"transformers"``, ``"vllm"`` or ``"vllm-server"``
    :param model: the policy's causal model
    :param dtype: what the generator computes in
    :param max_length: tokens of the longest prompt and response together
    :param responses_per_pass: of the transformers backend; vLLM schedules by itself
    :param options: further parameters of the class
    :param vocab_size: ids from here on belong to no token; ``None`` if that is not known yet
    :raises ValueError: if the name is unknown, ``responses_per_pass`` is given to vLLM, or it cannot exclude what is no token
    """
    options = options or {}
    if name == "transformers":
        return TransformersGenerator(model, dtype, responses_per_pass, **options)
    if name not in ("vllm", "vllm-server"):
        raise ValueError(f"generator must be 'transformers', 'vllm' or 'vllm-server', got {name!r}.")
    if responses_per_pass is not None:
        raise ValueError(
            f"responses_per_pass={responses_per_pass} is for generator='transformers'. vLLM schedules responses by itself; bound them with "
            "its own max_num_seqs (generator_kwargs, or an option of the server)."
        )
    if name == "vllm":
        return VLLMGenerator(model, dtype, **{"max_model_len": max_length, "vocab_size": vocab_size, **options})
    return VLLMServerGenerator(model, dtype, **{"vocab_size": vocab_size, **options})
