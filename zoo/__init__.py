"""The zoo: priors to start from; trains, evaluates, compares and plots."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sppo_rl.zoo.prior import copy_prior_into, list_priors, load_prior, prior_weights

__all__ = ["copy_prior_into", "list_priors", "load_prior", "prior_weights"]


def __getattr__(name: str) -> Any:
    """Import what reads priors when it is first named: the command line starts without it."""
    if name in __all__:
        return getattr(importlib.import_module("sppo_rl.zoo.prior"), name)
    raise AttributeError(f"module 'sppo_rl.zoo' has no attribute {name!r}")
