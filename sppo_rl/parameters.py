"""Checks of the constructor's parameters: each message names the parameter, the value seen and what may stand there."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from gymnasium import spaces

from sppo_rl.losses import LossAggregation
from sppo_rl.schedules import as_schedule
from sppo_rl.value_scale import CriticLoss

if TYPE_CHECKING:
    from sppo_rl.algorithm import SequenceAlgorithm


_ARRAYS = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


def check_parameters(model: SequenceAlgorithm) -> None:
    """
    Check what a :class:`~sppo_rl.algorithm.SequenceAlgorithm` was made with.

    :param model: the algorithm, its estimator made
    :raises ValueError: if a parameter is out of its range, or two do not fit together
    """
    minimum = {"n_episodes": 1, "n_epochs": 1, "group_size": 1, "max_episode_steps": 1, "critic_warmup": 0}
    for name, least in minimum.items():
        _check_count(name, getattr(model, name), least)
    _check_count("stats_window_size", model._stats_window_size, 1)
    for name in ("max_grad_norm", "target_kl", "importance_cap"):
        value = getattr(model, name)
        if value is None and name != "max_grad_norm":
            continue
        check_number(name, value)
        if not value > 0.0:
            raise ValueError(f"{name} must be positive, got {value}.")
    check_number("ent_coef", model.ent_coef)
    if not 0.0 <= model.ent_coef < math.inf:
        raise ValueError(f"ent_coef must be 0 or more and finite, got {model.ent_coef}.")
    for name in ("clip_range", "clip_range_vf"):
        value = getattr(model, name)
        if isinstance(value, Real) and not float(value) > 0.0:
            raise ValueError(f"{name} must be positive, got {value}.")
    for name in ("learning_rate", "clip_range", "critic_learning_rate", "clip_range_vf"):
        value = getattr(model, name)
        if value is not None or name in ("learning_rate", "clip_range"):
            as_schedule(name, value)
    _check_sizes(model)
    for name, choices in {"critic_loss": get_args(CriticLoss), "loss_aggregation": get_args(LossAggregation)}.items():
        if getattr(model, name) not in choices:
            *others, last = map(repr, choices)
            raise ValueError(f"{name} must be {', '.join(others)} or {last}, got {getattr(model, name)!r}.")
    _check_critic_init(model)


def check_spaces(observation_space: spaces.Space, action_space: spaces.Space) -> None:
    """
    Refuse spaces that SB3's networks would misread: they count choices from 0 and know no grids of them.

    :param observation_space: of one copy
    :param action_space: of one copy
    :raises ValueError: naming the space
    :raises NotImplementedError: if observations are neither arrays nor a dictionary of arrays
    """
    parts = {"action space": action_space, "observation space": observation_space}
    if isinstance(observation_space, spaces.Dict):
        parts = {"action space": action_space} | {
            f"observation space's {key!r}": part for key, part in observation_space.spaces.items()
        }
    for role, space in parts.items():
        if role != "action space" and not isinstance(space, _ARRAYS):
            raise NotImplementedError(
                f"The {role} is {space}; it must be a Box, Discrete, MultiDiscrete or MultiBinary space, or a Dict of these, as in "
                "Stable-Baselines3. Turn a Tuple into a Dict in the environment, or with gymnasium.wrappers.TransformObservation."
            )
        wrapper = "TransformAction" if role == "action space" else "TransformObservation"
        if isinstance(space, spaces.Discrete | spaces.MultiDiscrete) and np.any(space.start):
            raise ValueError(
                f"The {role} is {space}, but choices must be counted from 0, as Stable-Baselines3's networks count them. Shift them in "
                f"the environment, or with gymnasium.wrappers.{wrapper}."
            )
        # a grid of bits is an observation like another; as an action SB3 itself refuses it
        if isinstance(space, spaces.MultiDiscrete) and len(space.shape) > 1:
            raise ValueError(
                f"The {role} is {space}, a grid of choices; one row is what Stable-Baselines3's networks take. Flatten it in the "
                f"environment, or with gymnasium.wrappers.{wrapper}."
            )


def _check_count(name: str, value: Any, least: int) -> None:
    if not _is_whole(value):
        raise ValueError(f"{name} must be a whole number, got {value!r}.")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}.")


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_number(name: str, value: Any) -> None:
    """
    Refuse what is no number.

    :param name: of the parameter
    :param value: given for it
    :raises ValueError: naming both
    """
    if not isinstance(value, Real):
        raise ValueError(f"{name} must be a number, got {value!r}.")


def _check_critic_init(model: SequenceAlgorithm) -> None:
    value = model.critic_init
    if value is None or value == "first_batch":
        return
    if not isinstance(value, Real) or not math.isfinite(value):
        raise ValueError(f"critic_init must be a number, 'first_batch' or None, got {value!r}.")
    if model.critic_loss == "bce" and model.estimator.critic != "none" and not 0.0 < float(value) < 1.0:
        raise ValueError(f"critic_init must lie strictly between 0 and 1 with critic_loss='bce', got {value!r}.")


def _check_sizes(model: SequenceAlgorithm) -> None:
    """Episodes, minibatches and groups must fit together."""
    if model.batch_size is not None and not _is_whole(model.batch_size):
        raise ValueError(f"batch_size must be a whole number of episodes or None, got {model.batch_size!r}.")
    if model.batch_size is not None and not 1 <= model.batch_size <= model.n_episodes:
        raise ValueError(
            f"batch_size counts whole episodes and must lie between 1 and n_episodes ({model.n_episodes}), got {model.batch_size}. "
            "None takes all of them."
        )
    least = model.estimator.min_group_size
    if model.group_size < least:
        raise ValueError(
            f"{type(model).__name__} compares episodes of a group: group_size must be at least {least}, got {model.group_size}."
        )
    if model.n_episodes % model.group_size:
        raise ValueError(
            f"n_episodes must be a multiple of group_size, got {model.n_episodes} and {model.group_size}: groups would be torn."
        )
