"""Checks of values that came out of a file against the annotations of the function that is to take them."""

from __future__ import annotations

import contextlib
import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from sppo_rl.zoo.names import UsageError

_NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false", dict: "a mapping", list: "a list"}
"""What messages call a type; others are not written in a file."""


def annotations_of(function: Callable[..., Any]) -> dict[str, Any]:
    """
    Give the annotations of a function's parameters, as types. Those that cannot be evaluated (names imported for type
    checkers alone) are left out.

    :param function: any
    """
    found: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.annotation is parameter.empty or parameter.kind is inspect.Parameter.VAR_KEYWORD:
            continue
        alone = types.SimpleNamespace(__annotations__={name: parameter.annotation})
        with contextlib.suppress(NameError, TypeError):
            found |= get_type_hints(alone, getattr(function, "__globals__", {}))
    return found


def annotations_of_class(cls: type) -> dict[str, Any]:
    """
    Give the annotations of a constructor's parameters; through ``**kwargs``, those of the classes it passes them on to.

    :param cls: any class
    """
    found: dict[str, Any] = {}
    for owner in cls.__mro__:
        if "__init__" not in vars(owner):
            continue
        init: Any = vars(owner)["__init__"]
        found = {**annotations_of(init), **found}
        if not any(of.kind is inspect.Parameter.VAR_KEYWORD for of in inspect.signature(init).parameters.values()):
            break
    return found


def check_kinds(where: str, annotations: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """
    Check that values are of the kinds that parameters take.

    :param where: what stands before a parameter's name in messages
    :param annotations: parameter → type, as :func:`annotations_of` gives them; parameters without one take anything
    :param values: parameter → value
    :raises UsageError: at the first that is not
    """
    for name, value in values.items():
        if name not in annotations or fits(value, annotations[name]):
            continue
        hint = ""
        if isinstance(value, str) and _is_number(value) and fits(0.5, annotations[name]):
            hint = f" YAML takes {value} for text; a number with an exponent needs a point and a sign, as in 1.0e-3."
        raise UsageError(f"{where}{name} must be {_describe(annotations[name])}, got {value!r}.{hint}")


def fits(value: Any, kind: Any) -> bool:
    """
    Tell whether a value is of a kind; what an annotation says beyond plain types and their unions is not looked at.

    :param value: any
    :param kind: an annotation
    """
    if get_origin(kind) in (Union, types.UnionType):
        return any(fits(value, option) for option in get_args(kind))
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    plain = get_origin(kind) or kind
    if plain is Callable:
        return callable(value)
    if plain in (int, float):
        # a bool is an int to Python, and never meant as one here
        return isinstance(value, (int, float) if plain is float else int) and not isinstance(value, bool)
    return isinstance(value, plain) if isinstance(plain, type) else True


def _describe(kind: Any) -> str:
    """``float | None``: ``a number or null``."""
    options = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    words = []
    for option in options:
        if option is type(None):
            words.append("null")
        elif get_origin(option) is Literal:
            words += [repr(value) for value in get_args(option)]
        elif (get_origin(option) or option) in _NAMES:
            words.append(_NAMES[get_origin(option) or option])
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
