"""Names of language models: shipped priors, local folders, and names on the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sppo_rl.zoo.names import UsageError, suggestion

PRIORS = Path(__file__).resolve().parents[1] / "priors"


def shipped_priors() -> list[str]:
    """List the names of the language models that ship."""
    return sorted(path.parent.name for path in PRIORS.glob("*/config.json"))


def model_source(name: str) -> str:
    """
    Find a model.

    :param name: of a shipped prior, a local folder, or a hub name
    :return: the prior's folder, or the name as it is
    """
    return str(PRIORS / name) if name in shipped_priors() else name


def check_model_name(role: str, name: Any) -> None:
    """
    Check a name without looking it up on the hub.

    :param role: what messages call it
    :param name: of a shipped prior, a local folder, or a hub name
    :raises UsageError: if it can be none of them, or is nearly that of a shipped prior
    """
    parts = name.split("/") if isinstance(name, str) else []
    if not parts or not all(parts[1:]) or any(character.isspace() for character in name):
        raise UsageError(
            f"{role} must be a shipped prior, a folder or a hub name such as 'Qwen/Qwen2.5-1.5B-Instruct', got {name!r}."
        )
    if len(parts) == 1 and name not in shipped_priors() and not Path(name).is_dir():
        hint = suggestion(name, shipped_priors())
        if hint:
            raise UsageError(f"{role}: there is no shipped prior and no folder {name!r}.{hint}")
