"""Values of hyperparameters as people write them: text that means a number, a schedule, a dictionary or a class of PyTorch.

What is read stays plain (numbers, text, lists, dictionaries), so that it can be written down again; :func:`constructor_values` makes of it
what a constructor takes. Nothing is executed.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any

import torch as th

from sppo_rl.schedules import as_schedule
from sppo_rl.zoo.names import UsageError, algorithm_class, is_ours, suggestion
from sppo_rl.zoo.settings.kinds import annotations_of_class, check_kinds, fits

RUN_KINDS: dict[str, Any] = {"n_timesteps": int, "n_envs": int | None, "policy": str}
"""Keys that are not keyword parameters of the constructor → what they hold."""
_WORDS = {"null": None, "true": True, "false": False}
_CLASS = re.compile(r"(?:(?:th|torch)\.)?(nn|optim)\.(\w+)")
_CLASS_KEYS = ("activation_fn", "optimizer_class")


def literal(text: str) -> Any:
    """
    Read a value from the command line or from text in a YAML file.

    Examples: ``"1e-4"`` gives 0.0001, ``"dict(net_arch=[32], activation_fn=nn.ReLU)"`` gives
    ``{"net_arch": [32], "activation_fn": "nn.ReLU"}``, ``"lin_3e-4"`` stays as it is.

    :param text: a Python literal (or ``dict(...)`` of literals and names) or YAML's ``null``, ``true`` and ``false``; anything else is a
        string
    """
    if text in _WORDS:
        return _WORDS[text]
    try:
        return _value_of(ast.parse(text, mode="eval").body, outermost=True)
    except (SyntaxError, ValueError):
        return text


def _value_of(node: ast.expr, outermost: bool = False) -> Any:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict" and not node.args:
        return {str(keyword.arg): _value_of(keyword.value) for keyword in node.keywords}
    if isinstance(node, ast.Dict):
        return {
            ast.literal_eval(key): _value_of(of) for key, of in zip(node.keys, node.values, strict=True) if key is not None
        }
    if isinstance(node, ast.List):
        return [_value_of(item) for item in node.elts]
    try:
        return ast.literal_eval(node)
    except ValueError:
        if outermost:
            raise
        # a name such as nn.ReLU, or a word of YAML
        text = ast.unparse(node)
        return _WORDS.get(text, text)


def plain_values(algo: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """
    Give settings the types that their parameters take, as far as text or a whole float means such a value.

    Example: ``{"ent_coef": "1e-4", "n_timesteps": 1e3, "policy_kwargs": "dict(net_arch=[32])"}`` becomes
    ``{"ent_coef": 0.0001, "n_timesteps": 1000, "policy_kwargs": {"net_arch": [32]}}``; ``learning_rate: lin_3e-4`` stays.

    :param algo: name on the command line
    :param settings: keys that the algorithm has → values as read
    :raises UsageError: if a value is of another kind, no schedule, or no class of PyTorch
    """
    kinds = {**annotations_of_class(algorithm_class(algo)), **RUN_KINDS}
    values = {key: _plain(value, kinds[key]) if key in kinds else value for key, value in settings.items()}
    for key, value in values.items():
        if key in kinds and _takes_schedule(kinds[key]) and isinstance(value, str) and not _is_schedule(value):
            raise UsageError(f"{key} must be a number or a schedule such as 'lin_3e-4', got {value!r}.")
    # a schedule is no number to those parameters that take a function for it
    numbers = {key: value for key, value in values.items() if not (isinstance(value, str) and _takes_schedule(kinds.get(key)))}
    check_kinds("", kinds, numbers)
    _with_classes(values.get("policy_kwargs"))
    return values


def constructor_values(algo: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """
    Turn plain settings into what the constructor takes: schedules for Stable-Baselines3, classes in ``policy_kwargs``.

    :param algo: name on the command line
    :param settings: of :func:`plain_values`, for the constructor
    :raises UsageError: if ``policy_kwargs`` names no class of PyTorch
    """
    kinds = annotations_of_class(algorithm_class(algo))
    values = dict(settings)
    for key, value in settings.items():
        if key == "policy_kwargs":
            values[key] = _with_classes(value)
        elif isinstance(value, str) and _takes_schedule(kinds.get(key)) and not is_ours(algo):
            values[key] = as_schedule(key, value)
    return values


def _plain(value: Any, kind: Any) -> Any:
    if isinstance(value, str) and (_takes_schedule(kind) or not fits(value, kind)):
        value = literal(value)
    if isinstance(value, float) and value.is_integer() and not fits(value, kind):
        value = int(value)
    return _without_tuples(value)


def _without_tuples(value: Any) -> Any:
    """YAML has lists alone."""
    if isinstance(value, Mapping):
        return {key: _without_tuples(item) for key, item in value.items()}
    return [_without_tuples(item) for item in value] if isinstance(value, list | tuple) else value


def _takes_schedule(kind: Any) -> bool:
    return kind is not None and fits(_is_schedule, kind)


def _is_schedule(text: str) -> bool:
    """Whether a text is ``lin_`` and a number."""
    return text.startswith("lin_") and isinstance(literal(text.removeprefix("lin_")), float | int)


def _with_classes(value: Any, key: str = "policy_kwargs") -> Any:
    """Names of PyTorch's modules and optimizers, at any depth, become the classes."""
    if isinstance(value, Mapping):
        return {name: _with_classes(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_classes(item, key) for item in value]
    if not isinstance(value, str):
        return value
    named = _CLASS.fullmatch(value)
    if named is None:
        if key in _CLASS_KEYS:
            raise UsageError(f"{key} must name a class of PyTorch, such as nn.ReLU or th.optim.SGD, got {value!r}.")
        return value
    module: Any = {"nn": th.nn, "optim": th.optim}[named[1]]
    found = getattr(module, named[2], None)
    if not isinstance(found, type):
        raise UsageError(f"There is no class {value} for {key}.{suggestion(named[2], vars(module))}")
    return found
