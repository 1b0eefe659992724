"""What a worker does for a reasoning_gym task: make the task once, score answers with its own verifier."""

from __future__ import annotations

import importlib
import json
from typing import Any

_datasets: dict[tuple[str, str], Any] = {}


def score(task: str, config: dict[str, Any], entry: dict[str, Any], answer: str) -> tuple[float, str]:
    """
    Score an answer.

    :param task: registered name
    :param config: the task's configuration
    :param entry: the problem, as the task made it
    :param answer: the answer, already screened by :func:`~sppo_rl.envs.reasoning.gym_tasks.is_safe`
    :return: a score in [0, 1], and ``correct``, ``partly`` or ``wrong``
    """
    key = (task, json.dumps(config, sort_keys=True, default=str))
    if key not in _datasets:
        _datasets[key] = importlib.import_module("reasoning_gym").create_dataset(task, **config)
    found = min(1.0, max(0.0, float(_datasets[key].score_answer(answer, entry))))
    return found, "correct" if found == 1.0 else "partly" if found > 0.0 else "wrong"
