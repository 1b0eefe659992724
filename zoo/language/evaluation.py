"""Evaluation during a language run: pass@1 and response lengths on held-out problems, beside everything that was spent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sppo_rl.algorithm import SequenceAlgorithm
from sppo_rl.callbacks import EvaluationCallback
from sppo_rl.evaluation import Evaluation
from sppo_rl.intervals import wilson_interval
from sppo_rl.zoo.names import LABELS
from sppo_rl.zoo.results.rows import Row
from sppo_rl.zoo.results.tables import markdown_table


class ResponseEvaluation(EvaluationCallback):
    """
    An :class:`~sppo_rl.callbacks.EvaluationCallback` that also counts what a language run spends.

    In its file an episode is a response; ``success`` is pass@1 of sampled responses; ``mean_length`` and ``greedy_mean_length``
    count tokens of a response; ``prompts`` are those trained on, each group's once, and ``tokens`` those of all responses, greedy ones
    of ReMax included.
    """

    COLUMNS = (*EvaluationCallback.COLUMNS, "prompts", "tokens")

    def _row(self, sampled: Evaluation, greedy: Evaluation | None) -> dict[str, float]:
        assert isinstance(self.model, SequenceAlgorithm)
        return {
            **super()._row(sampled, greedy),
            "mean_length": _tokens(sampled),
            "greedy_mean_length": _tokens(greedy) if greedy else float("nan"),
            "prompts": self.model._episode_num // self.model.group_size,
            "tokens": self.model.num_tokens,
        }


def _tokens(of: Evaluation) -> float:
    assert of.response_tokens is not None
    return float(of.response_tokens.mean())


def describe(row: Mapping[str, float]) -> str:
    """
    Put a row of the file into words.

    :param row: of a :class:`ResponseEvaluation`
    """
    return (
        f"{row['episodes']:>8,} responses {row['tokens']:>11,} tokens {row['seconds']:>7.1f} s   pass@1 {row['success']:.3f} sampled, "
        f"{row['greedy_success']:.3f} greedy; {row['mean_length']:.0f} tokens a response"
    )


def table(runs: Mapping[tuple[str, int], Sequence[Row]], problems: int) -> str:
    """
    Lay out the first and the last evaluation of runs as Markdown.

    :param runs: (algorithm, seed) → rows of its evaluation file
    :param problems: in an evaluation
    """
    headings = [
        "run", "pass@1 before [95 %]", "after [95 %]", "greedy before, after", "tokens a response", "prompts", "responses", "tokens",
        "seconds",
    ]  # fmt: skip
    lines = []
    for (algo, seed), rows in runs.items():
        first, last = rows[0], rows[-1]
        greedy = f"{first['greedy_success']:.3f}, {last['greedy_success']:.3f}"
        length = f"{first['mean_length']:.0f} → {last['mean_length']:.0f}"
        spent = [f"{last[key]:,.0f}" for key in ("prompts", "episodes", "tokens")]
        rates = [_rate(first, problems), _rate(last, problems)]
        lines.append([f"{LABELS[algo]}, seed {seed}", *rates, greedy, length, *spent, f"{last['seconds']:.0f}"])
    return (
        markdown_table(headings, lines)
        + f"\n\npass@1: one sampled response to each of {problems:,} held-out problems, Wilson intervals. Seconds: training without "
        "evaluation.\n"
    )


def _rate(row: Mapping[str, float], problems: int) -> str:
    low, high = wilson_interval(round(row["success"] * problems), problems)
    return f"{row['success']:.3f} [{low:.3f}, {high:.3f}]"


def as_results(rows: Sequence[Mapping[str, Any]], task: str, algo: str, seed: int) -> list[Row]:
    """
    Name the run in each row, as the long file of a comparison does.

    :param rows: of a :class:`ResponseEvaluation`
    :param task: takes the place of an environment id
    :param algo: name on the command line
    :param seed: of the run
    """
    return [{"env": task, "algo": algo, "seed": seed, **row} for row in rows]
