"""Prompts as token ids and responses as text."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
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


READ = """
import sys
from sppo_rl.envs.reasoning.encoding import load_tokenizer
from transformers import AutoTokenizer
text = "What is 1 + 2?\\n= 33"
auto = AutoTokenizer.from_pretrained("org/model")
assert auto.decode(auto.encode(text, add_special_tokens=False)) != text, "what is guarded against"
by_name, by_folder = (load_tokenizer(source) for source in ("org/model", sys.argv[1]))
assert by_name.encode(text) == by_folder.encode(text)
assert by_name.decode(by_name.encode(text, add_special_tokens=False)) == text
assert (by_name.eos_token, by_name.chat_template) == ("<eos>", "{{ messages }}")
"""


def test_a_hub_name_gives_the_tokenizer_that_the_files_in_a_folder_give(tmp_path: Path) -> None:
    """In a process of its own: where the cache is, and that there is no network, is read once."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, special_tokens=["<bos>", "<eos>"])
    tokenizer.train_from_iterator(["What is 1 + 2?\n= 33"], trainer)
    # named after another class, as DeepSeek's distilled models are
    settings = {
        "tokenizer_class": "LlamaTokenizerFast", "bos_token": "<bos>", "eos_token": "<eos>", "chat_template": "{{ messages }}",
    }  # fmt: skip
    shape = {"vocab_size": 300, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    folder = tmp_path / "folder"
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"], **shape}))
    cached = tmp_path / "home" / "hub" / "models--org--model"
    shutil.copytree(folder, cached / "snapshots" / "abc")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("abc")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    environment.pop("HF_HUB_CACHE", None)
    read = subprocess.run(
        [sys.executable, "-c", READ, str(folder)], env=environment, capture_output=True, text=True, check=False
    )
    assert read.returncode == 0, read.stderr
