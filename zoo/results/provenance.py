"""Where results come from: command, code, machine and date, kept beside them in ``provenance.json``."""

from __future__ import annotations

import datetime
import json
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from sppo_rl.atomic import write_atomically
from sppo_rl.cores import usable_cores
from sppo_rl.zoo.names import UsageError
from sppo_rl.zoo.reading import read_json, shortened

PROVENANCE = "provenance.json"
KEYS = ("command", "date", "commit", "machine", "versions")
"""Of each entry."""
PACKAGES = ("sppo-rl", "torch", "numpy", "gymnasium", "stable-baselines3")


def describe(words: Sequence[str] | None = None, packages: Sequence[str] = (), machine: str | None = None) -> dict[str, Any]:
    """
    Describe what runs now.

    :param words: of the command; ``None`` for those of this process
    :param packages: whose versions matter beside those of :data:`PACKAGES`
    :param machine: what to call it, such as the name of a GPU; ``None`` for kind and number of cores
    :return: ``command``, ``date`` (UTC), ``commit`` (``None`` outside a repository; ends in ``+`` if files differ from it),
        ``machine``, ``versions``
    """
    words = [Path(sys.argv[0]).name, *sys.argv[1:]] if words is None else words
    return {
        "command": shlex.join(words),
        "date": today(),
        "commit": _commit(),
        "machine": machine or f"{platform.machine()}, {platform.system()}, {usable_cores()} cores",
        "versions": versions((*PACKAGES, *packages)),
    }


def today() -> str:
    """Give the date in UTC, such as ``"2026-11-27"``."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def versions(packages: Sequence[str]) -> dict[str, str | None]:
    """
    Give the versions of Python and of packages.

    :param packages: as a package index calls them
    :return: name → version; ``None`` for a package that is not installed
    """
    return {"python": platform.python_version(), **{name: _version(name) for name in packages}}


def record(folder: Path, words: Sequence[str] | None = None) -> None:
    """
    Add what runs now to a folder's list, unless its last entry says the same but for the date.

    :param folder: of the results
    :param words: of the command; ``None`` for those of this process
    """
    entries, now = read(folder), describe(words)
    if not entries or any(entries[-1].get(key) != value for key, value in now.items() if key != "date"):
        write_atomically(folder / PROVENANCE, json.dumps([*entries, now], indent=1) + "\n")


def read(folder: Path) -> list[dict[str, Any]]:
    """
    Read a folder's list.

    :param folder: of results
    :return: entries as :func:`describe` makes them, oldest first; none if nothing was recorded
    :raises UsageError: if the list is damaged
    """
    path, remedy = folder / PROVENANCE, "Copy it again, or delete it: the commands are then not known any more."
    entries = read_json(path, remedy) if path.exists() else []
    if not isinstance(entries, list) or not all(map(_is_entry, entries)):
        raise UsageError(
            f"{path} is damaged: it must be a list of entries with {', '.join(KEYS)}, and holds {shortened(entries)}. {remedy}"
        )
    return entries


def _is_entry(value: Any) -> bool:
    return isinstance(value, dict) and set(KEYS) <= set(value) and isinstance(value["versions"], dict)


def _commit() -> str | None:
    """Of the repository that this code lies in, if it does."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        head = _git(root, "rev-parse", "--short=12", "HEAD")
        return head + ("+" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(root: Path, *words: str) -> str:
    return subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True).stdout.strip()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
