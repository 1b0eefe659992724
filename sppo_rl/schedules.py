"""Schedules: numbers that may change while a run progresses."""

from __future__ import annotations

from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.utils import FloatSchedule, LinearSchedule


def as_schedule(name: str, value: float | str | Schedule) -> Schedule:
    """
    Turn what a user or a YAML file may write into a schedule.

    :param name: of the parameter, for the error message
    :param value: a number, rl_zoo3's ``"lin_3e-4"`` (linear from 3e-4 to 0 over the run), or a function of the remaining
        progress (1 at the start, 0 at the end)
    :return: a function of the remaining progress that can be pickled
    :raises ValueError: if the string is neither a number nor ``lin_<number>``
    """
    if not isinstance(value, str):
        return FloatSchedule(value)
    number = value.removeprefix("lin_")
    try:
        start = float(number)
    except ValueError:
        raise ValueError(f"{name} must be a number, a callable or a string such as 'lin_3e-4'; got {value!r}.") from None
    return LinearSchedule(start, 0.0, 1.0) if value.startswith("lin_") else FloatSchedule(start)
