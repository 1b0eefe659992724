"""Names a user may type: algorithms and environments, and what was meant by one that does not exist."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

import gymnasium as gym
from stable_baselines3 import PPO as StableBaselinesPPO
from stable_baselines3.common.base_class import BaseAlgorithm

from sppo_rl.algorithm import SequenceAlgorithm
from sppo_rl.baselines import GRPO, PPO, RLOO, ReMax
from sppo_rl.envs.registration import list_envs
from sppo_rl.sppo import SPPO


@dataclass(frozen=True)
class Algorithm:
    """
    What the zoo knows of an algorithm beyond its class and its hyperparameter file.

    :param cls: its class
    :param label: how tables and plots write it
    :param in_rl_zoo3: its name there; ``None`` for what rl_zoo3 has itself
    :param searched: parameters that ``sppo-rl tune`` searches besides those that all share
    :param group_sizes: searched where it plays groups; all divide the episodes of an update in the hyperparameter files
    :param preset: settings that make it what its name says, unless its file or the user says otherwise
    """

    cls: type[BaseAlgorithm]
    label: str
    in_rl_zoo3: str | None = None
    searched: tuple[str, ...] = ()
    group_sizes: tuple[int, ...] = ()
    preset: Mapping[str, Any] = field(default_factory=dict)


_CRITIC, _GAE = ("critic_learning_rate", "critic_init"), ("gae_lambda", "normalize_advantage")
TABLE = {
    "sppo": Algorithm(SPPO, "SPPO", "sppo", (*_CRITIC, "normalize_advantage", "advantage")),
    "ppo": Algorithm(PPO, "PPO", "sppo_ppo", (*_CRITIC, *_GAE)),
    "ppo-bce": Algorithm(PPO, "PPO + BCE", "sppo_ppo_bce", (*_CRITIC, *_GAE), preset={"critic_loss": "bce"}),
    "grpo": Algorithm(GRPO, "GRPO", "grpo", group_sizes=(4, 8)),
    "rloo": Algorithm(RLOO, "RLOO", "rloo", group_sizes=(2, 4, 8)),
    "remax": Algorithm(ReMax, "ReMax", "remax"),
    # one optimizer for both networks: the weight of its loss is what sets the critic's pace
    "sb3-ppo": Algorithm(StableBaselinesPPO, "PPO (SB3)", searched=(*_GAE, "vf_coef")),
}
"""Name on the command line → algorithm; a new one is added here, with a file in ``hyperparams/``."""
ALGORITHMS = {name: algorithm.cls for name, algorithm in TABLE.items()}
LABELS = {name: algorithm.label for name, algorithm in TABLE.items()}
IN_RL_ZOO3 = {algorithm.in_rl_zoo3: name for name, algorithm in TABLE.items() if algorithm.in_rl_zoo3 is not None}
"""Name in rl_zoo3 → name on the command line."""


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


LARGEST_SEED = 2**32 - 1
"""NumPy's, which SB3 seeds."""


def check_seed(seed: int) -> int:
    """
    Check that a seed is one for all that is seeded with it.

    :param seed: of a run or an evaluation
    :return: the same
    :raises UsageError: if it is not
    """
    if not isinstance(seed, Integral) or isinstance(seed, bool) or not 0 <= seed <= LARGEST_SEED:
        raise UsageError(f"seed must be a whole number from 0 to {LARGEST_SEED}, got {seed!r}.")
    return int(seed)


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
