"""Low-rank adapters (LoRA, Hu et al. 2021) through peft: few weights are trained, the others stay as they are."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from os import PathLike
from typing import TYPE_CHECKING, Any, TypeAlias

import torch as th
from torch import nn
from transformers import PreTrainedModel

from sppo_rl.llm.models import remove_dropout

if TYPE_CHECKING:
    from peft import LoraConfig

LoraOptions: TypeAlias = "dict[str, Any] | LoraConfig"
"""A ``peft.LoraConfig``, or its arguments, such as ``{"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}``."""
_BASE = "base_layer."
"""What peft puts before the names of a layer that has adapters."""


def add_lora(model: PreTrainedModel, options: LoraOptions, unread: bool = False) -> None:
    """
    Freeze a model's body and add adapters to it. Layers beside the body (a critic's head) stay as they are.

    :param model: changed in place
    :param options: see :data:`LoraOptions`; without ``target_modules``, peft's choice for the architecture. Dropout is switched off.
    :param unread: the model's weights are still to be read from a file, those of the adapters as well
    :raises ImportError: without peft
    :raises ValueError: if layers outside the body, tied weights or copies of whole layers would be trained
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ModuleNotFoundError as error:
        raise ImportError("LoRA needs peft: pip install 'sppo-rl[llm]'.") from error
    config = LoraConfig(**options) if isinstance(options, dict) else copy.deepcopy(options)
    if config.modules_to_save:
        raise ValueError(
            f"modules_to_save={config.modules_to_save} trains copies of whole layers, which are not adapters. Leave it out; a critic's "
            "head is trained as it is."
        )
    if unread:
        # some initialisations decompose the weights, which are not there yet
        config = replace(config, init_lora_weights=True)
    inject_adapter_in_model(config, model.base_model)
    embedding = model.get_input_embeddings()
    if hasattr(embedding, _BASE.rstrip(".")):
        raise ValueError(
            "target_modules names the input embeddings, which may be tied to the output layer: merging the adapter into one would change "
            "the other. Name linear layers of the body, or 'all-linear'."
        )
    targets = config.target_modules if isinstance(config.target_modules, set | list) else []
    named = {name.rsplit(".", 1)[-1] for name, _ in model.base_model.named_modules()}
    missing = sorted(target for target in targets if target.rsplit(".", 1)[-1] not in named)
    if missing:
        raise ValueError(f"target_modules names {missing}, which the body of {type(model).__name__} does not have.")
    remove_dropout(model)


def merged_parameters(model: nn.Module) -> Iterator[tuple[str, th.Tensor]]:
    """
    Go through a model's parameters with the adapters merged into them, under the names they have without adapters.

    Without adapters these are ``model.named_parameters()``. The model is not changed; one layer at a time is copied.

    :param model: with or without adapters; tied weights come once
    """
    adapted = {name + ".": module for name, module in model.named_modules() if hasattr(module, _BASE.rstrip(".")) and name}
    merged: tuple[str, dict[str, nn.Parameter]] = ("", {})
    for name, parameter in model.named_parameters():
        prefix, found, leaf = name.partition(_BASE)
        if found and prefix in adapted:
            if merged[0] != prefix:
                merged = (prefix, _merge(adapted[prefix]))
            yield prefix + leaf, merged[1][leaf]
        elif not any(name.startswith(layer) for layer in adapted):
            yield name, parameter


@th.no_grad()
def _merge(layer: nn.Module) -> dict[str, nn.Parameter]:
    layer = copy.deepcopy(layer)
    layer.merge()  # type: ignore[operator]
    base = layer.get_submodule(_BASE.rstrip("."))
    return dict(base.named_parameters())


def save_merged(model: PreTrainedModel, folder: str | PathLike[str]) -> None:
    """
    Write a plain Hugging Face folder, adapters merged.

    :param model: with or without adapters
    :param folder: made if it does not exist
    """
    if not any(_BASE in name for name, _ in model.named_parameters()):
        model.save_pretrained(folder)
        return
    weights = {name: weight.detach() for name, weight in merged_parameters(model)}
    model.save_pretrained(folder, state_dict=weights)
