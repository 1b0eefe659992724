"""What can be known about a language run without data, models or a GPU: whether its configuration can be run at all."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from sppo_rl.algorithm import SequenceAlgorithm
from sppo_rl.envs.reasoning.benchmarks import require_known
from sppo_rl.envs.reasoning.gym_tasks import require_task
from sppo_rl.parameters import check_parameters
from sppo_rl.zoo.language.config import SOURCES, LanguageConfig
from sppo_rl.zoo.language.models import check_model_name
from sppo_rl.zoo.language.reward import load_reward
from sppo_rl.zoo.names import ALGORITHMS, LABELS, UsageError, algorithm_class, is_ours, suggestion
from sppo_rl.zoo.settings.hyperparameters import RUN_KEYS, check_keys
from sppo_rl.zoo.settings.kinds import annotations_of, annotations_of_class, check_kinds


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
    check_model_name("model", config.model)
    if isinstance(config.critic, str):
        check_model_name("critic", config.critic)
    elif config.critic is not None and not isinstance(config.critic, dict):
        raise UsageError(f"critic is null, a name or settings of a small network, got {config.critic!r}.")
    if config.reward is not None:
        load_reward(config.reward).close()
    _check_source("problems", config.problems)
    _check_source("evaluation.problems", config.evaluation.problems)
    # in the order of the file, so that the first mistake is the one that is named
    for algo in dict.fromkeys([config.algo, *config.algorithms]):
        if not is_ours(algo):
            ours = ", ".join(name for name in ALGORITHMS if is_ours(name))
            raise UsageError(f"{LABELS[algo]} cannot train language models. Those that can: {ours}.")
        _check_algorithm(replace(config, algo=algo))
    return config


def _positive(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UsageError(f"{name} must be a whole number of at least 1, got {value!r}.")


def _check_source(role: str, source: Any) -> None:
    name = source.get("source") if isinstance(source, dict) else None
    if not isinstance(name, str) or name not in SOURCES:
        hint = suggestion(str(name), SOURCES) if name is not None else ""
        raise UsageError(f"{role} needs a source ({', '.join(SOURCES)}), got {source!r}.{hint}")
    function = SOURCES[name]
    parameters = inspect.signature(function).parameters
    settings = {key: value for key, value in source.items() if key != "source"}
    if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        for key in settings:
            if key not in parameters:
                raise UsageError(
                    f"{role} of {name} has no {key!r}.{suggestion(str(key), parameters)} It has: {', '.join(parameters)}."
                )
    for parameter in parameters.values():
        needed = parameter.default is parameter.empty and parameter.kind is not inspect.Parameter.VAR_KEYWORD
        if needed and parameter.name not in settings:
            raise UsageError(f"{role} of {name} needs {parameter.name!r}.")
    check_kinds(f"{role}.", annotations_of(function), settings)
    if "size" in settings:
        _positive(f"{role}.size", settings["size"])
    if "seed" in settings and settings["seed"] < 0:
        raise UsageError(f"{role}.seed must be at least 0, got {settings['seed']}.")
    try:
        if name == "named":
            require_known(settings["name"])
        if name == "reasoning_gym":
            require_task(settings["task"])
    except ValueError as error:
        raise UsageError(f"{role}: {error}") from error
    if name == "file" and not Path(settings["path"]).is_file():
        raise UsageError(f"{role}: there is no file {settings['path']}.")


def _check_algorithm(config: LanguageConfig) -> None:
    where = f"{LABELS[config.algo]}: "
    kwargs = config.constructor_kwargs()
    for key in RUN_KEYS:
        if key in kwargs:
            raise UsageError(f"{where}{key!r} is no hyperparameter of a language run; its length is 'responses'.")
    check_keys(config.algo, kwargs)
    check_kinds(where, annotations_of_class(algorithm_class(config.algo)), kwargs)
    try:
        model = unbuilt(config)
        check_parameters(model)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{where}{error}") from error
    size = model.batch_size
    if size is not None and model.n_episodes % size:
        raise UsageError(f"{where}n_episodes ({model.n_episodes}) must be a multiple of batch_size, got {size}.")
    if size is not None and size % model.group_size:
        raise UsageError(f"{where}batch_size must be a multiple of group_size ({model.group_size}), got {size}.")
    _check_policy(where, kwargs["policy_kwargs"], model.use_sde)


def _check_policy(where: str, kwargs: dict[str, Any], use_sde: bool) -> None:
    """``policy_kwargs``: names and kinds here, values by the policy itself, on a model with next to no weights."""
    from transformers import Qwen2Config

    from sppo_rl.llm import TransformerPolicy

    known = [name for name in inspect.signature(TransformerPolicy.__init__).parameters if name not in _OF_THE_RUN]
    for key in kwargs:
        if key not in known:
            raise UsageError(f"{where}policy_kwargs has no {key!r}.{suggestion(str(key), known)} It has: {', '.join(known)}.")
    check_kinds(f"{where}policy_kwargs.", annotations_of_class(TransformerPolicy), kwargs)
    # what adapters or a tokenizer fit to is the real model
    values = {
        key: value for key, value in kwargs.items() if key not in ("lora", "critic_lora", "critic_tokenizer", "eos_token_id")
    }
    stand_in = Qwen2Config(
        vocab_size=2, hidden_size=2, intermediate_size=2, num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1
    )
    prompt: dict[str, spaces.Space] = {
        "prompt_ids": spaces.Box(0, 1, (1,), np.int64),
        "prompt_len": spaces.Box(1, 1, (1,), np.int64),
    }
    try:
        TransformerPolicy(
            spaces.Dict(prompt),
            spaces.MultiDiscrete([3]),
            lambda progress: 0.0,
            stand_in,
            eos_token_id=1,
            use_sde=use_sde,
            **values,
        )
        for name in ("lora", "critic_lora"):
            if kwargs.get(name) is not None:
                _check_lora(kwargs[name])
    except (ValueError, TypeError) as error:
        raise UsageError(f"{where}policy_kwargs: {error}") from error


_OF_THE_RUN = (
    "self", "observation_space", "action_space", "lr_schedule", "model", "critic", "with_critic", "use_sde", "tokenizer",
    "use_chat_template",
)  # fmt: skip
"""Parameters of the policy that the run sets by itself."""


def _check_lora(options: dict[str, Any]) -> None:
    from peft import LoraConfig

    LoraConfig(**options)


def unbuilt(config: LanguageConfig) -> Any:
    """
    Make the algorithm with its parameters and estimator, but without networks.

    :param config: to read its hyperparameters from
    """
    cls = algorithm_class(config.algo)
    assert issubclass(cls, SequenceAlgorithm)
    kwargs = {key: value for key, value in config.constructor_kwargs().items() if key != "policy_kwargs"}
    model = cls("TransformerPolicy", None, _init_setup_model=False, **kwargs)
    model.estimator = model._make_estimator()
    return model
