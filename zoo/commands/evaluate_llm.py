"""The part of ``sppo-rl evaluate`` for language models: k responses to every problem of some benchmarks, a table at the end."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch as th
from rich.console import Console
from tqdm import tqdm  # type: ignore[import-untyped]

from sppo_rl.envs.reasoning import BOXED_INSTRUCTION, VerifierPool, from_file, load_named
from sppo_rl.envs.reasoning.bandit import ReasoningTask
from sppo_rl.envs.reasoning.benchmarks import SOURCES, Loaded
from sppo_rl.envs.reasoning.verifier import is_well_formed
from sppo_rl.llm.benchmarking import (
    Outcomes,
    Record,
    Respond,
    outcomes,
    pool_of,
    respond_into_file,
    responder,
    same_answers,
)
from sppo_rl.llm.generation import Sampling, make_generator
from sppo_rl.llm.generation.vllm_sync import num_outputs
from sppo_rl.llm.lengths import check_context
from sppo_rl.llm.loading import fingerprint, load_policy
from sppo_rl.llm.models import end_tokens
from sppo_rl.llm.options import end_of_sequence
from sppo_rl.zoo.language.benchmark_report import (
    MEAN,
    as_json,
    calibration_report,
    summary_rows,
    table_cells,
    verdicts,
)
from sppo_rl.zoo.names import UsageError, suggestion
from sppo_rl.zoo.results.tables import markdown_table, rich_table

_BATCH_SIZES = {"transformers": 64, "vllm": 512}
"""Generator → responses side by side, where ``--batch-size`` says nothing."""
_FILES = (".jsonl", ".json", ".parquet")


def run(arguments: argparse.Namespace) -> int:
    """
    Evaluate a language model, or check the gold answers.

    :param arguments: parsed
    :raises UsageError: if an option makes no sense
    """
    instruction = BOXED_INSTRUCTION if arguments.instruction is None else arguments.instruction
    sets = load_sets(arguments.benchmarks, instruction, arguments.limit)
    if arguments.check_golds:
        return check_golds(sets)
    _check(arguments)
    critic = _critic_folder(arguments)
    folder = arguments.output or Path("evaluations") / (Path(arguments.model).resolve().name or "model")
    found, tasks = evaluate_sets(arguments, sets, folder)
    rows = summary_rows(found)
    report = {"model": str(arguments.model), "settings": _settings(arguments), **as_json(rows, sets, tasks)}
    (folder / "summary.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    headings, cells = table_cells(rows, sets, tasks)
    (folder / "table.md").write_text(markdown_table(headings, cells) + "\n", encoding="utf-8")
    console = Console()
    console.print(rich_table(headings, cells))
    console.print(
        "Mean over problems \\[95 % bootstrap interval over problems, drawn within their benchmark]. " + verdicts(rows),
        highlight=False,
    )
    if critic is not None:
        console.print(calibration_report(critic, found, tasks, folder), highlight=False)
    console.print(f"Written: {folder}/ (completions, summary.json, table.md)", soft_wrap=True)
    return 0


def load_sets(names: Sequence[str], instruction: str, limit: int | None = None) -> dict[str, Loaded]:
    """
    Load several benchmarks.

    :param names: see :func:`load_problems`
    :param instruction: added behind each problem
    :param limit: keep the first so many of each
    :return: problems under the names that their results get
    :raises UsageError: as :func:`load_problems` does, or if results of two benchmarks, or of one and of all, would get the same
        name
    """
    given: dict[str, str] = {}
    for name in names:
        other = given.setdefault(_set_name(name), name)
        if other != name:
            raise UsageError(
                f"{other} and {name} would both be called {_set_name(name)!r} in the results, and one would take the place of the other: "
                "evaluate them one by one with an --output each, or rename a file."
            )
    if MEAN in given:
        raise UsageError(f"{given[MEAN]} would be called {MEAN!r} in the results, as the mean over all is: rename the file.")
    return {of: load_problems(name, instruction, limit) for of, name in given.items()}


def load_problems(name: str, instruction: str, limit: int | None = None) -> Loaded:
    """
    Load a benchmark by name or from a file; problems with malformed gold answers are left out and listed.

    :param name: a name of :data:`~sppo_rl.envs.reasoning.benchmarks.SOURCES`, or a file
    :param instruction: added behind each problem
    :param limit: keep the first so many
    :raises UsageError: if there is no such thing, or no problem is left
    """
    if limit is not None and limit < 1:
        raise UsageError(f"--limit must be at least 1, got {limit}.")
    if name.endswith(_FILES):
        if not Path(name).is_file():
            raise UsageError(f"There is no file {name}.")
        try:
            problems = from_file(name, instruction=instruction)
        except ValueError as error:
            raise UsageError(f"{name} cannot be read: {error}") from error
        sound = [problem.scorer is not None or is_well_formed(problem.answer) for problem in problems]
        # by place: ids may repeat
        malformed = [problem.id for problem, ok in zip(problems, sound, strict=True) if not ok]
        loaded = Loaded([problem for problem, ok in zip(problems, sound, strict=True) if ok], malformed, 0)
    else:
        try:
            loaded = load_named(name, instruction)
        except (ImportError, ConnectionError, FileNotFoundError) as error:
            raise UsageError(
                f"{name} is not below the folder that SPPO_DATA names, and the hub did not give it ({error})."
            ) from error
        except ValueError as error:
            raise UsageError(f"{error}{suggestion(name, SOURCES)} A file must end in {', '.join(_FILES)}.") from error
    if not loaded.problems:
        raise UsageError(f"{name} has no problem with a well-formed gold answer.")
    return loaded._replace(problems=loaded.problems[:limit])


def _set_name(name: str) -> str:
    return Path(name).stem if name.endswith(_FILES) else name.lower()


def check_golds(sets: Mapping[str, Loaded]) -> int:
    """
    Judge each gold answer as if a model had given it, and list those that fail.

    :param sets: name → problems
    :return: 0 if all well-formed gold answers are accepted, else 1
    """
    failed = 0
    with VerifierPool() as pool:
        for name, loaded in sets.items():
            golds = [problem.answer for problem in loaded.problems]
            verdicts = pool.check_batch([f"\\boxed{{{gold}}}" for gold in golds], golds)
            rejected = [(p, v) for p, v in zip(loaded.problems, verdicts, strict=True) if v.score != 1.0]
            failed += len(rejected)
            print(f"{name}: {len(golds) - len(rejected)} of {len(golds)} accepted, {len(loaded.malformed)} malformed left out")
            for problem, verdict in rejected:
                print(f"  {problem.id}: {problem.answer!r} is not accepted ({verdict.reason})")
            if loaded.malformed:
                print(f"  malformed: {', '.join(loaded.malformed)}")
    return 1 if failed else 0


def _check(arguments: argparse.Namespace) -> None:
    if arguments.model is None:
        raise UsageError("--benchmarks needs --model: a Hugging Face folder or name, or what policy.export wrote.")
    for option in ("samples", "max_new_tokens", "max_prompt_tokens", "batch_size"):
        value = getattr(arguments, option)
        if value is not None and value < 1:
            raise UsageError(f"--{option.replace('_', '-')} must be at least 1, got {value}.")
    if arguments.greedy and arguments.samples != 1:
        raise UsageError(f"--greedy gives the same response every time: ask for it with -k 1, not -k {arguments.samples}.")
    if not arguments.temperature > 0.0:
        raise UsageError(f"--temperature must be above 0, got {arguments.temperature}; 0 is --greedy -k 1.")


def _critic_folder(arguments: argparse.Namespace) -> Path | None:
    """Find the critic before hours of sampling."""
    if arguments.calibration is None:
        return None
    folder = Path(arguments.calibration or Path(arguments.model) / "critic")
    if not (folder / "config.json").is_file():
        raise UsageError(f"There is no critic at {folder}. Name its folder behind --calibration.")
    return folder


def _settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the responses depend on, beside problems, weights, k, batch size and seed."""
    return {
        "greedy": arguments.greedy,
        "temperature": None if arguments.greedy else arguments.temperature,
        "max_new_tokens": arguments.max_new_tokens,
        "max_prompt_tokens": arguments.max_prompt_tokens,
        "generator": arguments.generator,
        "dtype": arguments.dtype,
        "k": arguments.samples,
        "seed": arguments.seed,
        "batch_size": arguments.batch_size or _BATCH_SIZES[arguments.generator],
    }


def evaluate_sets(
    arguments: argparse.Namespace, sets: Mapping[str, Loaded], folder: Path
) -> tuple[dict[str, Outcomes], dict[str, ReasoningTask]]:
    """
    Sample and judge the responses to all problems, or go on where an interrupted run was.

    :param arguments: parsed
    :param sets: name → problems
    :param folder: gets a file of completions for each
    :return: for each name the outcomes, and the problems that fit
    :raises UsageError: if there is no such model, or it cannot read sequences of that length
    """
    device = arguments.device if arguments.device != "auto" else "cuda" if th.cuda.is_available() else "cpu"
    try:
        model, tokenizer = load_policy(arguments.model, device)
    except OSError as error:
        raise UsageError(f"There is no language model at {arguments.model}: {str(error).splitlines()[0]}") from error
    if arguments.dtype == "auto":
        arguments = argparse.Namespace(**{**vars(arguments), "dtype": "float32" if device == "cpu" else "bfloat16"})
    settings = _settings(arguments)
    sampling = make_sampling(arguments, model, tokenizer)
    if sampling.ends != (tokenizer.eos_token_id,):
        # responses that only the tokenizer's token ended are others
        settings["eos_token_id"] = list(sampling.ends)
    tasks = {
        name: ReasoningTask(
            loaded.problems, tokenizer, arguments.max_prompt_tokens, arguments.max_new_tokens, ends=sampling.ends
        )
        for name, loaded in sets.items()
    }
    longest = max(len(ids) for task in tasks.values() for ids in task.encoded) + arguments.max_new_tokens - 1
    try:
        check_context("model", model, longest, "Pass a smaller --max-new-tokens.")
    except ValueError as error:
        raise UsageError(str(error)) from error
    respond = make_respond(arguments, model, sampling)
    own = {name: settings[name] for name in settings if name not in ("k", "seed", "batch_size")}
    found = {}
    for name, task in tasks.items():
        with _Progress(name, len(task.problems) * arguments.samples) as on_batch:
            records = respond_into_file(
                folder / f"{name}.jsonl",
                {"benchmark": name, "model": fingerprint(model), **own},
                task, respond, arguments.samples, settings["batch_size"], arguments.seed, on_batch,
            )  # fmt: skip
        found[name] = outcomes(records, arguments.samples, same_answers(pool_of(task)))
        pool_of(task).close()
    return found, tasks


def make_sampling(arguments: argparse.Namespace, model: Any, tokenizer: Any) -> Sampling:
    """
    Say how responses are sampled; the tokenizer's end of sequence ends them, and what the model's ``generation_config`` names.

    :param arguments: parsed
    :param model: causal
    :param tokenizer: the model's
    :raises UsageError: if neither names an end-of-sequence token
    """
    # Qwen2.5's output layer is wider than its vocabulary, some others are narrower than their tokenizer's
    vocabulary = min(len(tokenizer), num_outputs(model))
    try:
        ends = end_of_sequence(None, tokenizer, end_tokens(model), vocabulary)
    except ValueError as error:
        raise UsageError(
            f"Neither the tokenizer of {arguments.model} nor its generation_config names an end-of-sequence token: no response would ever "
            "end."
        ) from error
    return Sampling(
        max_new_tokens=arguments.max_new_tokens,
        eos_token_id=ends,
        vocab_size=vocabulary,
        temperature=arguments.temperature,
        greedy=arguments.greedy,
    )


def make_respond(arguments: argparse.Namespace, model: Any, sampling: Sampling) -> Respond:
    """
    Make the generator and hand it the weights.

    :param arguments: parsed; ``dtype`` is decided
    :param model: causal
    :param sampling: see :func:`make_sampling`
    """
    generator = make_generator(
        arguments.generator, model, getattr(th, arguments.dtype), arguments.max_prompt_tokens + arguments.max_new_tokens
    )
    generator.sync_weights(model.named_parameters(), 0)
    return responder(generator, sampling, 0)


class _Progress:
    """A bar over responses with the mean score so far."""

    def __init__(self, name: str, total: int):
        self.bar = tqdm(total=total, desc=name, unit="response", dynamic_ncols=True)
        self.score = 0.0

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def __call__(self, records: list[Record]) -> None:
        self.score += sum(record["score"] for record in records)
        self.bar.update(len(records))
        self.bar.set_postfix(score=f"{self.score / self.bar.n:.3f}")
