"""Prompts in another model's tokens."""

from __future__ import annotations

from typing import Any

import torch as th
from torch import nn

_CACHED = 65536
"""Prompts kept; 65536 of 1024 tokens are half a gigabyte as 64-bit numbers."""


class Retokenizer:
    """
    Turns token ids of one tokenizer into those of another, by way of text.

    The text is what the policy saw: with the marks of its chat template, as ``tokenizer.decode`` writes them. To another tokenizer they
    are ordinary text. Nothing is guessed about which template the other model would have liked; the second tokenizer only adds what it
    adds to any text (its own beginning of sequence, say). Prompts come again each epoch, so they are remembered.

    :param source: the tokenizer of the ids
    :param target: the tokenizer of the other model
    :param longest: tokens that the other model can read; ``None`` for any number
    """

    def __init__(self, source: Any, target: Any, longest: int | None = None):
        self.source, self.target, self.longest = source, target, longest
        self._known: dict[bytes, th.Tensor] = {}

    def __call__(self, prompt_ids: th.Tensor, prompt_len: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """
        Translate prompts.

        :param prompt_ids: (n, P) int64, padded on the right
        :param prompt_len: (n,) int64
        :return: (n, longest) int64, padded with zeros on the right; (n,) int64
        :raises ValueError: if a prompt is empty, or too long for the other model
        """
        host = prompt_ids.cpu()
        prompts = [ids[:length] for ids, length in zip(host, prompt_len.tolist(), strict=True)]
        keys = [ids.numpy().tobytes() for ids in prompts]
        new = {key: ids for key, ids in zip(keys, prompts, strict=True) if key not in self._known}
        if len(self._known) + len(new) > _CACHED:
            self._known.clear()
            new = dict(zip(keys, prompts, strict=True))
        texts = [
            self.source.decode(ids.tolist(), skip_special_tokens=False, clean_up_tokenization_spaces=False)
            for ids in new.values()
        ]
        for key, text in zip(new, texts, strict=True):
            tokens = self.target.encode(text)
            if not tokens:
                raise ValueError(f"The critic's tokenizer makes no token of the prompt {text!r}.")
            if self.longest is not None and len(tokens) > self.longest:
                raise ValueError(
                    f"A prompt has {len(tokens)} tokens in the critic's tokenizer, and the critic reads {self.longest} at most. Use "
                    "shorter prompts (max_prompt_tokens) or another critic."
                )
            self._known[key] = th.tensor(tokens)
        found = [self._known[key] for key in keys]
        padded = nn.utils.rnn.pad_sequence(found, batch_first=True)
        return padded.to(prompt_ids.device), th.tensor([len(tokens) for tokens in found], device=prompt_ids.device)
