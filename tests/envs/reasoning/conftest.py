"""A character tokenizer made here, and the real data files where they are at hand."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

CHARACTERS = [chr(code) for code in range(32, 127)] + ["\n"]


def make_tokenizer(chat: bool = False) -> Any:
    transformers = pytest.importorskip("transformers", reason="needs the [llm] extra")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {"<pad>": 0, "<eos>": 1, **{character: k + 2 for k, character in enumerate(CHARACTERS)}}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    made = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<pad>")
    if chat:
        made.chat_template = (
            "{% for message in messages %}[{{ message['role'] }}] {{ message['content'] }}\n{% endfor %}"
            "{% if add_generation_prompt %}[assistant] {% endif %}"
        )
    return made


class CharacterTokenizer:
    """The little that the environment needs of a tokenizer, without transformers."""

    eos_token_id = 1
    pad_token_id = 0

    def __init__(self, chat: bool = False) -> None:
        self.ids = {character: k + 2 for k, character in enumerate(CHARACTERS)}
        self.chat_template = "see apply_chat_template" if chat else None

    def apply_chat_template(self, messages: list[dict[str, str]], tokenize: bool, add_generation_prompt: bool) -> str:
        assert not tokenize
        text = "".join(f"[{message['role']}] {message['content']}\n" for message in messages)
        return text + "[assistant] " * add_generation_prompt

    def __len__(self) -> int:
        return len(CHARACTERS) + 2

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return [self.ids[character] for character in text]

    def decode(self, ids: list[int], skip_special_tokens: bool = False) -> str:
        return "".join(CHARACTERS[k - 2] if k > 1 else "" if skip_special_tokens else "<special>" for k in ids)


@pytest.fixture
def tokenizer() -> CharacterTokenizer:
    return CharacterTokenizer()


@pytest.fixture
def data_dir() -> Path:
    folder = Path(os.environ.get("SPPO_DATA") or Path(__file__).resolve().parents[4] / "shared" / "data")
    if not (folder / "benchmarks" / "math500.jsonl").is_file():
        pytest.skip("the benchmark files are not here; SPPO_DATA names their folder")
    return folder
