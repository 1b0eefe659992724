"""Files that are either the whole new one or the old one: written beside their final name, then renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """
    Put what is written in the ``with`` block in a file's place when the block ends; after an error the file is as it was.

    The name to write to is this process's own, so that two that write the same file do not mix. Flushing to disk is not part of it: a
    power cut may take the new file.

    :param path: of the file; its folder is made if it does not exist
    :return: a context; it gives the name to write to, which is not there yet
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # SB3's save() puts .zip behind a name without a suffix; behind this one it puts nothing
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    # of a killed process that had the same number
    part.unlink(missing_ok=True)
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_atomically(path: str | os.PathLike[str], text: str) -> None:
    """
    Write a text file so that it is either the whole new one or the old one.

    :param path: of the file; its folder is made if it does not exist
    :param text: its content
    """
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def save_atomically(model: Any, path: str | os.PathLike[str]) -> None:
    """
    Save a model so that the file is either the whole new one or the old one.

    :param model: an algorithm
    :param path: ends in ``.zip``; its folder is made if it does not exist
    """
    with replacing(path) as part:
        model.save(part)
