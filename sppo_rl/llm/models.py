"""Models from whatever the user has: a hub name, a local folder, a configuration, or an instance."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Any, TypeAlias

import torch as th
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import (
    MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING,
    AutoModelForCausalLM,
    AutoModelForTokenClassification,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.initialization import no_init_weights


@dataclass(frozen=True)
class Saved:
    """
    A model whose weights are about to be read from a file: it is built without initialising them.

    :param config: the model's
    :param generation_config: the model's; ``None`` in files of earlier versions
    """

    config: PreTrainedConfig
    generation_config: GenerationConfig | None = None


ModelSource: TypeAlias = str | PathLike[str] | PreTrainedConfig | PreTrainedModel | Saved
"""Hub name, local folder, configuration (weights from scratch) or instance (copied, never trained in place)."""


def causal_model(source: ModelSource) -> PreTrainedModel:
    """
    Make the actor: an ``AutoModelForCausalLM`` in float32, without dropout.

    :param source: see :data:`ModelSource`
    :raises ValueError: if the logits are not those of the output layer alone
    :raises TypeError: if the source is of another kind
    """
    if isinstance(source, PreTrainedModel):
        model = copy.deepcopy(source).float()
    elif isinstance(source, PreTrainedConfig | Saved):
        model = _from_config(AutoModelForCausalLM, source)
    else:
        model = AutoModelForCausalLM.from_pretrained(_named("model", source), dtype=th.float32)
    remove_dropout(model)
    _make_generation_config_savable(model)
    if not isinstance(source, Saved):
        _check_output_layer(model)
    return model


def critic_model(source: ModelSource | None, actor: PreTrainedModel) -> PreTrainedModel:
    """
    Make a critic: an ``AutoModelForTokenClassification`` with one label, in float32, without dropout.

    A new head starts at zero, so the critic first predicts .5 for every prompt. A head that the source brings along is kept.

    :param source: see :data:`ModelSource`; an instance may be a causal model, whose body is taken. ``None`` takes the actor's.
    :param actor: the actor
    :raises ValueError: if the architecture has no one-output head
    :raises TypeError: if the source is of another kind
    """
    if source is None:
        source = actor
    new_head = True
    if isinstance(source, PreTrainedModel):
        if type(source) is MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING.get(type(source.config), None):
            model, new_head = copy.deepcopy(source).float(), False
        else:
            model = _from_config(AutoModelForTokenClassification, Saved(source.config), num_labels=1)
            model.base_model.load_state_dict(source.base_model.state_dict())
    elif isinstance(source, PreTrainedConfig | Saved):
        model = _from_config(AutoModelForTokenClassification, source, num_labels=1)
    else:
        model, report = AutoModelForTokenClassification.from_pretrained(
            _named("critic", source), num_labels=1, dtype=th.float32, output_loading_info=True
        )
        head = head_of(model)
        name = next(name for name, module in model.named_modules() if module is head)
        new_head = f"{name}.weight" in report["missing_keys"]
    remove_dropout(model)
    head = head_of(model)
    if new_head:
        with th.no_grad():
            head.weight.zero_()
            head.bias.zero_()
    return model


def _named(role: str, source: Any) -> str:
    """A hub name or a folder; everything else is refused, adapters of peft among it."""
    if isinstance(source, str | PathLike):
        return fspath(source)
    raise TypeError(
        f"{role} must be a hub name, a folder, a configuration or a Hugging Face model, got {type(source).__name__}. Of a model "
        "with peft's adapters pass merge_and_unload(); new ones come from lora=… and critic_lora=…."
    )


def head_of(model: PreTrainedModel) -> nn.Linear:
    """
    Find the layer that makes a value of a hidden state.

    :param model: for token classification
    :raises ValueError: if there is no linear layer with one output and a bias beside the body
    """
    heads = [m for m in model.children() if isinstance(m, nn.Linear) and m.out_features == 1 and m.bias is not None]
    if len(heads) != 1:
        raise ValueError(
            f"{type(model).__name__} cannot be a critic: it needs one linear layer with one output and a bias on top of its body, found "
            f"{len(heads)}. Qwen2, Llama, Mistral, GPT-2 and most others have it."
        )
    return heads[0]


def output_layer(model: PreTrainedModel) -> nn.Module:
    """
    Find the layer that makes logits of a hidden state.

    :param model: causal
    :raises ValueError: if there is none
    """
    head: nn.Module | None = model.get_output_embeddings()
    if head is None:
        raise ValueError(f"{type(model).__name__} has no output layer: it is not a causal language model.")
    return head


def end_tokens(model: PreTrainedModel) -> list[int]:
    """
    Read which tokens end a response according to the model's ``generation_config``.

    One that merely repeats the default of the architecture's configuration (2 for Llama) says nothing about this model.

    :param model: causal
    """
    generation = getattr(model, "generation_config", None)
    found = getattr(generation, "eos_token_id", None)
    default = getattr(type(model.config), "eos_token_id", None)
    if found is None or (getattr(generation, "_from_model_config", False) and found == default):
        return []
    return [found] if isinstance(found, int) else list(found)


def remove_dropout(model: nn.Module) -> None:
    """
    Set every dropout rate to 0: with dropout the training pass would not be the policy that sampled.

    :param model: changed in place
    """
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            # attention layers keep their rate as a plain number
            if isinstance(value, float) and ("dropout" in name or "pdrop" in name):
                setattr(module, name, 0.0)


def _from_config(family: Any, source: PreTrainedConfig | Saved, **changes: Any) -> PreTrainedModel:
    """A model of a configuration, in float32; without initial weights where others are about to be read."""
    config = copy.deepcopy(source.config if isinstance(source, Saved) else source)
    for name, value in changes.items():
        setattr(config, name, value)
    initial: AbstractContextManager[None] = no_init_weights() if isinstance(source, Saved) else nullcontext()
    with initial:
        model: PreTrainedModel = family.from_config(config, dtype=th.float32)
    if isinstance(source, Saved):
        # what was left out would also have tied them
        model.tie_weights()
        if source.generation_config is not None:
            model.generation_config = copy.deepcopy(source.generation_config)
    return model


def _check_output_layer(model: PreTrainedModel) -> None:
    """Log-probabilities are made from the output layer's logits, a piece at a time; some models change the logits after it."""
    ids = th.arange(1, 4).unsqueeze(0) % model.config.get_text_config().vocab_size
    was_training = model.training
    model.eval()
    # what attention says makes no difference here, and flash attention computes neither in float32 nor on a CPU
    with th.no_grad(), attention_by(model, "eager"):
        ids = ids.to(next(model.parameters()).device)
        whole = model(input_ids=ids, use_cache=False).logits
        ours = output_layer(model)(model.base_model(input_ids=ids, use_cache=False).last_hidden_state)
    model.train(was_training)
    if not th.allclose(whole.float(), ours.float(), rtol=1e-3, atol=1e-4):
        raise ValueError(
            f"{type(model).__name__} changes its logits after the output layer (soft-capping or scaling), which TransformerPolicy does not "
            "do. Use a model whose logits are those of its output layer, such as Qwen2, Llama or Mistral."
        )


def _make_generation_config_savable(model: PreTrainedModel) -> None:
    """
    Mend what would keep a trained model from being written.

    transformers reads a ``generation_config`` with ``temperature`` or ``top_p`` but without ``do_sample``, as some models on the hub have
    it, and refuses to save it. Whoever wrote those meant sampling.
    """
    generation: Any = getattr(model, "generation_config", None)
    if generation is None or _can_be_saved(generation):
        return
    generation.do_sample = True
    if not _can_be_saved(generation):
        warnings.warn(
            "The model's generation_config contradicts itself, and transformers would refuse to save it: only its tokens for the beginning "
            "and the end are kept.",
            UserWarning,
            stacklevel=4,
        )
        tokens = GenerationConfig(bos_token_id=generation.bos_token_id, eos_token_id=generation.eos_token_id)
        # end_tokens reads this
        tokens._from_model_config = generation._from_model_config
        model.generation_config = tokens


def _can_be_saved(generation: GenerationConfig) -> bool:
    try:
        generation.validate(strict=True)
    except ValueError:
        return False
    return True


@contextmanager
def attention_by(model: PreTrainedModel, implementation: str) -> Iterator[None]:
    """
    Exchange a model's attention function, in a context.

    :param model: changed in place until the context ends
    :param implementation: its name, such as ``"eager"``, which every model has
    """
    config = model.config
    chosen = config._attn_implementation
    config._attn_implementation = implementation
    try:
        yield
    finally:
        config._attn_implementation = chosen


def attention_for_any_shape(device: th.device) -> AbstractContextManager[None]:
    """
    Leave cuDNN's attention out on a GPU, in a context.

    In bfloat16 it prepares itself anew for every shape, and here every call has another length (``benchmarks/LOG.md``).

    :param device: where the attention runs
    """
    if device.type != "cuda":
        return nullcontext()
    return sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH])
