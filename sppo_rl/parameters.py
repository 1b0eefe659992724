"""Checks of the constructor's parameters: each message names the parameter, the value seen and what may stand there."""

from __future__ import annotations

from typing import Any

import torch as th

from sppo_rl.losses import decision_weights


def check_parameters(model: Any) -> None:
    """
    Check what a :class:`~sppo_rl.algorithm.SequenceAlgorithm` was made with.

    :param model: the algorithm, its estimator made
    :raises ValueError: if a parameter is out of its range, or two do not fit together
    """
    minimum = {"n_episodes": 1, "n_epochs": 1, "group_size": 1, "max_episode_steps": 1, "critic_warmup": 0}
    for name, least in minimum.items():
        if getattr(model, name) < least:
            raise ValueError(f"{name} must be at least {least}, got {getattr(model, name)}.")
    for name in ("max_grad_norm", "target_kl", "importance_cap"):
        value = getattr(model, name)
        if value is not None and not value > 0.0:
            raise ValueError(f"{name} must be positive, got {value}.")
    if not model.ent_coef >= 0.0:
        raise ValueError(f"ent_coef must not be negative, got {model.ent_coef}.")
    for name in ("clip_range", "clip_range_vf"):
        value = getattr(model, name)
        if isinstance(value, float | int) and not value > 0.0:
            raise ValueError(f"{name} must be positive, got {value}.")
    _check_sizes(model)
    if model.critic_loss not in ("auto", "bce", "mse"):
        raise ValueError(f"critic_loss must be 'auto', 'bce' or 'mse', got {model.critic_loss!r}.")
    if isinstance(model.critic_init, str) and model.critic_init != "first_batch":
        raise ValueError(f"critic_init must be a number, 'first_batch' or None, got {model.critic_init!r}.")
    decision_weights(th.ones(1, 1, dtype=th.bool), th.ones(1), 1, model.loss_aggregation)


def _check_sizes(model: Any) -> None:
    """Episodes, minibatches and groups must fit together."""
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
