"""Decides whether a response ends in the right answer: bounded, exact, and safe on hostile text."""

from .checker import Verdict, check, compare_answers, is_well_formed, verify
from .pool import VerifierPool

__all__ = ["Verdict", "VerifierPool", "check", "compare_answers", "is_well_formed", "verify"]
