"""
Decides whether a response ends in the right answer: bounded, exact, and safe on hostile text.

From a response to a verdict, each step on those before it:

- ``extract`` finds the answer
- ``spelling`` brings it into plain LaTeX
- ``tokens`` cuts it up, with ``units`` for the words behind a number
- the parser makes a ``tree`` of it, in layers: ``cursor``, ``arithmetic``, ``functions``, ``atoms``, ``parser``
- ``compare`` holds it against the gold answer, form by form, with ``forms`` (rewriting), ``names`` (what is before an equals sign),
  ``roundings`` (what is behind ``≈``) and ``realsets``; values are equal by ``equality``: ``evaluate`` on ``numerics``, at the
  ``points`` where symbols are compared
- ``checker`` gives the verdict

Around it: ``pool`` does this in processes that run ``worker``, which also runs ``gym_scorer`` for tasks of reasoning_gym.
"""

from .checker import Verdict, check, compare_answers, is_well_formed, verify
from .pool import VerifierPool

__all__ = ["Verdict", "VerifierPool", "check", "compare_answers", "is_well_formed", "verify"]
