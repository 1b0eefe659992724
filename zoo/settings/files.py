"""Writing one entry of a hyperparameter file; every other line, comments included, stays as it is."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from sppo_rl.zoo.names import UsageError
from sppo_rl.zoo.reading import yaml_of

MARK = "# tuned:"
"""A comment above an entry that begins so belongs to it."""
WIDTH = 139
"""Longest line of a comment."""


@dataclass
class _Place:
    """
    Where an entry stands.

    :param first: its first line
    :param last: the line behind its last
    :param anchor: of its value, by which others may merge it
    """

    first: int
    last: int
    anchor: str | None = None


def with_entry(text: str, env_id: str, settings: Mapping[str, Any], note: str) -> str:
    """
    Replace or append an environment's entry.

    Entries that are made of the replaced one (``<<: *anchor``) are given what it held, so that they mean what they meant.

    :param text: of the file
    :param env_id: key of the entry
    :param settings: its new content, complete
    :param note: stands in a comment above it
    :return: the file's new text
    :raises UsageError: if another entry would change, or the text is no YAML
    """
    before: dict[str, Any] = yaml_of(text, "The hyperparameter file") or {}
    wanted = {**before, env_id: dict(settings)}
    place = _place(text, env_id)
    if place is None:
        lines = [*text.splitlines(), ""]
        place, kept = _Place(len(lines), len(lines)), ["\n".join([*lines, ""])]
    elif place.anchor is None:
        kept = [text]
    else:
        kept = [_with_lines(text, place), _with_value(text, place, before[env_id])]
    for candidate in kept:
        result = _replaced(candidate.splitlines(), place, env_id, settings, note)
        try:
            if yaml.safe_load(result) == wanted:
                return result
        except yaml.YAMLError:
            continue
    raise UsageError(f"The entry of {env_id} cannot be replaced without changing others. Edit the file by hand.")


def _replaced(lines: list[str], place: _Place, env_id: str, settings: Mapping[str, Any], note: str) -> str:
    first, last = place.first, place.last
    while first > 0 and lines[first - 1].startswith(MARK):
        first -= 1
    entry = yaml.safe_dump({env_id: dict(settings)}, sort_keys=False).splitlines()
    comment = [f"{MARK} {line}" for line in textwrap.wrap(note, WIDTH - len(MARK), break_on_hyphens=False)]
    return "\n".join([*lines[:first], *comment, *entry, *lines[last:]]) + "\n"


def _place(text: str, env_id: str) -> _Place | None:
    """Find an entry, however its key is written; ``None`` if there is none."""
    found, inside, depth, is_key = None, False, 0, True
    for event, start, end in _events(text):
        if isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth == 1 and isinstance(event, yaml.NodeEvent):
            if is_key:
                inside = isinstance(event, yaml.ScalarEvent) and event.value == env_id
                found = _Place(start.line, start.line + 1) if inside else found
            elif inside and found is not None and not isinstance(event, yaml.AliasEvent):
                found.anchor = event.anchor
            is_key = not is_key
        # blocks end, without a character of their own, where the next thing begins: behind comments that follow them
        if inside and found is not None and depth and start.index < end.index:
            found.last = end.line + (end.column > 0)
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
    if found is not None:
        # what is indented belongs to the entry, though it be a comment
        lines = text.splitlines()
        while found.last < len(lines) and lines[found.last].startswith(" "):
            found.last += 1
    return found


def _events(text: str) -> Iterator[tuple[yaml.Event, Any, Any]]:
    """What the parser sees, with the marks of its beginning and its end."""
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        yield event, event.start_mark, event.end_mark


def _with_lines(text: str, place: _Place) -> str:
    """The text in which ``<<: *anchor`` has become the entry's own lines, less the keys that the other entry has itself."""
    lines = text.splitlines()
    body = [line for line in lines[place.first + 1 : place.last] if line[:1].isspace() and line.strip()]
    body = textwrap.dedent("\n".join(body)).splitlines()
    result = lines[: place.last]
    for number, line in enumerate(lines[place.last :], place.last):
        if line.partition(" #")[0].strip() != f"<<: *{place.anchor}":
            result.append(line)
            continue
        own = set()
        for following in lines[number + 1 :]:
            if not following.startswith(" "):
                break
            own.add(following.split(":")[0].strip())
        margin = line[: len(line) - len(line.lstrip())]
        result += [margin + inherited for inherited in body if inherited.split(":")[0].strip() not in own]
    return "\n".join(result)


def _with_value(text: str, place: _Place, value: Any) -> str:
    """The text in which the entry's value has gone, in one line and with its anchor, to where the anchor is named first."""
    for event, start, end in _events(text):
        if isinstance(event, yaml.AliasEvent) and event.anchor == place.anchor and start.line >= place.last:
            flow = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=len(text) + 1000).strip()
            return f"{text[: start.index]}&{place.anchor} {flow}{text[end.index :]}"
    return text
