"""Callbacks for training language models: benchmarks with k responses to every problem, and tables of completions."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.callbacks import BaseCallback

from sppo_rl.envs.reasoning import Problem
from sppo_rl.envs.reasoning.bandit import ReasoningTask, VerifierLike
from sppo_rl.envs.reasoning.problems import optional_import
from sppo_rl.episodes import EpisodeBatch
from sppo_rl.llm.benchmarking import (
    Outcomes,
    Record,
    outcomes,
    plan,
    pool_of,
    respond_to,
    responder,
    same_answers,
    summarise,
)
from sppo_rl.llm.calibration import calibrate
from sppo_rl.llm.generation import Sampling
from sppo_rl.llm.lora import merged_parameters
from sppo_rl.llm.policy import TransformerPolicy
from sppo_rl.llm.run_files import append_lines, export_whole, keep_lines


class BenchmarkCallback(BaseCallback):
    """
    Poses held-out problems k times each at fixed checkpoints: avg@k, pass@k, maj@k, and how well the critic knew.

    A checkpoint is the first start of a collection at or after a multiple of ``every``; the untrained policy and the last one are evaluated
    too. Each evaluation has the same seeds, and training is what it would have been without.

    Logged: ``eval/avg@k``, ``eval/pass@k``, ``eval/maj@k``, ``eval/response_length``, ``eval/truncated``; with a critic that predicts
    probabilities ``eval/critic_pearson``, ``eval/critic_spearman``, ``eval/critic_brier`` and, to compare them with,
    ``eval/critic_ceiling`` and ``eval/length_pearson``. With several sets of problems each key but the critic's ends in ``_<name>`` as
    well, and the plain key is the mean over sets.

    :param problems: held out, or several sets by name; those whose prompt does not fit are dropped with a warning
    :param k: responses to each problem
    :param every: timesteps (responses) between checkpoints
    :param folder: gets ``evaluations.jsonl`` (a line for each evaluation), ``completions-<timesteps>-<name>.jsonl`` and ``best/`` (the
        export of the policy with the highest avg@k so far), or ``None``. A run that goes on where it was saved goes on with its file:
        lines from after that moment are dropped, for they are about to be repeated.
    :param batch_size: responses generated side by side
    :param temperature: ``None`` takes that of training
    :param seed: of the responses
    :param verifier: judges them; ``None`` takes a pool of its own. See :class:`~sppo_rl.envs.reasoning.MathReasoningEnv`
    :param verbose: 1 prints a line for each evaluation
    :raises ValueError: if a number is not positive
    """

    def __init__(
        self,
        problems: Sequence[Problem] | Mapping[str, Sequence[Problem]],
        k: int = 4,
        every: int = 10_000,
        folder: str | os.PathLike[str] | None = None,
        batch_size: int = 256,
        temperature: float | None = None,
        seed: int = 0,
        verifier: VerifierLike = None,
        verbose: int = 0,
    ):
        super().__init__(verbose)
        if min(k, every, batch_size) < 1:
            raise ValueError(f"k, every and batch_size must be at least 1, got {k}, {every} and {batch_size}.")
        if temperature is not None and not temperature > 0.0:
            raise ValueError(f"temperature must be above 0, got {temperature}.")
        self.sets = dict(problems) if isinstance(problems, Mapping) else {"": problems}
        self.k, self.every, self.batch_size = k, every, batch_size
        self.folder = None if folder is None else Path(folder)
        self.temperature, self.seed, self.verifier = temperature, seed, verifier
        self.rows: list[dict[str, Any]] = []
        """What ``evaluations.jsonl`` holds."""

    def _on_training_start(self) -> None:
        policy = self._policy
        self.tasks = {
            name: ReasoningTask(
                problems,
                policy.tokenizer,
                policy.observation_space["prompt_ids"].shape[0],  # type: ignore[index]
                policy.max_new_tokens,
                self.verifier,
                policy.use_chat_template,
                vocab_size=policy.vocabulary,
                ends=np.atleast_1d(policy.eos_token_id).tolist(),
            )
            for name, problems in self.sets.items()
        }
        if self.model.num_timesteps == 0:
            self.rows = []
        self._next = 0
        if self.folder is not None:
            self.rows = keep_lines(self.folder / "evaluations.jsonl", self.model.num_timesteps)
        if self.rows:
            self._next = self._following(self.rows[-1]["timesteps"])
        self._evaluated_update = -1

    def _on_rollout_start(self) -> None:
        if self.model.num_timesteps >= self._next:
            self._evaluate()

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        if self.model._n_updates != self._evaluated_update:
            self._evaluate()
        for task in self.tasks.values():
            task.close()

    @property
    def _policy(self) -> TransformerPolicy:
        policy = self.model.policy
        if not isinstance(policy, TransformerPolicy):
            raise TypeError(f"BenchmarkCallback is for TransformerPolicy, got {type(policy).__name__}.")
        if policy.tokenizer is None:
            raise ValueError("BenchmarkCallback needs the policy's tokenizer: pass policy_kwargs={'tokenizer': …}.")
        return policy

    @property
    def _critic_predicts_probabilities(self) -> bool:
        # before the first update the scale does not know yet that the loss is squared error
        return self._policy.value_scale.is_probability and getattr(self.model, "critic_loss", None) != "mse"

    def _following(self, count: int) -> int:
        """The first multiple of ``every`` after a count."""
        return (count // self.every + 1) * self.every

    def _evaluate(self) -> None:
        parts = {name: self._respond(name, task) for name, task in self.tasks.items()}
        scores = {name: summarise([part]) for name, part in parts.items() if name}
        scores[""] = summarise(list(parts.values()))
        row: dict[str, Any] = {"timesteps": self.model.num_timesteps, "tokens": getattr(self.model, "num_tokens", 0)}
        for name, of in scores.items():
            end = f"_{name}" if name else ""
            row[f"avg@{self.k}{end}"] = of.avg.value
            row[f"pass@{self.k}{end}"] = of.passed.value
            if of.majority is not None:
                row[f"maj@{self.k}{end}"] = of.majority.value
            row[f"response_length{end}"], row[f"truncated{end}"] = of.tokens, of.truncated
        row.update(self._calibration(parts))
        score = f"avg@{self.k}"
        is_best = all(row[score] > earlier[score] for earlier in self.rows)
        for name, value in row.items():
            if name not in ("timesteps", "tokens") and value is not None:
                self.logger.record(f"eval/{name}", value)
        self.logger.record("time/total_timesteps", self.model.num_timesteps, exclude="tensorboard")
        self.logger.dump(self.model.num_timesteps)
        if self.folder is not None:
            if is_best:
                export_whole(self._policy, self.folder / "best", self._critic_predicts_probabilities)
            append_lines(self.folder / "evaluations.jsonl", [row])
        self.rows.append(row)
        if self.verbose:
            avg = scores[""].avg
            interval = "" if math.isnan(avg.low) else f" [{avg.low:.3f}, {avg.high:.3f}]"
            print(
                f"{row['timesteps']:>9} responses: {score} {avg.value:.3f}{interval}, pass@{self.k} "
                f"{scores[''].passed.value:.3f}, {row['response_length']:.0f} tokens"
            )
        self._next = self._following(self.model.num_timesteps)
        self._evaluated_update = self.model._n_updates

    def _respond(self, name: str, task: ReasoningTask) -> Outcomes:
        policy = self._policy
        policy.generator.sync_weights(merged_parameters(policy.model), policy.weight_version)
        temperature = policy.temperature if self.temperature is None else self.temperature
        sampling = Sampling(policy.max_new_tokens, policy.eos_token_id, policy.vocabulary, temperature)
        respond = responder(policy.generator, sampling, policy.weight_version)
        batches = plan(len(task.problems), self.k, self.batch_size)
        records = [record for batch in respond_to(task, batches, respond, self.seed) for record in batch]
        policy.sampling_ended()
        if self.folder is not None:
            path = self.folder / f"completions-{self.model.num_timesteps}{f'-{name}' if name else ''}.jsonl"
            path.unlink(missing_ok=True)
            append_lines(path, records)
        return outcomes(records, self.k, same_answers(pool_of(task)))

    def _calibration(self, parts: Mapping[str, Outcomes]) -> dict[str, float | None]:
        """The critic against avg@k over all sets; nothing where there is none, or it predicts something else than a probability."""
        policy = self._policy
        if policy.critic is None or not self._critic_predicts_probabilities:
            return {}
        lengths = [len(ids) for task in self.tasks.values() for ids in task.encoded]
        predicted = np.concatenate([_predicted(policy, task) for task in self.tasks.values()])
        scores = np.concatenate([part.scores for part in parts.values()])
        figures = calibrate(predicted, scores, np.array(lengths)).as_dict()
        names = {
            "critic_pearson": "pearson",
            "critic_spearman": "spearman",
            "critic_brier": "brier",
            "critic_ceiling": "ceiling_pearson",
            "length_pearson": "length_pearson",
        }
        return {name: figures[of] for name, of in names.items()}


@th.no_grad()
def _predicted(policy: TransformerPolicy, task: ReasoningTask) -> np.ndarray:
    """(P,) float32: the critic's V of each prompt, by the path that training takes."""
    contexts = {name: th.as_tensor(rows).to(policy.device) for name, rows in task.observe(range(len(task.problems))).items()}
    found = []
    for rows in policy.chunks(th.arange(len(task.problems), device=policy.device), contexts):
        logits = policy.context_value_logits({name: values[rows] for name, values in contexts.items()})
        found.append(policy.value_scale(logits).float().cpu().numpy())
    return np.concatenate(found)


class CompletionsCallback(BaseCallback):
    """
    Shows responses of training: prompt, response, outcome, and the critic's prediction V of the prompt where there is one.

    A table is made of the first update, and of each that reaches a further multiple of ``every``. Greedy responses of ReMax are left out.

    :param every: timesteps (responses) between tables
    :param rows: responses in a table, evenly spread over the update's
    :param folder: gets ``completions.jsonl`` with the fields timesteps, problem, prompt, response, outcome, value, reason, extracted,
        tokens and truncated, or ``None``. A run that goes on where it was saved drops the lines from after that moment.
    :param rows_in_file: responses written to the file; ``None`` for all of the update
    :param tensorboard: whether TensorBoard gets the table as text, under ``completions``
    :param verbose: 1 prints the table (needs rich, of the extra ``[zoo]``)
    :raises ValueError: if a number is not positive
    :raises ImportError: if the table shall be printed and rich is not installed
    """

    def __init__(
        self,
        every: int = 10_000,
        rows: int = 4,
        folder: str | os.PathLike[str] | None = None,
        rows_in_file: int | None = None,
        tensorboard: bool = True,
        verbose: int = 0,
    ):
        super().__init__(verbose)
        if min(every, rows, 1 if rows_in_file is None else rows_in_file) < 1:
            raise ValueError(f"every, rows and rows_in_file must be at least 1, got {every}, {rows} and {rows_in_file}.")
        if verbose:
            # here, and not when the first update is done
            optional_import("rich", "zoo")
        self.every, self.rows, self.rows_in_file, self.tensorboard = every, rows, rows_in_file, tensorboard
        self.path = None if folder is None else Path(folder) / "completions.jsonl"
        self.last: list[Record] = []
        """The completions of the last table."""

    def _on_training_start(self) -> None:
        kept = [] if self.path is None else keep_lines(self.path, self.model.num_timesteps)
        shown_at = kept[-1]["timesteps"] if kept else self.model.num_timesteps
        self._next = (shown_at // self.every + 1) * self.every if shown_at else 0

    def _on_rollout_start(self) -> None:
        self._infos: list[dict[str, Any]] = []

    def _on_step(self) -> bool:
        self._infos += self.locals["finished_infos"]
        return True

    def _on_rollout_end(self) -> None:
        if self.model.num_timesteps < self._next:
            return
        self._next = (self.model.num_timesteps // self.every + 1) * self.every
        batch = self.locals["batch"]
        # greedy responses come after all that training sees
        infos = self._infos[: len(batch.outcome)]
        if not all("text" in info for info in infos):
            raise ValueError(
                "CompletionsCallback reads info['text'], which MathReasoningEnv gives; this environment does not."
            )
        problems = self.training_env.get_attr("task")[0].problems
        values = _prompt_values(batch)
        self.last = [
            {
                "timesteps": self.model.num_timesteps,
                "problem": info["problem"],
                "prompt": problems[info["context_id"]].messages[-1]["content"],
                "response": info["text"],
                "outcome": info["score"],
                "value": values.get(info["context_id"]),
                "reason": info["reason"],
                "extracted": info["extracted"],
                "tokens": info["response_tokens"],
                "truncated": info["response_truncated"],
            }
            for info in infos
        ]
        if self.path is not None:
            append_lines(self.path, _spread(self.last, self.rows_in_file))
        shown = _spread(self.last, self.rows)
        if self.tensorboard:
            self.logger.record("completions", _markdown(shown), exclude=("stdout", "log", "json", "csv"))
        if self.verbose:
            _print(shown)


def _prompt_values(batch: EpisodeBatch) -> dict[int, float]:
    """Problem → the critic's value before the first token; empty without a critic."""
    if batch.values is None or not isinstance(batch.contexts, dict):
        return {}
    values = batch.values if batch.values.dim() == 1 else batch.values[:, 0]
    return dict(zip(batch.contexts["problem_id"].flatten().tolist(), values.tolist(), strict=True))


def _spread(records: list[Record], count: int | None) -> list[Record]:
    """So many records, evenly spread."""
    if count is None or count >= len(records):
        return records
    return [records[k * len(records) // count] for k in range(count)]


def _cells(record: Record) -> list[str]:
    value = "–" if record["value"] is None else f"{record['value']:.2f}"
    return [record["prompt"], record["response"], f"{record['outcome']:g} ({record['reason']})", value]


_HEADINGS = ["prompt", "response", "outcome", "V"]


def _markdown(records: list[Record]) -> str:
    """A table for TensorBoard; a response's own markup must not break it."""

    def plain(text: str) -> str:
        marks = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;", "\r": "", "\n": "<br>"}
        for mark, written in marks.items():
            text = text.replace(mark, written)
        return text

    lines = [_HEADINGS, ["---"] * len(_HEADINGS), *([plain(cell) for cell in _cells(record)] for record in records)]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _print(records: list[Record]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=f"Completions after {records[0]['timesteps']} responses", show_lines=True)
    for heading in _HEADINGS:
        table.add_column(heading, overflow="fold")
    for record in records:
        # as text: brackets in a response are no markup of rich's
        table.add_row(*(Text(cell) for cell in _cells(record)))
    Console().print(table)
