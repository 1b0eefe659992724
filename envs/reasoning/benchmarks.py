"""The named data sets of the paper, from local files or from the hub, with the quirks of each put right.

``SPPO_DATA`` may name a folder that holds the files (``benchmarks/aime24.jsonl`` and so on); what is not there comes from the hub.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from sppo_rl.envs.reasoning.problems import BOXED_INSTRUCTION, Problem, optional_import, problem_from_record, read_rows
from sppo_rl.envs.reasoning.verifier import is_well_formed

_DAPO_BEFORE = re.compile(r"^Solve the following math problem step by step\..*?\n\n", re.DOTALL)
_DAPO_AFTER = re.compile(r'\n\nRemember to put your answer on its own line after "Answer:"\.\s*$')


class Loaded(NamedTuple):
    """The problems of a data set, and what was left out of it."""

    problems: list[Problem]
    malformed: list[str]
    """Ids of rows whose gold answer is cut off or empty."""
    duplicates: int
    """Rows that repeat the prompt of an earlier one."""


class _Source(NamedTuple):
    file: str
    """Below the folder ``SPPO_DATA``."""
    hub: str
    config: str | None
    split: str
    clean_answer: Callable[[str], str]


def _verbatim(answer: str) -> str:
    return answer.strip()


def _whole_number(answer: str) -> str:
    """AIME: ``073`` is 73, ``336^\\circ`` is 336. AMC23: ``27.0`` is 27."""
    match = re.fullmatch(r"(-?)0*(\d+)(?:\.0*)?(?:\s*\^\s*\{?\\circ\}?)?", answer.strip())
    return f"{match.group(1)}{match.group(2)}" if match else answer.strip()


SOURCES = {
    "aime24": _Source("benchmarks/aime24.jsonl", "HuggingFaceH4/aime_2024", None, "train", _whole_number),
    "aime25": _Source("benchmarks/aime25.jsonl", "math-ai/aime25", None, "test", _whole_number),
    "amc23": _Source("benchmarks/amc23.jsonl", "math-ai/amc23", None, "test", _whole_number),
    "math500": _Source("benchmarks/math500.jsonl", "HuggingFaceH4/MATH-500", None, "test", _verbatim),
    "minerva": _Source("benchmarks/minerva.jsonl", "math-ai/minervamath", None, "test", _verbatim),
    "dapo-math-17k": _Source("train/dapo_sample.jsonl", "BytedTsinghua-SIA/DAPO-Math-17k", None, "train", _verbatim),
    "deepscaler-preview": _Source(
        "train/deepscaler.jsonl", "agentica-org/DeepScaleR-Preview-Dataset", None, "train", _verbatim
    ),
}
"""The data sets that :func:`load_named` knows."""


def load_named(name: str, instruction: str = BOXED_INSTRUCTION, data_dir: str | Path | None = None) -> Loaded:
    """
    Load one of the paper's data sets: DAPO-Math-17k, DeepScaleR-Preview, AIME24, AIME25, AMC23, MATH-500, Minerva.

    Put right here: golds of AIME with leading zeros or a degree sign, golds of AMC23 written as floats, DAPO's own instruction (it asks
    for "Answer:" instead of a box) and its hundredfold repetition. Golds that are cut off (68 of Minerva's 272 end at the first ``}``)
    can be met by no answer: those problems are left out and listed.

    :param name: a key of :data:`SOURCES`; case does not matter, nor do ``-`` and ``_``
    :param instruction: added behind each problem
    :param data_dir: folder with the files; ``None`` takes the environment variable ``SPPO_DATA``
    :raises ValueError: if the name is unknown
    :raises ImportError: if the file is not there and ``datasets`` is not installed
    """
    key = require_known(name)
    source = SOURCES[key]
    folder = data_dir or os.environ.get("SPPO_DATA")
    path = Path(folder) / source.file if folder else None
    rows: Any
    if path is not None and path.is_file():
        rows = read_rows(path)
    else:
        rows = optional_import("datasets", "llm").load_dataset(source.hub, source.config, split=source.split)
    return _prepared(key, source, rows, instruction)


def require_known(name: str) -> str:
    """
    Look a data set up.

    :param name: as :func:`load_named` takes it
    :return: its key in :data:`SOURCES`
    :raises ValueError: if the name is unknown
    """
    keys = {_plain(key): key for key in SOURCES}
    if _plain(name) not in keys:
        raise ValueError(f"Unknown data set {name!r}. Known: {', '.join(SOURCES)}.")
    return keys[_plain(name)]


def _plain(name: str) -> str:
    return re.sub(r"[-_\s]", "", name.lower())


def _prepared(key: str, source: _Source, rows: Any, instruction: str) -> Loaded:
    problems: list[Problem] = []
    malformed: list[str] = []
    seen: set[Any] = set()
    duplicates = 0
    for number, row in enumerate(rows):
        problem = problem_from_record(_without_own_instruction(row), number, key, instruction)
        if problem.prompt in seen:
            duplicates += 1
            continue
        seen.add(problem.prompt)
        answer = source.clean_answer(problem.answer)
        if not is_well_formed(answer):
            malformed.append(problem.id)
            continue
        problems.append(Problem(problem.prompt, answer, problem.id, key, columns={**problem.columns, "answer": answer}))
    return Loaded(problems, malformed, duplicates)


def _without_own_instruction(row: Any) -> dict[str, Any]:
    """DAPO's prompts ask for a line "Answer: …": take the problem out of them."""
    row = dict(row)
    prompt = row.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        content = str(prompt[0]["content"])
        bare = _DAPO_AFTER.sub("", _DAPO_BEFORE.sub("", content))
        if bare != content:
            row["prompt"] = [{"role": prompt[0]["role"], "content": bare}]
    return row
