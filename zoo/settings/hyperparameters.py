"""Hyperparameters: the YAML files, what the command line changes in them, and which keys exist.

A file in ``hyperparams/`` belongs to one algorithm and maps environment ids to settings, in the shape that rl_zoo3 reads. Two keys
are about the run: ``n_timesteps`` (its length, in environment steps) and ``n_envs`` (copies of an environment without a batched form).
All others are parameters of the algorithm's constructor; :mod:`~sppo_rl.zoo.settings.values` says how their values may be
written. ``--conf-file`` names a file of the user's own, or a folder of such files.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

from sppo_rl.zoo.names import TABLE, UsageError, algorithm_class, is_ours, plain_id, suggestion
from sppo_rl.zoo.reading import read_yaml
from sppo_rl.zoo.settings.values import RUN_KINDS, literal, plain_values

RUN_KEYS = tuple(RUN_KINDS)
"""Keys that are not keyword parameters of the constructor."""
RESERVED = ("self", "env", "policy", "seed", "verbose", "device", "tensorboard_log", "_init_setup_model", "kwargs")
"""Parameters of the constructor that have an option of their own, or none."""
DEFAULT_TIMESTEPS = 1_000_000
"""Length of a run whose environment is in no file."""


@dataclass(frozen=True)
class Hyperparameters:
    """
    Settings of one run.

    :param n_timesteps: environment steps
    :param n_envs: copies of an environment without a batched form; ``None`` leaves it to the algorithm
    :param policy: ``"MlpPolicy"`` and so on
    :param kwargs: for the algorithm's constructor
    :param has_entry: whether the environment has an entry in the algorithm's file
    """

    n_timesteps: int = DEFAULT_TIMESTEPS
    n_envs: int | None = None
    policy: str = "MlpPolicy"
    kwargs: dict[str, Any] = field(default_factory=dict)
    has_entry: bool = False

    def as_dict(self) -> dict[str, Any]:
        """One flat dictionary, as in the YAML file."""
        run: dict[str, Any] = {"n_timesteps": self.n_timesteps, "policy": self.policy}
        if self.n_envs is not None:
            run["n_envs"] = self.n_envs
        return {**run, **self.kwargs}


def file_of(algo: str, conf_file: Path | None = None) -> Path:
    """
    Say which file holds an algorithm's settings.

    :param algo: name on the command line
    :param conf_file: a YAML file, or a folder that has ``<algo>.yml``; ``None`` for the package's own
    :raises UsageError: if there is none
    """
    algorithm_class(algo)
    if conf_file is None:
        return Path(str(files("sppo_rl.zoo").joinpath("hyperparams", f"{algo}.yml")))
    path = conf_file / f"{algo}.yml" if conf_file.is_dir() else conf_file
    if not path.is_file():
        raise UsageError(
            f"There is no hyperparameter file {path}. --conf-file names a YAML file that maps environment ids to settings, or a folder "
            "with such a file for each algorithm (sppo.yml, ppo.yml, ...)."
        )
    return path


def read_file(algo: str, conf_file: Path | None = None) -> dict[str, dict[str, Any]]:
    """
    Read an algorithm's file.

    :param algo: name on the command line
    :param conf_file: as for :func:`file_of`
    :return: environment id → settings
    :raises UsageError: if there is no such file, or it holds something else
    """
    path = file_of(algo, conf_file)
    table = read_yaml(path)
    if not isinstance(table, dict) or not all(isinstance(settings, dict) for settings in table.values()):
        raise UsageError(f"{path} must map environment ids to settings, as the files in zoo/hyperparams do.")
    return table


def read_entry(algo: str, env_id: str, conf_file: Path | None) -> dict[str, Any] | None:
    """
    Read an environment's settings from a file of the user's own.

    :param algo: name on the command line
    :param env_id: a Gymnasium id
    :param conf_file: as for :func:`file_of`
    :return: settings for :func:`load_hyperparameters`; ``None`` without a file
    :raises UsageError: if the file has no entry for it
    """
    if conf_file is None:
        return None
    table = read_file(algo, conf_file)
    key = entry_key(table, env_id)
    if key not in table:
        raise UsageError(f"{file_of(algo, conf_file)} has no entry for {env_id}. It has: {', '.join(table) or 'none'}.")
    return table[key]


def left_out(algo: str, env_id: str, entry: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """
    Compare an entry of the user's own with the package's, which it replaces as a whole.

    :param algo: name on the command line
    :param env_id: a Gymnasium id
    :param entry: of the user's file
    :return: name of a parameter that it leaves out → the constructor's default, which therefore holds, and the package's value
    """
    shipped = read_file(algo).get(plain_id(env_id)) or {}
    defaults = defaults_of(algorithm_class(algo))
    return {
        name: (defaults[name], value)
        for name, value in shipped.items()
        if name not in entry and name in defaults and defaults[name] != value
    }


def entry_key(table: Mapping[str, Any], env_id: str) -> str:
    """
    Say under which key an environment's settings stand.

    :param table: of a file
    :param env_id: a Gymnasium id; where it has a module before it, the file may name it without
    """
    return env_id if env_id in table else plain_id(env_id)


def load_hyperparameters(
    algo: str, env_id: str, overrides: dict[str, Any] | None = None, entry: dict[str, Any] | None = None
) -> Hyperparameters:
    """
    Put together the settings of a run: the algorithm's file, then what the user changed.

    :param algo: name on the command line
    :param env_id: a Gymnasium id; one without an entry gets the constructor's defaults
    :param overrides: keys as in the file; with another number of episodes in an update and no ``batch_size``, the file's number of
        minibatches stays
    :param entry: settings in place of those in the algorithm's file
    :return: values are plain, and of the types that the parameters take
    :raises UsageError: if the algorithm has no parameter or policy of that name, and says which was probably meant; if a value is of
        another kind; or if ``n_timesteps`` or ``n_envs`` is below 1
    """
    cls = algorithm_class(algo)
    if entry is None:
        entry = read_file(algo).get(plain_id(env_id))
    has_entry = entry is not None
    check_keys(algo, {**(entry or {}), **(overrides or {})})
    entry, overrides = (plain_values(algo, given or {}) for given in (entry, overrides))
    for where, given in (("--hyperparams", overrides), (f"the hyperparameter file's entry for {env_id}", entry)):
        for key in ("n_timesteps", "n_envs"):
            if given.get(key) is not None and given[key] < 1:
                raise UsageError(f"{key} must be at least 1, got {given[key]} in {where}.")
    settings = {**TABLE[algo].preset, **entry, **overrides, **same_minibatches(algo, entry, overrides)}
    kwargs = {key: value for key, value in settings.items() if key not in RUN_KEYS}
    assert issubclass(cls, BaseAlgorithm)
    policy = settings.get("policy", "MlpPolicy")
    if policy not in cls.policy_aliases:
        known = cls.policy_aliases
        raise UsageError(f"{algo} has no policy {policy!r}.{suggestion(policy, known)} It has: {', '.join(known)}.")
    return Hyperparameters(
        n_timesteps=settings.get("n_timesteps", DEFAULT_TIMESTEPS),
        n_envs=settings.get("n_envs"),
        policy=policy,
        kwargs=kwargs,
        has_entry=has_entry,
    )


def same_minibatches(algo: str, entry: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, int]:
    """
    Give the ``batch_size`` that keeps an entry's number of minibatches in an update of another size.

    Example: an entry with ``n_episodes`` 64 and ``batch_size`` 16, changed to ``n_episodes`` 8, gives ``{"batch_size": 2}``.

    :param algo: name on the command line
    :param entry: an environment's settings
    :param overrides: what the user changes in them
    :return: empty where there is nothing to change, or the user gives ``batch_size``
    """
    if entry.get("batch_size") is None or "batch_size" in overrides:
        return {}
    before, after = update_size(algo, entry), update_size(algo, {**entry, **overrides})
    return {} if before == after else {"batch_size": max(entry["batch_size"] * after // before, 1)}


def update_size(algo: str, settings: Mapping[str, Any]) -> int:
    """
    Give the size of an update in what ``batch_size`` counts: episodes, or SB3's environment steps.

    :param algo: name on the command line
    :param settings: as in a file; what is not there is the constructor's default
    """
    of_run = {**defaults_of(algorithm_class(algo)), **settings}
    return int(of_run["n_episodes"] if is_ours(algo) else of_run.get("n_envs", 1) * of_run["n_steps"])


def parameters_of(cls: type) -> list[str]:
    """
    List the keyword parameters of a constructor; through ``**kwargs``, those of the classes it passes them on to.

    :param cls: an algorithm's class
    """
    return list(defaults_of(cls))


def defaults_of(cls: type) -> dict[str, Any]:
    """
    Give the defaults of the parameters that :func:`parameters_of` lists.

    :param cls: an algorithm's class
    """
    defaults: dict[str, Any] = {}
    for owner in cls.__mro__:
        if "__init__" not in vars(owner):
            continue
        parameters = inspect.signature(owner.__init__).parameters  # type: ignore[misc]
        defaults = {**{name: parameter.default for name, parameter in parameters.items()}, **defaults}
        if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
            break
    return {name: default for name, default in defaults.items() if name not in RESERVED}


def check_keys(algo: str, keys: Iterable[str]) -> None:
    """
    Check that an algorithm knows its settings.

    :param algo: name on the command line
    :param keys: names of settings
    :raises UsageError: at the first that does not exist
    """
    known = [*RUN_KEYS, *parameters_of(algorithm_class(algo))]
    for key in keys:
        if key in RESERVED and key not in RUN_KEYS:
            raise UsageError(f"{key!r} is no hyperparameter: it has an option of its own (see --help), or is set by the run.")
        if key not in known:
            raise UsageError(
                f"{algo} has no hyperparameter {key!r}.{suggestion(key, known)} It has: {', '.join(sorted(known))}."
            )


def parse_overrides(pairs: Iterable[str]) -> dict[str, Any]:
    """
    Read ``key:value`` or ``key=value`` from the command line.

    Example: ``["learning_rate=lin_3e-4", "n_epochs:8", "policy_kwargs=dict(net_arch=[32])"]`` gives
    ``{"learning_rate": "lin_3e-4", "n_epochs": 8, "policy_kwargs": {"net_arch": [32]}}``.

    :param pairs: as typed; for the values see :func:`~sppo_rl.zoo.settings.values.literal`
    :raises UsageError: if one is no pair
    """
    overrides: dict[str, Any] = {}
    for pair in pairs:
        positions = [position for position in (pair.find("="), pair.find(":")) if position > 0]
        if not positions:
            raise UsageError(f"A hyperparameter is written key=value or key:value, such as n_epochs=8; got {pair!r}.")
        cut = min(positions)
        overrides[pair[:cut].strip()] = literal(pair[cut + 1 :].strip())
    return overrides
