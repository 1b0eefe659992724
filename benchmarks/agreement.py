"""When a figure found again agrees with the committed one; see ``quick.py``."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from scipy.stats import t as student

STANDARD_ERRORS = 3.0
CONFIDENCE = 0.99
"""Of the interval for one more run."""
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


def one_more_run(what: str, committed: Sequence[float], found: float, outcomes: int) -> Check:
    """
    The success of one more run, found by so many outcomes: within Student's prediction interval over the committed runs' (wide for few of
    them: 5 standard deviations for five, 3.4 for ten) and the chance in the outcomes. One committed run leaves the chance alone.
    """
    count, mean = len(committed), statistics.mean(committed)
    room = STANDARD_ERRORS * math.sqrt(mean * (1.0 - mean) / outcomes)
    if count > 1:
        quantile = float(student.ppf((1.0 + CONFIDENCE) / 2.0, count - 1))
        room = math.hypot(room, quantile * math.sqrt(1.0 + 1.0 / count) * statistics.stdev(committed))
    return Check(what, mean, max(mean - room, 0.0), min(mean + room, 1.0), found)


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
