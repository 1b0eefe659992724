"""Callbacks for training, on SB3's callback interface."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from stable_baselines3.common.callbacks import BaseCallback, ProgressBarCallback
from stable_baselines3.common.vec_env import VecEnv

from sppo_rl.atomic import replacing, save_atomically
from sppo_rl.counters import RunCounters
from sppo_rl.evaluation import Evaluation, evaluate, make_evaluation_env


class ProgressBar(ProgressBarCallback):
    """SB3's progress bar, counting environment steps (finished copies of a batch are no longer stepped)."""

    def _on_training_start(self) -> None:
        super()._on_training_start()
        self._shown = self.num_timesteps

    def _on_step(self) -> bool:
        self.pbar.update(self.model.num_timesteps - self._shown)
        self._shown = self.model.num_timesteps
        return True


class EvaluationCallback(BaseCallback):
    """
    Evaluates at fixed checkpoints, sampled and greedy, on episodes from fixed seeds; keeps a CSV file and the best model.

    It works in ``learn()`` of this package's algorithms and of SB3's, and leaves the run as it would have been without it. A
    checkpoint is the first end of an update at or after a multiple of ``every``; the untrained policy and the last one are evaluated
    too. With ``every=None`` the last one alone is.

    Columns of the CSV file: ``episodes`` and ``timesteps`` played (greedy ones of ReMax included), ``seconds`` of training without
    evaluation, ``success`` and ``greedy_success`` rates (empty if the task reports none; where it reports only successes, evaluations
    without any are filled in as 0 once there is one), ``mean_return``, ``mean_length``, ``greedy_mean_return``, ``greedy_mean_length``.
    With ``greedy=False`` those of greedy episodes are empty. A run that goes on where it was saved goes on with its file: rows from after
    that moment are dropped, for they are about to be repeated.

    Logged: ``eval/success_rate``, ``eval/greedy_success_rate``, ``eval/mean_reward``, ``eval/mean_ep_length``,
    ``eval/greedy_mean_ep_length``; with ``greedy=False`` without the greedy ones.

    :param env: id, environment or ``VecEnv`` to evaluate on; never the one that trains
    :param every: distance between checkpoints, or ``None`` for one evaluation, at the end of training
    :param unit: what ``every`` counts: ``"timesteps"`` or ``"episodes"``
    :param n_episodes: episodes in one evaluation, for each way of choosing actions
    :param seed: of the evaluations; the same for runs that are to be compared
    :param csv_path: file to write, or ``None``
    :param best_model_path: ``.zip`` file for the model with the best sampled success rate so far (best mean return where a task
        reports no success), or ``None``
    :param stop_after_episodes: ends the training at the first end of an update with this many episodes played, or ``None``; schedules of
        this package's algorithms then follow episodes, where those of SB3 follow time steps
    :param verbose: 1 prints a line for each evaluation
    :param greedy: whether to evaluate the most likely actions too; without them an evaluation takes half the time
    :raises ValueError: if ``every``, ``n_episodes`` or ``stop_after_episodes`` is not positive or ``unit`` is unknown
    """

    COLUMNS: tuple[str, ...] = (
        "episodes", "timesteps", "seconds", "success", "greedy_success",
        "mean_return", "mean_length", "greedy_mean_return", "greedy_mean_length",
    )  # fmt: skip

    def __init__(
        self,
        env: str | gym.Env | VecEnv,
        every: int | None,
        unit: Literal["timesteps", "episodes"] = "timesteps",
        n_episodes: int = 100,
        seed: int = 0,
        csv_path: str | os.PathLike[str] | None = None,
        best_model_path: str | os.PathLike[str] | None = None,
        stop_after_episodes: int | None = None,
        verbose: int = 0,
        greedy: bool = True,
    ):
        super().__init__(verbose)
        for name, value in (("every", every), ("n_episodes", n_episodes)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}.")
        if stop_after_episodes is not None and stop_after_episodes < 1:
            raise ValueError(f"stop_after_episodes must be at least 1 or None, got {stop_after_episodes}.")
        if unit not in ("timesteps", "episodes"):
            raise ValueError(f"unit must be 'timesteps' or 'episodes', got {unit!r}.")
        self.env = env
        self.every = every
        self.unit = unit
        self.n_episodes = n_episodes
        self.seed = seed
        self.csv_path = None if csv_path is None else Path(csv_path)
        self.best_model_path = None if best_model_path is None else Path(best_model_path)
        self.stop_after_episodes = stop_after_episodes
        self.greedy = greedy
        self.rows: list[dict[str, float]] = []
        self._over = False

    @property
    def episodes(self) -> int:
        """Episodes played in this run, those before it was interrupted included."""
        return self._counters.episodes

    @property
    def seconds(self) -> float:
        """Seconds of training so far, without evaluations."""
        return self._counters.seconds

    def done(self, unit: str) -> int:
        """
        Say how far the run is.

        :param unit: ``"episodes"``; any other word is one for time steps
        """
        return self.episodes if unit == "episodes" else self.model.num_timesteps

    @property
    def _counters(self) -> RunCounters:
        return RunCounters(self.model)

    def _on_training_start(self) -> None:
        self._counters.begin()
        self.rows = self.read_rows() if self.model.num_timesteps else []
        self._write_rows()
        if self.stop_after_episodes is not None and hasattr(self.model, "episode_budget"):
            self.model.episode_budget = self.stop_after_episodes
        self._venv = make_evaluation_env(self.model, self.env, self.n_episodes, self.seed)
        # the first multiple after -1 is 0: before training
        self._next = self._following(self.rows[-1][self.unit] if self.rows else -1)
        self._evaluated_update = -1
        self._counters.go_on()

    def _on_rollout_start(self) -> None:
        self._counters.tick()
        if self.done(self.unit) >= self._next:
            self._evaluate()
        self._over = self.stop_after_episodes is not None and self.episodes >= self.stop_after_episodes

    def _on_step(self) -> bool:
        self._counters.count(self.locals["dones"])
        return not self._over

    def _on_training_end(self) -> None:
        self._counters.tick()
        if self.model._n_updates != self._evaluated_update:
            self._evaluate()
        if isinstance(self.env, str):
            self._venv.close()

    def _following(self, count: float) -> float:
        """The first multiple of ``every`` after a count."""
        return float("inf") if self.every is None else (count // self.every + 1) * self.every

    def _evaluate(self) -> None:
        sampled = evaluate(self.model, self._venv, self.n_episodes, deterministic=False, seed=self.seed)
        greedy = evaluate(self.model, self._venv, self.n_episodes, deterministic=True, seed=self.seed) if self.greedy else None
        row = self._row(sampled, greedy)
        filled = _fill_rates([*self.rows, row], ("success", "greedy_success") if self.greedy else ("success",))
        is_best = all(_score(row) > _score(earlier) for earlier in self.rows)
        self.rows.append(row)
        if filled:
            self._write_rows()
        else:
            self._append_row(row)
        if is_best and self.best_model_path is not None:
            save_atomically(self.model, self.best_model_path)
        self._log(row)
        self._next = self._following(self.done(self.unit))
        self._evaluated_update = self.model._n_updates
        self._counters.go_on()

    def _log(self, row: dict[str, float]) -> None:
        if not np.isnan(row["success"]):
            self.logger.record("eval/success_rate", row["success"])
        if not np.isnan(row["greedy_success"]):
            self.logger.record("eval/greedy_success_rate", row["greedy_success"])
        self.logger.record("eval/mean_reward", row["mean_return"])
        self.logger.record("eval/mean_ep_length", row["mean_length"])
        if self.greedy:
            self.logger.record("eval/greedy_mean_ep_length", row["greedy_mean_length"])
        self.logger.record("time/total_timesteps", self.model.num_timesteps, exclude="tensorboard")
        self.logger.dump(self.model.num_timesteps)
        if self.verbose:
            greedy = f", {row['greedy_success']:.3f} greedy" if self.greedy else ""
            print(
                f"{row['episodes']:>7} episodes {row['timesteps']:>9} steps {row['seconds']:>7.1f} s: "
                f"success {row['success']:.3f} sampled{greedy}; return {row['mean_return']:.2f}"
            )

    def _row(self, sampled: Evaluation, greedy: Evaluation | None) -> dict[str, float]:
        """What goes into the file: a value for each of :attr:`COLUMNS`, NaN for an empty cell."""
        nothing = float("nan")
        return {
            "episodes": self.episodes,
            "timesteps": self.model.num_timesteps,
            "seconds": round(self.seconds, 3),
            "success": sampled.success_rate,
            "greedy_success": greedy.success_rate if greedy else nothing,
            "mean_return": sampled.mean_return,
            "mean_length": sampled.mean_length,
            "greedy_mean_return": greedy.mean_return if greedy else nothing,
            "greedy_mean_length": greedy.mean_length if greedy else nothing,
        }

    # ---------------------------------------------------------------- the file

    def read_rows(self) -> list[dict[str, float]]:
        """Read the rows of an interrupted run, up to the moment from which this one goes on; without a file those this callback saw."""
        if self.csv_path is not None and not self.csv_path.exists():
            return []
        rows = self.rows if self.csv_path is None else read_evaluations(self.csv_path)
        return [row for row in rows if row["timesteps"] <= self.model.num_timesteps]

    def _write_rows(self) -> None:
        if self.csv_path is None:
            return
        with replacing(self.csv_path) as part, open(part, "w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(self.COLUMNS)
            writer.writerows([self._cells(row) for row in self.rows])

    def _append_row(self, row: dict[str, float]) -> None:
        if self.csv_path is not None:
            with open(self.csv_path, "a", newline="") as file:
                csv.writer(file, lineterminator="\n").writerow(self._cells(row))

    def _cells(self, row: dict[str, float]) -> list[Any]:
        return ["" if np.isnan(row[name]) else row[name] for name in self.COLUMNS]


def _fill_rates(rows: list[dict[str, float]], names: tuple[str, ...]) -> bool:
    """
    Once a task is seen to report success, put 0 where an evaluation had none: some report it only where it is true.

    :param names: of the columns that were measured
    :return: whether anything was put
    """
    missing = [(row, name) for row in rows for name in names if np.isnan(row[name])]
    if len(missing) == len(names) * len(rows):
        return False
    for row, name in missing:
        row[name] = 0.0
    return bool(missing)


def _score(row: dict[str, float]) -> float:
    """What the best model has most of; rows of one run that went through :func:`_fill_rates` all show the same."""
    return row["mean_return"] if np.isnan(row["success"]) else row["success"]


def _number(cell: str) -> float:
    if not cell:
        return float("nan")
    return int(cell) if cell.isdigit() else float(cell)


def read_evaluations(path: str | os.PathLike[str]) -> list[dict[str, float]]:
    """
    Read the file of an :class:`EvaluationCallback`; a line that a kill cut short is left out.

    :param path: the CSV file
    :return: one dictionary for each evaluation, empty cells as NaN
    """
    text = Path(path).read_text()
    complete = text[: text.rfind("\n") + 1]
    return [{name: _number(cell) for name, cell in row.items()} for row in csv.DictReader(complete.splitlines())]
