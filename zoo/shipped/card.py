"""Cards beside files: what was measured and how the file was made, as JSON for programs and Markdown for people."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from sppo_rl.zoo.reading import read_mapping

CARD_SEED = 2_000_000
"""Of the episodes on a card: none of them has chosen what the card is about."""


@dataclass(frozen=True)
class Card(ABC):
    """What the cards of priors and agents have in common: a dataclass that is written and read."""

    measured_as: ClassVar[type]
    """The class of the fields that hold a measurement."""

    def write(self, beside: Path) -> None:
        """
        Write the card beside what it describes, once as ``.json`` and once as ``.md``.

        :param beside: path of the file, or of a folder
        """
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False)
        beside.with_suffix(".json").write_text(text + "\n", encoding="utf-8")
        beside.with_suffix(".md").write_text(self.markdown(), encoding="utf-8")

    @classmethod
    def read(cls, beside: Path) -> Self:
        """
        Read a card.

        :param beside: path of the file, or of a folder
        """
        fields = read_fields(beside)
        measured = {
            name: cls.measured_as(**value)
            for name, value in fields.items()
            if isinstance(value, dict) and "successes" in value
        }
        return cls(**{**fields, **measured})

    @abstractmethod
    def markdown(self) -> str:
        """Lay the card out for reading."""


def read_fields(beside: Path) -> dict[str, Any]:
    """
    Read what stands on a card of whichever kind.

    :param beside: path of the file, or of a folder
    :raises FileNotFoundError: if there is no card
    :raises UsageError: if it is damaged
    """
    return read_mapping(beside.with_suffix(".json"), f"Copy it again: it describes {beside.name}.")
