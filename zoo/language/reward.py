"""What a configuration's ``reward`` names: the verifier's lenient mode, or a function of the user's own."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sppo_rl.envs.reasoning import AnswerScorer, Scorer, VerifierPool
from sppo_rl.envs.reasoning.rewards import scorer_of
from sppo_rl.zoo.names import UsageError, suggestion

LENIENT = "lenient"
_FORM = "'lenient', or a function of your own as 'rewards.py:function' or 'package.module:function'"


def load_reward(name: str) -> Scorer:
    """
    Make the scorer that a name stands for; a function may have any form that :func:`~sppo_rl.envs.reasoning.rewards.scorer_of` knows.

    :param name: ``"lenient"``, ``"FILE.py:function"`` or ``"package.module:function"``
    :raises UsageError: if there is no such file, module or function, it raises an error on being imported, or cannot be called in any form
    """
    if name == LENIENT:
        return AnswerScorer(VerifierPool(mode="lenient"))
    module, _, function_name = name.rpartition(":") if isinstance(name, str) else ("", "", "")
    if not module or not function_name:
        raise UsageError(f"reward is {_FORM}; got {name!r}.")
    loaded = _load_file(Path(module)) if module.endswith(".py") else _load_module(module)
    function = getattr(loaded, function_name, None)
    if not callable(function):
        known = [key for key, value in vars(loaded).items() if inspect.isfunction(value)]
        raise UsageError(f"{module} has no function {function_name!r}.{suggestion(function_name, known)}")
    try:
        return scorer_of(function)
    except TypeError as error:
        raise UsageError(str(error)) from error


def _load_file(path: Path) -> Any:
    if not path.is_file():
        raise UsageError(f"reward names {path}, and there is no such file in {Path.cwd()}.")
    # a name that no module has; dataclasses look themselves up under it
    spec = importlib.util.spec_from_file_location(f"reward_of_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    with _importing(str(path), str(path.resolve().parent)):
        spec.loader.exec_module(module)
    return module


def _load_module(name: str) -> Any:
    # the folder one is in counts, as for 'python -m', though the command is a script
    with _importing(name, str(Path.cwd())):
        return importlib.import_module(name)


@contextmanager
def _importing(what: str, folder: str) -> Iterator[None]:
    """Modules in a folder can be imported, and errors say what was being imported."""
    sys.path.insert(0, folder)
    try:
        yield
    except Exception as error:
        raise UsageError(f"{what} cannot be imported: {type(error).__name__}: {error}") from error
    finally:
        with suppress(ValueError):
            sys.path.remove(folder)
