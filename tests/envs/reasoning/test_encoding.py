"""Prompts as token ids and responses as text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conftest import CharacterTokenizer, make_tokenizer

from sppo_rl.envs.reasoning import MathReasoningEnv, Problem, from_pairs, verify
from sppo_rl.envs.reasoning.encoding import check_round_trip, prompt_ids


@pytest.mark.parametrize("make", [CharacterTokenizer, make_tokenizer], ids=["characters", "transformers"])
def test_chat_template(make: Callable[..., Any]) -> None:
    tokenizer = make(chat=True)
    (problem,) = from_pairs([("What is 1+1?", "2")])
    wanted = "[user] What is 1+1?\n[assistant] "
    assert tokenizer.decode(prompt_ids(problem, tokenizer)) == wanted
    assert tokenizer.decode(prompt_ids(Problem((("user", "What is 1+1?"),), "2", "0"), tokenizer)) == wanted
    assert tokenizer.decode(prompt_ids(problem, tokenizer, use_chat_template=False)) == "What is 1+1?"
    with pytest.raises(ValueError, match="no chat template"):
        prompt_ids(Problem((("user", "?"),), "2", "0"), make())
    env = MathReasoningEnv([problem], tokenizer, 64, 16, verify)
    assert env.reset()[0]["prompt_len"][0] == len(wanted)


class ForgetfulTokenizer(CharacterTokenizer):
    """Drops line breaks."""

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return super().encode(text.replace("\n", ""))


def test_round_trip_is_asserted(tokenizer: CharacterTokenizer) -> None:
    check_round_trip(tokenizer)
    with pytest.raises(ValueError, match="PreTrainedTokenizerFast"):
        MathReasoningEnv(from_pairs([("two\nlines", "2")]), ForgetfulTokenizer(), 64, 16, verify)


def test_round_trip_of_a_tokenizer_loaded_wrongly() -> None:
    """A tokenizer that was loaded with another pre-tokenizer drops line breaks and says nothing."""
    tokenizer = make_tokenizer()
    from tokenizers import pre_tokenizers

    check_round_trip(tokenizer)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split("", "isolated")]
    )
    with pytest.raises(ValueError, match="PreTrainedTokenizerFast"):
        check_round_trip(tokenizer)
    with pytest.raises(ValueError, match="PreTrainedTokenizerFast"):
        MathReasoningEnv(from_pairs([("two\nlines", "2")]), tokenizer, 64, 16, verify)


def test_spaces_before_punctuation_are_kept() -> None:
    """Tokenizers of Llama 3 say ``clean_up_tokenization_spaces``, which would take them away."""
    tokenizer = make_tokenizer()
    tokenizer.clean_up_tokenization_spaces = True
    assert tokenizer.decode(tokenizer.encode("x , y .")) == "x, y.", "what is guarded against"
    (problem,) = from_pairs([("What is x , if x = 3 ?", "a , b")])
    env = MathReasoningEnv([problem], tokenizer, 64, 16, lambda response, gold: float(response == gold))
    env.reset()
    ids = [*tokenizer.encode("a , b"), tokenizer.eos_token_id]
    _, reward, _, _, info = env.step(np.array(ids + [len(tokenizer)] * (16 - len(ids))))
    assert (reward, info["text"]) == (1.0, "a , b")


def test_a_prompt_does_not_end_in_an_end_that_the_tokenizer_puts_behind_every_text() -> None:
    tokenizer = make_tokenizer()
    from tokenizers import processors

    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        "<pad> $A <eos>", None, [("<pad>", 0), ("<eos>", 1)]
    )
    plain = tokenizer.encode("1+1?", add_special_tokens=False)
    assert tokenizer.encode("1+1?") == [0, *plain, 1], "what is guarded against"
    assert prompt_ids(Problem("1+1?", "2", "0"), tokenizer) == [0, *plain]
    assert prompt_ids(Problem("1+1?<eos>", "2", "0"), tokenizer)[-2:] == [*plain[-1:], 1], (
        "one that the prompt has itself stays"
    )
