"""The table of control tasks: the one place that says which ids there are, and what each one is. Imports no simulator."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass


@dataclass(frozen=True)
class ControlTask:
    """
    One outcome task and its dense twin.

    :param name: what stands between ``sppo_rl/`` and ``-v0``
    :param module: the module with its card, its success test, ``make`` and its batched form
    :param batch: name of the batched form's class there
    :param horizon: steps after which an episode ends at the latest
    :param success: the success test in words
    :param observation: observation space, in short
    :param action: action space, in short
    """

    name: str
    module: str
    batch: str
    horizon: int
    success: str
    observation: str
    action: str

    @property
    def outcome_id(self) -> str:
        """Gymnasium id of the outcome task."""
        return f"sppo_rl/{self.name}-v0"

    @property
    def dense_id(self) -> str:
        """Gymnasium id of the dense twin."""
        return f"sppo_rl/{self.name}Dense-v0"

    @property
    def card(self) -> str:
        """The task's card: the docstring of its module (imports the simulator)."""
        return inspect.cleandoc(importlib.import_module(self.module).__doc__ or "")


_CARTPOLE = "sppo_rl.envs.control.cartpole"

TASKS: tuple[ControlTask, ...] = (
    ControlTask(
        "PrecisionCartPole", _CARTPOLE, "CartPoleBatch", 1000, "not fallen, abs(θ) ≤ 0.5° at the end", "Box(4,)", "Discrete(2)"
    ),
    ControlTask(
        "PrecisionCartPole200",
        _CARTPOLE,
        "CartPoleBatch",
        200,
        "not fallen, abs(θ) ≤ 0.5° at the end",
        "Box(4,)",
        "Discrete(2)",
    ),
)
"""Every control task."""
