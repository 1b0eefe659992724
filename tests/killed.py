"""Runs of the zoo that are killed between two updates, and the smallest language run to do it with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback


class Killed(BaseException):
    """Stands for a kill: nothing catches it on the way."""


class KillAt(BaseCallback):
    """Kills a run when the episodes after its ``update``-th update have been played."""

    def __init__(self, update: int):
        super().__init__()
        self.update = update

    def _on_rollout_end(self) -> None:
        if self.model._n_updates == self.update:
            raise Killed

    def _on_step(self) -> bool:
        return True


def tiny_language_settings(file: Path, **hyperparameters: Any) -> dict[str, Any]:
    """
    Settings of a language run of three updates.

    :param file: where its one problem is written
    :param hyperparameters: beside those of its length
    """
    file.write_text(json.dumps({"question": "1+2=", "answer": "3"}) + "\n")
    problems = {"source": "file", "path": str(file)}
    return {
        "responses": 24,
        "model": "chain_sum_tiny",
        "problems": problems,
        "evaluation": {"problems": problems, "every": 24},
        "max_prompt_tokens": 8,
        "max_new_tokens": 4,
        "hyperparameters": {"n_episodes": 8, "n_epochs": 1, **hyperparameters},
    }
