"""When a figure found again agrees with the committed one; see ``quick.py``."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

STANDARD_ERRORS = 3.0
SLOWEST = 0.5
"""A ratio of speeds may fall to this share of the committed one."""


class AbsentError(Exception):
    """What a cell needs is not there; the message says what."""


class Check(NamedTuple):
    """One figure: where the committed results say it lies, and where it was found."""

    what: str
    committed: float
    low: float
    high: float
    found: float

    @property
    def agrees(self) -> bool:
        """Whether it lies there; NaN lies nowhere."""
        return self.low <= self.found <= self.high


def near(what: str, committed: float, found: float, *errors: float) -> Check:
    """A figure with chance in it; its errors are independent standard deviations."""
    room = STANDARD_ERRORS * math.hypot(*errors)
    return Check(what, committed, committed - room, committed + room, found)


def same(what: str, committed: float, found: float, rounding: float = 0.0) -> Check:
    """A figure without chance in it."""
    return Check(what, committed, committed - rounding, committed + rounding, found)


def fast(what: str, committed: float, found: float) -> Check:
    """A ratio of speeds."""
    return Check(what, committed, SLOWEST * committed, math.inf, found)


def standard_error(interval: list[float]) -> float:
    """Of a figure with a 95 % interval."""
    return (interval[1] - interval[0]) / (2.0 * 1.96)


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
