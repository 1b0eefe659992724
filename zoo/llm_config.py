"""Configurations of language runs: one YAML file says all that a run depends on, save its seed.

::

    algo: sppo                        # unless --algo names another
    responses: 12_800                 # length of the run; greedy ones of ReMax count too
    model: chain_sum_tiny             # the shipped prior, a local folder or a hub name
    critic: null                      # null: the actor's weights; a name; or settings that differ from the actor's configuration
    problems: {source: chain_sum, size: 20_000}
    max_prompt_tokens: 18
    max_new_tokens: 224
    evaluation: {problems: {source: chain_sum, size: 512, held_out: true}, every: 1280}
    hyperparameters: {n_episodes: 256, learning_rate: 2.0e-4}
    algorithms: {grpo: {group_size: 8}}   # what is different under an algorithm

``hyperparameters`` are parameters of the algorithm's constructor, ``policy_kwargs`` among them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from sppo_rl.algorithm import SequenceAlgorithm
from sppo_rl.envs.reasoning import Problem, from_file, from_hub, from_reasoning_gym, load_named
from sppo_rl.parameters import check_parameters
from sppo_rl.zoo.chains import chain_problems
from sppo_rl.zoo.hyperparameters import check_keys
from sppo_rl.zoo.names import LABELS, UsageError, algorithm_class, is_ours, suggestion


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

BYTES_PER_PARAMETER = 16
"""Weights, gradients and Adam's two moments in float32."""
PARAMETERS = {
    "Qwen/Qwen2.5-0.5B-Instruct": 0.494e9,
    "Qwen/Qwen2.5-1.5B-Instruct": 1.544e9,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": 1.777e9,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": 7.616e9,
}
"""Of models whose memory can be told without downloading them."""


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
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    algorithms: dict[str, dict[str, Any]] = field(default_factory=dict)

    def constructor_kwargs(self) -> dict[str, Any]:
        """The hyperparameters of this configuration's algorithm; ``policy_kwargs`` are merged key by key."""
        kwargs = merge(self.hyperparameters, self.algorithms.get(self.algo, {}))
        return {**kwargs, "policy_kwargs": dict(kwargs.get("policy_kwargs", {}))}

    def as_dict(self) -> dict[str, Any]:
        """As in the YAML file."""
        return asdict(self)


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
    :raises UsageError: if there is none, or it does not hold together (see :func:`check`)
    """
    path, stem = Path(name), config_stem(name)
    if path.is_file():
        text = path.read_text(encoding="utf-8")
    elif stem in shipped():
        # a repository's path of a shipped file is understood where there is only the installed package
        text = files("sppo_rl.zoo").joinpath("hyperparams", "llm", f"{stem}.yml").read_text(encoding="utf-8")
    else:
        raise UsageError(f"There is no configuration {name!r}.{suggestion(stem, shipped())} Shipped: {', '.join(shipped())}.")
    try:
        settings = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{name} is no valid YAML: {error}") from error
    return config_of(settings, where=name)


def config_of(settings: Any, where: str = "The configuration") -> LanguageConfig:
    """
    Make a configuration of what a YAML file holds.

    :param settings: nested dictionaries
    :param where: what messages call it
    :raises UsageError: if a key is unknown or missing, or of a wrong kind
    """
    config = _filled(LanguageConfig, settings, where)
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
    if isinstance(rest.get("policy_kwargs", {}), dict) is False:
        raise UsageError(f"policy_kwargs is written policy_kwargs='dict(temperature=0.6)', got {rest['policy_kwargs']!r}.")
    changed = {**config.algorithms, config.algo: merge(config.algorithms.get(config.algo, {}), rest)}
    return replace(config, algorithms=changed, **of_run)


_PLAIN = ("responses", "model", "critic", "max_prompt_tokens", "max_new_tokens")
"""Keys of a configuration that ``--hyperparams`` may change."""


def check(config: LanguageConfig) -> LanguageConfig:
    """
    Check everything that can be known without data, models or a GPU.

    :param config: to check
    :return: the same
    :raises UsageError: at the first thing that cannot be; the message names it and the value seen
    """
    for name in ("responses", "max_prompt_tokens", "max_new_tokens"):
        _positive(name, getattr(config, name))
    _positive("evaluation.every", config.evaluation.every)
    if config.evaluation.count is not None:
        _positive("evaluation.count", config.evaluation.count)
    _check_name("model", config.model)
    if isinstance(config.critic, str):
        _check_name("critic", config.critic)
    elif config.critic is not None and not isinstance(config.critic, dict):
        raise UsageError(f"critic is null, a name or settings of a small network, got {config.critic!r}.")
    _check_source("problems", config.problems)
    _check_source("evaluation.problems", config.evaluation.problems)
    for algo in {config.algo, *config.algorithms}:
        if not is_ours(algo):
            raise UsageError(f"{LABELS[algo]} cannot train language models. Use sppo, ppo, ppo-bce, grpo, rloo or remax.")
        _check_algorithm(replace(config, algo=algo))
    return config


def problems_of(source: Mapping[str, Any]) -> list[Problem]:
    """
    Make the problems of a configuration.

    :param source: ``source`` and its parameters
    """
    return SOURCES[source["source"]](**{key: value for key, value in source.items() if key != "source"})


def memory(config: LanguageConfig) -> str:
    """
    Tell what weights, gradients and optimizers will take, where the architecture is known; activations and generation come on top.

    :param config: checked
    """
    trains_critic = _unbuilt(config).estimator.critic != "none"
    names = {"actor": config.model}
    if trains_critic and not isinstance(config.critic, dict):
        names["critic"] = config.critic or config.model
    parts, total = [], 0.0
    for role, name in names.items():
        if name not in PARAMETERS:
            return f"memory: unknown, for the size of {name} is not known here"
        size = PARAMETERS[name] * BYTES_PER_PARAMETER / 2**30
        parts.append(f"{role} {name} {size:.0f} GiB")
        total += size
    return (
        f"memory of float32 weights, gradients and Adam's moments: {total:.0f} GiB ({'; '.join(parts)}); activations, the sampler's "
        "copy of the weights and its cache come on top"
    )


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


def _positive(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UsageError(f"{name} must be a whole number of at least 1, got {value!r}.")


def _check_name(role: str, name: Any) -> None:
    parts = name.split("/") if isinstance(name, str) else []
    if not parts or not all(parts[1:]) or any(character.isspace() for character in name):
        raise UsageError(
            f"{role} must be a shipped prior, a folder or a hub name such as 'Qwen/Qwen2.5-1.5B-Instruct', got {name!r}."
        )


def _check_source(role: str, source: Any) -> None:
    name = source.get("source") if isinstance(source, dict) else None
    if name not in SOURCES:
        hint = suggestion(str(name), SOURCES) if name is not None else ""
        raise UsageError(f"{role} needs a source ({', '.join(SOURCES)}), got {source!r}.{hint}")
    parameters = inspect.signature(SOURCES[name]).parameters
    keys = [key for key in source if key != "source"]
    if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        for key in keys:
            if key not in parameters:
                raise UsageError(
                    f"{role} of {name} has no {key!r}.{suggestion(key, parameters)} It has: {', '.join(parameters)}."
                )
    for parameter in parameters.values():
        needed = parameter.default is parameter.empty and parameter.kind is not inspect.Parameter.VAR_KEYWORD
        if needed and parameter.name not in keys:
            raise UsageError(f"{role} of {name} needs {parameter.name!r}.")


def _check_algorithm(config: LanguageConfig) -> None:
    from sppo_rl.llm import TransformerPolicy

    where = f"{LABELS[config.algo]}: "
    kwargs = config.constructor_kwargs()
    check_keys(config.algo, kwargs)
    # what the run sets by itself
    own = (
        "self",
        "observation_space",
        "action_space",
        "lr_schedule",
        "model",
        "critic",
        "with_critic",
        "use_sde",
        "tokenizer",
    )
    known = [name for name in inspect.signature(TransformerPolicy.__init__).parameters if name not in own]
    for key in kwargs["policy_kwargs"]:
        if key not in known:
            raise UsageError(f"{where}policy_kwargs has no {key!r}.{suggestion(key, known)} It has: {', '.join(known)}.")
    try:
        model = _unbuilt(config)
        check_parameters(model)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{where}{error}") from error
    size = model.batch_size
    if size is not None and model.n_episodes % size:
        raise UsageError(f"{where}n_episodes ({model.n_episodes}) must be a multiple of batch_size, got {size}.")
    if size is not None and size % model.group_size:
        raise UsageError(f"{where}batch_size must be a multiple of group_size ({model.group_size}), got {size}.")


def _unbuilt(config: LanguageConfig) -> Any:
    """The algorithm with its parameters and estimator, but without networks."""
    cls = algorithm_class(config.algo)
    assert issubclass(cls, SequenceAlgorithm)
    kwargs = {key: value for key, value in config.constructor_kwargs().items() if key != "policy_kwargs"}
    model = cls("TransformerPolicy", None, _init_setup_model=False, **kwargs)
    model.estimator = model._make_estimator()
    return model
