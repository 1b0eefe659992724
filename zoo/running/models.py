"""Models by name: built for a run, from the shipped prior where there is one, or loaded from a file."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stable_baselines3 import PPO as StableBaselinesPPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.save_util import load_from_zip_file
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from sppo_rl.vec_env import has_batched_form, make_batched
from sppo_rl.zoo.names import ALGORITHMS, UsageError, algorithm_class, is_ours
from sppo_rl.zoo.reading import read_yaml, shortened
from sppo_rl.zoo.running.folders import BEST_MODEL, CONFIG
from sppo_rl.zoo.settings.hyperparameters import Hyperparameters, update_size
from sppo_rl.zoo.settings.values import constructor_values
from sppo_rl.zoo.shipped.prior import copy_weights, prior_weights


def make_training_env(algo: str, env_id: str, hyperparameters: Hyperparameters, seed: int) -> VecEnv:
    """
    Make what an algorithm trains on: the batched form for this package's algorithms, SB3's ``DummyVecEnv`` for SB3's.

    :param algo: name on the command line
    :param env_id: a Gymnasium id
    :param hyperparameters: of the run
    :param seed: of the run
    """
    if is_ours(algo) and has_batched_form(env_id):
        return make_batched(env_id, update_size(algo, hyperparameters.kwargs))
    return _ordinary_env(env_id, hyperparameters.n_envs or 1, seed)


def _ordinary_env(env_id: str, n_envs: int, seed: int | None) -> VecEnv:
    """SB3's ``DummyVecEnv`` without Gymnasium's passive checker, whose work at every step would count as the algorithm's time."""
    return make_vec_env(env_id, n_envs=n_envs, seed=seed, env_kwargs={"disable_env_checker": True})


def build_model(
    algo: str, env_id: str, hyperparameters: Hyperparameters, seed: int = 0, prior: bool | None = None, **kwargs: Any
) -> tuple[BaseAlgorithm, bool]:
    """
    Build the model of a run.

    :param algo: name on the command line
    :param env_id: a Gymnasium id
    :param hyperparameters: of the run
    :param seed: of the run
    :param prior: ``True`` starts from the shipped prior, ``False`` from random weights, ``None`` from the prior if there is one
    :param kwargs: further parameters of the constructor (``device``, ``verbose``, ``tensorboard_log``)
    :return: the model, and whether it starts from a prior
    :raises UsageError: if a prior is demanded and there is none, or the policy does not fit the task's observations
    """
    settings = {**constructor_values(algo, hyperparameters.kwargs), "seed": seed, **kwargs}
    cls: Any = algorithm_class(algo)
    weights = None
    if prior is not False:
        try:
            weights = prior_weights(env_id)
        except FileNotFoundError as error:
            if prior:
                raise UsageError(f"{error} Leave out --from-prior to start from random weights.") from error
    with _building(algo, env_id, hyperparameters.policy):
        if weights is None:
            return cls(hyperparameters.policy, make_training_env(algo, env_id, hyperparameters, seed), **settings), False
        if not is_ours(algo):
            return sb3_ppo_from_prior(env_id, n_envs=hyperparameters.n_envs or 1, **settings), True
        # not load_prior(), which would take what these hyperparameters leave out from the package's file
        model = cls(hyperparameters.policy, env_id, **settings)
    copy_weights(model.policy, weights)
    return model, True


@contextmanager
def _building(algo: str, env_id: str, policy: str) -> Iterator[None]:
    """SB3 says by assertions what cannot be built, and by a missing attribute that observations are no dictionary."""
    try:
        yield
    except (AssertionError, AttributeError) as error:
        if isinstance(error, AttributeError) and policy != "MultiInputPolicy":
            raise
        why = (str(error) or repr(error)).splitlines()[0].rstrip(".")
        kinds = "MlpPolicy is for vectors, CnnPolicy for images, MultiInputPolicy for dictionaries."
        raise UsageError(
            f"{algo} cannot be built for {env_id} with policy={policy}: {why}.{'' if policy == 'MlpPolicy' else ' ' + kinds}"
        ) from error


def sb3_ppo_from_prior(env_id: str, n_envs: int = 1, seed: int | None = None, **kwargs: Any) -> StableBaselinesPPO:
    """
    Make Stable-Baselines3's ``PPO`` with the actor of the shipped prior; its critic is new.

    :param env_id: an id with a prior
    :param n_envs: copies of the environment, stepped by SB3's ``DummyVecEnv``
    :param seed: as in SB3
    :param kwargs: for SB3's ``PPO``
    :raises FileNotFoundError: if there is no prior for this id
    """
    weights = prior_weights(env_id)
    model = StableBaselinesPPO("MlpPolicy", _ordinary_env(env_id, n_envs, seed), seed=seed, **kwargs)
    copy_weights(model.policy, weights)
    return model


def load_model(path: str | Path, algo: str | None = None) -> BaseAlgorithm:
    """
    Load a model that a run has saved; one of rl_zoo3 that was trained with ``normalize`` has its statistics of observations, as if its
    training environment were there still (``model.get_vec_normalize_env()``).

    :param path: a ``.zip`` file, or the folder of a run (its best model is taken; without one the last of rl_zoo3's, or the only one
        that is there)
    :param algo: name on the command line; ``None`` finds it in the run's ``config.yml``, or in the file itself
    :raises UsageError: if there is no such file, or it does not say of which algorithm it is
    """
    path = Path(path)
    if path.is_dir():
        # rl_zoo3 keeps a best model only where it has evaluated, and others with --save-freq; the last is named after the environment, as
        # the folder of its settings is
        best, models = path / BEST_MODEL, list(path.glob("*.zip"))
        last = models if len(models) == 1 else [model for model in models if model.with_suffix("").is_dir()]
        path = best if best.exists() or len(last) != 1 else last[0]
    if not path.exists() and path.with_suffix(".zip").exists():
        path = path.with_suffix(".zip")
    if not path.exists():
        raise UsageError(f"There is no model at {path}. Give a .zip file, or the folder of a run such as logs/sppo/<env>_1.")
    config = path.parent / CONFIG
    if algo is None and config.exists():
        settings = read_yaml(config)
        if not isinstance(settings, dict):
            raise UsageError(
                f"{config} must map names to settings, as a run writes it, and holds {shortened(settings)}. Name the algorithm with --algo "
                f"({', '.join(ALGORITHMS)})."
            )
        algo = settings.get("algo")
    if algo is None:
        algo = _algorithm_in(path)
    model: BaseAlgorithm = algorithm_class(algo).load(path, device="cpu")
    model._vec_normalize_env = _statistics_beside(path)
    return model


def _statistics_beside(path: Path) -> VecNormalize | None:
    """
    What rl_zoo3 keeps of ``VecNormalize`` in a folder named as the last model is; the best model has no other. Without an environment,
    which the statistics do not need.
    """
    saved = list(path.parent.glob(f"{'*' if path.name == BEST_MODEL else path.stem}/vecnormalize.pkl"))
    if len(saved) != 1:
        return None
    try:
        statistics: VecNormalize = pickle.loads(saved[0].read_bytes())
    except (pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError) as error:
        raise UsageError(
            f"{saved[0]}, the statistics of a run with normalize, is damaged or of another version ({type(error).__name__}: {error}). "
            "Without them the model sees what it never saw in training: copy the file again, or train again."
        ) from error
    return statistics


def _algorithm_in(path: Path) -> str:
    """Tell from what the file holds which class wrote it."""
    data, _, _ = load_from_zip_file(path, device="cpu")
    data = data or {}
    ours = {cls.__name__: name for name, cls in reversed(ALGORITHMS.items()) if is_ours(name)}
    # of this package's algorithms each file names its class and what that derives from; older ones, and SB3's, are told by parameters
    for ancestor in data.get("_class_names", ()):
        if ancestor in ours:
            return ours[ancestor]
    for key, name in (("n_steps", "sb3-ppo"), ("advantage", "sppo"), ("normalize_advantage", "ppo"), ("n_episodes", "remax")):
        if key in data:
            # an actor without a critic is the same in GRPO, RLOO and ReMax
            return name
    raise UsageError(f"{path} does not say which algorithm wrote it. Name it with --algo ({', '.join(ALGORITHMS)}).")
