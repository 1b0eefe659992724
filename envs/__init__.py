"""Verifiable tasks: precision control and mathematical reasoning."""
