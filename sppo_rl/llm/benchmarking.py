"""
k responses to every problem of a data set: sampled, judged, kept in a file that an interrupted run goes on with, and summed up.

The responses of a data set are put in order, problem by problem, and cut into batches. A batch is sampled from a seed that depends only
on the evaluation's seed and on which responses it holds, and is written when it is complete. So a run that was killed gives what it
would have given (on a CPU to the byte; a GPU rounds differently from run to run).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sppo_rl.atomic import write_atomically
from sppo_rl.envs.reasoning import AnswerScorer, VerifierPool
from sppo_rl.envs.reasoning.bandit import ReasoningTask
from sppo_rl.intervals import Estimate
from sppo_rl.llm.generation import Generator, Sampling
from sppo_rl.llm.metrics import (
    SameAnswer,
    answer_classes,
    majority_right,
    mean_over_problems,
    pass_at_k,
)

Record = dict[str, Any]
"""
One response: ``problem`` (its id), ``sample`` (0 … k − 1), ``seed`` (of its batch), ``text``, ``tokens``, ``truncated`` (the token
budget ended it), ``extracted`` (the answer found, at most 300 characters), ``score`` and ``reason``.
"""
Pair = tuple[int, int]
"""Number of a problem in its task, and of the response to it."""
Respond = Callable[[Sequence[np.ndarray], int], list[np.ndarray]]
"""Prompts (length,) int64 and a seed → the token ids of one response to each."""


@dataclass(frozen=True)
class Scores:
    """
    What k responses to each problem gave.

    :param problems: P
    :param k: responses to each
    :param avg: avg@k, the mean score
    :param passed: pass@k, the share of problems that a response solved
    :param majority: maj@k, see :func:`~sppo_rl.llm.metrics.majority_right`; ``None`` where the scorer extracts no answers to vote on
    :param tokens: mean length of a response
    :param truncated: share of responses that the token budget ended
    :param answered: share of responses from which an answer was extracted
    :param reasons: how often the verifier gave each reason
    """

    problems: int
    k: int
    avg: Estimate
    passed: Estimate
    majority: Estimate | None
    tokens: float
    truncated: float
    answered: float
    reasons: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """For JSON, under the names avg@k, pass@k, maj@k."""
        named = {"avg": self.avg, "pass": self.passed, "maj": self.majority}
        rest = {name: value for name, value in asdict(self).items() if name not in ("avg", "passed", "majority")}
        return {**{f"{name}@{self.k}": None if e is None else e.as_dict() for name, e in named.items()}, **rest}


@dataclass(frozen=True)
class Outcomes:
    """
    The responses to one data set as arrays.

    :param scores: (P, k) float64 in [0, 1]
    :param solved_by_majority: (P,) bool, or ``None`` where there are no answers to vote on
    :param records: P · k, problem by problem
    """

    scores: np.ndarray
    solved_by_majority: np.ndarray | None
    records: list[Record]


def responder(generator: Generator, sampling: Sampling, version: int) -> Respond:
    """
    Make a function of prompts and a seed of a generator that has its weights.

    :param generator: after ``sync_weights``
    :param sampling: its seed is replaced by that of each batch
    :param version: the weights
    """
    limits = asdict(sampling)

    def respond(prompts: Sequence[np.ndarray], seed: int) -> list[np.ndarray]:
        found = generator.generate(prompts, Sampling(**{**limits, "seed": seed}), version)
        return [response.token_ids for response in found]

    return respond


def plan(problems: int, k: int, batch_size: int) -> list[list[Pair]]:
    """
    Put every problem exactly k times, in batches.

    Example: two problems, k = 2, batches of three: [(0, 0), (0, 1), (1, 0)], [(1, 1)].

    :param problems: how many
    :param k: responses to each
    :param batch_size: responses in a batch
    :raises ValueError: if a number is not positive
    """
    if min(problems, k, batch_size) < 1:
        raise ValueError(f"problems, k and batch_size must be at least 1, got {problems}, {k} and {batch_size}.")
    pairs = [(problem, sample) for problem in range(problems) for sample in range(k)]
    return [pairs[first : first + batch_size] for first in range(0, len(pairs), batch_size)]


def batch_seed(seed: int, task: ReasoningTask, batch: Sequence[Pair]) -> int:
    """
    Derive the seed of a batch from the evaluation's seed and from which responses the batch holds.

    :param seed: of the evaluation
    :param task: has the problems
    :param batch: the responses
    :return: below 2^62
    """
    held = [[task.problems[problem].source, task.problems[problem].id, sample] for problem, sample in batch]
    digest = hashlib.sha256(json.dumps([seed, held]).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 2


def respond_to(task: ReasoningTask, batches: Sequence[Sequence[Pair]], respond: Respond, seed: int) -> Iterator[list[Record]]:
    """
    Sample and judge, batch by batch.

    :param task: has the problems and the scorer
    :param batches: see :func:`plan`
    :param respond: see :data:`Respond`
    :param seed: of the evaluation
    :return: the records of each batch
    """
    for batch in batches:
        drawn = batch_seed(seed, task, batch)
        problems = [problem for problem, _ in batch]
        found = respond([np.asarray(task.encoded[problem], dtype=np.int64) for problem in problems], drawn)
        actions = np.full((len(batch), task.max_new_tokens), task.vocab_size, dtype=np.int64)
        for row, ids in enumerate(found):
            actions[row, : len(ids)] = ids
        _, infos = task.judge(problems, actions)
        yield [
            {
                "problem": info["problem"],
                "sample": sample,
                "seed": drawn,
                "text": info["text"],
                "tokens": info["response_tokens"],
                "truncated": info["response_truncated"],
                "extracted": info["extracted"],
                "score": info["score"],
                "reason": info["reason"],
            }
            for (_, sample), info in zip(batch, infos, strict=True)
        ]


def respond_into_file(
    path: Path,
    settings: dict[str, Any],
    task: ReasoningTask,
    respond: Respond,
    k: int,
    batch_size: int,
    seed: int,
    on_batch: Callable[[list[Record]], None] = lambda records: None,
) -> list[Record]:
    """
    Sample and judge into a JSONL file, or go on with one.

    Beside the file stands ``<name>.settings.json``. What a kill left of the last batch is sampled anew.

    :param path: one line for each response, in the order of :func:`plan`
    :param settings: everything else the responses depend on; a file made with others is refused
    :param task: has the problems and the scorer
    :param respond: see :data:`Respond`
    :param k: responses to each problem
    :param batch_size: responses generated side by side
    :param seed: of the evaluation
    :param on_batch: called with the records of each batch, those found in the file first
    :return: all P · k records
    :raises ValueError: if the file was made with other settings, or is not such a file
    """
    complete = {**settings, "problems": _problems_hash(task), "k": k, "batch_size": batch_size, "seed": seed}
    path.parent.mkdir(parents=True, exist_ok=True)
    _require_settings(path.with_suffix(".settings.json"), path, complete)
    batches = plan(len(task.problems), k, batch_size)
    records, done = _whole_batches(path, task, batches)
    if records:
        on_batch(records)
    with path.open("a", encoding="utf-8") as file:
        for batch in respond_to(task, batches[done:], respond, seed):
            file.write("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in batch))
            file.flush()
            os.fsync(file.fileno())
            records += batch
            on_batch(batch)
    return records


def read_completions(path: str | Path) -> list[Record]:
    """
    Read a completions file; a last line that a kill cut short is left out.

    :param path: the JSONL file
    :raises ValueError: if another line is no record
    """
    # not by splitlines(): a response may hold any of the separators that it knows
    lines = Path(path).read_bytes().split(b"\n")[:-1]
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(dict(json.loads(line)))
        except ValueError as error:
            raise ValueError(
                f"Line {number} of {path} is no JSON object ({error}). Move the file away to begin anew."
            ) from error
    return records


def _whole_batches(path: Path, task: ReasoningTask, batches: list[list[Pair]]) -> tuple[list[Record], int]:
    """Read the batches that are complete, and cut the file behind them; also tell how many there are."""
    if not path.exists():
        return [], 0
    records = read_completions(path)
    expected = [(task.problems[problem].id, sample) for batch in batches for problem, sample in batch]
    found = [(record.get("problem"), record.get("sample")) for record in records]
    if found != expected[: len(found)]:
        wrong = next(k for k, pair in enumerate(found) if k >= len(expected) or pair != expected[k])
        wanted = expected[wrong] if wrong < len(expected) else "nothing"
        raise ValueError(
            f"Line {wrong + 1} of {path} answers {found[wrong]}, but {wanted} was to come there: the file is not of this evaluation, or "
            "was edited. Move it away, or choose another --output."
        )
    ends = np.cumsum([len(batch) for batch in batches])
    done = int(np.searchsorted(ends, len(records), side="right"))
    kept = int(ends[done - 1]) if done else 0
    lines = path.read_bytes().split(b"\n")
    size = sum(len(line) + 1 for line in lines[:kept])
    if size != path.stat().st_size:
        os.truncate(path, size)
    return records[:kept], done


def _require_settings(file: Path, completions: Path, settings: dict[str, Any]) -> None:
    """Write the settings beside a new file; refuse to go on with other ones."""
    if not completions.exists():
        write_atomically(file, json.dumps(settings, indent=1) + "\n")
        return
    if not file.exists():
        raise ValueError(
            f"{completions} is there, but {file.name}, which says how it was made, is not. Choose another --output."
        )
    before = json.loads(file.read_text(encoding="utf-8"))
    different = [
        f"{name} was {before.get(name)!r} and is now {settings.get(name)!r}"
        for name in [*settings, *(name for name in before if name not in settings)]
        if before.get(name) != settings.get(name)
    ]
    if different:
        raise ValueError(
            f"{completions} was begun with other settings: {'; '.join(different)}. Go on with the same ones, or choose another --output."
        )


def _problems_hash(task: ReasoningTask) -> str:
    """Of the prompts as token ids and of the gold answers."""
    held = [[p.source, p.id, p.answer, list(map(int, ids))] for p, ids in zip(task.problems, task.encoded, strict=True)]
    return hashlib.sha256(json.dumps(held).encode()).hexdigest()[:16]


def outcomes(records: Sequence[Record], k: int, same: SameAnswer) -> Outcomes:
    """
    Arrange the records of one data set.

    :param records: P · k, in the order of :func:`plan`
    :param k: responses to each problem
    :param same: compares answers for the majority vote
    """
    scores = np.array([record["score"] for record in records], dtype=np.float64).reshape(-1, k)
    right = scores == 1.0
    answers = [[record["extracted"] for record in records[first : first + k]] for first in range(0, len(records), k)]
    if any(
        answer is None and ok for row, oks in zip(answers, right, strict=True) for answer, ok in zip(row, oks, strict=True)
    ):
        # a right response without an answer: the scorer judges whole texts, so there is nothing to vote on
        return Outcomes(scores, None, list(records))
    return Outcomes(scores, majority_right(answer_classes(answers, right, same), right), list(records))


def summarise(parts: Sequence[Outcomes]) -> Scores:
    """
    Sum up one data set, or the mean over several, each counting the same however many problems it has.

    :param parts: of one or more data sets, with the same k
    """
    k = parts[0].scores.shape[1]
    records = [record for part in parts for record in part.records]
    votes = [part.solved_by_majority for part in parts if part.solved_by_majority is not None]

    def share(of: Callable[[Record], float]) -> float:
        return float(np.mean([np.mean([of(record) for record in part.records]) for part in parts]))

    return Scores(
        problems=sum(len(part.scores) for part in parts),
        k=k,
        avg=mean_over_problems([part.scores.mean(axis=1) for part in parts]),
        passed=mean_over_problems([pass_at_k((part.scores == 1.0).sum(axis=1), k, k) for part in parts]),
        majority=mean_over_problems([vote.astype(float) for vote in votes]) if len(votes) == len(parts) else None,
        tokens=share(lambda record: record["tokens"]),
        truncated=share(lambda record: record["truncated"]),
        answered=share(lambda record: record["extracted"] is not None),
        reasons=dict(Counter(record["reason"] for record in records).most_common()),
    )


def same_answers(pool: VerifierPool) -> SameAnswer:
    """
    Compare answers as the verifier does, in its worker processes; a comparison that takes too long says that they differ.

    :param pool: does the work
    """

    def same(pairs: list[tuple[str, str]]) -> list[bool]:
        lenient = pool.mode == "lenient"
        replies = pool.run([(".checker:compare_answers", (*pair, lenient)) for pair in pairs])
        return [reply["score"] == 1.0 for reply in replies]

    return same


def pool_of(task: ReasoningTask) -> VerifierPool:
    """
    Give the pool that judges a task, or a new one where functions judge it; closing it twice does no harm.

    :param task: any
    """
    return task.scorer.pool if isinstance(task.scorer, AnswerScorer) else VerifierPool()
