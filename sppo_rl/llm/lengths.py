"""How many tokens a model can read, held against those that it will be given."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import nn
from transformers import PreTrainedModel

if TYPE_CHECKING:
    from sppo_rl.llm.critic import PromptCritic

_SHORTER = "Pass the environment a smaller max_prompt_tokens or max_new_tokens."
_OFFSET = 2
"""Rows that OPT's table of positions has beside those of the positions."""


def check_lengths(model: PreTrainedModel, critic: PromptCritic | None, longest_prompt: int, budget: int) -> None:
    """
    Hold a policy's models against what its environment will give them; see the functions below.

    :param model: causal
    :param critic: of prompts; one with its own tokenizer counts other tokens
    :param longest_prompt: tokens
    :param budget: tokens of the longest response
    :raises ValueError: if one cannot be trained on sequences of that length
    """
    # the last token is predicted and never read
    longest = longest_prompt + budget - 1
    check_context("model", model, longest)
    check_rotary_positions(model, longest)
    if critic is not None and critic.own_tokenizer is None:
        check_context("critic", critic.model, longest_prompt)


def check_token_critic(critic: PromptCritic, longest_prompt: int, budget: int) -> None:
    """
    Hold a critic against what it will be given if it is read before every token of a response, as PPO's is.

    :param critic: the critic
    :param longest_prompt: tokens
    :param budget: tokens of the longest response
    :raises ValueError: if it does not read the policy's tokens, or has no positions for so many
    """
    if critic.own_tokenizer is not None:
        raise ValueError(
            "critic_tokenizer is for critics that read prompts (SPPO). PPO's critic is read before every token of the response, so it "
            "must read the policy's own tokens: leave critic_tokenizer out."
        )
    check_context("critic", critic.model, longest_prompt + budget - 1)


def check_context(role: str, model: PreTrainedModel, longest: int, advice: str = _SHORTER) -> None:
    """
    Hold a model's context length against the longest sequence it may be given; beyond it, rotary positions are only warned of.

    :param role: what it is, for the message
    :param model: a Hugging Face model
    :param longest: tokens
    :param advice: what to do, for the message
    :raises ValueError: if there is no position for the last token, as with GPT-2's table of them
    """
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if limit is None or longest <= limit:
        return
    seen = f"The {role} was made for {limit} tokens (max_position_embeddings), but may be given {longest}"
    if _has_table(model, limit):
        raise ValueError(f"{seen}, and has no positions for the others. {advice}")
    warnings.warn(f"{seen}: beyond its length a model says little that makes sense. {advice}", UserWarning, stacklevel=5)


def check_rotary_positions(model: PreTrainedModel, longest: int) -> None:
    """
    Refuse positions that depend on the longest sequence of a batch (``rope_type`` longrope and dynamic, beyond the original length): the
    log-probability of a response would depend on which others are read beside it, and differ from the sampler's.

    :param model: a causal model
    :param longest: tokens of a prompt and its response
    :raises ValueError: if the model has such positions and sequences may be that long
    """
    for kind, original in _growing(model):
        if longest > original:
            raise ValueError(
                f"The model's rotary positions (rope_type {kind!r}) change for all sequences of a batch once one is longer than {original} "
                f"tokens, and here one may have {longest}: a response's log-probability would depend on the others beside it. {_SHORTER}"
            )


def _has_table(model: PreTrainedModel, limit: int) -> bool:
    words = model.get_input_embeddings()
    tables = (module for module in model.modules() if isinstance(module, nn.Embedding) and module is not words)
    return any(limit <= table.num_embeddings <= limit + _OFFSET for table in tables)


def _growing(model: PreTrainedModel) -> list[tuple[str, int]]:
    """(kind, original length) of rotary positions that are recomputed; some models have several kinds, one for each kind of layer."""
    config = model.config.get_text_config()
    settings: Mapping[str, Any] = getattr(config, "rope_parameters", None) or {}
    kinds = [settings] if "rope_type" in settings else [part for part in settings.values() if isinstance(part, Mapping)]
    found = []
    for part in kinds:
        kind = str(part.get("rope_type"))
        if kind == "longrope":
            found.append((kind, int(part.get("original_max_position_embeddings") or config.max_position_embeddings)))
        elif "dynamic" in kind:
            found.append((kind, int(config.max_position_embeddings)))
    return found
