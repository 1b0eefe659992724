"""Studies: one configuration of a language run and the variants of it that are compared; a YAML file says both.

::

    config: chain_sum_tiny            # a file, or the name of one that ships
    every_run: {responses: 12_800}    # changes that hold for all variants
    variants:
      sppo: {}                        # named like an algorithm: that algorithm
      grpo: {}
      "SPPO, tiny critic":            # any other name says which
        algo: sppo
        critic: {hidden_size: 24, intermediate_size: 64, num_hidden_layers: 1}
        hyperparameters: {critic_learning_rate: 3.0e-3}

A change names keys of the configuration. ``hyperparameters`` and ``evaluation`` are changed key by key, everything else is replaced.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from sppo_rl.zoo.language.check import check
from sppo_rl.zoo.language.config import EvaluationConfig, LanguageConfig, change, load_config
from sppo_rl.zoo.names import ALGORITHMS, UsageError, suggestion
from sppo_rl.zoo.reading import read_yaml

_KEYS = ("config", "every_run", "variants")


@dataclass(frozen=True)
class Study:
    """
    What a study compares.

    :param name: of its file, without ending
    :param variants: name → configuration, checked
    """

    name: str
    variants: dict[str, LanguageConfig]


def load_study(path: Path) -> Study:
    """
    Read a study.

    :param path: of a YAML file; see the top of the module
    :raises UsageError: if there is none, or it does not hold together
    """
    if not path.is_file():
        raise UsageError(f"There is no study {path}.")
    settings = read_yaml(path)
    if not isinstance(settings, dict):
        raise UsageError(f"{path} must be a mapping with the keys {', '.join(_KEYS)}, got {settings!r}.")
    for key in settings:
        if key not in _KEYS:
            raise UsageError(f"{path} has an unknown key {key!r}.{suggestion(str(key), _KEYS)} Keys: {', '.join(_KEYS)}.")
    if "config" not in settings or not isinstance(settings.get("variants"), dict) or not settings["variants"]:
        raise UsageError(f"{path} needs a config and at least one entry under variants.")
    base = load_config(str(settings["config"]))
    every = _mapping(f"{path}: every_run", settings.get("every_run"))
    variants = {
        str(name): check(changed(base, [every, _mapping(f"The variant {name!r}", changes)], str(name)))
        for name, changes in settings["variants"].items()
    }
    return Study(path.stem, variants)


def _mapping(what: str, value: Any) -> dict[str, Any]:
    """What a file says of changes: a mapping, or nothing, which is none."""
    if not isinstance(value, dict | None):
        raise UsageError(f"{what} must map keys of the configuration to values, got {value!r}.")
    return value or {}


def study_of(config: str, algos: Sequence[str], name: str) -> Study:
    """
    Compare algorithms under one configuration as it is.

    :param config: a file, or the name of one that ships
    :param algos: names on the command line
    :param name: of the study
    :raises UsageError: if there is no such configuration or algorithm
    """
    base = load_config(config)
    return Study(name, {algo: check(changed(base, [], algo)) for algo in algos})


def changed(config: LanguageConfig, changes: Sequence[Mapping[str, Any]], name: str) -> LanguageConfig:
    """
    Apply changes one after the other.

    :param config: to start from
    :param changes: keys of the configuration → values
    :param name: of the variant, which names an algorithm unless a change does
    :raises UsageError: if a key is unknown or its value of a wrong kind, or nothing says which algorithm it is
    """
    known = [item.name for item in fields(LanguageConfig) if item.name != "algorithms"]
    of_evaluation = [item.name for item in fields(EvaluationConfig)]
    algo = next((of["algo"] for of in reversed(changes) if "algo" in of), name)
    if not isinstance(algo, str) or algo not in ALGORITHMS:
        raise UsageError(
            f"The variant {name!r} is not named like an algorithm, so it must say which it is: algo: sppo, for instance."
        )
    config = change(config, algo)
    for of in changes:
        for key in of:
            if key not in known:
                raise UsageError(
                    f"The variant {name!r} changes an unknown key {key!r}.{suggestion(str(key), known)} Keys: {', '.join(known)}."
                )
        for key in ("evaluation", "hyperparameters"):
            if not isinstance(of.get(key, {}), dict):
                raise UsageError(f"The variant {name!r} changes {key}, which must map names to values, to {of[key]!r}.")
        for key in of.get("evaluation", {}):
            if key not in of_evaluation:
                raise UsageError(
                    f"The variant {name!r} changes an unknown key {key!r} of evaluation.{suggestion(str(key), of_evaluation)} "
                    f"Keys: {', '.join(of_evaluation)}."
                )
        evaluation: EvaluationConfig = replace(config.evaluation, **of.get("evaluation", {}))
        plain = {key: value for key, value in of.items() if key not in ("algo", "evaluation", "hyperparameters")}
        config = replace(change(config, None, of.get("hyperparameters", {})), evaluation=evaluation, **plain)
    return config
