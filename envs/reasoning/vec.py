"""The batched form of the reasoning bandit: all responses of an update are judged in one pooled call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sppo_rl.envs.reasoning.bandit import ReasoningTask, VerifierLike
from sppo_rl.envs.reasoning.order import ProblemOrder
from sppo_rl.envs.reasoning.problems import Problem
from sppo_rl.vec_env import BatchedVecEnv


class MathReasoningVecEnv(BatchedVecEnv):
    """
    Many copies of :class:`~.env.MathReasoningEnv` that share problems, verifier and one order of problems.

    What a seed means here. The order is a permutation of the problems for each pass, fixed by :meth:`seed` (or ``seed`` below), with a
    cursor. The collector resets copies with explicit seeds at each update; such a seed does not choose a problem by itself, or passes
    over the data would repeat some problems and skip others. It only says which episodes belong together: equal seeds get the same
    problem, a new seed gets the next one of the order.

    :param problems: the problems
    :param tokenizer: a Hugging Face tokenizer, or the hub name or folder to load one from
    :param max_prompt_tokens: problems with longer prompts are dropped and counted in ``task.dropped``
    :param max_new_tokens: longest response, end-of-sequence token included
    :param verifier: see :class:`~.env.MathReasoningEnv`
    :param num_envs: copies; one for each response of an update
    :param group_size: so many consecutive copies always share a prompt; 1 leaves groups to the algorithm's seeds
    :param seed: of the order of problems
    :param use_chat_template: ``None`` uses the tokenizer's chat template where it has one
    :param vocab_size: ``None`` takes ``len(tokenizer)``
    :param shuffle: ``False`` poses the problems in the given order (evaluation)
    :raises ValueError: if ``group_size`` does not divide ``num_envs``, or as :class:`~.env.MathReasoningEnv` does
    """

    def __init__(
        self,
        problems: Sequence[Problem],
        tokenizer: Any,
        max_prompt_tokens: int = 512,
        max_new_tokens: int = 1024,
        verifier: VerifierLike = None,
        num_envs: int = 64,
        group_size: int = 1,
        seed: int = 0,
        use_chat_template: bool | None = None,
        vocab_size: int | None = None,
        shuffle: bool = True,
    ):
        task = ReasoningTask(problems, tokenizer, max_prompt_tokens, max_new_tokens, verifier, use_chat_template, vocab_size)
        self._begin(task, num_envs, group_size, seed, shuffle)

    @classmethod
    def of_task(cls, task: ReasoningTask, num_envs: int, seed: int = 0, shuffle: bool = True) -> MathReasoningVecEnv:
        """
        Make copies that share a task which is there already, with its encoded prompts and its verifier.

        :param task: such as :attr:`MathReasoningEnv.task`
        :param num_envs: see the class
        :param seed: see the class
        :param shuffle: see the class
        """
        env = cls.__new__(cls)
        env._begin(task, num_envs, group_size=1, seed=seed, shuffle=shuffle)
        return env

    def _begin(self, task: ReasoningTask, num_envs: int, group_size: int, seed: int, shuffle: bool) -> None:
        if group_size < 1 or num_envs < 1 or num_envs % group_size:
            raise ValueError(f"num_envs must be a positive multiple of group_size, got {num_envs} and {group_size}.")
        self.task = task
        self.group_size = group_size
        self.order = ProblemOrder(len(self.task.problems), seed, shuffle)
        self._current = np.full(num_envs, -1, dtype=np.int64)
        self._episodes = np.zeros(num_envs, dtype=np.int64)
        self._group_problems: dict[tuple[int, int], int] = {}
        self._unanswered: dict[str, Any] | None = None
        self.render_mode = None
        BatchedVecEnv.__init__(self, num_envs, self.task.observation_space, self.task.action_space)

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """
        Begin the order of problems anew under a seed, as SB3 does when it seeds an algorithm.

        :param seed: of the order; ``None`` draws one
        :return: the seed, for each copy
        """
        if seed is None:
            seed = int(np.random.default_rng().integers(1 << 31))
        self.order.restart(seed)
        self._episodes[:] = 0
        self._group_problems.clear()
        self._unanswered = None
        return [seed] * self.num_envs

    def reset_subset(self, indices: np.ndarray, seeds: Sequence[int | None]) -> dict[str, np.ndarray]:  # type: ignore[override]
        """
        Pose a problem to some copies; see the class for what a seed means.

        :param indices: (n,) int, the copies
        :param seeds: n seeds or ``None``
        :return: observations (n, …) under the keys of the observation space
        """
        everyone = len(indices) == self.num_envs
        if self._unanswered is not None:
            # SB3 resets all once before an algorithm resets those it wants: problems that nobody answered are dealt again
            self.set_state(self._unanswered)
        seedless = all(seed is None for seed in seeds)
        self._unanswered = self.get_state() if everyone and seedless else None
        first_seed: dict[int, int] = {}
        for copy, seed in zip(indices.tolist(), seeds, strict=True):
            group = copy // self.group_size
            if seed is not None:
                self._current[copy] = self.order.for_seed(first_seed.setdefault(group, int(seed)))
            else:
                self._current[copy] = self._next_of_group(group, copy)
        return self.task.observe(self._current[indices].tolist())

    def _next_of_group(self, group: int, copy: int) -> int:
        """The k-th episode of every copy of a group poses the k-th problem that the group was dealt, whoever comes to it first."""
        episode = int(self._episodes[copy])
        self._episodes[copy] += 1
        if (group, episode) not in self._group_problems:
            self._group_problems[group, episode] = self.order.next()
        problem = self._group_problems[group, episode]
        if self._episodes[group * self.group_size : (group + 1) * self.group_size].min() > episode:
            del self._group_problems[group, episode]
        return problem

    def step_subset(  # type: ignore[override]
        self, indices: np.ndarray, actions: np.ndarray
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """
        Judge the responses of some copies.

        :param indices: (n,) int, the copies
        :param actions: (n, max_new_tokens) int
        :return: observations (the same prompts), rewards (n,) float32, dones (all true), infos
        :raises RuntimeError: if a copy was not reset since its last response
        """
        problems = self._current[indices]
        self._unanswered = None
        if (problems < 0).any():
            raise RuntimeError("step before reset: every response needs a prompt of its own.")
        rewards, infos = self.task.judge(problems.tolist(), np.asarray(actions))
        observations = self.task.observe(problems.tolist())
        self._current[indices] = -1
        return observations, rewards, np.ones(len(indices), dtype=bool), infos

    def step_wait(self) -> Any:
        """
        Step every copy, as SB3 does: each goes on with a new prompt at once.

        :return: observations, rewards, dones, infos, with ``terminal_observation`` and ``episode`` in each info
        """
        assert self._pending_actions is not None, "step_wait() before step_async()"
        terminal, rewards, dones, infos = self.step_subset(self._everyone, self._pending_actions)
        for copy, info in enumerate(infos):
            info["terminal_observation"] = {name: rows[copy] for name, rows in terminal.items()}
            info["episode"] = {"r": float(rewards[copy]), "l": 1, "t": 0.0}
        return self.reset_subset(self._everyone, [None] * self.num_envs), rewards, dones, infos

    def get_state(self) -> dict[str, Any]:
        """
        Return the place in the order of problems, for a checkpoint taken between two updates: plain numbers and lists.

        Problems that nobody has answered are dealt again by the next reset, so they count as not dealt.
        """
        if self._unanswered is not None:
            return self._unanswered
        return {
            "order": self.order.get_state(),
            "episodes": self._episodes.tolist(),
            "group_problems": [[*key, problem] for key, problem in self._group_problems.items()],
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """
        Go on from a checkpoint.

        :param state: result of :meth:`get_state`
        :raises ValueError: if it belongs to other problems or another number of copies
        """
        if len(state["episodes"]) != self.num_envs:
            raise ValueError(f"The state belongs to {len(state['episodes'])} copies, here are {self.num_envs}.")
        self.order.set_state(state["order"])
        self._episodes[:] = state["episodes"]
        self._group_problems = {(group, episode): problem for group, episode, problem in state["group_problems"]}
        self._unanswered = None

    def close(self) -> None:
        """End the verifier's worker processes."""
        self.task.close()
