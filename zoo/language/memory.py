"""What a language run's weights, gradients and optimizers will take, told without downloading anything."""

from __future__ import annotations

from sppo_rl.zoo.language.check import unbuilt
from sppo_rl.zoo.language.config import LanguageConfig

BYTES_PER_PARAMETER = 16
"""Weights, gradients and Adam's two moments in float32."""
PARAMETERS = {
    "Qwen/Qwen2.5-0.5B-Instruct": 0.494e9,
    "Qwen/Qwen2.5-1.5B-Instruct": 1.544e9,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": 1.777e9,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": 7.616e9,
}
"""Of models whose memory can be told."""


def memory(config: LanguageConfig) -> str:
    """
    Put the memory into words, where the architecture is known; activations and generation come on top.

    :param config: checked
    """
    kwargs = config.constructor_kwargs()["policy_kwargs"]
    if kwargs.get("lora") is not None or kwargs.get("critic_lora") is not None:
        return "memory: not known here, for most weights have no gradients where adapters are trained"
    names = {"actor": config.model}
    if unbuilt(config).estimator.critic != "none":
        if isinstance(config.critic, dict):
            return "memory: not known here, for the critic is an architecture of its own"
        names["critic"] = config.critic or config.model
    parts, total = [], 0.0
    for role, name in names.items():
        if name not in PARAMETERS:
            return f"memory: not known here, for the size of {name} is not"
        size = PARAMETERS[name] * BYTES_PER_PARAMETER / 2**30
        parts.append(f"{role} {name} {size:.0f} GiB")
        total += size
    return (
        f"memory of float32 weights, gradients and Adam's moments: {total:.0f} GiB ({'; '.join(parts)}); activations, the sampler's "
        "copy of the weights and its cache come on top"
    )
