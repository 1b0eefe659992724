"""Finds the answer a response commits to: what stands outside its reasoning, in its last ``\\boxed{…}``.

Every function here makes one pass over the text, so a response of a million characters costs milliseconds.
"""

from __future__ import annotations

import re
from collections import deque

_THINK_TAG = re.compile(r"<(/?)think>", re.IGNORECASE)
_BOX_OR_BRACE = re.compile(r"\\boxed[ \t\n]{0,8}\{|(?<!\\)\\+[{}]|\{+|\}+")
_MARKER = re.compile(
    r"####|answer[*_]{0,2}\s{1,3}is(?![a-z])[ \t]{0,3}[*_]{0,2}:?|answer[*_]{0,2}[ \t]{0,3}:",
    re.IGNORECASE,
)
_REST_OF_LINE = re.compile(r"[\s*_]{0,8}([^\n]{1,400})")
_EMPHASIS_BEHIND = re.compile(r"[\s.]{0,8}(?:\*{1,3}|_{2,3})[\s.]{0,8}$")
_DOLLARS = re.compile(r"(?<!\\)\$([^$\n]{1,400})\$")


def outside_thinking(response: str, unfinished_counts: bool = False) -> str:
    """
    Keep what a response says outside ``<think>…</think>``.

    A ``</think>`` whose opening tag is missing (chat templates put it into the prompt) ends reasoning that began with the
    response; a response that ends inside a ``<think>`` was never finished and says nothing.

    :param response: the model's text
    :param unfinished_counts: take a response that ends inside a ``<think>`` at its word (lenient mode)
    :return: the text that may hold an answer
    """
    kept: list[str] = []
    position, depth = 0, 0
    for tag in _THINK_TAG.finditer(response):
        if tag.group(1):
            if depth == 0:
                kept.clear()
            depth = max(0, depth - 1)
            if depth == 0:
                position = tag.end()
        else:
            if depth == 0:
                kept.append(response[position : tag.start()])
                position = tag.end()
            depth += 1
    if depth and not unfinished_counts:
        return ""
    kept.append(response[position:])
    return "".join(kept)


def last_box(text: str) -> tuple[str | None, str]:
    """
    Read the last outermost ``\\boxed{…}``.

    :param text: a response without its reasoning
    :return: the content and ``"ok"``, or ``None`` and ``"no_box"``, ``"unclosed_box"`` (the last box never ends) or ``"empty_box"``
    """
    depth = 0
    box_start: int | None = None
    box_depth = 0
    found: str | None = None
    first = text.find("\\boxed")
    if first < 0:
        return None, "no_box"
    for match in _BOX_OR_BRACE.finditer(text, first):
        token, start = match.group(), match.start()
        if token[-2:] in (r"\{", r"\}"):
            if len(token) % 2 == 0:
                continue
            # behind an even number of backslashes, which are line breaks, a brace is a brace
            token, start = token[-1], match.end() - 1
        if token[0] == "}":
            if box_start is not None and depth - len(token) <= box_depth:
                found = text[box_start : start + depth - box_depth - 1]
                box_start = None
            depth = max(0, depth - len(token))
        elif token[0] == "{":
            depth += len(token)
        else:
            if box_start is None:
                box_start, box_depth = match.end(), depth
            depth += 1
    if box_start is not None:
        return None, "unclosed_box"
    if found is None:
        return None, "no_box"
    if not found.strip():
        return None, "empty_box"
    return found, "ok"


def extract_answer(response: str, mode: str = "strict") -> tuple[str | None, str]:
    """
    Find the answer in a response.

    :param response: the model's text
    :param mode: ``"strict"`` takes the last box outside the reasoning and nothing else; ``"lenient"`` also looks into reasoning that
        was never finished and, where there is no box, takes what follows the last "answer is", "answer:" or "####", or the last
        formula between dollar signs
    :return: the answer and ``"ok"``, or ``None`` and the reason why there is none
    """
    text = outside_thinking(response, unfinished_counts=mode == "lenient")
    answer, reason = last_box(text)
    if answer is not None or mode == "strict":
        if answer is None and reason == "no_box" and "boxed" in response and "boxed" not in text:
            reason = "box_inside_thinking"
        return answer, reason
    marker = deque(_MARKER.finditer(text), maxlen=1)
    behind = _REST_OF_LINE.match(text, marker[0].end()) if marker else None
    dollars = deque(_DOLLARS.finditer(text), maxlen=1)
    if behind is not None:
        inner = _DOLLARS.search(behind.group(1))
        found = inner.group(1) if inner else _EMPHASIS_BEHIND.sub("", behind.group(1))
    elif dollars:
        found = dollars[0].group(1)
    else:
        return None, reason
    return found.strip().rstrip("."), "ok"
