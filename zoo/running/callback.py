"""What callbacks of a run have in common that look at its evaluations."""

from __future__ import annotations

from stable_baselines3.common.callbacks import BaseCallback

from sppo_rl.callbacks import EvaluationCallback


class RunCallback(BaseCallback):
    """A callback that is given the evaluations of its run before training begins."""

    evaluation: EvaluationCallback
    """Of the run: its rows so far, and how far it is."""
