"""Scorers: what judges a batch of responses. The verifier is one; TRL's and verl's reward functions become one."""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from sppo_rl.envs.reasoning.golds import gold_answer
from sppo_rl.envs.reasoning.problems import Problem
from sppo_rl.envs.reasoning.verifier import Verdict, VerifierPool, check, verify


class Scorer(ABC):
    """Judges responses, a batch at a time. Scores lie in [0, 1]: 1.0 is success, anything between is a soft reward."""

    @abstractmethod
    def score(self, problems: Sequence[Problem], responses: Sequence[str], response_ids: Sequence[list[int]]) -> list[Verdict]:
        """
        Judge responses.

        :param problems: the problem that each response answers
        :param responses: texts, without special tokens; they begin with ``<think>`` where the prompt ended with it
        :param response_ids: their token ids, as sampled
        :return: a verdict for each
        """

    def close(self) -> None:  # noqa: B027 - optional
        """Release what the scorer holds; nothing by default."""


class AnswerScorer(Scorer):
    """
    Compares the last boxed answer with the gold answer.

    :param pool: worker processes that do it; ``None`` starts a pool at the first batch
    """

    def __init__(self, pool: VerifierPool | None = None):
        self.pool = pool or VerifierPool()

    def score(self, problems: Sequence[Problem], responses: Sequence[str], response_ids: Sequence[list[int]]) -> list[Verdict]:
        """Judge responses; see :meth:`Scorer.score`."""
        return self.pool.check_batch(responses, [problem.answer for problem in problems])

    def close(self) -> None:
        """End the worker processes."""
        self.pool.close()


class FunctionScorer(Scorer):
    """
    Calls ``function(response, gold)`` for each response.

    :param function: returns a number in [0, 1] or a :class:`~.verifier.Verdict`, such as :func:`~.verifier.verify`
    """

    def __init__(self, function: Callable[[str, str], float | Verdict]):
        self.function = function

    def score(self, problems: Sequence[Problem], responses: Sequence[str], response_ids: Sequence[list[int]]) -> list[Verdict]:
        """Judge responses; see :meth:`Scorer.score`."""
        results = [self.function(response, problem.answer) for problem, response in zip(problems, responses, strict=True)]
        return [result if isinstance(result, Verdict) else soft_verdict(result, "the reward function") for result in results]


_OF_THE_CALL = {"answer", "prompts", "completions", "completion_ids"}
"""Arguments that a column does not take the place of."""
_ROUNDING = 1e-9
"""A weighted sum this close to 0 or 1 is meant to be 0 or 1."""


class TRLReward(Scorer):
    """
    A reward function in TRL's signature: ``function(prompts, completions, completion_ids, **columns) → list of floats``.

    Prompts and completions are strings, or messages where the problem's prompt is made of messages, as in TRL. The columns are those of
    the problems' records, all but ``prompt``, with ``answer``; a column that some problems lack holds ``None`` there.

    :param function: the reward function, or several, whose rewards are averaged with ``weights``
    :param weights: one for each function; equal if ``None``. A weighted sum within 1e-9 of 0 or 1 counts as 0 or 1: weights such as 0.7,
        0.2 and 0.1 are rounded, and so is their sum
    :raises ValueError: if there is no function, or the number of weights does not fit
    """

    def __init__(
        self,
        function: Callable[..., Sequence[float | None]] | Sequence[Callable[..., Any]],
        weights: Sequence[float] | None = None,
    ):
        self.functions = [function] if callable(function) else list(function)
        if not self.functions:
            raise ValueError("TRLReward needs at least one reward function, got an empty list.")
        self.weights = None if weights is None else list(weights)
        if self.weights is not None and len(self.weights) != len(self.functions):
            raise ValueError(f"{len(self.functions)} reward functions, but {len(self.weights)} weights.")

    def score(self, problems: Sequence[Problem], responses: Sequence[str], response_ids: Sequence[list[int]]) -> list[Verdict]:
        """Judge responses; see :meth:`Scorer.score`."""
        names = sorted({name for problem in problems for name in problem.columns} - _OF_THE_CALL)
        columns = {name: [problem.columns.get(name) for problem in problems] for name in names}
        # as the data set gives it, which may be a whole solution; where it gives none, the answer came from another column
        own = [problem.columns.get("answer") for problem in problems]
        answers = [
            text if isinstance(text, str) and gold_answer(text).strip() else problem.answer
            for text, problem in zip(own, problems, strict=True)
        ]
        completions: list[Any] = [
            response if isinstance(problem.prompt, str) else [{"role": "assistant", "content": response}]
            for problem, response in zip(problems, responses, strict=True)
        ]
        by_function: list[list[float]] = []
        for function in self.functions:
            rewards = function(
                prompts=[problem.prompt_as_given for problem in problems],
                completions=completions,
                completion_ids=[list(ids) for ids in response_ids],
                answer=answers,
                **columns,
            )
            if len(rewards) != len(problems):
                raise ValueError(f"{_name(function)} returned {len(rewards)} rewards for {len(problems)} completions.")
            # None says "does not apply to this problem", as in TRL
            by_function.append([0.0 if reward is None else float(reward) for reward in rewards])
        names_of_all = ", ".join(map(_name, self.functions))
        return [soft_verdict(self._combine(rewards), names_of_all) for rewards in zip(*by_function, strict=True)]

    def _combine(self, rewards: Sequence[float]) -> float:
        """One response's rewards as one: their mean, or their weighted sum, neither of which rounding takes off 0 or 1."""
        if self.weights is None:
            # summed exactly: adding n-ths up makes six ones less than 1, and nine of them more
            return math.fsum(rewards) / len(rewards)
        total = math.fsum(weight * reward for weight, reward in zip(self.weights, rewards, strict=True))
        return next((end for end in (0.0, 1.0) if abs(total - end) <= _ROUNDING), total)


class VerlScore(Scorer):
    """
    A reward function in verl's signature: ``compute_score(data_source, solution_str, ground_truth, extra_info)``.

    :param compute_score: returns a number, or a dictionary with ``score``
    """

    def __init__(self, compute_score: Callable[..., float | dict[str, Any]]):
        self.compute_score = compute_score

    def score(self, problems: Sequence[Problem], responses: Sequence[str], response_ids: Sequence[list[int]]) -> list[Verdict]:
        """Judge responses; see :meth:`Scorer.score`."""
        verdicts = []
        for problem, response in zip(problems, responses, strict=True):
            result = self.compute_score(
                data_source=problem.source,
                solution_str=response,
                ground_truth=problem.answer,
                extra_info=problem.columns.get("extra_info"),
            )
            verdicts.append(soft_verdict(result["score"] if isinstance(result, dict) else result, _name(self.compute_score)))
        return verdicts


def scorer_of(function: Callable[..., Any]) -> Scorer:
    """
    Wrap a reward function. Its signature decides how it is called:

    - ``function(completions, **columns)`` as TRL's reward functions, a batch at a time
    - ``compute_score(data_source, solution_str, ground_truth, extra_info)`` as verl's
    - any other ``function(response, gold)``

    Rewards must lie in [0, 1], whatever the form.

    :param function: any of the three
    :raises TypeError: if it is none of them
    """
    try:
        signature = inspect.signature(function)
    except ValueError:  # some functions written in C have none
        return FunctionScorer(function)
    if "completions" in signature.parameters:
        return TRLReward(function)
    if "solution_str" in signature.parameters:
        return VerlScore(function)
    try:
        signature.bind("response", "gold")
    except TypeError as error:
        raise TypeError(
            f"The reward function {_name(function)}{signature} is called with (response, gold), and {error}. For TRL's form it needs a "
            "parameter 'completions', for verl's 'solution_str'."
        ) from error
    return FunctionScorer(function)


def as_scorer(verifier: Scorer | VerifierPool | Callable[..., Any] | None) -> Scorer:
    """
    Make a scorer of what an environment may be given.

    :param verifier: a scorer, a pool, a reward function in a form that :func:`scorer_of` knows, or ``None`` for a pool of its own
    :raises TypeError: if it is none of these
    """
    if isinstance(verifier, Scorer):
        return verifier
    if verifier is None or isinstance(verifier, VerifierPool):
        return AnswerScorer(verifier)
    if verifier is verify:
        # the same judgement, with its reason
        return FunctionScorer(check)
    if callable(verifier):
        return scorer_of(verifier)
    raise TypeError(f"verifier must be a Scorer, a VerifierPool, a reward function or None, got {type(verifier).__name__}.")


def soft_verdict(score: float, origin: str) -> Verdict:
    """
    Make a verdict of a number.

    :param score: must lie in [0, 1], which the BCE critic needs
    :param origin: what gave it, for the error message
    :raises ValueError: if it lies outside
    """
    score = float(score)
    if not (math.isfinite(score) and 0.0 <= score <= 1.0):
        raise ValueError(f"{origin} gave the reward {score}: rewards must lie in [0, 1] (1 is success). Rescale them.")
    return Verdict(score, "correct" if score == 1.0 else "partly" if score > 0.0 else "wrong")


def score_batch(
    default: Scorer, problems: Sequence[Problem], responses: Sequence[str], ids: Sequence[list[int]]
) -> list[Verdict]:
    """
    Judge a batch in which problems may have scorers of their own: one call for each scorer.

    :param default: for problems that have none
    :param problems: the problem that each response answers
    :param responses: texts
    :param ids: their token ids
    """
    groups: dict[int, tuple[Scorer, list[int]]] = {}
    for k, problem in enumerate(problems):
        scorer = problem.scorer or default
        groups.setdefault(id(scorer), (scorer, []))[1].append(k)
    verdicts: dict[int, Verdict] = {}
    for scorer, places in groups.values():
        found = scorer.score([problems[k] for k in places], [responses[k] for k in places], [ids[k] for k in places])
        verdicts.update(zip(places, found, strict=True))
    return [verdicts[k] for k in range(len(problems))]


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", type(function).__name__))
