"""
The zoo: priors to start from, trained agents; trains, evaluates, compares and plots.

From the ground up; each imports those above it in this list alone:

- ``names``: algorithms, tasks, files, and what to say to a wrong one; ``reading``: files that may be damaged
- ``settings/``: hyperparameters, and the search for better ones; ``results/``: result files, summaries, tables, plots
- ``shipped/``: priors and agents, which lie in ``priors/`` and ``agents/``; ``imitation/``: how priors are made
- ``running/``: a control run; ``language/``: runs of language models; ``parallel/``: many runs side by side, of either kind
- ``commands/``: what the ``sppo-rl`` command does; ``cli``: that command
- ``rl_zoo3_manager``: what is changed inside rl_zoo3; ``rl_zoo3``: its command line
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sppo_rl.zoo.shipped.agent import list_agents, load_agent
    from sppo_rl.zoo.shipped.prior import copy_prior_into, list_priors, load_prior, prior_weights

_HOMES = {
    "copy_prior_into": "shipped.prior",
    "list_agents": "shipped.agent",
    "list_priors": "shipped.prior",
    "load_agent": "shipped.agent",
    "load_prior": "shipped.prior",
    "prior_weights": "shipped.prior",
}
__all__ = ["copy_prior_into", "list_agents", "list_priors", "load_agent", "load_prior", "prior_weights"]


def __getattr__(name: str) -> Any:
    """Import what reads priors and agents when it is first named: the command line starts without it."""
    if name in _HOMES:
        return getattr(importlib.import_module(f"sppo_rl.zoo.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'sppo_rl.zoo' has no attribute {name!r}")
