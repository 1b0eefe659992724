"""Generators: what turns prompts into sampled responses. The policy owns one; neither environment nor algorithm knows it."""

from sppo_rl.llm.generation.protocol import Generator, Sampling
from sppo_rl.llm.generation.transformers_backend import TransformersGenerator

__all__ = ["Generator", "Sampling", "TransformersGenerator"]
