"""Registers the ``sppo_rl/…`` environment ids; imports no simulator."""

from __future__ import annotations


def register_envs() -> None:
    """Register every ``sppo_rl/…`` id with Gymnasium, and its batched form; calling it again changes nothing."""
