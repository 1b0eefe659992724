"""Prompts as token ids and responses as text: all that is asked of a tokenizer."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from sppo_rl.envs.reasoning.problems import Problem

_PROBE = "What is 1 + 2?\n\tx_1 = \\boxed{3},  100 %"
"""Text that tokenizers with different rules for white space, digits or punctuation cut differently."""


def load_tokenizer(source: str | PathLike[str]) -> Any:
    """
    Load a tokenizer as its own files describe it.

    ``AutoTokenizer`` chooses a class by the model's architecture or the tokenizer's configuration, which may replace the pre-tokenizer of
    ``tokenizer.json`` (a character tokenizer beside a Qwen2 model loses white space). Where the two disagree, that file counts.

    :param source: hub name or local folder
    """
    # imported here: it takes seconds, and a tokenizer that is there already does not need it
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    tokenizer = AutoTokenizer.from_pretrained(source)
    if _has_tokenizer_json(source):
        as_saved = PreTrainedTokenizerFast.from_pretrained(source)
        if tokenizer.encode(_PROBE) != as_saved.encode(_PROBE):
            return as_saved
    return tokenizer


def _has_tokenizer_json(source: str | PathLike[str]) -> bool:
    """Whether there is the file; of a hub name whose tokenizer has just been loaded, so that all its files are in the cache."""
    if Path(source).is_dir():
        return (Path(source) / "tokenizer.json").is_file()
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(str(source), "tokenizer.json"), str)


def prompt_ids(problem: Problem, tokenizer: Any, use_chat_template: bool | None = None) -> list[int]:
    """
    Turn a prompt into token ids, through the tokenizer's chat template if it has one.

    :param problem: the problem
    :param tokenizer: a Hugging Face tokenizer, or anything with ``encode``, ``apply_chat_template`` and ``chat_template``
    :param use_chat_template: ``None`` uses it where the tokenizer has one; messages always need one
    :raises ValueError: if the prompt is made of messages and the tokenizer has no chat template
    """
    template = getattr(tokenizer, "chat_template", None) is not None
    if not isinstance(problem.prompt, str) and not template:
        raise ValueError(f"Problem {problem.id!r} is made of messages, but the tokenizer has no chat template.")
    if template and (use_chat_template is not False or not isinstance(problem.prompt, str)):
        # as text first: what apply_chat_template returns for tokens changed between releases
        text = tokenizer.apply_chat_template(problem.messages, tokenize=False, add_generation_prompt=True)
        return list(tokenizer.encode(text, add_special_tokens=False))
    ids = list(tokenizer.encode(problem.prompt))
    if ids and ids[-1] == getattr(tokenizer, "eos_token_id", None):
        bare = list(tokenizer.encode(problem.prompt, add_special_tokens=False))
        if ids[-len(bare) - 1 : -1] == bare:
            # some tokenizers put an end behind every text: a prompt goes on
            ids.pop()
    return ids


def decode(tokenizer: Any, ids: Any, skip_special_tokens: bool = False) -> str:
    """
    Turn token ids into exactly the text that they stand for.

    Tokenizers of Llama 3 and others take away spaces before punctuation (``clean_up_tokenization_spaces``) unless told otherwise.

    :param tokenizer: a Hugging Face tokenizer, or anything with ``decode``
    :param ids: (n,) int
    :param skip_special_tokens: leave out what is no text
    """
    options = {"clean_up_tokenization_spaces": False} if hasattr(tokenizer, "clean_up_tokenization_spaces") else {}
    return str(tokenizer.decode(ids, skip_special_tokens=skip_special_tokens, **options))


def check_round_trip(tokenizer: Any, text: str = "1 + 2\n= 3") -> None:
    """
    Make sure that a tokenizer keeps what it is given: some are loaded with another pre-tokenizer and drop line breaks silently.

    :param tokenizer: a Hugging Face tokenizer
    :param text: text that must survive encoding and decoding
    :raises ValueError: if it does not
    """
    back = unicodedata.normalize("NFC", decode(tokenizer, tokenizer.encode(text, add_special_tokens=False))).strip()
    text = unicodedata.normalize("NFC", text).strip()
    if back != text:
        first = next(
            (k for k, (one, other) in enumerate(zip(text, back, strict=False)) if one != other), min(len(text), len(back))
        )
        raise ValueError(
            f"The tokenizer turns {text[first : first + 40]!r} into {back[first : first + 40]!r}: it was made for other text (of sums "
            "alone, say: then the problems must come without an instruction in words, instruction=''), or, if it is a local folder, "
            "AutoTokenizer replaced its pre-tokenizer; load that with transformers.PreTrainedTokenizerFast."
        )


def fit(
    problems: Sequence[Problem], tokenizer: Any, max_prompt_tokens: int, use_chat_template: bool | None = None
) -> tuple[list[Problem], list[list[int]], int]:
    """
    Keep the problems whose prompt fits; a prompt is never cut.

    :param problems: the problems
    :param tokenizer: see :func:`prompt_ids`
    :param max_prompt_tokens: limit
    :param use_chat_template: see :func:`prompt_ids`
    :return: the problems kept, their token ids, and how many were dropped
    :raises ValueError: if none is left
    """
    encoded = [prompt_ids(problem, tokenizer, use_chat_template) for problem in problems]
    kept = [k for k, ids in enumerate(encoded) if 0 < len(ids) <= max_prompt_tokens]
    if not kept:
        shortest = min(map(len, encoded), default=0)
        raise ValueError(
            f"None of {len(problems)} problems fits into max_prompt_tokens={max_prompt_tokens}; the shortest has {shortest} tokens."
        )
    return [problems[k] for k in kept], [encoded[k] for k in kept], len(problems) - len(kept)
