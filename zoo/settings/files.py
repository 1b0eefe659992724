"""Writing one entry of a hyperparameter file; every other line, comments included, stays as it is."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from typing import Any

import yaml

MARK = "# tuned:"
"""A comment above an entry that begins so belongs to it."""
WIDTH = 139
"""Longest line of a comment."""


def with_entry(text: str, env_id: str, settings: Mapping[str, Any], note: str) -> str:
    """
    Replace or append an environment's entry.

    Entries that merge the replaced one (``<<: *anchor``) are given its lines instead, so that they mean what they meant.

    :param text: of the file
    :param env_id: key of the entry
    :param settings: its new content, complete
    :param note: stands in a comment above it
    :return: the file's new text
    :raises ValueError: if another entry would change
    """
    before: dict[str, Any] = yaml.safe_load(text) or {}
    lines = text.splitlines()
    first, last = _place(lines, env_id)
    if first < last:
        anchor = re.search(r"&(\w+)", lines[first])
        if anchor:
            body = lines[first + 1 : last]
            head, tail = lines[: first + 1], _unmerged(lines[last:], anchor[1], body)
            lines = [*head, *body, *tail]
            last = first + 1 + len(body)
    else:
        lines += [""]
        first = last = len(lines)
    while first > 0 and lines[first - 1].startswith(MARK):
        first -= 1
    entry = yaml.safe_dump({env_id: dict(settings)}, sort_keys=False).splitlines()
    comment = [f"{MARK} {line}" for line in textwrap.wrap(note, WIDTH - len(MARK), break_on_hyphens=False)]
    lines[first:last] = [*comment, *entry]
    result = "\n".join(lines) + "\n"
    if yaml.safe_load(result) != {**before, env_id: dict(settings)}:
        raise ValueError(f"The entry of {env_id} cannot be replaced without changing others. Edit the file by hand.")
    return result


def _place(lines: list[str], env_id: str) -> tuple[int, int]:
    """First line of an entry and the line behind its last; (0, 0) if there is none."""
    for first, line in enumerate(lines):
        if line.startswith(f"{env_id}:"):
            last = first + 1
            while last < len(lines) and lines[last].startswith(" "):
                last += 1
            return first, last
    return 0, 0


def _unmerged(lines: list[str], anchor: str, body: list[str]) -> list[str]:
    """Lines in which ``<<: *anchor`` has become the body, less the keys that the entry has itself."""
    result: list[str] = []
    for number, line in enumerate(lines):
        if line.strip() != f"<<: *{anchor}":
            result.append(line)
            continue
        own = set()
        for following in lines[number + 1 :]:
            if not following.startswith(" "):
                break
            own.add(following.split(":")[0].strip())
        result += [inherited for inherited in body if inherited.split(":")[0].strip() not in own]
    return result
