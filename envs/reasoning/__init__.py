"""
Mathematical reasoning as a bandit: one response, one verified outcome. Imports neither transformers nor datasets.

- environments: ``env`` (one copy), ``vec`` (all responses of an update), ``bandit`` (what both share), ``order`` (of the problems),
  ``encoding`` (what is asked of a tokenizer)
- problems: ``problems``, ``golds`` (their answers), ``benchmarks`` (the paper's data sets), ``gym_tasks`` (reasoning_gym's)
- judging: ``rewards`` (scorers, and reward functions of others), :mod:`.verifier`
"""

from sppo_rl.envs.reasoning.benchmarks import load_named
from sppo_rl.envs.reasoning.env import MathReasoningEnv
from sppo_rl.envs.reasoning.gym_tasks import from_reasoning_gym
from sppo_rl.envs.reasoning.problems import BOXED_INSTRUCTION, Problem, from_file, from_hub, from_pairs, from_records
from sppo_rl.envs.reasoning.rewards import AnswerScorer, FunctionScorer, Scorer, TRLReward, VerlScore
from sppo_rl.envs.reasoning.vec import MathReasoningVecEnv
from sppo_rl.envs.reasoning.verifier import Verdict, VerifierPool, check, verify

__all__ = [
    "BOXED_INSTRUCTION",
    "AnswerScorer",
    "FunctionScorer",
    "MathReasoningEnv",
    "MathReasoningVecEnv",
    "Problem",
    "Scorer",
    "TRLReward",
    "Verdict",
    "VerifierPool",
    "VerlScore",
    "check",
    "from_file",
    "from_hub",
    "from_pairs",
    "from_reasoning_gym",
    "from_records",
    "load_named",
    "verify",
]
