"""Mathematical reasoning as a bandit: one response, one verified outcome."""

from sppo_rl.envs.reasoning.verifier import Verdict, VerifierPool, check, verify

__all__ = ["Verdict", "VerifierPool", "check", "verify"]
