"""
What a TransformerPolicy is made with: what is kept of it for loading, its optimizers, and checks, whose messages name the parameter, the
value seen and what may stand there.
"""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from torch import nn
from transformers import PreTrainedModel

DTYPES = {"float32": th.float32, "bfloat16": th.bfloat16}
"""What forward and backward passes may compute in."""
_CONTROL_RATE = 1e-4
"""Above this, a learning rate was meant for a network of a few thousand weights."""
SIZES = ("tokens_per_pass", "logits_per_pass", "responses_per_pass")
"""Parameters of the policy that bound a pass: at least 1, or ``None``."""
OPERATIONAL = (*SIZES, "generator_kwargs")
"""Parameters of the policy that say how the work is done and not what is learned: they may be changed while it is trained."""
_NOT_KEPT = ("self", "observation_space", "action_space", "lr_schedule", "model", "critic", "use_sde")
"""Parameters that a saved policy has no need of, or has in another form."""


def kept(constructor: Callable[..., None], given: Mapping[str, Any]) -> dict[str, Any]:
    """
    Pick what a policy must be built with again when it is loaded: every parameter of its constructor, so that none is forgotten.

    :param constructor: of the policy
    :param given: its parameters, by name, perhaps among other things
    """
    return {name: given[name] for name in inspect.signature(constructor).parameters if name not in _NOT_KEPT}


def check_operational(changes: Mapping[str, Any]) -> None:
    """
    Check what is to be changed in a policy that is there.

    :param changes: new values by name
    :raises ValueError: if one cannot be changed, or is out of its range
    """
    for name in changes:
        if name not in OPERATIONAL:
            raise ValueError(f"{name} cannot be changed in a policy that is there; these can: {', '.join(OPERATIONAL)}.")
    check_sizes(changes)


def adamw(parameters: list[nn.Parameter], rate: float, weight_decay: float) -> th.optim.AdamW:
    """
    Make an optimizer that goes through its parameters one at a time.

    PyTorch's choice on a GPU (``foreach``) would make a temporary copy of all of them at every step: four bytes a parameter.

    :param parameters: in one group, and be it empty: an algorithm without a critic has an optimizer that does nothing
    :param rate: of learning
    :param weight_decay: see :class:`torch.optim.AdamW`
    """
    optimizer = th.optim.AdamW([{"params": parameters}], lr=rate, weight_decay=weight_decay, foreach=False)
    optimizer.register_load_state_dict_post_hook(_one_at_a_time)
    return optimizer


def _one_at_a_time(optimizer: th.optim.Optimizer) -> None:
    """What is read from a file brings along the choice of the version that wrote it."""
    for group in optimizer.param_groups:
        group["foreach"] = False


def read_spaces(observation_space: spaces.Space, action_space: spaces.Space) -> tuple[int, int]:
    """
    Read token budget K and vocabulary V.

    :param observation_space: ``Dict(prompt_ids, prompt_len, …)``
    :param action_space: ``MultiDiscrete([V + 1] * K)``
    :raises ValueError: if they are others
    """
    names = set(observation_space.spaces) if isinstance(observation_space, spaces.Dict) else set()
    if not {"prompt_ids", "prompt_len"} <= names:
        raise ValueError(
            f"TransformerPolicy reads prompts from Dict(prompt_ids, prompt_len, …), as MathReasoningEnv gives them, got {observation_space}"
            "."
        )
    if not isinstance(action_space, spaces.MultiDiscrete) or len(set(action_space.nvec.tolist())) != 1:
        raise ValueError(f"TransformerPolicy answers with MultiDiscrete([V + 1] * K), got {action_space}.")
    return len(action_space.nvec), int(action_space.nvec[0]) - 1


def check_options(given: Mapping[str, Any]) -> None:
    """
    Check that there is a model, that the other options can be had, and that this process trains alone.

    :param given: what a policy is made with, by name
    :raises ValueError: if an option is missing or out of its range, or this is one of several processes
    """
    dtype, temperature = given["dtype"], given["temperature"]
    if given["model"] is None:
        raise ValueError(
            "A TransformerPolicy needs a model: pass policy_kwargs={'model': …} with a hub name such as 'Qwen/Qwen2.5-1.5B-Instruct', "
            "a local folder, a configuration or an instance."
        )
    if given["use_sde"]:
        raise ValueError("use_sde=True is for continuous actions; tokens are sampled from a softmax.")
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be {' or '.join(map(repr, DTYPES))}, got {dtype!r}.")
    if not temperature > 0.0:
        raise ValueError(
            f"temperature must be above 0, got {temperature}. Greedy responses come from predict(deterministic=True)."
        )
    check_sizes(given)
    _refuse_several_processes()


def check_sizes(given: Mapping[str, Any]) -> None:
    """
    Check what bounds a pass.

    :param given: parameters by name; those of :data:`SIZES` are looked at
    :raises ValueError: if one is out of its range
    """
    for name in SIZES:
        size = given.get(name)
        if size is not None and size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}.")


def _refuse_several_processes() -> None:
    """Processes of ``torchrun`` or ``accelerate launch`` would each train a model of their own, all of them on the first GPU."""
    size = os.environ.get("WORLD_SIZE", "")
    if size.isdecimal() and int(size) > 1:
        raise ValueError(
            f"WORLD_SIZE is {size}: this is one of {size} processes that torchrun or accelerate launch started, and training is not "
            "distributed: each would train a model of its own on the same GPU. Start one process, without them; the other GPUs can "
            "generate for it with policy_kwargs={'generator': 'vllm-server'}. If something else has set WORLD_SIZE, unset it."
        )


def end_of_sequence(
    eos_token_id: int | Sequence[int] | None, tokenizer: Any, of_model: Sequence[int], vocabulary: int
) -> int | tuple[int, ...]:
    """
    Find the tokens that end a response.

    Chat models may end their turn with another token than the tokenizer's end of sequence (Gemma's ``<end_of_turn>``): their
    ``generation_config`` lists both.

    :param eos_token_id: given by the user; ``None`` for the tokenizer's and the model's
    :param tokenizer: may be ``None``
    :param of_model: see :func:`~sppo_rl.llm.models.end_tokens`; those that are no token of the tokenizer are left out
    :param vocabulary: V
    :return: the token, or several in ascending order
    :raises ValueError: if there is none, or one that was given is no token
    """
    if eos_token_id is None:
        own = getattr(tokenizer, "eos_token_id", None)
        given: Any = [*([] if own is None else [own]), *of_model]
        found = {int(token) for token in given if 0 <= token < vocabulary}
    else:
        given = eos_token_id
        found = {int(token) for token in ([given] if isinstance(given, int | np.integer) else given)}
    if not found or not all(0 <= token < vocabulary for token in found):
        raise ValueError(
            f"A response needs an end-of-sequence token in [0, {vocabulary}), got {given or None}. Pass "
            "policy_kwargs={'eos_token_id': …}, a token or a list of them, or give the environment a tokenizer that has one."
        )
    return found.pop() if len(found) == 1 else tuple(sorted(found))


def point_out_control_rate(source: Any, learning_rate: float) -> None:
    """
    Warn of a learning rate that would ruin a pre-trained model.

    :param source: of the model; a configuration stands for weights from scratch
    :param learning_rate: of the actor
    """
    if isinstance(source, str | PathLike | PreTrainedModel) and learning_rate > _CONTROL_RATE:
        warnings.warn(
            f"learning_rate is {learning_rate:g}, which suits control tasks; pre-trained language models are fine-tuned at about 1e-6 "
            "(critic 5e-6). Pass learning_rate=… and critic_learning_rate=….",
            UserWarning,
            stacklevel=3,
        )


def check_vocabulary(role: str, network: Any, vocabulary: int, user: str, advice: str) -> None:
    """
    Check that a network knows all tokens it may be shown.

    :param role: what it is, for the message
    :param network: a Hugging Face model
    :param vocabulary: V
    :param user: who shows them, for the message
    :param advice: what to do, for the message; ``{}`` stands for the number of tokens that the network knows
    :raises ValueError: if it does not
    """
    embeddings = network.get_input_embeddings().num_embeddings
    if embeddings < vocabulary:
        raise ValueError(f"The {role} knows {embeddings} tokens, but {user} uses {vocabulary}. {advice.format(embeddings)}")
