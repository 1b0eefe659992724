"""What one copy and a batch of the reasoning bandit share: the spaces, the encoded prompts, and how a response is read and judged."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from os import PathLike
from typing import Any

import numpy as np
from gymnasium import spaces

from sppo_rl.envs.reasoning.encoding import check_round_trip, decode, fit, load_tokenizer
from sppo_rl.envs.reasoning.problems import Problem, as_problems
from sppo_rl.envs.reasoning.rewards import Scorer, as_scorer, score_batch
from sppo_rl.envs.reasoning.verifier import VerifierPool

logger = logging.getLogger(__name__)

_THINK = "<think>"
_TAIL_TOKENS = 16
"""Of a prompt, enough for the tag and white space in any tokenizer."""
VerifierLike = Scorer | VerifierPool | Callable[..., Any] | None


class ReasoningTask:
    """
    The problems, encoded, and the judgement of responses to them.

    :param problems: problems, pairs (problem, answer) or rows, see :func:`~.problems.as_problems`; those whose prompt does not fit are
        dropped and counted in :attr:`dropped`
    :param tokenizer: a Hugging Face tokenizer, or the hub name or folder to load one from
    :param max_prompt_tokens: longest prompt
    :param max_new_tokens: longest response, the token that ends it included
    :param verifier: a scorer, a pool, a reward function (response, gold), in TRL's form or in verl's, or ``None`` for a pool of its own
    :param use_chat_template: ``None`` uses it where the tokenizer has one
    :param vocab_size: number of token ids that a policy may emit; ``None`` takes ``len(tokenizer)``. A model whose output layer is padded
        (Qwen2.5: 151,936 outputs, 151,665 tokens) needs its own number here
    :param ends: tokens that end a response, where the policy knows others than the tokenizer's end of sequence
    :raises TypeError: if one of the problems is none
    :raises ValueError: if no prompt fits, a limit is not positive, or the tokenizer loses text
    """

    def __init__(
        self,
        problems: Sequence[Problem],
        tokenizer: Any,
        max_prompt_tokens: int,
        max_new_tokens: int,
        verifier: VerifierLike = None,
        use_chat_template: bool | None = None,
        vocab_size: int | None = None,
        ends: Iterable[int] | None = None,
    ):
        if max_prompt_tokens < 1 or max_new_tokens < 1:
            raise ValueError(
                f"max_prompt_tokens and max_new_tokens must be at least 1, got {max_prompt_tokens} and {max_new_tokens}."
            )
        problems = as_problems(problems)
        if isinstance(tokenizer, str | PathLike):
            tokenizer = load_tokenizer(tokenizer)
        self.tokenizer = tokenizer
        self.problems, self.encoded, self.dropped = fit(problems, tokenizer, max_prompt_tokens, use_chat_template)
        check_round_trip(tokenizer, self.problems[0].messages[-1]["content"])
        if self.dropped:
            logger.warning("%d of %d problems dropped: longer than %d tokens.", self.dropped, len(problems), max_prompt_tokens)
        self.scorer = as_scorer(verifier)
        self.vocab_size = len(tokenizer) if vocab_size is None else vocab_size
        self.eos = tokenizer.eos_token_id
        self.ends = {self.eos} if ends is None else set(ends)
        pad = getattr(tokenizer, "pad_token_id", None)
        self.pad = pad if pad is not None else self.eos if self.eos is not None else 0
        self.use_chat_template = use_chat_template
        self.max_prompt_tokens = max_prompt_tokens
        self.max_new_tokens = max_new_tokens
        self.observation_space = spaces.Dict(
            {
                "prompt_ids": spaces.Box(0, max(self.vocab_size, len(tokenizer)) - 1, (max_prompt_tokens,), np.int64),
                "prompt_len": spaces.Box(1, max_prompt_tokens, (1,), np.int64),
                "problem_id": spaces.Box(0, len(self.problems) - 1, (1,), np.int64),
            }
        )
        self.action_space = spaces.MultiDiscrete(np.full(max_new_tokens, self.vocab_size + 1))

    def observe(self, indices: Sequence[int]) -> dict[str, np.ndarray]:
        """
        Give the prompts of some problems; the gold answers are no part of it.

        :param indices: n problems
        :return: ``prompt_ids`` (n, max_prompt_tokens) int64, padded on the right; ``prompt_len`` (n, 1); ``problem_id`` (n, 1)
        """
        ids = np.full((len(indices), self.max_prompt_tokens), self.pad, dtype=np.int64)
        for row, index in enumerate(indices):
            ids[row, : len(self.encoded[index])] = self.encoded[index]
        lengths = [[len(self.encoded[index])] for index in indices]
        return {
            "prompt_ids": ids,
            "prompt_len": np.array(lengths, dtype=np.int64).reshape(-1, 1),
            "problem_id": np.array(indices, dtype=np.int64).reshape(-1, 1),
        }

    def response_ids(self, action: np.ndarray) -> list[int]:
        """
        Read the sampled tokens out of an action: those before the first padding, the one that ends the response included.

        :param action: (max_new_tokens,) int; the index ``vocab_size`` is padding
        """
        padding = np.flatnonzero(np.asarray(action) == self.vocab_size)
        return [int(token) for token in (action[: padding[0]] if padding.size else action)]

    def judge(self, indices: Sequence[int], actions: np.ndarray) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """
        Decode responses, without special tokens, and judge them, all in one call to each scorer. Where the prompt ends with ``<think>``,
        that is put before what the scorers are given, so that a thought which was never finished is known as one.

        A response is truncated if it is empty, or fills the token budget and its last token is none of :attr:`ends`.

        :param indices: n problems
        :param actions: (n, max_new_tokens) int
        :return: (n,) float32 rewards in [0, 1], and an info dictionary for each
        :raises ValueError: if an action holds what is neither a token nor the padding
        """
        outside = actions[(actions < 0) | (actions > self.vocab_size)]
        if outside.size:
            raise ValueError(
                f"A response holds token ids from 0 to {self.vocab_size - 1}, or {self.vocab_size} for padding; got {outside[0]}."
            )
        sampled = [self.response_ids(action) for action in actions]
        # the policy ended what padding follows, by whichever token: it may know others than the tokenizer's
        padded = [0 < len(ids) < self.max_new_tokens for ids in sampled]
        finished = [done or (bool(ids) and ids[-1] in self.ends) for done, ids in zip(padded, sampled, strict=True)]
        # a policy that knows no padding goes on behind an end: that is no part of the response
        cut = [ids if done else ids[: _first(ids, self.ends)] for done, ids in zip(padded, sampled, strict=True)]
        known = len(self.tokenizer)
        # an array, since transformers looks at each token of a list
        shown = [np.array([token for token in ids if token < known], dtype=np.int64) for ids in cut]
        texts = [decode(self.tokenizer, ids, skip_special_tokens=True) for ids in shown]
        problems = [self.problems[index] for index in indices]
        # what the prompt has begun is part of what the response says
        whole = [_THINK + text if self._opens_thought(k, text) else text for k, text in zip(indices, texts, strict=True)]
        verdicts = score_batch(self.scorer, problems, whole, sampled)
        infos = [
            {
                "text": text,
                "extracted": verdict.extracted,
                "score": verdict.score,
                "reason": verdict.reason,
                "is_success": verdict.score == 1.0,
                "response_truncated": not done,
                "prompt_tokens": len(self.encoded[index]),
                "response_tokens": len(ids),
                "context_id": int(index),
                "problem": problem.id,
                "source": problem.source,
                "TimeLimit.truncated": False,
            }
            for text, verdict, done, index, ids, problem in zip(
                texts, verdicts, finished, indices, sampled, problems, strict=True
            )
        ]
        return np.array([verdict.score for verdict in verdicts], dtype=np.float32), infos

    def _opens_thought(self, index: int, text: str) -> bool:
        """Whether the prompt ends with ``<think>`` (chat templates of DeepSeek-R1 do it) and the response does not say it again."""
        # without special tokens, like the response: where these tags are some, neither side shows them
        tail = decode(self.tokenizer, self.encoded[index][-_TAIL_TOKENS:], skip_special_tokens=True)
        return tail.rstrip().endswith(_THINK) and not text.lstrip().startswith(_THINK)

    def close(self) -> None:
        """End the worker processes of the scorers."""
        for scorer in {id(s): s for s in (self.scorer, *(p.scorer for p in self.problems)) if s is not None}.values():
            scorer.close()


def _first(ids: Sequence[int], ends: Collection[int]) -> int:
    """Place of the first token that ends a response, or the length."""
    return next((k for k, token in enumerate(ids) if token in ends), len(ids))
