"""The zoo: priors to start from, trained agents; trains, evaluates, compares and plots."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sppo_rl.zoo.agent import list_agents, load_agent
    from sppo_rl.zoo.prior import copy_prior_into, list_priors, load_prior, prior_weights

_HOMES = {
    "copy_prior_into": "prior",
    "list_agents": "agent",
    "list_priors": "prior",
    "load_agent": "agent",
    "load_prior": "prior",
    "prior_weights": "prior",
}
__all__ = ["copy_prior_into", "list_agents", "list_priors", "load_agent", "load_prior", "prior_weights"]


def __getattr__(name: str) -> Any:
    """Import what reads priors and agents when it is first named: the command line starts without it."""
    if name in _HOMES:
        return getattr(importlib.import_module(f"sppo_rl.zoo.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'sppo_rl.zoo' has no attribute {name!r}")
