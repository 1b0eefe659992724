"""The progress bar of a run."""

from __future__ import annotations

import sys
from collections.abc import Callable

from tqdm import tqdm  # type: ignore[import-untyped]

from sppo_rl.zoo.running.callback import RunCallback


class RunProgress(RunCallback):
    """
    Shows how far a run is, in the unit of its length, the success rate of the last episodes, and a line for each evaluation.

    The bar is for terminals: in a file or a pipe there are only the lines.

    :param total: length of the run
    :param unit: ``"timesteps"``, ``"episodes"`` or another name for time steps, such as ``"responses"``
    :param describe: puts a row of the evaluations into words; :func:`describe_row` unless given
    """

    def __init__(self, total: int, unit: str, describe: Callable[[dict[str, float]], str] | None = None):
        super().__init__()
        self.total, self.unit, self.describe = total, unit, describe or describe_row

    def _on_training_start(self) -> None:
        self._printed = len(self.evaluation.rows)
        self._bar = tqdm(
            total=self.total,
            initial=self.evaluation.done(self.unit),
            unit=self.unit[:-1],
            unit_scale=True,
            dynamic_ncols=True,
            disable=None,
        )

    def _on_rollout_start(self) -> None:
        self._report()

    def _on_step(self) -> bool:
        self._bar.update(min(self.evaluation.done(self.unit), self.total) - self._bar.n)
        return True

    def _on_rollout_end(self) -> None:
        if self.model.ep_success_buffer:
            self._bar.set_postfix(success=f"{sum(self.model.ep_success_buffer) / len(self.model.ep_success_buffer):.2f}")

    def _on_training_end(self) -> None:
        self._report()
        self._bar.close()

    def _report(self) -> None:
        for row in self.evaluation.rows[self._printed :]:
            self._bar.write(self.describe(row))
            # a pipe would keep the lines back until there are many
            sys.stdout.flush()
        self._printed = len(self.evaluation.rows)


def describe_row(row: dict[str, float]) -> str:
    """
    Put a row of ``evaluations.csv`` into words.

    :param row: of an :class:`~sppo_rl.callbacks.EvaluationCallback`
    """
    success = ""
    if row["success"] == row["success"]:  # NaN where the task reports no success
        success = f"success {row['success']:.3f} sampled, {row['greedy_success']:.3f} greedy, "
    when = f"{row['episodes']:>8,} episodes {row['timesteps']:>11,} steps {row['seconds']:>7.1f} s"
    return f"{when}   {success}return {row['mean_return']:.2f}"
