"""The search space of ``sppo-rl tune`` and of rl_zoo3's ``--optimize-hyperparameters``.

What algorithms share is searched in the same ranges for all of them; what only some have is added for those. Not searched, because they
define the task or the comparison: the discount (an outcome is not discounted), episodes in an update, the networks, the length of a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sppo_rl.zoo.names import TABLE, UsageError, algorithm_class
from sppo_rl.zoo.settings.hyperparameters import defaults_of, update_size

if TYPE_CHECKING:
    import optuna

PARAMETERS = (
    "learning_rate", "n_epochs", "clip_range", "ent_coef", "max_grad_norm", "critic_learning_rate", "critic_init", "gae_lambda",
    "normalize_advantage", "advantage", "vf_coef", "group_size",
)  # fmt: skip
"""All that is searched for some algorithm, under the constructor's names."""


def suggest(trial: optuna.trial.BaseTrial, algo: str, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """
    Draw hyperparameters.

    :param trial: of an Optuna study
    :param algo: name on the command line
    :param settings: the environment's entry: what its other values rule out is not drawn; ``None`` draws from all
    :return: names of constructor parameters → values, and ``n_minibatches`` in place of ``batch_size``: see
        :func:`as_hyperparameters`
    :raises UsageError: if there is no algorithm of that name, or the settings go with no size of a group
    """
    algorithm_class(algo)
    algorithm = TABLE[algo]
    sizes = _group_sizes(algo, settings)
    drawn: dict[str, Any] = {
        "learning_rate": trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True),
        "n_epochs": trial.suggest_categorical("n_epochs", (1, 2, 4, 8)),
        "n_minibatches": trial.suggest_categorical("n_minibatches", (1, 2, 4)),
        "clip_range": trial.suggest_categorical("clip_range", (0.1, 0.2, 0.3)),
        "ent_coef": trial.suggest_categorical("ent_coef", (0.0, 1e-4, 1e-3, 1e-2)),
        "max_grad_norm": trial.suggest_categorical("max_grad_norm", (0.5, 1.0, 2.0)),
    }
    if "critic_learning_rate" in algorithm.searched:
        drawn["critic_learning_rate"] = trial.suggest_float("critic_learning_rate", 1e-4, 1e-2, log=True)
    if "critic_init" in algorithm.searched:
        drawn["critic_init"] = trial.suggest_categorical("critic_init", (None, "first_batch"))
    if "gae_lambda" in algorithm.searched:
        drawn["gae_lambda"] = trial.suggest_categorical("gae_lambda", (0.95, 0.99, 1.0))
    if "normalize_advantage" in algorithm.searched:
        drawn["normalize_advantage"] = trial.suggest_categorical("normalize_advantage", (True, False))
    if "advantage" in algorithm.searched and not _residual_alone(settings or {}):
        drawn["advantage"] = trial.suggest_categorical("advantage", ("residual", "standardized"))
    if "vf_coef" in algorithm.searched:
        drawn["vf_coef"] = trial.suggest_float("vf_coef", 0.1, 1.0)
    if sizes:
        drawn["group_size"] = trial.suggest_categorical("group_size", sizes)
    return drawn


def _residual_alone(settings: Mapping[str, Any]) -> bool:
    """Whether there is nothing to choose: a mixture is one of residual advantages, and others need a critic of probabilities."""
    return bool(settings.get("hybrid")) or settings.get("critic_loss") == "mse"


def _group_sizes(algo: str, settings: Mapping[str, Any] | None) -> tuple[int, ...]:
    """Sizes of groups that go into an update; none where only the entry's own does."""
    sizes = TABLE[algo].group_sizes
    if settings is None or not sizes:
        return sizes
    of_run = {**defaults_of(algorithm_class(algo)), **settings}
    count = of_run["n_episodes"]
    fitting = tuple(size for size in sizes if count % size == 0)
    if not fitting and count % of_run["group_size"]:
        raise UsageError(
            f"n_episodes must be a multiple of group_size, got {count}: none of the sizes that are searched ({', '.join(map(str, sizes))}) "
            "divides it. Give a multiple of one, or a group_size of your own."
        )
    return fitting


def as_hyperparameters(algo: str, drawn: Mapping[str, Any], file_settings: Mapping[str, Any]) -> dict[str, Any]:
    """
    Turn what :func:`suggest` draws into settings as they stand in an algorithm's file.

    Four minibatches of an update with 64 episodes: ``batch_size`` 16. Numbers are rounded to three digits.

    :param algo: name on the command line
    :param drawn: by :func:`suggest`
    :param file_settings: the environment's entry, for the size of an update
    """
    settings = {
        key: float(f"{value:.3g}") if isinstance(value, float) else value
        for key, value in drawn.items()
        if key != "n_minibatches"
    }
    settings["batch_size"] = max(update_size(algo, file_settings) // int(drawn["n_minibatches"]), 1)
    return settings


def space_of(algo: str, settings: Mapping[str, Any] | None = None) -> dict[str, optuna.distributions.BaseDistribution]:
    """
    Give what :func:`suggest` draws from.

    :param algo: name on the command line
    :param settings: as for :func:`suggest`
    :return: name → distribution
    """
    import optuna

    trial = optuna.create_study().ask()
    suggest(trial, algo, settings)
    return dict(trial.distributions)


def starting_point(algo: str, file_settings: Mapping[str, Any]) -> dict[str, Any]:
    """
    Say where the file's settings lie in the search space, so that a study can begin there.

    :param algo: name on the command line
    :param file_settings: the environment's entry; what it leaves out is the constructor's default
    :return: as :func:`suggest` draws them; parameters whose value lies outside the space are left out
    """
    settings = {**defaults_of(algorithm_class(algo)), **file_settings}
    start = {name: settings[name] for name in PARAMETERS if name in settings}
    if start.get("critic_learning_rate", 0.0) is None:
        start["critic_learning_rate"] = settings["learning_rate"]
    size, whole = settings["batch_size"], update_size(algo, file_settings)
    # minibatches of unequal size are not searched
    start["n_minibatches"] = 1 if size is None else whole // size if whole % size == 0 else None
    space = space_of(algo, file_settings)
    return {name: value for name, value in start.items() if name in space and _lies_in(value, space[name])}


def suggest_starting_point(trial: optuna.trial.BaseTrial, algo: str, file_settings: Mapping[str, Any]) -> None:
    """
    Tell the sampler where a trial with the file's settings lies in the space; of values outside it learns nothing.

    :param trial: enqueued with the :func:`starting_point`
    :param algo: name on the command line
    :param file_settings: the environment's entry
    """
    space = space_of(algo, file_settings)
    for name in starting_point(algo, file_settings):
        of: Any = space[name]
        if hasattr(of, "choices"):
            trial.suggest_categorical(name, of.choices)
        else:
            trial.suggest_float(name, of.low, of.high, log=of.log)


def _lies_in(value: Any, of: Any) -> bool:
    if hasattr(of, "choices"):
        return value in of.choices
    return isinstance(value, float | int) and of.low <= value <= of.high
