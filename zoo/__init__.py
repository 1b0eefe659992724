"""
The zoo: priors to start from, trained agents; trains, evaluates, compares and plots.

- commands, one module each, and ``cli`` that dispatches to them: ``demo``, ``envs``, ``pretrain``, ``train``, ``train_agent``,
  ``pretrain_llm``, ``train_llm``, ``evaluate``, ``enjoy``, ``compare``, ``compare_llm``, ``tune``, ``plot``, ``report``; parts of such:
  ``demo_language``, ``evaluate_llm``, ``benchmark_report``
- rl_zoo3's command line: ``rl_zoo3``
- what a user types: ``names``, ``options``, ``hyperparameters``, ``hyperparameter_values``, ``kinds`` (against annotations),
  ``llm_config``, ``llm_check``, ``llm_models``, ``llm_reward``, ``llm_study``
- a run: ``runs``, ``llm_runs``, ``run_folders``, ``models``, ``llm_evaluation``, ``llm_memory``, ``progress``, ``quiet``
- many runs: ``jobs``, and ``worker`` in each process; ``search`` and ``hyperparameter_files`` of ``tune``
- results: ``results``, ``aggregates``, ``control_table``, ``llm_table``, ``tables``, ``plots``, ``report_plots``, ``provenance``
- priors and agents: ``prior``, ``agent``; how priors are made: ``experts``, ``demonstrations``, ``cloning``, ``chains``, ``llm_prior``;
  their cards: ``card``, ``prior_card``, ``llm_prior_card``
"""

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
