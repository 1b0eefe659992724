"""Mathematical reasoning as a Gymnasium environment: the prompt is the observation, a whole response is one action."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from sppo_rl.envs.reasoning.bandit import ReasoningTask, VerifierLike
from sppo_rl.envs.reasoning.order import ProblemOrder
from sppo_rl.envs.reasoning.problems import Problem
from sppo_rl.envs.reasoning.vec import MathReasoningVecEnv


class MathReasoningEnv(gym.Env[Any, np.ndarray]):
    """
    A contextual bandit: one prompt, one response, one verified outcome.

    | observation | shape, dtype | meaning |
    | --- | --- | --- |
    | ``prompt_ids`` | (max_prompt_tokens,) int64 | token ids of the prompt, padded on the right |
    | ``prompt_len`` | (1,) int64 | how many of them are the prompt |
    | ``problem_id`` | (1,) int64 | which problem it is; never its answer |

    The action is ``MultiDiscrete([V + 1] * max_new_tokens)``: the sampled token ids, the one that ends the response included, then the
    index V as padding. The reward is 1.0 for a right answer and 0.0 for a wrong one, or a number in [0, 1] from a soft scorer. Every
    episode is one step long and ends with ``terminated=True``.

    ``info`` holds ``text``, ``extracted`` (the answer found), ``score``, ``reason``, ``is_success``, ``response_truncated`` (the token
    budget ended it: neither does padding follow nor is its last token an end of sequence), ``prompt_tokens``, ``response_tokens``,
    ``context_id`` (the problem's number), ``problem`` and ``source``.

    ``reset(seed=s)`` makes the order of problems that ``s`` stands for begin; later resets without a seed go on in it, each pass over the
    problems being a new permutation. For training there is :class:`~.vec.MathReasoningVecEnv`, which judges a whole batch at once;
    ``SPPO("TransformerPolicy", MathReasoningEnv(…))`` makes it by itself, with :meth:`batched`.

    :param problems: see :mod:`.problems` for where to get them
    :param tokenizer: a Hugging Face tokenizer, or the hub name or folder to load one from
    :param max_prompt_tokens: problems with longer prompts are dropped (and counted in ``task.dropped``), never cut
    :param max_new_tokens: longest response, end-of-sequence token included
    :param verifier: a :class:`~.rewards.Scorer`, a :class:`~.verifier.VerifierPool`, a reward function (``response, gold``, or in TRL's
        or verl's form: :func:`~.rewards.scorer_of`), or ``None`` for a pool of its own
    :param use_chat_template: ``None`` uses the tokenizer's chat template where it has one
    :param vocab_size: V; ``None`` takes ``len(tokenizer)``
    :param shuffle: ``False`` poses the problems in the given order
    :raises ValueError: if no prompt fits or the tokenizer loses text
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - Gymnasium's own form

    def __init__(
        self,
        problems: Sequence[Problem],
        tokenizer: Any,
        max_prompt_tokens: int = 512,
        max_new_tokens: int = 1024,
        verifier: VerifierLike = None,
        use_chat_template: bool | None = None,
        vocab_size: int | None = None,
        shuffle: bool = True,
    ):
        self.task = ReasoningTask(
            problems, tokenizer, max_prompt_tokens, max_new_tokens, verifier, use_chat_template, vocab_size
        )
        self.observation_space = self.task.observation_space
        self.action_space = self.task.action_space
        self.order = ProblemOrder(len(self.task.problems), shuffle=shuffle)
        self._current: int | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """
        Pose the next problem.

        :param seed: begins the order of problems anew
        :param options: ``{"problem": k}`` poses problem k instead of the next one
        :return: observation and info
        :raises ValueError: if there is no problem k
        """
        super().reset(seed=seed)
        if seed is not None:
            self.order.restart(seed)
        self._current = self.order.next() if not options or "problem" not in options else self._problem(options["problem"])
        return self._observation(), {"context_id": self._current, "problem": self.task.problems[self._current].id}

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """
        Judge a response.

        :param action: (max_new_tokens,) int
        :return: the same observation, the reward, ``True``, ``False``, and the info described above
        :raises RuntimeError: if the environment was not reset since the last response
        """
        if self._current is None:
            raise RuntimeError("step() before reset(): every response needs a prompt of its own.")
        observation = self._observation()
        rewards, infos = self.task.judge([self._current], np.asarray(action)[None])
        self._current = None
        return observation, float(rewards[0]), True, False, infos[0]

    def batched(self, num_envs: int) -> MathReasoningVecEnv:
        """
        Make the batched form, with the same problems and verifier; the algorithms of ``sppo_rl`` call it when they are given this object.

        :param num_envs: copies; one for each response of an update
        """
        return MathReasoningVecEnv.of_task(self.task, num_envs, seed=self.order.seed, shuffle=self.order.shuffle)

    def get_state(self) -> dict[str, Any]:
        """Return the place in the order of problems, for a checkpoint."""
        return self.order.get_state()

    def set_state(self, state: dict[str, Any]) -> None:
        """
        Go on from a checkpoint.

        :param state: result of :meth:`get_state`
        """
        self.order.set_state(state)

    def close(self) -> None:
        """End the verifier's worker processes."""
        self.task.close()

    def _problem(self, number: Any) -> int:
        count = len(self.task.problems)
        if not 0 <= int(number) < count:
            raise ValueError(f"options['problem'] must lie between 0 and {count - 1}, got {number}.")
        return int(number)

    def _observation(self) -> dict[str, np.ndarray]:
        assert self._current is not None
        return {name: rows[0] for name, rows in self.task.observe([self._current]).items()}
