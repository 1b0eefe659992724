"""A trained policy and its tokenizer from wherever they are: a hub name, a Hugging Face folder, or a folder of ``policy.export``."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch as th
from transformers import PreTrainedModel

from sppo_rl.envs.reasoning.encoding import load_tokenizer
from sppo_rl.llm.models import causal_model

_FINGERPRINT_VALUES = 1024
"""Values of each parameter that a fingerprint is made of."""


def exported(source: str | Path, part: str) -> Path | None:
    """
    Find a part of what ``TransformerPolicy.export`` wrote.

    :param source: a folder, or a hub name
    :param part: ``"policy"`` or ``"critic"``
    :return: its folder, or ``None`` if there is none
    """
    folder = Path(source) / part
    return folder if (folder / "config.json").is_file() else None


def load_policy(source: str | Path, device: th.device | str = "cpu") -> tuple[PreTrainedModel, Any]:
    """
    Load a causal model in float32 and its tokenizer.

    :param source: hub name, Hugging Face folder, or a folder of ``policy.export`` (its ``policy`` part is taken)
    :param device: where it computes
    :raises ValueError: if a local folder holds no model
    """
    folder = exported(source, "policy") or source
    if Path(folder).is_dir() and not (Path(folder) / "config.json").is_file():
        raise ValueError(
            f"{folder} holds no model: neither config.json nor policy/config.json is there. Give a Hugging Face folder, a hub name, or "
            "what model.policy.export(folder) wrote."
        )
    return causal_model(folder).to(device).eval(), load_tokenizer(folder)


def fingerprint(model: PreTrainedModel) -> str:
    """
    Name a model by its weights: names and shapes of all parameters, and up to 1,024 evenly spread values of each.

    It tells a model from the same one after training, in a moment even for billions of weights.

    :param model: any
    :return: 16 hexadecimal digits
    """
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        flat = parameter.detach().flatten()
        part = flat[:: max(1, len(flat) // _FINGERPRINT_VALUES)][:_FINGERPRINT_VALUES]
        digest.update(f"{name} {tuple(parameter.shape)}".encode())
        digest.update(part.float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
