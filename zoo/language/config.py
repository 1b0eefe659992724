"""Configurations of language runs: one YAML file says all that a run depends on, save its seed.

::

    algo: sppo                        # unless --algo names another
    responses: 12_800                 # length of the run; greedy ones of ReMax count too
    model: chain_sum_tiny             # the shipped prior, a local folder or a hub name
    critic: null                      # null: the actor's weights; a name; or settings that differ from the actor's configuration
    problems: {source: chain_sum, size: 20_000}
    reward: null                      # null: the verifier; lenient; or a function, rewards.py:function
    max_prompt_tokens: 18
    max_new_tokens: 224
    evaluation: {problems: {source: chain_sum, size: 512, held_out: true}, every: 1280}
    hyperparameters: {n_episodes: 256, learning_rate: 2.0e-4}
    algorithms: {grpo: {group_size: 8}}   # what is different under an algorithm

``hyperparameters`` are parameters of the algorithm's constructor, ``policy_kwargs`` among them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from sppo_rl.envs.reasoning import Problem, from_file, from_hub, from_reasoning_gym, load_named
from sppo_rl.zoo.language.chains import chain_problems
from sppo_rl.zoo.names import TABLE, UsageError, algorithm_class, suggestion
from sppo_rl.zoo.reading import yaml_of


def named(name: str) -> list[Problem]:
    """
    Load one of the paper's data sets; see :func:`~sppo_rl.envs.reasoning.load_named`.

    :param name: such as ``"dapo-math-17k"``
    """
    return load_named(name).problems


SOURCES: dict[str, Callable[..., list[Problem]]] = {
    "chain_sum": chain_problems,
    "reasoning_gym": from_reasoning_gym,
    "named": named,
    "hub": from_hub,
    "file": from_file,
}
"""``problems.source`` → the function that makes them; its parameters are the other keys."""


@dataclass(frozen=True)
class EvaluationConfig:
    """
    What is measured during a run.

    :param problems: held-out problems: ``source`` and its parameters; each is answered twice, sampled and greedily
    :param every: responses between two evaluations
    :param count: so many of the problems; ``None`` for all
    """

    problems: dict[str, Any]
    every: int
    count: int | None = None


@dataclass(frozen=True)
class LanguageConfig:
    """
    A language run without its seed; see the top of the module.

    :param responses: length of the run
    :param model: name of a shipped prior, local folder, or hub name
    :param problems: to train on: ``source`` and its parameters
    :param max_prompt_tokens: problems with longer prompts are left out
    :param max_new_tokens: longest response
    :param evaluation: see :class:`EvaluationConfig`
    :param algo: name on the command line
    :param critic: see above
    :param reward: what training is rewarded with, see :func:`~sppo_rl.zoo.language.reward.load_reward`; ``None`` for the verifier, or
        that of the problems' own source. Evaluation always uses that one
    :param hyperparameters: of every algorithm
    :param algorithms: name of an algorithm → hyperparameters that differ under it
    """

    responses: int
    model: str
    problems: dict[str, Any]
    max_prompt_tokens: int
    max_new_tokens: int
    evaluation: EvaluationConfig
    algo: str = "sppo"
    critic: str | dict[str, Any] | None = None
    reward: str | None = None
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    algorithms: dict[str, dict[str, Any]] = field(default_factory=dict)

    def constructor_kwargs(self) -> dict[str, Any]:
        """The hyperparameters of this configuration's algorithm; ``policy_kwargs`` are merged key by key."""
        kwargs = merge({**TABLE[self.algo].preset, **self.hyperparameters}, self.algorithms.get(self.algo, {}))
        return {**kwargs, "policy_kwargs": dict(kwargs.get("policy_kwargs", {}))}

    def as_dict(self) -> dict[str, Any]:
        """As in the YAML file; without ``reward`` where none was chosen, as runs were written down before there was a choice."""
        return {key: value for key, value in asdict(self).items() if key != "reward" or value is not None}


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """
    Change settings; ``policy_kwargs`` are changed key by key.

    :param base: settings
    :param changes: what is different
    """
    merged = {**base, **changes}
    if "policy_kwargs" in base and "policy_kwargs" in changes:
        merged["policy_kwargs"] = {**base["policy_kwargs"], **changes["policy_kwargs"]}
    return merged


def shipped() -> list[str]:
    """List the names of the configurations that ship."""
    folder = files("sppo_rl.zoo").joinpath("hyperparams", "llm")
    return sorted(entry.name.removesuffix(".yml") for entry in folder.iterdir() if entry.name.endswith(".yml"))


def config_stem(name: str) -> str:
    """
    Name a configuration: its file's name without folder and ending (``Path.stem`` would cut ``1.5b``).

    :param name: path of a file, or a name
    """
    return Path(name).name.removesuffix(".yml").removesuffix(".yaml")


def load_config(name: str) -> LanguageConfig:
    """
    Read a configuration.

    :param name: path of a YAML file, or the name of one that ships
    :raises UsageError: if there is none, or a key is unknown, missing or of a wrong kind (values:
        :func:`~sppo_rl.zoo.language.check.check`)
    """
    path, stem = Path(name), config_stem(name)
    if path.is_file():
        text = path.read_text(encoding="utf-8")
    elif stem in shipped():
        # a repository's path of a shipped file is understood where there is only the installed package
        text = files("sppo_rl.zoo").joinpath("hyperparams", "llm", f"{stem}.yml").read_text(encoding="utf-8")
    else:
        raise UsageError(f"There is no configuration {name!r}.{suggestion(stem, shipped())} Shipped: {', '.join(shipped())}.")
    return config_of(yaml_of(text, name), where=name)


def config_of(settings: Any, where: str = "The configuration") -> LanguageConfig:
    """
    Make a configuration of what a YAML file holds.

    :param settings: nested dictionaries
    :param where: what messages call it
    :raises UsageError: if a key is unknown or missing, or of a wrong kind
    """
    config = _filled(LanguageConfig, settings, where)
    _check_mappings(config, where)
    evaluation = _filled(EvaluationConfig, config.evaluation, f"{where}: evaluation")
    return replace(config, evaluation=evaluation)


def change(config: LanguageConfig, algo: str | None = None, overrides: Mapping[str, Any] | None = None) -> LanguageConfig:
    """
    Apply what the command line changes.

    :param config: from a file
    :param algo: name of an algorithm, or ``None``
    :param overrides: hyperparameters of the algorithm that runs, and the file's own keys that are plain numbers or names
    :raises UsageError: if there is no such algorithm
    """
    if algo is not None:
        algorithm_class(algo)
        config = replace(config, algo=algo)
    of_run = {key: value for key, value in (overrides or {}).items() if key in _PLAIN}
    rest = {key: value for key, value in (overrides or {}).items() if key not in _PLAIN}
    if not isinstance(rest.get("policy_kwargs", {}), dict):
        raise UsageError(f"policy_kwargs is written policy_kwargs='dict(temperature=0.6)', got {rest['policy_kwargs']!r}.")
    changed = {**config.algorithms, config.algo: merge(config.algorithms.get(config.algo, {}), rest)}
    return replace(config, algorithms=changed, **of_run)


_PLAIN = ("responses", "model", "critic", "reward", "max_prompt_tokens", "max_new_tokens")
"""Keys of a configuration that ``--hyperparams`` may change."""


def problems_of(source: Mapping[str, Any]) -> list[Problem]:
    """
    Make the problems of a configuration.

    :param source: ``source`` and its parameters
    """
    return SOURCES[source["source"]](**{key: value for key, value in source.items() if key != "source"})


def _filled(cls: Any, settings: Any, where: str) -> Any:
    """An instance of a dataclass from a mapping with its fields as keys."""
    if not isinstance(settings, dict):
        raise UsageError(f"{where} must be a mapping of keys to values, got {settings!r}.")
    known = [item.name for item in fields(cls)]
    for key in settings:
        if key not in known:
            raise UsageError(f"{where} has an unknown key {key!r}.{suggestion(str(key), known)} Keys: {', '.join(known)}.")
    required = [item.name for item in fields(cls) if item.default is MISSING and item.default_factory is MISSING]
    missing = [name for name in required if name not in settings]
    if missing:
        raise UsageError(f"{where} lacks {', '.join(missing)}.")
    return cls(**settings)


def _check_mappings(config: LanguageConfig, where: str) -> None:
    """What is merged must be made of mappings."""
    if not isinstance(config.algo, str):
        raise UsageError(f"{where}: algo must be the name of an algorithm, got {config.algo!r}.")
    if not isinstance(config.algorithms, dict):
        raise UsageError(f"{where}: algorithms must map names to hyperparameters, got {config.algorithms!r}.")
    parts = {"hyperparameters": config.hyperparameters, **{f"algorithms.{name}": of for name, of in config.algorithms.items()}}
    for name, part in parts.items():
        if not isinstance(part, dict) or not isinstance(part.get("policy_kwargs", {}), dict):
            raise UsageError(f"{where}: {name} (and policy_kwargs in it) must map names to values, got {part!r}.")
