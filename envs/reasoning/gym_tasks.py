"""Problems from reasoning_gym, judged by each task's own verifier in worker processes.

Some of those verifiers hand the answer to ``eval`` or to sympy's ``parse_expr``, which runs what it is given. For these tasks an answer
is screened first: characters and names that no right answer needs score 0 before they reach the verifier.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from typing import Any

from sppo_rl.envs.reasoning.problems import BOXED_INSTRUCTION, Problem, optional_import
from sppo_rl.envs.reasoning.rewards import Scorer
from sppo_rl.envs.reasoning.verifier import Verdict, VerifierPool
from sppo_rl.envs.reasoning.verifier.checker import SHOWN
from sppo_rl.envs.reasoning.verifier.extract import extract_answer
from sppo_rl.envs.reasoning.verifier.units import word_set

_NUMBERS = re.compile(r"[0-9+\-*/(). ]{1,200}", re.ASCII)
_FORMULA = re.compile(r"[0-9A-Za-z+\-*/^(). ]{1,400}", re.ASCII)
_LISTS = re.compile(r"[0-9A-Za-z_.#' \"\[\],\n-]{1,4000}", re.ASCII)
_FUNCTIONS = word_set("sin cos tan exp log ln sqrt asin acos atan sinh cosh tanh pi")
_SCREENS = {
    "countdown": _NUMBERS,
    "puzzle24": _NUMBERS,
    "simple_integration": _FORMULA,
    "intermediate_integration": _FORMULA,
    "polynomial_multiplication": _FORMULA,
    "string_insertion": _LISTS,
    "spiral_matrix": _LISTS,
    "binary_matrix": _LISTS,
    "n_queens": _LISTS,
}
"""Tasks whose verifier evaluates the answer (reasoning_gym 0.1.25), and what their answers may be made of."""


def is_safe(task: str, answer: str) -> bool:
    """
    Tell whether an answer may be handed to a task's verifier.

    Calls need a name or an attribute before a parenthesis: lists may hold no parentheses, formulas no names but single letters and
    elementary functions, numbers no letters. Powers and long numbers are refused as well: they would only keep a worker busy.

    :param task: registered name
    :param answer: the extracted answer
    """
    screen = _SCREENS.get(task)
    if screen is None:
        return True
    if not screen.fullmatch(answer) or "__" in answer or re.search(r"[0-9]{40}", answer):
        return False
    if screen is _FORMULA:
        names = re.findall(r"[A-Za-z]+", answer)
        attribute = re.search(r"\.\s*[A-Za-z]", answer)
        tower = re.search(r"(?:\*\*|\^)[^+-]*(?:\*\*|\^)[^+-]*(?:\*\*|\^)|(?:\*\*|\^)\s*[0-9]{4}", answer)
        return attribute is None and tower is None and all(len(name) == 1 or name in _FUNCTIONS for name in names)
    if screen is _NUMBERS:
        return "**" not in answer
    return re.search(r"[A-Za-z_\]'\"]\s*\.", answer) is None


class GymScorer(Scorer):
    """
    Scores the last boxed answer with the verifier of a reasoning_gym task.

    :param task: registered name
    :param config: the task's configuration
    :param pool: worker processes; ``None`` takes a pool of its own that imports reasoning_gym beforehand
    """

    def __init__(self, task: str, config: dict[str, Any], pool: VerifierPool | None = None):
        self.task = task
        self.config = config
        self.pool = pool or VerifierPool(num_workers=1, time_limit=4.0, preload=("reasoning_gym",))

    def score(self, problems: Sequence[Problem], responses: Sequence[str], response_ids: Sequence[list[int]]) -> list[Verdict]:
        """Judge responses; see :meth:`Scorer.score`. A soft score of the task is kept."""
        verdicts: list[Verdict | None] = []
        jobs: list[tuple[str, tuple[Any, ...]]] = []
        for problem, response in zip(problems, responses, strict=True):
            answer, reason = extract_answer(response, self.pool.mode)
            if answer is None:
                verdicts.append(Verdict(0.0, reason))
            elif not is_safe(self.task, answer.strip()):
                verdicts.append(Verdict(0.0, "unsafe_answer", answer.strip()[:SHOWN]))
            else:
                jobs.append((".gym_scorer:score", (self.task, self.config, problem.columns["entry"], answer.strip())))
                verdicts.append(None)
        results = iter(zip(self.pool.run(jobs), jobs, strict=True))
        final = []
        for verdict in verdicts:
            if verdict is None:
                result, job = next(results)
                verdict = Verdict(result["score"], result["reason"], job[1][3][:SHOWN])
            self.pool.reasons[verdict.reason] += 1
            final.append(verdict)
        return final

    def close(self) -> None:
        """End the worker processes."""
        self.pool.close()


def require_task(task: str) -> Any:
    """
    Make sure that reasoning_gym is there and knows a task.

    :param task: registered name
    :return: the module
    :raises ImportError: if reasoning_gym is not installed
    :raises ValueError: if reasoning_gym knows no such task
    """
    with warnings.catch_warnings():
        # a dependency of it compares strings with "is", which Python says anew wherever it may not keep compiled files
        warnings.filterwarnings("ignore", category=SyntaxWarning, module=r".*[/\\]cellpylib[/\\]")
        gym = optional_import("reasoning_gym", "llm")
        known = optional_import("reasoning_gym.factory", "llm").DATASETS
    if task not in known:
        raise ValueError(f"reasoning_gym has no task {task!r}. It has: {', '.join(sorted(known))}.")
    return gym


def from_reasoning_gym(
    task: str, size: int, seed: int = 0, instruction: str = BOXED_INSTRUCTION, **config: Any
) -> list[Problem]:
    """
    Make problems of a reasoning_gym task.

    :param task: registered name, such as ``"chain_sum"``
    :param size: how many
    :param seed: of the task's generator
    :param instruction: added behind each question
    :param config: options of the task
    :raises ImportError: if reasoning_gym is not installed
    :raises ValueError: if reasoning_gym knows no such task
    """
    gym = require_task(task)
    full = {"size": size, "seed": seed, **config}
    dataset = gym.create_dataset(task, **full)
    scorer = GymScorer(task, full)
    return [
        Problem(
            prompt=f"{entry['question']}\n{instruction}" if instruction else entry["question"],
            answer=str(entry["answer"]),
            id=f"{task}-{seed}-{number}",
            source=f"reasoning_gym/{task}",
            scorer=scorer,
            columns={"entry": entry},
        )
        for number, entry in ((number, dataset[number]) for number in range(size))
    ]
