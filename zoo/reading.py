"""Files that a kill, a copy or an editor may have damaged: what is in them, or an error that names the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from sppo_rl.zoo.names import UsageError


def read_json(path: Path, remedy: str) -> Any:
    """
    Read a JSON file.

    :param path: of the file
    :param remedy: what to do about a damaged one, as a sentence
    :raises FileNotFoundError: if there is none
    :raises UsageError: if it is cut, empty, or otherwise no JSON
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{path} is damaged: it is no valid JSON ({error}). {remedy}") from error


def read_mapping(path: Path, remedy: str) -> dict[str, Any]:
    """
    Read a JSON file that maps names to values.

    :param path: of the file
    :param remedy: what to do about a damaged one, as a sentence
    :raises FileNotFoundError: if there is none
    :raises UsageError: if it is damaged, or holds something else
    """
    content = read_json(path, remedy)
    if not isinstance(content, dict):
        raise UsageError(f"{path} is damaged: it must map names to values, and holds {shortened(content)}. {remedy}")
    return content


def read_yaml(path: Path) -> Any:
    """
    Read a YAML file.

    :param path: of the file
    :raises FileNotFoundError: if there is none
    :raises UsageError: if it is no YAML; says in which line
    """
    try:
        return yaml_of(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no valid YAML: {error}. Write it in UTF-8.") from error


def yaml_of(text: str, where: str) -> Any:
    """
    Read YAML.

    :param text: of a file
    :param where: what messages call it
    :raises UsageError: if it is no YAML; says in which line
    """
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        # PyYAML writes several lines
        raise UsageError(f"{where} is no valid YAML: {' '.join(str(error).split())}. Repair it.") from error


def shortened(value: Any) -> str:
    """
    Write a value for a message, in at most 60 characters.

    :param value: any
    """
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
