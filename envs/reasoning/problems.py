"""Problems: what one is, and how lists, files and datasets become lists of them."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sppo_rl.envs.reasoning.golds import gold_answer, warn_of_unlikely_golds

if TYPE_CHECKING:
    from sppo_rl.envs.reasoning.rewards import Scorer

BOXED_INSTRUCTION = "Please reason step by step, and put your final answer within \\boxed{}."
"""What a prompt must say for the verifier to have something to read: no box, no reward."""

Message = dict[str, str]
"""``{"role": …, "content": …}``"""

# "messages" last: in data sets for imitation they hold the solution too
_PROMPT_COLUMNS = ("prompt", "problem", "question", "Problem", "Question", "messages")
_ANSWER_COLUMNS = ("answer", "ground_truth", "final_answer", "Answer", "solution")
_ID_COLUMNS = ("id", "unique_id", "ID", "index")


@dataclass(frozen=True)
class Problem:
    """
    A prompt with a verifiable outcome.

    :param prompt: a string, which becomes one user message where the tokenizer has a chat template, or a list of messages
    :param answer: the gold answer, without a box; the policy never sees it
    :param id: names the problem in logs and completions
    :param source: name of the data set
    :param scorer: judges responses to this problem instead of the environment's verifier
    :param columns: the fields of the record but for ``prompt``, for reward functions
    """

    prompt: str | tuple[tuple[str, str], ...]
    answer: str
    id: str
    source: str = ""
    scorer: Scorer | None = None
    columns: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def messages(self) -> list[Message]:
        """The prompt as chat messages."""
        if isinstance(self.prompt, str):
            return [{"role": "user", "content": self.prompt}]
        return [{"role": role, "content": content} for role, content in self.prompt]

    @property
    def prompt_as_given(self) -> str | list[Message]:
        """The prompt in the form reward functions expect: a string, or messages."""
        return self.prompt if isinstance(self.prompt, str) else self.messages


def problem_from_record(record: Mapping[str, Any], number: int, source: str = "", instruction: str = "") -> Problem:
    """
    Read one row: verl's schema (``prompt``, ``data_source``, ``reward_model``), TRL's prompt-only form (``prompt`` and any column with
    the answer), or a plain ``problem``/``question`` with an ``answer``.

    A column ``messages`` is read where there is none of these, up to its last user turn: what follows is a solution. For the forms that
    answers come in see :func:`~.golds.gold_answer`. The first column that holds an answer counts; an empty one does so only where no other
    holds any.

    :param record: the row
    :param number: its place, used where it has no id
    :param source: name of the data set, where the row has none
    :param instruction: added behind the problem, in the last user message
    :raises ValueError: if it is no mapping, there is no prompt or no answer, or the prompt's messages do not end with the user's turn or
        hold something else than text
    """
    if not isinstance(record, Mapping):
        raise ValueError(
            f"Row {number} is a {type(record).__name__}, {str(record)[:60]!r}: a row must map columns to values, such as "
            '{"problem": "1 + 1?", "answer": "2"}.'
        )
    prompt_column = next((column for column in _PROMPT_COLUMNS if record.get(column) is not None), None)
    golds = _golds(record)
    if prompt_column is None or not golds:
        raise ValueError(
            f"Row {number} has the columns {sorted(record)}: a problem needs a prompt in one of {_PROMPT_COLUMNS}, and an answer in one of "
            f"{_ANSWER_COLUMNS} or in reward_model['ground_truth']."
        )
    extra = record.get("extra_info")
    identifier = next((record[column] for column in _ID_COLUMNS if record.get(column) is not None), None)
    if identifier is None and isinstance(extra, Mapping):
        identifier = extra.get("index")
    return Problem(
        prompt=_prompt(record[prompt_column], instruction, number, cut=prompt_column == "messages"),
        answer=next((gold for gold in golds if gold.strip()), golds[0]),
        id=str(number if identifier is None else identifier),
        source=str(record.get("data_source") or record.get("source") or source),
        columns={name: value for name, value in record.items() if name != "prompt"},
    )


def _golds(record: Mapping[str, Any]) -> list[str]:
    """The answers that a row gives, verl's column first."""
    reward_model = record.get("reward_model")
    own = [reward_model.get("ground_truth")] if isinstance(reward_model, Mapping) else []
    values = [*own, *(record.get(column) for column in _ANSWER_COLUMNS)]
    return [gold_answer(value) for value in values if value is not None]


def _prompt(prompt: Any, instruction: str, number: int, cut: bool) -> str | tuple[tuple[str, str], ...]:
    """Add the instruction; of messages those behind the last user turn are no prompt."""
    if isinstance(prompt, str):
        return f"{prompt}\n{instruction}" if instruction else prompt
    given = list(prompt)
    last = max((k for k, message in enumerate(given) if message["role"] == "user"), default=None)
    if last is None:
        raise ValueError(
            f"The prompt of row {number} has no message with role 'user': {[str(message['role']) for message in given]}."
        )
    if cut:
        given = given[: last + 1]
    messages = [(str(message["role"]), _content(message["content"], number)) for message in given]
    if any(role == "assistant" for role, _ in messages[last:]):
        raise ValueError(
            f"The prompt of row {number} ends with the assistant's turn, {messages[-1][1][:60]!r}: the policy would see an answer. Cut "
            "the messages behind the last one with role 'user'."
        )
    if instruction:
        messages[last] = ("user", f"{messages[last][1]}\n{instruction}")
    return tuple(messages)


def _content(content: Any, number: int) -> str:
    """The text of a message, which may come in parts."""
    if isinstance(content, str):
        return content
    parts = list(content) if isinstance(content, Iterable) and not isinstance(content, Mapping) else [content]
    found = [part.get("text") if isinstance(part, Mapping) and part.get("type", "text") == "text" else part for part in parts]
    texts = [text for text in found if isinstance(text, str)]
    if not texts or len(texts) < len(found):
        raise ValueError(
            f"A message of row {number} has the content {str(content)[:80]!r}: it must be a text, or parts such as "
            '{"type": "text", "text": "1 + 1?"}.'
        )
    return "".join(texts)


def from_records(records: Iterable[Mapping[str, Any]], source: str = "", instruction: str = "") -> list[Problem]:
    """
    Read rows, whatever holds them: a list of dictionaries, or a Hugging Face ``Dataset``.

    :param records: see :func:`problem_from_record`
    :param source: name of the data set
    :param instruction: added behind each problem; :data:`BOXED_INSTRUCTION` where the rows do not ask for a box themselves
    :raises ValueError: as :func:`problem_from_record` does
    """
    problems = [problem_from_record(record, number, source, instruction) for number, record in enumerate(records)]
    warn_of_unlikely_golds(problems)
    return problems


def from_pairs(pairs: Iterable[tuple[str, str]], source: str = "list", instruction: str = "") -> list[Problem]:
    """
    Read (problem, answer) pairs.

    :param pairs: the pairs
    :param source: name to give them
    :param instruction: added behind each problem
    """
    return from_records(({"problem": problem, "answer": answer} for problem, answer in pairs), source, instruction)


def as_problems(given: Sequence[Problem | Mapping[str, Any] | tuple[str, str]]) -> list[Problem]:
    """
    Take problems as an environment is given them.

    :param given: problems, or what :func:`from_pairs` or :func:`from_records` take
    :raises TypeError: if one is neither
    :raises ValueError: if there is none, or as :func:`problem_from_record` does
    """
    if not len(given):
        raise ValueError("No problems were given.")
    if all(isinstance(each, Problem) for each in given):
        return list(cast(Sequence[Problem], given))
    if all(isinstance(each, Mapping) for each in given):
        return from_records(cast(Sequence[Mapping[str, Any]], given), "list")
    if all(isinstance(each, tuple | list) and len(each) == 2 for each in given):
        return from_pairs(cast(Sequence[tuple[str, str]], given))
    kinds = ["row" if isinstance(each, Mapping) else type(each).__name__ for each in given]
    number = next((k for k, kind in enumerate(kinds) if kind != kinds[0]), 0)
    raise TypeError(
        "Problems must all be a Problem, or all pairs (problem, answer), or all rows {'problem': …, 'answer': …}, but problems["
        f"{number}] is the {type(given[number]).__name__} {str(given[number])[:60]!r}."
    )


def from_file(path: str | Path, source: str = "", instruction: str = "") -> list[Problem]:
    """
    Read a ``.jsonl``, ``.json`` (a list of rows) or ``.parquet`` file.

    :param path: the file
    :param source: name of the data set; the file's stem if empty
    :param instruction: added behind each problem
    :raises ValueError: if the kind of file is unknown
    """
    return from_records(read_rows(path), source or Path(path).stem, instruction)


def read_rows(path: str | Path) -> list[dict[str, Any]]:
    """
    Read the rows of a ``.jsonl``, ``.json`` or ``.parquet`` file.

    :param path: the file
    :raises ValueError: if the kind of file is unknown, or a ``.json`` file holds no list
    :raises ImportError: if a parquet file is to be read without pyarrow
    """
    path = Path(path)
    if path.suffix == ".jsonl":
        with path.open(encoding="utf-8") as lines:
            return [json.loads(line) for line in lines if line.strip()]
    if path.suffix == ".json":
        rows = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(rows, list):
            what = f"an object with the keys {sorted(rows)[:5]}" if isinstance(rows, dict) else repr(rows)[:60]
            raise ValueError(f"{path} must hold a list of rows, [{{…}}, {{…}}]; it holds {what}.")
        return rows
    if path.suffix == ".parquet":
        return list(optional_import("pyarrow.parquet", "llm").read_table(path).to_pylist())
    raise ValueError(f"{path} is neither .jsonl, .json nor .parquet.")


def from_hub(
    name: str, split: str = "train", config: str | None = None, source: str = "", instruction: str = ""
) -> list[Problem]:
    """
    Read a data set of the Hugging Face hub (or a local folder that ``datasets.load_dataset`` understands).

    :param name: such as ``"HuggingFaceH4/MATH-500"``
    :param split: which split
    :param config: which configuration, where there are several
    :param source: name to give it; the hub's name if empty
    :param instruction: added behind each problem
    :raises ImportError: if ``datasets`` is not installed
    """
    dataset = optional_import("datasets", "llm").load_dataset(name, config, split=split)
    return from_records(dataset, source or name, instruction)


def optional_import(module: str, extra: str) -> Any:
    """
    Import a module that only an extra installs.

    :param module: its name
    :param extra: the extra of this package
    :raises ImportError: if it is missing, saying what to install
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"This needs {module.split('.')[0]}: pip install 'sppo-rl[{extra}]'.") from error
