"""Low-rank adapters (LoRA, Hu et al. 2021) through peft: few weights are trained, the others stay as they are."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Any, TypeAlias

import torch as th
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from sppo_rl.llm.models import remove_dropout

if TYPE_CHECKING:
    from peft import LoraConfig

LoraOptions: TypeAlias = "dict[str, Any] | LoraConfig"
"""A ``peft.LoraConfig``, or its arguments, such as ``{"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}``."""
_BASE = "base_layer."
"""What peft puts before the names of a layer that has adapters."""
_LINEAR = (nn.Linear, Conv1D)
"""Layers whose weights autocast would convert at every use; no subclasses, which may do something else with them."""


def add_lora(model: PreTrainedModel, options: LoraOptions, unread: bool = False, dtype: th.dtype = th.float32) -> None:
    """
    Freeze a language model and add adapters to its body. A critic's head stays as it is.

    If the model computes in a shorter precision, frozen weights of linear layers are held in it where that loses nothing: most models are
    published in bfloat16. That halves their memory, and autocast, which would convert frozen weights at every use, has nothing to do.

    :param model: changed in place
    :param options: see :data:`LoraOptions`; without ``target_modules``, peft's choice for the architecture. Dropout is switched off.
    :param unread: the model's weights are still to be read from a file, those of the adapters as well
    :param dtype: what the model computes in
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
    output = model.get_output_embeddings()
    if output is not None:
        # where it is not tied to the embeddings it lies outside the body, which is all that peft froze
        output.requires_grad_(False)
    remove_dropout(model)
    if dtype is not th.float32:
        _shorten(model, dtype, unread)


def _shorten(model: PreTrainedModel, dtype: th.dtype, unread: bool) -> None:
    """
    Hold frozen weights of linear layers in a shorter precision where that loses nothing.

    All else stays in float32: what is trained, norms and biases, which are small, and embeddings, since the precision of the states that
    go from layer to layer comes from them. An output layer that is tied to them is one of them.
    """
    others = {
        id(weight) for module in model.modules() if type(module) not in _LINEAR for weight in module.parameters(recurse=False)
    }
    for layer in model.modules():
        if type(layer) in _LINEAR and not layer.weight.requires_grad and id(layer.weight) not in others:
            if not unread:
                layer.weight.data = _without_loss(layer.weight.data, dtype)
            layer.register_load_state_dict_pre_hook(partial(_prepare_for, dtype))


def _without_loss(weight: th.Tensor, dtype: th.dtype) -> th.Tensor:
    """A weight in a shorter precision if that can hold it, else as it is."""
    short = weight.to(dtype)
    return short if th.equal(short.to(weight.dtype), weight) else weight


def _prepare_for(dtype: th.dtype, layer: Any, state: dict[str, th.Tensor], prefix: str, *_: Any) -> None:
    """Before a layer's weight is read: the precision that can hold it, which need not be that of the weight before."""
    given = state.get(prefix + "weight")
    if given is not None:
        layer.weight.data = layer.weight.data.to(_without_loss(given, dtype).dtype)


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
    # the sum of both in the adapters' precision: a step that is small beside the frozen weight would be lost in bfloat16
    base = layer.get_submodule(_BASE.rstrip(".")).float()
    layer.merge()  # type: ignore[operator]
    return dict(base.named_parameters())


def save_merged(model: PreTrainedModel, folder: str | PathLike[str]) -> None:
    """
    Write a plain Hugging Face folder in float32, adapters merged.

    :param model: with or without adapters
    :param folder: made if it does not exist
    """
    if not any(_BASE in name for name, _ in model.named_parameters()):
        model.save_pretrained(folder)
        return
    weights = {name: weight.detach().float() for name, weight in merged_parameters(model)}
    model.save_pretrained(folder, state_dict=weights)
