"""Folders of runs: numbered, one for each run, however many are started at once, and one process at work in each; names in them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from sppo_rl.zoo.names import UsageError

try:
    import fcntl
except ImportError:
    # Windows has none, and a second process is not kept off
    fcntl = None  # type: ignore[assignment]

EVALUATIONS = "evaluations.csv"
BEST_MODEL = "best_model.zip"
LAST_MODEL = "last_model.zip"
CONFIG = "config.yml"
CHECKPOINTS = "checkpoints"


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


@contextlib.contextmanager
def alone(lock: Path, work: str, command: str, instead: str = "") -> Iterator[None]:
    """
    Keep a second process off a folder, or off a file in it.

    :param lock: file that is there while the process is at work; its folder is made if it does not exist
    :param work: what the process is at work on, for messages
    :param command: that would do harm if it were started twice
    :param instead: what else could be done than wait, for messages
    :return: a context, in which the work is done
    :raises UsageError: if another process is at work
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    if fcntl is None:
        yield
        return
    while True:
        with open(lock, "w") as file:
            try:
                # it goes with the process, however that ends; after a kill the file stays, and means nothing
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UsageError(f"Another process is at work on {work}. Wait until it has ended{instead}.") from error
            except OSError as error:
                print(f"{lock.parent} is on a file system without locks ({error}): start no second '{command}' on it.")
            # the process before may have removed the file between our opening and our locking it
            if not _is_at(file.fileno(), lock):
                continue
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
            return


def alone_in_run(folder: Path, command: str) -> contextlib.AbstractContextManager[None]:
    """
    Keep a second process off the folder of a run, as ``--resume`` on a run that is still going would be.

    :param folder: of the run
    :param command: the one that is given, for messages
    :raises UsageError: if another process is at work
    """
    return alone(folder / "run.lock", f"the run in {folder}", command)


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file is the one of that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
