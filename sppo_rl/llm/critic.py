"""PromptCritic: how likely the policy is to solve a prompt, read from the prompt alone."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch as th
from torch import nn
from transformers import AutoModelForTokenClassification, PreTrainedModel

from sppo_rl.envs.reasoning.encoding import load_tokenizer, prompt_ids
from sppo_rl.envs.reasoning.problems import Problem
from sppo_rl.llm.lora import LoraOptions, add_lora, save_merged
from sppo_rl.llm.models import ModelSource, Saved, critic_model, head_of, remove_dropout
from sppo_rl.llm.options import check_vocabulary
from sppo_rl.llm.packing import Reader
from sppo_rl.llm.retokenize import Retokenizer
from sppo_rl.llm.tokens import compute_in, trim

_PROBABILITY = "multi_label_classification"
"""Hugging Face's name (``config.problem_type``) for outputs that a sigmoid turns into probabilities."""
_CHAT = "use_chat_template"
"""Our own entry in the configuration of an exported critic."""
_OF_PROMPTS = "prompt_tokenizer"
"""Folder of the policy's tokenizer, where the critic has another."""


class PromptCritic(nn.Module):
    """
    A transformer body with one number on top of each token's hidden state (SPPO, arXiv 2604.08865, §3).

    SPPO reads it once, at the prompt's last token: ``V(s) = sigmoid(output)``. PPO's token-level critic is the same network, read before
    every token of the response (trained with squared error it predicts returns, and ``predict_solvability`` means nothing). It shares
    nothing with the actor but the token ids, so it may be of any architecture and size. With a tokenizer of its own it reads the prompt's
    text instead (:class:`~sppo_rl.llm.retokenize.Retokenizer`); then it cannot be read before the tokens of a response.

    On disk it is a plain Hugging Face folder for ``AutoModelForTokenClassification`` with one label::

        critic = PromptCritic.load("run/critic")
        critic.predict_solvability(["What is 2 + 3?", "Prove Goldbach's conjecture."])   # array([0.97, 0.02])

    :param model: see :func:`~sppo_rl.llm.models.critic_model`
    :param tokenizer: the policy's, for prompts given as text; ``None`` if they come as token ids
    :param dtype: what it computes in; the head computes in float32
    :param packing: see :class:`~sppo_rl.llm.packing.Reader`
    :param own_tokenizer: the critic's, if it does not read the policy's token ids
    :raises ValueError: if it has a tokenizer of its own and the policy's is not known
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: Any = None,
        dtype: th.dtype = th.float32,
        packing: bool | None = None,
        own_tokenizer: Any = None,
    ):
        super().__init__()
        self.own_tokenizer = own_tokenizer
        self._translate: Retokenizer | None = None
        if own_tokenizer is not None:
            if tokenizer is None:
                raise ValueError(
                    "A critic with its own tokenizer needs the policy's too, to make text of token ids: pass tokenizer=…."
                )
            longest = getattr(model.config.get_text_config(), "max_position_embeddings", None)
            self._translate = Retokenizer(tokenizer, own_tokenizer, longest)
        self.model, self.tokenizer, self.dtype = model, tokenizer, dtype
        self.use_chat_template: bool | None = getattr(model.config, _CHAT, None)
        """Whether prompts given as text go through the tokenizer's chat template; ``None`` where it has one."""
        self.reader = Reader(packing)

    @property
    def head(self) -> nn.Linear:
        """The layer that makes a value of a hidden state."""
        return head_of(self.model)

    def forward(self, ids: th.Tensor, lengths: th.Tensor, rows: th.Tensor, columns: th.Tensor) -> th.Tensor:
        """
        Read the critic at some tokens.

        :param ids: (n, T) int64, padded on the right
        :param lengths: (n,) int64
        :param rows: (D,) int64
        :param columns: (D,) int64; the output depends on the tokens up to this one
        :return: (D,) float32, before sigmoid
        """
        with compute_in(self.dtype, ids.device):
            hidden = self.reader(self.model.base_model, ids, lengths, rows, columns)
        head = self.head
        return nn.functional.linear(hidden.float(), head.weight, head.bias).squeeze(1)

    def prompt_logits(self, prompt_ids: th.Tensor, prompt_len: th.Tensor) -> th.Tensor:
        """
        Read the critic at the last token of each prompt, ``prompt_len - 1``.

        :param prompt_ids: (n, P) int64, padded on the right; the policy's token ids
        :param prompt_len: (n,) int64
        :return: (n,) float32, before sigmoid
        """
        if self._translate is not None:
            prompt_ids, prompt_len = self._translate(prompt_ids, prompt_len)
        rows = th.arange(len(prompt_len), device=prompt_len.device)
        logits: th.Tensor = self(trim(prompt_ids, prompt_len), prompt_len, rows, prompt_len - 1)
        return logits

    @th.no_grad()
    def predict_solvability(
        self, prompts: str | Sequence[str | Sequence[int] | Sequence[dict[str, str]]], batch_size: int = 32
    ) -> np.ndarray:
        """
        Predict the chance that the policy it was trained with solves each prompt.

        :param prompts: texts (encoded as ``MathReasoningEnv`` does: through the tokenizer's chat template if it has one, unless the
            environment of the training was told not to), chat messages, or token ids; a single text is one prompt
        :param batch_size: prompts in one forward pass
        :return: (n,) float32 probabilities
        :raises ValueError: if a prompt is empty, or text comes without a tokenizer
        """
        encoded = [self._encode(prompt) for prompt in ([prompts] if isinstance(prompts, str) else prompts)]
        if not all(encoded):
            raise ValueError(f"Prompt {[bool(ids) for ids in encoded].index(False)} has no tokens.")
        device = self.head.weight.device
        was_training = self.training
        self.eval()
        found = []
        for first in range(0, len(encoded), batch_size):
            part = [th.tensor(ids) for ids in encoded[first : first + batch_size]]
            lengths = th.tensor([len(ids) for ids in part], device=device)
            padded = nn.utils.rnn.pad_sequence(part, batch_first=True).to(device)
            found.append(th.sigmoid(self.prompt_logits(padded, lengths)).cpu())
        self.train(was_training)
        return th.cat(found).numpy() if found else np.zeros(0, dtype=np.float32)

    def _encode(self, prompt: str | Sequence[int] | Sequence[dict[str, str]]) -> list[int]:
        if not isinstance(prompt, str) and not (len(prompt) and isinstance(prompt[0], dict)):
            return [int(cast(int, token)) for token in prompt]
        if self.tokenizer is None:
            raise ValueError("Text needs a tokenizer, and this critic has none: pass token ids.")
        asked: str | tuple[tuple[str, str], ...]
        if isinstance(prompt, str):
            asked = prompt
        else:
            asked = tuple((message["role"], message["content"]) for message in cast(Sequence[dict[str, str]], prompt))
        return prompt_ids(Problem(asked, "", "to predict"), self.tokenizer, self.use_chat_template)

    def save(self, folder: str | Path) -> None:
        """
        Write a folder that :meth:`load` and ``AutoModelForTokenClassification.from_pretrained`` read, adapters merged.

        :param folder: made if it does not exist
        """
        self.model.config.problem_type = _PROBABILITY
        if self.use_chat_template is not None or hasattr(self.model.config, _CHAT):
            setattr(self.model.config, _CHAT, self.use_chat_template)
        save_merged(self.model, folder)
        if self.own_tokenizer is not None:
            self.own_tokenizer.save_pretrained(folder)
            self.tokenizer.save_pretrained(Path(folder) / _OF_PROMPTS)
        elif self.tokenizer is not None:
            self.tokenizer.save_pretrained(folder)

    @classmethod
    def load(cls, folder: str | Path, device: th.device | str = "cpu") -> PromptCritic:
        """
        Read a folder that :meth:`save` or ``TransformerPolicy.export`` wrote; nothing is downloaded.

        :param folder: the folder
        :param device: where it computes
        """
        model = AutoModelForTokenClassification.from_pretrained(folder, dtype=th.float32, local_files_only=True).to(device)
        remove_dropout(model)
        of_model, of_prompts = (
            load_tokenizer(where) if (where / "tokenizer_config.json").is_file() else None
            for where in (Path(folder), Path(folder) / _OF_PROMPTS)
        )
        return cls(model, of_model) if of_prompts is None else cls(model, of_prompts, own_tokenizer=of_model)


def make_critic(
    source: ModelSource | None,
    actor: PreTrainedModel,
    vocabulary: int,
    tokenizer: Any,
    own_tokenizer: Any,
    lora: LoraOptions | None,
    dtype: th.dtype,
    packing: bool | None,
) -> PromptCritic:
    """
    Make the critic of a policy; parameters as those of :class:`~sppo_rl.llm.policy.TransformerPolicy` and :class:`PromptCritic`.

    :param source: what its model is made from; ``None`` for the actor's weights
    :param actor: the policy's model
    :param vocabulary: token ids below this occur in prompts and responses
    :param tokenizer: the policy's
    :param own_tokenizer: the critic's, or where to find it; ``None`` looks into a local folder that the critic comes from, and where
        :meth:`PromptCritic.save` has written that it has its own, takes that
    :param lora: adapters
    :param dtype: what it computes in
    :param packing: whether padding is left out
    :raises ValueError: if the model does not know all tokens that it will be shown
    """
    model = critic_model(source, actor)
    if own_tokenizer is None and isinstance(source, str | PathLike) and (Path(source) / _OF_PROMPTS).is_dir():
        own_tokenizer = source
    if isinstance(own_tokenizer, str | PathLike):
        own_tokenizer = load_tokenizer(own_tokenizer)
    if own_tokenizer is None:
        advice = "Use models of one tokenizer family, or pass the critic's own tokenizer as critic_tokenizer."
        check_vocabulary("critic", model, vocabulary, "the environment", advice)
    else:
        check_vocabulary("critic", model, len(own_tokenizer), "its tokenizer", "Pass the one that belongs to it.")
    if lora is not None:
        add_lora(model, lora, unread=isinstance(source, Saved), dtype=dtype)
    return PromptCritic(model, tokenizer, dtype, packing, own_tokenizer)
