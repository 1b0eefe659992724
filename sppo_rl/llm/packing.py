"""Rows of different lengths as one row without padding.

Embeddings, linear layers and norms look at one token at a time, so they see the tokens of all rows side by side and nothing else. Only
attention must know which tokens belong together. Two ways:

- ``flash_attention_2`` and ``_3``, if the model was loaded with them, take the rows' boundaries (transformers passes them on).
- Elsewhere an attention function of this module, registered with transformers, puts rows of similar length into a padded block each, runs
  PyTorch's causal attention on the blocks, and takes the padding out again. Without boundaries it is transformers' own ``sdpa``, so
  generation with a key-value cache is what it was. Here tokens that a row begins with like the row before it (the prompt of a group, the
  text that a chat template begins with) are computed once: a causal model has the same states for both.

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

from sppo_rl.llm.models import attention_for_any_shape
from sppo_rl.llm.tokens import grouped_hidden_states, similar_lengths

PACKED = "packed_sdpa"
"""Name of the attention function below, as a model's ``attn_implementation``."""
FLASH = ("flash_attention_2", "flash_attention_3")
_UNKNOWN_HERE = ("sliding_window", "position_bias", "softcap", "s_aux")
"""What a layer may ask of its attention that the function below does not do."""


class Boundaries:
    """
    Which tokens of a packed row belong to which row, and which rows attend in one block.

    Rows (5, 6, 7), (5, 6, 9, 2), (5, 8): the tokens 5 6 7 | 9 2 | 8 are left, since the second row begins as the first one does, and the
    third as the second; ``token`` is then 0 1 2 | 0 1 3 4 | 0 5.

    :param ids: (n, columns) int64, padded on the right
    :param lengths: (n,) int64, tokens of each row
    """

    def __init__(self, ids: th.Tensor, lengths: th.Tensor):
        self.layers = 0
        """Attention layers that have used the boundaries."""
        number = th.arange(len(ids), device=ids.device).unsqueeze(1)
        column = th.arange(ids.shape[1], device=ids.device)
        real = column < lengths.unsqueeze(1)
        shared = th.zeros_like(real)
        shared[1:] = ((ids[1:] == ids[:-1]) & real[1:] & real[:-1]).cumprod(dim=1).bool()
        self.own = real & ~shared
        """(n, columns) bool: the tokens that are left."""
        owner = th.where(shared, 0, number).cummax(dim=0).values
        place = self.own.flatten().cumsum(0).view_as(ids) - 1
        self.token = place.gather(0, owner)
        """(n, columns) int64: which of them each place of a row is; anything at padding."""
        groups = similar_lengths(lengths)
        self.shapes = [(len(group), int(lengths[group[0]])) for group in groups]
        """Rows and columns of each block."""

        def in_blocks(values: th.Tensor) -> th.Tensor:
            parts = [values[group, :longest].flatten() for group, (_, longest) in zip(groups, self.shapes, strict=True)]
            return th.cat(parts)

        self.source = in_blocks(self.token.where(real, 0))
        """Which token stands at each place of the blocks; at padding, which no real token looks at, some token."""
        own = in_blocks(self.own).nonzero().squeeze(1)
        self.place = th.empty_like(own)
        """(T,) int64: where in the blocks each token stands first."""
        self.place[self.source[own]] = own
        self.again = in_blocks(shared).nonzero().squeeze(1)
        """Places at which a token stands once more."""


class _ToBlocks(th.autograd.Function):
    """(T, …) tokens to the places of the blocks. Autograd itself would add backwards where copying will do, mostly."""

    @staticmethod
    def forward(context: Any, tokens: th.Tensor, boundaries: Boundaries, shared: bool) -> th.Tensor:
        context.boundaries, context.shared = boundaries, shared
        return tokens.index_select(0, boundaries.source)

    @staticmethod
    def backward(context: Any, *gradients: th.Tensor) -> tuple[th.Tensor, None, None]:
        boundaries, (gradient,) = context.boundaries, gradients
        # at padding the gradient is zero
        of_tokens = gradient.index_select(0, boundaries.place)
        if context.shared and len(boundaries.again):
            of_tokens.index_add_(0, boundaries.source[boundaries.again], gradient.index_select(0, boundaries.again))
        return of_tokens, None, None


class _FromBlocks(th.autograd.Function):
    """The reverse; of a token that stands at several places, the first is read."""

    @staticmethod
    def forward(context: Any, blocks: th.Tensor, boundaries: Boundaries) -> th.Tensor:
        context.boundaries, context.size = boundaries, len(blocks)
        return blocks.index_select(0, boundaries.place)

    @staticmethod
    def backward(context: Any, *gradients: th.Tensor) -> tuple[th.Tensor, None]:
        (gradient,) = gradients
        place = context.boundaries.place
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
    sizes = [rows * columns for rows, columns in boundaries.shapes]
    # nobody reads what a query finds at a token's second place, so no gradient comes from there
    of_blocks = [
        _ToBlocks.apply(states[0].transpose(0, 1), boundaries, states is not query).split(sizes)
        for states in (query, key, value)
    ]
    outputs = []
    for shape, *parts in zip(boundaries.shapes, *of_blocks, strict=True):
        block = [part.unflatten(0, shape).transpose(1, 2) for part in parts]
        with attention_for_any_shape(query.device):
            attended, _ = sdpa_attention_forward(module, *block, None, **{**options, "is_causal": True})
        outputs.append(attended.flatten(0, 1))
    return _FromBlocks.apply(th.cat(outputs), boundaries).unsqueeze(0), None


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
    column = th.arange(ids.shape[1], device=ids.device)
    options: dict[str, Any]
    boundaries: Boundaries | None = None
    if body.config._attn_implementation in FLASH:
        own, starts = column < lengths.unsqueeze(1), lengths.cumsum(0) - lengths
        token = starts.unsqueeze(1) + column
        ends, longest = th.cat([starts, starts[-1:] + lengths[-1:]]).int(), int(lengths.max())
        options = {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends, "max_length_q": longest, "max_length_k": longest}
    else:
        boundaries = Boundaries(ids, lengths)
        own, token = boundaries.own, boundaries.token
        # a mask of four dimensions is taken for ready-made: none of T x T is built
        options = {"boundaries": boundaries, "attention_mask": th.ones(1, 1, 1, 1, dtype=th.bool, device=ids.device)}
    hidden = body(
        input_ids=ids[own].unsqueeze(0), position_ids=column.expand_as(own)[own].unsqueeze(0), use_cache=False, **options
    ).last_hidden_state
    layers = body.config.get_text_config().num_hidden_layers
    if boundaries is not None and boundaries.layers != layers:
        raise RuntimeError(
            f"{boundaries.layers} of {layers} attention layers of {type(body).__name__} have used the rows' boundaries. Pass "
            "policy_kwargs={'packing': False}."
        )
    return hidden[0, token[rows, columns]]


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
    ids = (7 + 31 * number % 97) % vocabulary
    ids[1:4, :3] = ids[0, :3]  # rows that begin alike
    ids *= column < lengths.unsqueeze(1)
    rows, columns = (column < lengths.unsqueeze(1)).nonzero(as_tuple=True)
    was_training = body.training
    body.eval()
    # flash attention takes short floats only, and frozen weights may be held in them; all others are compared at full precision
    short = body.config._attn_implementation in FLASH or any(weight.dtype is th.bfloat16 for weight in body.parameters())
    # this may run inside a training pass, which must not find converted weights that know of no gradients
    with th.autocast(device.type, dtype=th.bfloat16, enabled=short, cache_enabled=False):
        packed, grouped = (
            read(body, ids, lengths, rows, columns).float() for read in (packed_hidden_states, grouped_hidden_states)
        )
    body.train(was_training)
    return bool((packed - grouped).abs().max() <= (0.05 if short else 1e-4) * grouped.abs().max())


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
