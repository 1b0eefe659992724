"""What is counted of a run beside its time steps: episodes, and seconds of training; once, however many callbacks count."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm

RUN_COUNTERS = "_run_counters"
"""
Attribute of a model that holds its counts, so that a saved one carries them into the run that goes on from it. Models and checkpoints
that were saved earlier have them under this name.
"""


@dataclass
class _Moment:
    """Where a model's counts stand: what several callbacks would otherwise count twice."""

    counted_at: int = -1
    """Time steps of the model when episodes were counted last."""
    resumed_at: float = 0.0
    """When training went on after the last tick or evaluation; of ``time.perf_counter``."""


_MOMENTS: WeakKeyDictionary[BaseAlgorithm, _Moment] = WeakKeyDictionary()
"""Beside the models and not in them: no model is saved with a clock that means nothing afterwards."""


class RunCounters:
    """
    A model's counts, which all callbacks of a run share.

    :param model: the one that is trained
    """

    # made anew for each use: a checkpoint exchanges the model's counts

    def __init__(self, model: BaseAlgorithm):
        self._model = model
        # without a callback before, there is only what the algorithm itself has counted
        begun = {"episodes": getattr(model, "num_episodes", 0), "seconds": 0.0}
        self._counts: dict[str, float] = model.__dict__.setdefault(RUN_COUNTERS, begun)
        self._moment = _MOMENTS.setdefault(model, _Moment())

    @property
    def episodes(self) -> int:
        """Episodes played in this run, those before it was interrupted included."""
        return int(self._counts["episodes"])

    @property
    def seconds(self) -> float:
        """Seconds of training so far, without evaluations."""
        return float(self._counts["seconds"])

    def begin(self) -> None:
        """Training begins: from 0, unless the model has made time steps."""
        if self._model.num_timesteps == 0:
            self._counts.update(episodes=0, seconds=0.0)
        self._moment.counted_at = -1

    def count(self, dones: Any) -> None:
        """
        Count the episodes that a step has ended, at the first call after the step.

        :param dones: of the environment's copies
        """
        if self._moment.counted_at != self._model.num_timesteps:
            self._moment.counted_at = self._model.num_timesteps
            self._counts["episodes"] += int(np.sum(dones))

    def tick(self) -> None:
        """Count the seconds since the last tick, or since training went on."""
        now = time.perf_counter()
        self._counts["seconds"] += now - self._moment.resumed_at
        self._moment.resumed_at = now

    def go_on(self) -> None:
        """Training goes on; what has passed since the last tick was no part of it."""
        self._moment.resumed_at = time.perf_counter()
