"""Rows of different lengths as one row without padding.

Embeddings, linear layers and norms look at one token at a time, so they see the tokens of all rows side by side and nothing else. Only
attention must know which tokens belong together. Two ways:

- ``flash_attention_2`` and ``_3``, if the model was loaded with them, take the rows' boundaries (transformers passes them on).
- Elsewhere an attention function of this module, registered with transformers, puts rows of similar length into a padded block each, runs
  PyTorch's causal attention on the blocks, and takes the padding out again. Without boundaries it is transformers' own ``sdpa``, so
  generation with a key-value cache is what it was.

A model that does not pass the boundaries on to its attention would let tokens look into other rows and say nothing. So the kinds of models
are few, each model is tried on a few rows first (:func:`why_not_packed`), and every pass counts the layers that have used the boundaries.

Notation: n rows, T tokens of all rows together, h heads, d width of a head, D places to read, H hidden width.
"""

from __future__ import annotations

from typing import Any

import torch as th
from torch import nn
from transformers import PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from sppo_rl.llm.tokens import grouped_hidden_states, similar_lengths

PACKED = "packed_sdpa"
"""Name of the attention function below, as a model's ``attn_implementation``."""
FLASH = ("flash_attention_2", "flash_attention_3")
_UNKNOWN_HERE = ("sliding_window", "position_bias", "softcap", "s_aux")
"""What a layer may ask of its attention that the function below does not do."""


class Boundaries:
    """
    Where rows begin in a packed row, and which of them attend in one block.

    :param lengths: (n,) int64, falling: rows that attend in one block lie side by side
    """

    def __init__(self, lengths: th.Tensor):
        self.layers = 0
        """Attention layers that have used the boundaries."""
        self.starts = lengths.cumsum(0) - lengths
        self.blocks: list[tuple[int, int, int, th.Tensor | None]] = []
        """First token, rows, tokens of a row, and place of each token in the padded block: ``None`` if there is no padding."""
        first = 0
        for group in similar_lengths(lengths):
            of_rows = lengths[group]
            longest, tokens = int(of_rows[0]), int(of_rows.sum())
            place = None
            if tokens < longest * len(group):
                column = th.arange(longest, device=lengths.device)
                place = (column < of_rows.unsqueeze(1)).flatten().nonzero().squeeze(1)
            self.blocks.append((first, len(group), longest, place))
            first += tokens


class _Pad(th.autograd.Function):
    """Rows of a tensor to distinct places of a larger one, zeros elsewhere. Autograd itself would add backwards where copying will do."""

    @staticmethod
    def forward(context: Any, tokens: th.Tensor, place: th.Tensor, size: int) -> th.Tensor:
        context.save_for_backward(place)
        return tokens.new_zeros(size, *tokens.shape[1:]).index_copy_(0, place, tokens)

    @staticmethod
    def backward(context: Any, *gradients: th.Tensor) -> tuple[th.Tensor, None, None]:
        (place,) = context.saved_tensors
        return gradients[0].index_select(0, place), None, None


class _Unpad(th.autograd.Function):
    """The reverse."""

    @staticmethod
    def forward(context: Any, padded: th.Tensor, place: th.Tensor) -> th.Tensor:
        context.save_for_backward(place)
        context.size = len(padded)
        return padded.index_select(0, place)

    @staticmethod
    def backward(context: Any, *gradients: th.Tensor) -> tuple[th.Tensor, None]:
        (place,) = context.saved_tensors
        (gradient,) = gradients
        return gradient.new_zeros(context.size, *gradient.shape[1:]).index_copy_(0, place, gradient), None


def packed_attention(
    module: nn.Module,
    query: th.Tensor,
    key: th.Tensor,
    value: th.Tensor,
    attention_mask: th.Tensor | None,
    boundaries: Boundaries | None = None,
    **options: Any,
) -> tuple[th.Tensor, None]:
    """
    Causal attention within the rows of a packed row; transformers' ``sdpa`` without boundaries.

    :param module: the attention layer
    :param query: (1, h, T, d)
    :param key: (1, h or fewer, T, d)
    :param value: the same
    :param attention_mask: not looked at if there are boundaries
    :param boundaries: of the rows
    :param options: transformers' own (``scaling``, ``dropout``, …)
    :return: (1, T, h, d), and no attention weights
    :raises ValueError: if the layer asks for more than causal attention
    """
    if boundaries is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    causal = options.get("is_causal")
    causal = getattr(module, "is_causal", True) if causal is None else causal
    asked = [name for name in _UNKNOWN_HERE if options.get(name) is not None]
    if asked or not causal:
        raise ValueError(f"{type(module).__name__} is more than causal attention ({', '.join(asked) or 'it looks ahead'}).")
    boundaries.layers += 1
    by_token = [states[0].transpose(0, 1) for states in (query, key, value)]
    outputs = []
    for first, rows, longest, place in boundaries.blocks:
        tokens = rows * longest if place is None else len(place)
        blocks = []
        for states in by_token:
            part = states[first : first + tokens]
            if place is not None:
                part = _Pad.apply(part, place, rows * longest)
            blocks.append(part.unflatten(0, (rows, longest)).transpose(1, 2))
        attended = sdpa_attention_forward(module, *blocks, None, **{**options, "is_causal": True})[0].flatten(0, 1)
        outputs.append(attended if place is None else _Unpad.apply(attended, place))
    return (outputs[0] if len(outputs) == 1 else th.cat(outputs)).unsqueeze(0), None


ALL_ATTENTION_FUNCTIONS.register(PACKED, packed_attention)
ALL_MASK_ATTENTION_FUNCTIONS.register(PACKED, sdpa_mask)


def packed_hidden_states(
    body: PreTrainedModel, ids: th.Tensor, lengths: th.Tensor, rows: th.Tensor, columns: th.Tensor
) -> th.Tensor:
    """
    Run a model's body on all rows without their padding and read it at some places.

    :param body: a Hugging Face model without its head, for which :func:`why_not_packed` knows no reason
    :param ids: (n, columns) int64, padded on the right
    :param lengths: (n,) int64, tokens of each row
    :param rows: (D,) int64
    :param columns: (D,) int64
    :return: (D, H)
    :raises RuntimeError: if a layer has not used the rows' boundaries
    """
    order = lengths.argsort(descending=True, stable=True)
    sorted_lengths = lengths[order]
    boundaries = Boundaries(sorted_lengths)
    start = th.empty_like(lengths)
    start[order] = boundaries.starts
    column = th.arange(ids.shape[1], device=ids.device)
    real = column < sorted_lengths.unsqueeze(1)
    positions = column.expand_as(real)[real].unsqueeze(0)
    options: dict[str, Any]
    implementation = body.config._attn_implementation
    if implementation in FLASH:
        ends = th.cat([boundaries.starts, boundaries.starts[-1:] + sorted_lengths[-1:]]).int()
        longest = int(sorted_lengths[0])
        options = {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends, "max_length_q": longest, "max_length_k": longest}
    else:
        # a mask of four dimensions is taken for ready-made: none of T x T is built
        options = {"boundaries": boundaries, "attention_mask": th.ones(1, 1, 1, 1, dtype=th.bool, device=ids.device)}
    hidden = body(
        input_ids=ids[order][real].unsqueeze(0), position_ids=positions, use_cache=False, **options
    ).last_hidden_state
    layers = body.config.get_text_config().num_hidden_layers
    if implementation not in FLASH and boundaries.layers != layers:
        raise RuntimeError(
            f"{boundaries.layers} of {layers} attention layers of {type(body).__name__} have used the rows' boundaries. Pass "
            "policy_kwargs={'packing': False}."
        )
    return hidden[0, start[rows] + columns]


def why_not_packed(body: PreTrainedModel) -> str | None:
    """
    Find out whether a model can be packed; if so, its attention function is exchanged for :func:`packed_attention`.

    The kind of model is looked at, then some rows are read packed and grouped; the states must agree.

    :param body: a Hugging Face model without its head, on the device where it will run
    :return: the reason against it, or ``None``
    """
    config = body.config.get_text_config()
    implementation = body.config._attn_implementation
    if implementation not in ("sdpa", PACKED, *FLASH):
        return f"its attention is {implementation!r}"
    if not body._supports_attention_backend or body.is_remote_code():
        return "its attention cannot be exchanged"
    others = sorted(set(getattr(config, "layer_types", None) or ()) - {"full_attention"})
    if others:
        return f"it has layers of another kind than full attention: {', '.join(others)}"
    if implementation == "sdpa":
        body.set_attn_implementation(PACKED)
    reason: str | None
    try:
        agrees = _agrees(body, config.vocab_size)
    except (RuntimeError, TypeError, ValueError) as error:
        reason = str(error)
    else:
        reason = None if agrees else "its states differ from those of the rows one by one"
    if reason is not None and implementation == "sdpa":
        body.set_attn_implementation("sdpa")
    return reason


@th.no_grad()
def _agrees(body: PreTrainedModel, vocabulary: int) -> bool:
    """Rows packed against the same rows grouped, at every token."""
    device = body.device
    lengths = th.tensor([5, 9, 1, 8, 4], device=device)
    number = th.arange(9 * len(lengths), device=device).view(len(lengths), -1)
    column = th.arange(9, device=device)
    ids = (7 + 31 * number % 97) % vocabulary * (column < lengths.unsqueeze(1))
    rows, columns = (column < lengths.unsqueeze(1)).nonzero(as_tuple=True)
    was_training = body.training
    body.eval()
    flash = body.config._attn_implementation in FLASH
    # flash attention takes short floats only; all others are compared at full precision
    with th.autocast(device.type, dtype=th.bfloat16, enabled=flash):
        packed, grouped = (
            read(body, ids, lengths, rows, columns).float() for read in (packed_hidden_states, grouped_hidden_states)
        )
    body.train(was_training)
    return bool((packed - grouped).abs().max() <= (0.05 if flash else 1e-4) * grouped.abs().max())


class Reader:
    """
    Reads models at some places, without padding where that can be done.

    :param packing: whether to leave out the padding; ``None`` where the model can do it (and then it is as exact)
    """

    def __init__(self, packing: bool | None = None):
        self.packing = packing
        self.packed: bool | None = None
        """Whether rows are packed; ``None`` before the first call."""
        self.reason: str | None = None
        """Why they are not, if the model cannot."""

    def __call__(
        self, body: PreTrainedModel, ids: th.Tensor, lengths: th.Tensor, rows: th.Tensor, columns: th.Tensor
    ) -> th.Tensor:
        """
        Run a model's body and read it; the same model each time.

        :param body: a Hugging Face model without its head
        :param ids: (n, columns) int64, padded on the right
        :param lengths: (n,) int64, tokens of each row
        :param rows: (D,) int64
        :param columns: (D,) int64
        :return: (D, H)
        :raises ValueError: at the first call, if packing was asked for and the model cannot do it
        """
        if self.packed is None:
            self.reason = None if self.packing is False else why_not_packed(body)
            if self.packing and self.reason is not None:
                raise ValueError(
                    f"packing=True, but {type(body).__name__} cannot be packed: {self.reason}. With packing=None rows of similar length "
                    "go through such a model together."
                )
            self.packed = self.packing is not False and self.reason is None
        read = packed_hidden_states if self.packed else grouped_hidden_states
        return read(body, ids, lengths, rows, columns)
