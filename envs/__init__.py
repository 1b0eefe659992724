"""Verifiable tasks: precision control and mathematical reasoning."""

from sppo_rl.envs.control.outcome import DenseWrapper, Ending, OutcomeWrapper
from sppo_rl.envs.registration import list_envs, register_envs
from sppo_rl.vec_env import has_batched_form, make_batched

__all__ = ["DenseWrapper", "Ending", "OutcomeWrapper", "has_batched_form", "list_envs", "make_batched", "register_envs"]
