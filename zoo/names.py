"""Names a user may type: algorithms and environments, and what was meant by one that does not exist."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable

import gymnasium as gym
from stable_baselines3 import PPO as StableBaselinesPPO
from stable_baselines3.common.base_class import BaseAlgorithm

from sppo_rl.algorithm import SequenceAlgorithm
from sppo_rl.baselines import GRPO, PPO, RLOO, ReMax
from sppo_rl.envs.registration import list_envs
from sppo_rl.sppo import SPPO

ALGORITHMS: dict[str, type[BaseAlgorithm]] = {
    "sppo": SPPO,
    "ppo": PPO,
    "ppo-bce": PPO,
    "grpo": GRPO,
    "rloo": RLOO,
    "remax": ReMax,
    "sb3-ppo": StableBaselinesPPO,
}
"""Name on the command line → class. ``ppo-bce`` is ``PPO`` with ``critic_loss="bce"``, which its hyperparameters say."""

LABELS = {
    "sppo": "SPPO", "ppo": "PPO", "ppo-bce": "PPO + BCE", "grpo": "GRPO", "rloo": "RLOO", "remax": "ReMax", "sb3-ppo": "PPO (SB3)",
}  # fmt: skip
"""Name on the command line → how tables and plots write it."""


class UsageError(ValueError):
    """What the user asked for cannot be done; the command line prints the message without a traceback."""


def suggestion(word: str, known: Iterable[str]) -> str:
    """
    Say which known word was probably meant.

    :param word: what was typed
    :param known: what exists
    :return: ``" Did you mean 'x'?"``, or an empty string if nothing is near
    """
    by_short: dict[str, str] = {}
    for name in known:
        by_short.setdefault(name.lower(), name)
        by_short.setdefault(name.rpartition("/")[2].lower(), name)
    typed = word.lower()
    near = difflib.get_close_matches(typed, by_short, n=1, cutoff=0.6)
    if not near:
        near = [name for name in sorted(by_short) if len(typed) > 2 and typed in name][:1]
    return f" Did you mean {by_short[near[0]]!r}?" if near else ""


def algorithm_class(name: str) -> type[BaseAlgorithm]:
    """
    Look up an algorithm.

    :param name: as on the command line
    :raises UsageError: if there is none of that name; says which exist
    """
    if name not in ALGORITHMS:
        raise UsageError(f"There is no algorithm {name!r}.{suggestion(name, ALGORITHMS)} Algorithms: {', '.join(ALGORITHMS)}.")
    return ALGORITHMS[name]


def is_ours(name: str) -> bool:
    """
    Tell this package's algorithms from Stable-Baselines3's.

    :param name: as on the command line
    """
    return issubclass(algorithm_class(name), SequenceAlgorithm)


def plain_id(env_id: str) -> str:
    """
    Drop the module that Gymnasium allows before an id.

    :param env_id: such as ``"my_package:My-v0"``
    :return: such as ``"My-v0"``
    """
    return env_id.rpartition(":")[2]


def check_env_id(env_id: str) -> str:
    """
    Check that an environment exists.

    :param env_id: a Gymnasium id; a module before it, as in ``"my_package:My-v0"``, is imported first
    :return: the same id
    :raises UsageError: if it is not registered, and says which ids this package has; or if the module cannot be imported
    """
    module = env_id.rpartition(":")[0]
    if module:
        _import_module(module)
    if plain_id(env_id) in gym.registry:
        return env_id
    if module:
        raise UsageError(f"The module {module!r} registers no environment {plain_id(env_id)!r}.")
    ours = [env.id for env in list_envs()]
    hint = suggestion(env_id, ours) or suggestion(env_id, gym.registry)
    raise UsageError(
        f"There is no environment {env_id!r}.{hint} Ids of this package: {', '.join(ours)}. Any other registered Gymnasium id works "
        "too; one of your own as MODULE:ID, or with --gym-packages MODULE."
    )


def with_module(env_id: str, packages: Iterable[str]) -> str:
    """
    Import packages that register environments, and say of which one an id is.

    :param env_id: a Gymnasium id
    :param packages: names of modules
    :return: ``"package:id"``, which other processes and later runs understand; or the id itself if no package brought it
    :raises UsageError: if a module cannot be imported
    """
    for package in packages:
        known = env_id in gym.registry
        _import_module(package)
        if not known and env_id in gym.registry:
            env_id = f"{package}:{env_id}"
    return env_id


def _import_module(name: str) -> None:
    try:
        importlib.import_module(name)
    except ImportError as error:
        raise UsageError(
            f"The module {name!r}, which is to register environments, cannot be imported ({error}). It must be installed, or lie in a "
            "folder of PYTHONPATH."
        ) from error


def file_name(env_id: str) -> str:
    """
    Turn an id into a name for a file or folder, as rl_zoo3 does.

    :param env_id: such as ``"sppo_rl/Pendulum-v0"``
    :return: such as ``"sppo_rl-Pendulum-v0"``; without a module before the id
    """
    return plain_id(env_id).replace("/", "-")
