"""rl_zoo3's experiment manager with this package's algorithms; imports rl_zoo3, which need not be installed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import optuna
from rl_zoo3.exp_manager import HYPERPARAMS_SAMPLER, ExperimentManager
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import ResultsWriter
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from sppo_rl.vec_env import has_batched_form, make_batched
from sppo_rl.zoo.names import IN_RL_ZOO3, UsageError
from sppo_rl.zoo.reading import read_yaml
from sppo_rl.zoo.settings.hyperparameters import same_minibatches, update_size
from sppo_rl.zoo.settings.search import suggest

REFUSED = "refused"
"""Attribute of a trial that the constructor refused: its message."""


class MonitorFile(BaseCallback):
    """
    Writes the episodes of a batched environment as SB3's ``Monitor`` does, for ``plot_train``.

    :param path: ends in ``monitor.csv``
    :param env_id: for the file's first line
    """

    def __init__(self, path: str, env_id: str):
        super().__init__()
        self.path, self.env_id = path, env_id

    def _on_training_start(self) -> None:
        self._start = time.time()
        header: dict[str, float | str] = {"t_start": self._start, "env_id": self.env_id}
        self._writer = ResultsWriter(self.path, header=header, extra_keys=("is_success",))

    def _on_step(self) -> bool:
        for info in self.locals.get("finished_infos", []):
            row = {"r": info["episode"]["r"], "l": info["episode"]["l"], "t": round(time.time() - self._start, 6)}
            self._writer.write_row({**row, "is_success": info.get("is_success", "")})
        return True

    def _on_training_end(self) -> None:
        self._writer.close()


class Sampler:
    """
    Draws an algorithm's hyperparameters for rl_zoo3's ``--optimize-hyperparameters``.

    :param algo: name on this package's command line
    """

    settings: Mapping[str, Any] | None = None
    """Of the run, which rl_zoo3 does not hand over: what they rule out is not drawn."""

    def __init__(self, algo: str):
        self.algo = algo

    def __call__(self, trial: optuna.Trial, n_actions: int, n_envs: int, additional_args: dict[str, Any]) -> dict[str, Any]:
        """
        Draw.

        :param trial: of an Optuna study
        :param n_actions: unused, as the others
        :param n_envs: unused
        :param additional_args: unused
        """
        return suggest(trial, self.algo, self.settings)


class Manager(ExperimentManager):
    """Does for this package's algorithms what :mod:`~sppo_rl.zoo.rl_zoo3` says; rl_zoo3's other algorithms behave as ever."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.batched = False
        if self.algo in IN_RL_ZOO3 and kwargs.get("config") is None:
            self.config = str(files("sppo_rl.zoo").joinpath("hyperparams", f"{IN_RL_ZOO3[self.algo]}.yml"))

    def read_hyperparameters(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """As rl_zoo3's; the minibatches keep their number, and the evaluation environment gets the file's ``env_kwargs``."""
        if self.algo in IN_RL_ZOO3 and self.custom_hyperparams and self.config.endswith((".yml", ".yaml")):
            table = read_yaml(Path(self.config)) or {}
            # where rl_zoo3 looks, in its order
            places = (self.env_name.gym_id, *(["atari"] if self._is_atari else []), "default")
            entry: dict[str, Any] = next((table[place] for place in places if place in table), {})
            name = IN_RL_ZOO3[self.algo]
            self.custom_hyperparams.update(same_minibatches(name, entry, self.custom_hyperparams))
        hyperparameters, saved = super().read_hyperparameters()
        if "env_kwargs" in hyperparameters and self._eval_env_kwargs_args is None:
            self.eval_env_kwargs = hyperparameters["env_kwargs"]
        return hyperparameters, saved

    def _preprocess_hyperparams(self, hyperparams: dict[str, Any]) -> Any:
        own_copies = "n_envs" in hyperparams
        processed = super()._preprocess_hyperparams(hyperparams)
        settings, env_wrapper = processed[:2]
        self.batched = (
            self.algo in IN_RL_ZOO3
            and has_batched_form(self.env_name.gym_id)
            and self.vec_env_class is DummyVecEnv  # type: ignore[has-type]
            and env_wrapper is None
            and not (self.env_kwargs or self.eval_env_kwargs or own_copies)
        )
        if self.batched:
            self.vec_env_class = self._make_batch
            self.n_envs = update_size(IN_RL_ZOO3[self.algo], settings)
        return processed

    def objective(self, trial: optuna.Trial) -> float:
        """
        Prune what cannot be built too.

        :param trial: of the study
        :return: its value
        :raises ValueError: if no trial before could be built either, for the same reason
        """
        if self.algo not in IN_RL_ZOO3:
            return super().objective(trial)
        sampler = HYPERPARAMS_SAMPLER[self.algo]
        if isinstance(sampler, Sampler):
            sampler.settings = self._hyperparams
        try:
            return super().objective(trial)
        except UsageError:
            raise
        except ValueError as error:
            # of the constructor: rl_zoo3 itself prunes what fails while it learns
            trial.set_user_attr(REFUSED, str(error))
            done = [earlier for earlier in trial.study.trials if earlier.state.is_finished()]
            if len(done) >= 2 and all(earlier.user_attrs.get(REFUSED) == str(error) for earlier in done):
                # not what is drawn is wrong, but what is given
                raise
            print(f"Trial {trial.number} pruned: {error}")
            raise optuna.TrialPruned(str(error)) from error

    def _make_batch(self, makers: Sequence[Callable[[], Any]], **kwargs: Any) -> VecEnv:
        return make_batched(self.env_name.gym_id, len(makers))

    def create_callbacks(self) -> None:
        """As rl_zoo3's; a batch has no ``Monitor``, and its episodes are written down by a callback."""
        super().create_callbacks()
        if self.batched and not self.optimize_hyperparameters:
            self.callbacks.append(MonitorFile(os.path.join(self.save_path, "0.monitor.csv"), self.env_name.gym_id))
