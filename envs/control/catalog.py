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


_HERE = "sppo_rl.envs.control"
_UPRIGHT = "not fallen, abs(θ) ≤ 0.5° at the end"
_LANDED = "not crashed, a leg on the ground, abs(x) < 0.4 at the end"

TASKS: tuple[ControlTask, ...] = (
    ControlTask("PrecisionCartPole", f"{_HERE}.cartpole", "CartPoleBatch", 1000, _UPRIGHT, "Box(4,)", "Discrete(2)"),
    ControlTask("PrecisionCartPole200", f"{_HERE}.cartpole", "CartPoleBatch", 200, _UPRIGHT, "Box(4,)", "Discrete(2)"),
    ControlTask("MountainCar", f"{_HERE}.mountain_car", "MountainCarBatch", 1000, "x ≥ 0.45 reached", "Box(2,)", "Box(1,)"),
    ControlTask("Hopper", f"{_HERE}.hopper", "HopperBatch", 1000, "alive, x > 1.0 m at the end", "Box(11,)", "Box(3,)"),
    ControlTask("LunarLander", f"{_HERE}.lunar_lander", "LunarLanderBatch", 1000, _LANDED, "Box(8,)", "Discrete(4)"),
    ControlTask("Pendulum", f"{_HERE}.pendulum", "PendulumBatch", 1000, "cos θ > 0.8 at the end", "Box(3,)", "Box(1,)"),
)
"""Every control task."""
