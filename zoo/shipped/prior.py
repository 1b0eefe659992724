"""Priors: actors that succeed now and then, from which reinforcement learning starts. Reads the shipped files and puts them into policies.

A prior is a NumPy archive (``.npz``, no pickle) of an actor's weights under the names that SB3's ``ActorCriticPolicy`` gives them. A critic
is no part of it: it depends on the algorithm and starts fresh. How a prior was made, and how good it is, stands on the card beside it.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import nn

from sppo_rl.algorithm import SequenceAlgorithm
from sppo_rl.zoo.names import ALGORITHMS, UsageError, algorithm_class, file_name, suggestion
from sppo_rl.zoo.settings.hyperparameters import load_hyperparameters, same_minibatches
from sppo_rl.zoo.settings.values import constructor_values
from sppo_rl.zoo.shipped.card import read_fields

FOLDER = Path(__file__).resolve().parents[1] / "priors"
"""Where the shipped priors are."""
ACTIVATION = nn.Tanh
"""Between the layers of the shipped priors, and of any whose card names no other; the weights do not tell."""
_WITHOUT = "start from random weights (sppo-rl --no-prior, rl_zoo3 -params prior:False)"
_ACTOR_SETTINGS = ("policy_kwargs", "use_sde", "sde_sample_freq")
"""Parameters of the constructor without which an agent's weights are not that agent."""


def load_prior(
    env_id: str, algo: str | type[SequenceAlgorithm] = "sppo", path: str | Path | None = None, **kwargs: Any
) -> SequenceAlgorithm:
    """
    Make an algorithm whose actor starts from a prior, ready for ``learn()``; its critic starts fresh.

    Example::

        model = load_prior("sppo_rl/Hopper-v0", seed=0, verbose=1)
        model.learn(1_000_000)

    :param env_id: id of a task; without ``path``, one that has a shipped prior
    :param algo: ``"sppo"``, ``"ppo"``, ``"grpo"``, ``"rloo"``, ``"remax"``, or a class of this package's kind
    :param path: a prior that ``sppo-rl pretrain`` has written, or an agent of ``sppo-rl train-agent``; ``None`` for the shipped prior
    :param kwargs: for the algorithm's constructor (``env`` too: an environment to train on instead of the id); what is not given
        comes from ``zoo/hyperparams``, and the network from the card beside the file
    :raises FileNotFoundError: if there is no prior for this id; says for which there is one
    :raises ValueError: if the algorithm is unknown or not of this package, or its actor has another shape or activation function than
        the prior
    """
    cls, name = _algorithm(algo)
    weights = read_weights(path) if path is not None else prior_weights(env_id)
    defaults = {} if name is None else load_hyperparameters(name, env_id).kwargs
    minibatches = {} if name is None else same_minibatches(name, defaults, kwargs)
    actor = {} if path is None else _actor_settings(Path(path))
    settings = {"env": env_id, **defaults, **minibatches, **(actor or {}), **kwargs}
    model = cls(settings.pop("policy", "MlpPolicy"), settings.pop("env"), **settings)
    assert isinstance(model.policy, ActorCriticPolicy)
    # a file without a card may be of any network: what it is then stands in the user's policy_kwargs alone
    activation = None if actor is None else actor.get("policy_kwargs", {}).get("activation_fn", ACTIVATION)
    copy_weights(model.policy, weights, activation)
    return model


def prior_weights(env_id: str) -> dict[str, np.ndarray]:
    """
    Read a shipped prior.

    :param env_id: id of a task
    :return: name of a parameter → float32 array, such as ``"mlp_extractor.policy_net.0.weight"``, ``"action_net.bias"``, ``"log_std"``
    :raises FileNotFoundError: if there is no prior for this id; says for which there is one
    """
    path = FOLDER / f"{file_name(env_id)}.npz"
    if not path.is_file():
        known = list_priors()
        raise FileNotFoundError(
            f"There is no prior for {env_id!r}.{suggestion(env_id, known)} Priors ship for: {', '.join(known) or 'none'}."
        )
    return read_weights(path)


def copy_prior_into(policy: ActorCriticPolicy, env_id: str) -> None:
    """
    Make the actor of a policy the shipped prior; for Stable-Baselines3's own algorithms: ``copy_prior_into(model.policy, env_id)``.

    :param policy: any SB3 actor-critic policy with an MLP whose actor has the prior's layers (64 and 64 by default, as ``MlpPolicy``);
        its critic stays as it is
    :param env_id: id of a task
    :raises FileNotFoundError: if there is no prior for this id
    :raises ValueError: if the actors differ in shape or activation function
    """
    copy_weights(policy, prior_weights(env_id))


def list_priors() -> list[str]:
    """List the ids for which a prior ships."""
    return sorted(path.stem.replace("-", "/", 1) for path in FOLDER.glob("*.npz"))


def actor_weights(policy: ActorCriticPolicy) -> dict[str, np.ndarray]:
    """
    Take the actor's weights out of a policy.

    :param policy: an SB3 actor-critic policy with an MLP
    :return: name of the parameter → float32 array, a copy
    """
    return {name: parameter.detach().cpu().numpy().astype(np.float32) for name, parameter in _actor(policy).items()}


def copy_weights(
    policy: ActorCriticPolicy, weights: dict[str, np.ndarray], activation: type[nn.Module] | None = ACTIVATION
) -> None:
    """
    Put an actor's weights into a policy.

    :param policy: its actor is overwritten, its critic stays
    :param weights: as :func:`actor_weights` gives them
    :param activation: between the layers that the weights are of; ``None`` where nobody knows
    :raises ValueError: if the policy's actor has other parameters, parameters of other shapes, or another activation function
    """
    parameters = _actor(policy)
    has = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
    wants = {name: array.shape for name, array in weights.items()}
    if has != wants:
        differing = sorted(name for name in has.keys() | wants.keys() if has.get(name) != wants.get(name))
        raise ValueError(
            "The prior does not fit this policy's actor: "
            + ", ".join(
                f"{name} is {wants.get(name, 'absent')} in the prior and {has.get(name, 'absent')} here" for name in differing
            )
            + f". Use the prior's layers, policy_kwargs=dict(net_arch=dict(pi={_layers(weights)}, vf=...)), without gSDE, and an "
            f"environment with its spaces, frames not stacked; or {_WITHOUT}."
        )
    # made, as SB3 makes it: policy_kwargs may hold a partial
    own = type(policy.activation_fn())
    if activation is not None and own is not activation:
        raise ValueError(
            f"The prior's layers have {activation.__name__} between them and this policy's {own.__name__}, with which the same weights "
            f"are another actor. Give policy_kwargs the prior's activation_fn, nn.{activation.__name__}, or {_WITHOUT}."
        )
    with th.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(th.as_tensor(weights[name]))


def write_weights(path: str | Path, weights: dict[str, np.ndarray]) -> None:
    """
    Write a prior. Equal weights give equal bytes: the archive bears no date.

    :param path: of the ``.npz`` file
    :param weights: as :func:`actor_weights` gives them
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(weights):
            content = io.BytesIO()
            np.lib.format.write_array(content, np.ascontiguousarray(weights[name], dtype="<f4"), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0)), content.getvalue())


def read_weights(path: str | Path) -> dict[str, np.ndarray]:
    """
    Read a prior.

    :param path: of the ``.npz`` file
    :raises FileNotFoundError: if there is none
    :raises UsageError: if it is damaged, or something else
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (zipfile.BadZipFile, EOFError, ValueError, TypeError) as error:
        # a single array is no context, which Python answers with a TypeError
        raise UsageError(
            f"{path} is damaged, or no archive of weights ({' '.join(str(error).split()) or type(error).__name__}). Copy it again, or make "
            "it again: sppo-rl pretrain, sppo-rl train-agent."
        ) from error


def _actor_settings(path: Path) -> dict[str, Any] | None:
    """What the constructor needs to make the actor of a file, as the card beside it has it; ``None`` without a card."""
    if not path.with_suffix(".json").is_file():
        return None
    card = read_fields(path)
    used = {name: value for name, value in card.get("hyperparameters", {}).items() if name in _ACTOR_SETTINGS}
    return constructor_values(card["algo"], used) if used else {}


def _algorithm(algo: str | type[SequenceAlgorithm]) -> tuple[type[SequenceAlgorithm], str | None]:
    """The class, and the name of its YAML file (none for a class that is not in the zoo)."""
    cls: type = algorithm_class(algo) if isinstance(algo, str) else algo
    if not (isinstance(cls, type) and issubclass(cls, SequenceAlgorithm)):
        raise ValueError(
            f"load_prior makes this package's algorithms, not {algo!r}. For Stable-Baselines3's, make the model yourself and call "
            "sppo_rl.zoo.copy_prior_into(model.policy, env_id)."
        )
    name = algo if isinstance(algo, str) else next((name for name, known in ALGORITHMS.items() if known is cls), None)
    return cls, name


def _actor(policy: ActorCriticPolicy) -> dict[str, th.nn.Parameter]:
    """The parameters of the actor by name."""
    ours = ("mlp_extractor.policy_net.", "action_net.", "log_std")
    return {name: parameter for name, parameter in policy.named_parameters() if name.startswith(ours)}


def _layers(weights: dict[str, np.ndarray]) -> list[int]:
    """Widths of the hidden layers, first to last."""
    hidden = [name for name in weights if name.startswith("mlp_extractor.policy_net.") and name.endswith(".bias")]
    return [len(weights[name]) for name in sorted(hidden, key=lambda name: int(name.split(".")[2]))]
