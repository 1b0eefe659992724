"""Schedules: numbers that may change while a run progresses."""

from __future__ import annotations

import math
from numbers import Real

from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.utils import FloatSchedule, LinearSchedule


def as_schedule(name: str, value: float | str | Schedule) -> Schedule:
    """
    Turn what a user or a YAML file may write into a schedule.

    :param name: of the parameter, for the error message
    :param value: a number, rl_zoo3's ``"lin_3e-4"`` (linear from 3e-4 to 0 over the run), or a function of the remaining
        progress (1 at the start, 0 at the end)
    :return: a function of the remaining progress that can be pickled
    :raises ValueError: if it is none of these, or a number that is negative or not finite
    """
    if callable(value):
        return FloatSchedule(value)
    try:
        start = float(value.removeprefix("lin_")) if isinstance(value, str) else _number(value)
    except ValueError:
        raise ValueError(f"{name} must be a number, a callable or a string such as 'lin_3e-4'; got {value!r}.") from None
    if not (math.isfinite(start) and start >= 0.0):
        raise ValueError(f"{name} must be finite and not negative, got {value!r}.")
    return LinearSchedule(start, 0.0, 1.0) if isinstance(value, str) and value.startswith("lin_") else FloatSchedule(start)


def _number(value: object) -> float:
    if isinstance(value, Real):
        return float(value)
    raise ValueError
