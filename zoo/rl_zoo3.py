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

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

from sppo_rl.algorithm import SequenceAlgorithm
from sppo_rl.notices import env_id_of
from sppo_rl.zoo.names import IN_RL_ZOO3 as ALGORITHMS
from sppo_rl.zoo.names import TABLE
from sppo_rl.zoo.shipped.prior import copy_prior_into, list_priors


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
    from sppo_rl.zoo.rl_zoo3_manager import Manager, Sampler

    for name, ours in ALGORITHMS.items():
        ALGOS[name] = with_zoo_keys(TABLE[ours].cls, TABLE[ours].preset)
        HYPERPARAMS_SAMPLER[name] = Sampler(ours)
        # what is drawn has the constructor's names already
        HYPERPARAMS_CONVERTER[name] = dict
    rl_zoo3.train.ExperimentManager = Manager


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
