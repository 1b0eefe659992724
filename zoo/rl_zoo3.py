"""This package's algorithms, tasks and hyperparameters inside rl_zoo3, whose own command line does the work.

  python -m sppo_rl.zoo.rl_zoo3 train --algo sppo --env sppo_rl/Pendulum-v0
  python -m sppo_rl.zoo.rl_zoo3 train --algo sppo --env sppo_rl/Pendulum-v0 -params prior:False n_epochs:8
  python -m sppo_rl.zoo.rl_zoo3 train --algo grpo --env sppo_rl/MountainCar-v0 -optimize --n-trials 20
  python -m sppo_rl.zoo.rl_zoo3 enjoy --algo sppo --env sppo_rl/Pendulum-v0 -f logs

Every option is rl_zoo3's. What is different for this package's algorithms:

- ``--algo`` knows sppo, grpo, rloo, remax, sppo_ppo and sppo_ppo_bce. ``ppo`` stays Stable-Baselines3's and rl_zoo3's.
- Hyperparameters are those of ``zoo/hyperparams``, and ``--optimize-hyperparameters`` searches the space of ``sppo-rl tune``. With
  another ``n_episodes`` and no ``batch_size`` the file's number of minibatches stays.
- A task with a batched form is used in that form, one copy for each episode of an update, in evaluations too; ``-params n_envs:4``,
  ``--vec-env subproc``, ``env_kwargs`` and environment wrappers switch back to ordinary copies.
- Training starts from the shipped prior where there is one: ``-params prior:False`` for random weights.
- The evaluation environment gets the ``env_kwargs`` of the YAML file as well, so that it is the training task.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import ResultsWriter
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from sppo_rl.algorithm import SequenceAlgorithm
from sppo_rl.notices import env_id_of
from sppo_rl.vec_env import has_batched_form, make_batched
from sppo_rl.zoo.names import TABLE, UsageError
from sppo_rl.zoo.reading import read_yaml
from sppo_rl.zoo.settings.hyperparameters import same_minibatches, update_size
from sppo_rl.zoo.settings.search import suggest
from sppo_rl.zoo.shipped.prior import copy_prior_into, list_priors

if TYPE_CHECKING:
    import optuna
    from rl_zoo3.exp_manager import ExperimentManager

REFUSED = "refused"
"""Attribute of a trial that the constructor refused: its message."""
ALGORITHMS = {algorithm.in_rl_zoo3: name for name, algorithm in TABLE.items() if algorithm.in_rl_zoo3 is not None}
"""Name in rl_zoo3 → name on this package's command line."""


def with_zoo_keys(cls: type[BaseAlgorithm], preset: Mapping[str, Any]) -> type[BaseAlgorithm]:
    """
    Derive a class with two more parameters, for YAML files and ``-params``.

    ``prior``: ``True`` starts from the shipped prior, ``False`` from random weights, ``None`` from the prior if there is one.
    ``n_minibatches``: minibatches in an update, in place of ``batch_size``, whose size the search does not know.

    :param cls: an algorithm of this package
    :param preset: in place of the constructor's defaults
    """

    class InZoo(cls):  # type: ignore[misc, valid-type]
        def __init__(
            self, policy: Any, env: Any, prior: bool | None = None, n_minibatches: int | None = None, **kwargs: Any
        ) -> None:
            super().__init__(policy, env, **{**preset, **kwargs, "_init_setup_model": False})
            if n_minibatches is not None:
                self.batch_size = max(self.n_episodes // n_minibatches, 1)
            if kwargs.get("_init_setup_model", True):
                self._setup_model()
                _start_from_prior(self, prior)

    InZoo.__name__ = InZoo.__qualname__ = cls.__name__
    return InZoo


def _start_from_prior(model: SequenceAlgorithm, prior: bool | None) -> None:
    assert model.env is not None
    env_id = env_id_of(model.env) or ""
    # a prior has seen observations as they are; rewards are no business of an actor's
    normalizer = model.get_vec_normalize_env()
    normalized = normalizer is not None and normalizer.norm_obs
    if prior or (prior is None and env_id in list_priors() and not normalized):
        if normalized:
            raise ValueError(
                "A prior does not fit normalised observations. Leave out 'normalize', give it norm_obs=False, or set prior to False."
            )
        copy_prior_into(model.policy, env_id)  # type: ignore[arg-type]
        if model.verbose:
            print("Starts from the shipped prior (-params prior:False for random weights)")


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


def experiment_manager() -> type[ExperimentManager]:
    """Derive the class that does what this module's first lines say; rl_zoo3's other algorithms behave as ever."""
    from rl_zoo3.exp_manager import HYPERPARAMS_SAMPLER, ExperimentManager

    class Manager(ExperimentManager):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.batched = False
            if self.algo in ALGORITHMS and kwargs.get("config") is None:
                self.config = str(files("sppo_rl.zoo").joinpath("hyperparams", f"{ALGORITHMS[self.algo]}.yml"))

        def read_hyperparameters(self) -> tuple[dict[str, Any], dict[str, Any]]:
            if self.algo in ALGORITHMS and self.custom_hyperparams and self.config.endswith((".yml", ".yaml")):
                table = read_yaml(Path(self.config)) or {}
                # where rl_zoo3 looks, in its order
                places = (self.env_name.gym_id, *(["atari"] if self._is_atari else []), "default")
                entry: dict[str, Any] = next((table[place] for place in places if place in table), {})
                name = ALGORITHMS[self.algo]
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
                self.algo in ALGORITHMS
                and has_batched_form(self.env_name.gym_id)
                and self.vec_env_class is DummyVecEnv  # type: ignore[has-type]
                and env_wrapper is None
                and not (self.env_kwargs or self.eval_env_kwargs or own_copies)
            )
            if self.batched:
                self.vec_env_class = self._make_batch
                self.n_envs = update_size(ALGORITHMS[self.algo], settings)
            return processed

        def objective(self, trial: optuna.Trial) -> float:
            if self.algo not in ALGORITHMS:
                return super().objective(trial)
            import optuna

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
            super().create_callbacks()
            if self.batched and not self.optimize_hyperparameters:
                self.callbacks.append(MonitorFile(os.path.join(self.save_path, "0.monitor.csv"), self.env_name.gym_id))

    return Manager


def register() -> None:
    """
    Make rl_zoo3 know the algorithms, their search space and their experiment manager; calling it again changes nothing.

    :raises ImportError: if rl_zoo3 is not installed; says how to
    """
    try:
        import rl_zoo3.train
        from rl_zoo3 import ALGOS
        from rl_zoo3.hyperparams_opt import HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER
    except ModuleNotFoundError as error:
        raise ImportError(f"This needs rl_zoo3 ({error}): pip install 'sppo-rl[rl-zoo3]'.") from error
    if "sppo" in ALGOS:
        return
    for name, ours in ALGORITHMS.items():
        ALGOS[name] = with_zoo_keys(TABLE[ours].cls, TABLE[ours].preset)
        HYPERPARAMS_SAMPLER[name] = Sampler(ours)
        # what is drawn has the constructor's names already
        HYPERPARAMS_CONVERTER[name] = dict
    rl_zoo3.train.ExperimentManager = experiment_manager()


def main() -> None:
    """Run rl_zoo3's command line: ``train``, ``enjoy``, ``plot_train``, ``plot_from_file``, ``all_plots``."""
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__)
        return
    try:
        register()
        from rl_zoo3 import cli
    except ImportError as error:
        sys.exit(f"{Path(sys.argv[0]).stem}: {error}")
    cli.main()


if __name__ == "__main__":
    main()
