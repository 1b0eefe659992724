"""Callbacks for training, on SB3's callback interface."""

from __future__ import annotations

import csv
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from weakref import WeakKeyDictionary

import gymnasium as gym
import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, ProgressBarCallback
from stable_baselines3.common.vec_env import VecEnv

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


@dataclass
class _Moment:
    """Where a model's counters stand: what several callbacks would otherwise count twice."""

    counted_at: int = -1
    """Time steps of the model when episodes were counted last."""
    resumed_at: float = 0.0
    """When training went on after the last tick or evaluation; of ``time.perf_counter``."""


_MOMENTS: WeakKeyDictionary[BaseAlgorithm, _Moment] = WeakKeyDictionary()
"""Beside the models and not in them: no model is saved with a clock that means nothing afterwards."""


class EvaluationCallback(BaseCallback):
    """
    Evaluates at fixed checkpoints, sampled and greedy, on episodes from fixed seeds; keeps a CSV file and the best model.

    It works in ``learn()`` of this package's algorithms and of SB3's, and leaves the run as it would have been without it. A
    checkpoint is the first end of an update at or after a multiple of ``every``; the untrained policy and the last one are evaluated
    too.

    Columns of the CSV file: ``episodes`` and ``timesteps`` played (greedy ones of ReMax included), ``seconds`` of training without
    evaluation, ``success`` and ``greedy_success`` rates (empty if the task reports none; where it reports only successes, evaluations
    without any are filled in as 0 once there is one), ``mean_return``, ``mean_length``, ``greedy_mean_return``, ``greedy_mean_length``.
    A run that goes on where it was saved goes on with its file: rows from after that moment are dropped, for they are about to be
    repeated.

    Logged: ``eval/success_rate``, ``eval/greedy_success_rate``, ``eval/mean_reward``, ``eval/mean_ep_length``,
    ``eval/greedy_mean_ep_length``.

    :param env: id, environment or ``VecEnv`` to evaluate on; never the one that trains
    :param every: distance between checkpoints
    :param unit: what ``every`` counts: ``"timesteps"`` or ``"episodes"``
    :param n_episodes: episodes in one evaluation, for each of the two ways of choosing actions
    :param seed: of the evaluations; the same for runs that are to be compared
    :param csv_path: file to write, or ``None``
    :param best_model_path: ``.zip`` file for the model with the best sampled success rate so far (best mean return where a task
        reports no success), or ``None``
    :param stop_after_episodes: ends the training at the first end of an update with this many episodes played, or ``None``; schedules of
        this package's algorithms then follow episodes, where those of SB3 follow time steps
    :param verbose: 1 prints a line for each evaluation
    :raises ValueError: if ``every``, ``n_episodes`` or ``stop_after_episodes`` is not positive or ``unit`` is unknown
    """

    COLUMNS: tuple[str, ...] = (
        "episodes", "timesteps", "seconds", "success", "greedy_success",
        "mean_return", "mean_length", "greedy_mean_return", "greedy_mean_length",
    )  # fmt: skip

    def __init__(
        self,
        env: str | gym.Env | VecEnv,
        every: int,
        unit: Literal["timesteps", "episodes"] = "timesteps",
        n_episodes: int = 100,
        seed: int = 0,
        csv_path: str | os.PathLike[str] | None = None,
        best_model_path: str | os.PathLike[str] | None = None,
        stop_after_episodes: int | None = None,
        verbose: int = 0,
    ):
        super().__init__(verbose)
        for name, value in (("every", every), ("n_episodes", n_episodes)):
            if value < 1:
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
        self.rows: list[dict[str, float]] = []
        self._over = False

    # Counters live on the model, so that a saved model carries them into the run that goes on from it. Several callbacks share them.

    @property
    def episodes(self) -> int:
        """Episodes played in this run, those before it was interrupted included."""
        return int(self._counters["episodes"])

    @property
    def seconds(self) -> float:
        """Seconds of training so far, without evaluations."""
        return float(self._counters["seconds"])

    @property
    def _counters(self) -> dict[str, float]:
        # without a callback before, there is only what the algorithm itself has counted
        begun = {"episodes": getattr(self.model, "num_episodes", 0), "seconds": 0.0}
        counters: dict[str, float] = self.model.__dict__.setdefault("_run_counters", begun)
        return counters

    @property
    def _moment(self) -> _Moment:
        return _MOMENTS.setdefault(self.model, _Moment())

    def _on_training_start(self) -> None:
        if self.model.num_timesteps == 0:
            self._counters.update(episodes=0, seconds=0.0)
        self._moment.counted_at = -1
        self.rows = self.read_rows() if self.model.num_timesteps else []
        self._write_rows()
        if self.stop_after_episodes is not None and hasattr(self.model, "episode_budget"):
            self.model.episode_budget = self.stop_after_episodes
        self._venv = make_evaluation_env(self.model, self.env, self.n_episodes, self.seed)
        self._next = 0.0 if not self.rows else self._following(self.rows[-1][self.unit])
        self._evaluated_update = -1
        self._moment.resumed_at = time.perf_counter()

    def _on_rollout_start(self) -> None:
        self._tick()
        if self._progress() >= self._next:
            self._evaluate()
        self._over = self.stop_after_episodes is not None and self.episodes >= self.stop_after_episodes

    def _on_step(self) -> bool:
        if self._moment.counted_at != self.model.num_timesteps:
            self._moment.counted_at = self.model.num_timesteps
            self._counters["episodes"] += int(np.sum(self.locals["dones"]))
        return not self._over

    def _on_training_end(self) -> None:
        self._tick()
        if self.model._n_updates != self._evaluated_update:
            self._evaluate()
        if isinstance(self.env, str):
            self._venv.close()

    def _progress(self) -> int:
        return self.episodes if self.unit == "episodes" else self.model.num_timesteps

    def _following(self, count: float) -> float:
        """The first multiple of ``every`` after a count."""
        return (count // self.every + 1) * self.every

    def _tick(self) -> None:
        now = time.perf_counter()
        self._counters["seconds"] += now - self._moment.resumed_at
        self._moment.resumed_at = now

    def _evaluate(self) -> None:
        sampled = evaluate(self.model, self._venv, self.n_episodes, deterministic=False, seed=self.seed)
        greedy = evaluate(self.model, self._venv, self.n_episodes, deterministic=True, seed=self.seed)
        row = self._row(sampled, greedy)
        filled = _fill_rates([*self.rows, row])
        is_best = all(_score(row) > _score(earlier) for earlier in self.rows)
        self.rows.append(row)
        if filled:
            self._write_rows()
        else:
            self._append_row(row)
        if is_best and self.best_model_path is not None:
            save_atomically(self.model, self.best_model_path)
        if not np.isnan(row["success"]):
            self.logger.record("eval/success_rate", row["success"])
            self.logger.record("eval/greedy_success_rate", row["greedy_success"])
        self.logger.record("eval/mean_reward", sampled.mean_return)
        self.logger.record("eval/mean_ep_length", row["mean_length"])
        self.logger.record("eval/greedy_mean_ep_length", row["greedy_mean_length"])
        self.logger.record("time/total_timesteps", self.model.num_timesteps, exclude="tensorboard")
        self.logger.dump(self.model.num_timesteps)
        if self.verbose:
            print(
                f"{row['episodes']:>7} episodes {row['timesteps']:>9} steps {row['seconds']:>7.1f} s: "
                f"success {row['success']:.3f} sampled, {row['greedy_success']:.3f} greedy; return {row['mean_return']:.2f}"
            )
        self._next = self._following(self._progress())
        self._evaluated_update = self.model._n_updates
        self._moment.resumed_at = time.perf_counter()

    def _row(self, sampled: Evaluation, greedy: Evaluation) -> dict[str, float]:
        """What goes into the file: a value for each of :attr:`COLUMNS`."""
        return {
            "episodes": self.episodes,
            "timesteps": self.model.num_timesteps,
            "seconds": round(self.seconds, 3),
            "success": sampled.success_rate,
            "greedy_success": greedy.success_rate,
            "mean_return": sampled.mean_return,
            "mean_length": sampled.mean_length,
            "greedy_mean_return": greedy.mean_return,
            "greedy_mean_length": greedy.mean_length,
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
        self.csv_path.parent.mkdir(parents=True, exist_ok=True)
        part = self.csv_path.with_name(self.csv_path.name + ".part")
        with open(part, "w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(self.COLUMNS)
            writer.writerows([self._cells(row) for row in self.rows])
        os.replace(part, self.csv_path)

    def _append_row(self, row: dict[str, float]) -> None:
        if self.csv_path is not None:
            with open(self.csv_path, "a", newline="") as file:
                csv.writer(file, lineterminator="\n").writerow(self._cells(row))

    def _cells(self, row: dict[str, float]) -> list[Any]:
        return ["" if np.isnan(row[name]) else row[name] for name in self.COLUMNS]


def _fill_rates(rows: list[dict[str, float]]) -> bool:
    """
    Once a task is seen to report success, put 0 where an evaluation had none: some report it only where it is true.

    :return: whether anything was put
    """
    missing = [(row, name) for row in rows for name in ("success", "greedy_success") if np.isnan(row[name])]
    if len(missing) == 2 * len(rows):
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


def save_atomically(model: Any, path: str | os.PathLike[str]) -> None:
    """
    Save a model so that the file is either the whole new one or the old one.

    :param model: an algorithm
    :param path: ends in ``.zip``
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.stem}.part.zip")
    model.save(part)
    os.replace(part, path)
