"""Files of a run that may be killed and go on: lines that are dropped when they are about to be repeated, exports that are whole."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

from sppo_rl.atomic import replacing
from sppo_rl.llm.benchmarking import Record, read_completions
from sppo_rl.llm.policy import TransformerPolicy


def append_lines(path: Path, records: Iterable[Record]) -> None:
    """
    Write records behind those of a JSONL file.

    :param path: made, with its folder, if it is not there
    :param records: what to write
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))


def keep_lines(path: Path, timesteps: int) -> list[Record]:
    """
    Drop the lines of a JSONL file that were written after a moment, and one that a kill cut short.

    :param path: the file; nothing happens if it is not there
    :param timesteps: the moment; with 0 nothing is kept
    :return: the records kept
    """
    if not path.exists():
        return []
    kept = [record for record in read_completions(path) if 0 < timesteps >= record["timesteps"]]
    with replacing(path) as part:
        append_lines(part, kept)
    return kept


def export_whole(policy: TransformerPolicy, folder: Path, with_critic: bool) -> None:
    """
    Export a policy so that the folder is either the whole new export or the old one.

    :param policy: see :meth:`~sppo_rl.llm.policy.TransformerPolicy.export`
    :param folder: replaced
    :param with_critic: ``False`` leaves the critic out
    """
    part, old = folder.with_name(folder.name + ".part"), folder.with_name(folder.name + ".old")
    for leftover in (part, old):
        shutil.rmtree(leftover, ignore_errors=True)
    policy.export(part, with_critic=with_critic)
    if folder.exists():
        folder.rename(old)
    part.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
