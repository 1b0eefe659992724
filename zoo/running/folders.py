"""Folders of runs: numbered, and one for each run, however many are started at once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def new_folder(base: Path, stem: str) -> Iterator[Path]:
    """
    Make ``<base>/<stem>_<n>`` with the next free number, at once: a run that is started beside this one takes another.

    A run that could not even be built leaves nothing behind.

    :param base: made if it does not exist
    :param stem: name of the folder without its number
    :return: a context, in which the run is done; it gives the folder
    """
    new = [place for place in (base, *base.parents) if not place.exists()]
    base.mkdir(parents=True, exist_ok=True)
    number = max(numbers_of(base, stem), default=0) + 1
    while True:
        folder = base / f"{stem}_{number}"
        try:
            folder.mkdir()
            break
        except FileExistsError:
            number += 1
    try:
        yield folder
    except BaseException:
        # what holds something stays: removing it is an error
        with contextlib.suppress(OSError):
            for place in (folder, *new):
                place.rmdir()
        raise


def numbers_of(base: Path, stem: str) -> list[int]:
    """
    List the numbers that are taken.

    :param base: folder of the runs' folders
    :param stem: their name without the number
    """
    names = [path.name.removeprefix(f"{stem}_") for path in base.glob(f"{stem}_*")]
    return [int(name) for name in names if name.isdigit()]
