"""One token at a time: a batch of responses, the key-value cache they share, and the model that reads it.

Two readers of the same model, with the same interface:

- :class:`ModelDecoding` calls the model itself with transformers' cache, whatever the model is.
- :class:`LlamaDecoding` does what a Llama, Mistral or Qwen2 model does for one token, with the model's own layers, and nothing else. For
  small models on a CPU half of the time goes elsewhere: the cache is copied at every token, masks are built at every token, keys are copied
  for each query head. Here the cache has room to grow, and an added mask tells what of it is filled.

:func:`why_not_lean` compares the two on a few rows before the second one is used.

Notation: n rows, C columns of the cache, H hidden width, h query heads, g key-value heads, d width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch as th
from torch import nn
from transformers import DynamicCache, PreTrainedModel

LEAN_KINDS = ("llama", "mistral", "qwen2")
"""``config.model_type`` of the models that :class:`LlamaDecoding` knows."""
_ROOM = 16
"""The least number of columns that a full cache grows by."""
_SMALL = 2**20
"""Numbers in weights that are worth joining: beyond this the product itself takes the time, and copies take memory."""


class _Cache(DynamicCache):
    """
    transformers' cache, in the precision that attention computes in.

    Rotary positions make float32 of keys even under autocast. Kept like that, they would take twice the memory, and every token's attention
    would convert all of them again.
    """

    def update(
        self, key_states: th.Tensor, value_states: th.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[th.Tensor, th.Tensor]:
        """See :class:`transformers.DynamicCache`."""
        device = key_states.device.type
        if th.is_autocast_enabled(device):
            dtype = th.get_autocast_dtype(device)
            key_states, value_states = key_states.to(dtype), value_states.to(dtype)
        found: tuple[th.Tensor, th.Tensor] = super().update(key_states, value_states, layer_idx, *args, **kwargs)
        return found


class ModelDecoding:
    """
    Decode with the model's own forward pass.

    Prompts are padded on the left, so that all rows are at the same column. A prompt that occurs several times is read once.

    :param body: a Hugging Face model without its head
    :param prompts: token ids, (length,) int64 each
    """

    def __init__(self, body: PreTrainedModel, prompts: Sequence[np.ndarray]):
        self.body = body
        distinct, which = _distinct(prompts)
        width = max(map(len, prompts))
        ids, self.visible = th.zeros(len(distinct), width, dtype=th.int64), th.ones(len(distinct), width, dtype=th.int64)
        for row, prompt in enumerate(distinct):
            ids[row, width - len(prompt) :] = th.as_tensor(prompt)
            self.visible[row, : width - len(prompt)] = 0
        self.visible = self.visible.to(body.device)
        positions = (self.visible.cumsum(dim=1) - 1).clamp(min=0)
        self.cache = _Cache(config=body.config)
        self.hidden = self._read(ids.to(body.device), positions)
        """(n, H): the last layer's states at each row's last token."""
        self.position = positions[:, -1]
        """(n,) int64: of each row's last token."""
        if len(distinct) < len(prompts):
            self.keep(which.to(body.device))

    def _read(self, ids: th.Tensor, positions: th.Tensor) -> th.Tensor:
        states: th.Tensor = self.body(
            input_ids=ids, attention_mask=self.visible, position_ids=positions, past_key_values=self.cache, use_cache=True
        ).last_hidden_state[:, -1]
        return states

    def append(self, tokens: th.Tensor) -> None:
        """
        Read one more token in each row.

        :param tokens: (n,) int64
        """
        self.position = self.position + 1
        self.visible = th.cat([self.visible, self.visible.new_ones(len(tokens), 1)], dim=1)
        self.hidden = self._read(tokens.unsqueeze(1), self.position.unsqueeze(1))

    def keep(self, rows: th.Tensor) -> None:
        """
        Go on with some rows only, or with some of them several times.

        :param rows: (m,) int64
        """
        self.cache.batch_select_indices(rows)
        self.hidden, self.visible, self.position = self.hidden[rows], self.visible[rows], self.position[rows]


class LlamaDecoding(ModelDecoding):
    """
    The same for models of the Llama family, in float32; prompts are read by the model itself.

    :param body: a model for which :func:`why_not_lean` knows no reason
    :param prompts: token ids, (length,) int64 each
    """

    def __init__(self, body: PreTrainedModel, prompts: Sequence[np.ndarray]):
        self.keys: list[th.Tensor] | None = None
        """Of each layer, (n, g, C, d); zeros where nothing is yet."""
        super().__init__(body, prompts)
        self.filled = self.visible.shape[1]
        """Columns of the cache that hold something."""
        layers = self.cache.layers
        self.keys, self.values = [layer.keys for layer in layers], [layer.values for layer in layers]
        del self.cache
        self._inputs = [
            _Together(layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj) for layer in body.layers
        ]
        self._gates = [_Together(layer.mlp.gate_proj, layer.mlp.up_proj) for layer in body.layers]
        # added to the scores: 0 where a row may look, minus infinity where it may not
        hidden = self.visible == 0
        self.mask = th.zeros(hidden.shape, device=hidden.device).masked_fill_(hidden, -th.inf)

    def append(self, tokens: th.Tensor) -> None:
        """See :class:`ModelDecoding`."""
        assert self.keys is not None
        if self.filled == self.mask.shape[1]:
            self._grow()
        self.position = self.position + 1
        self.mask[:, self.filled] = 0.0
        body: Any = self.body
        states = body.embed_tokens(tokens)
        turn = body.rotary_emb(states, self.position.unsqueeze(1))
        for layer, inputs, gates, keys, values in zip(
            body.layers, self._inputs, self._gates, self.keys, self.values, strict=True
        ):
            states = states + self._attend(layer.self_attn, inputs(_normed(states, layer.input_layernorm)), turn, keys, values)
            gate, up = gates(_normed(states, layer.post_attention_layernorm)).chunk(2, dim=1)
            states = states + layer.mlp.down_proj(layer.mlp.act_fn(gate).mul_(up))
        self.hidden = _normed(states, body.norm)
        self.filled += 1

    def _attend(
        self, layer: Any, inputs: th.Tensor, turn: tuple[th.Tensor, th.Tensor], keys: th.Tensor, values: th.Tensor
    ) -> th.Tensor:
        """(n, H): one query of each row on everything before it and on itself; the inputs are queries, keys and values side by side."""
        rows, groups, columns, width = keys.shape
        heads = inputs.view(rows, -1, width)
        turned = _rotated(heads[:, :-groups], turn)
        keys[:, :, self.filled] = turned[:, -groups:]
        values[:, :, self.filled] = heads[:, -groups:]
        # the query heads that share keys lie side by side: one product for all of them
        query = (turned[:, :-groups] * layer.scaling).view(rows * groups, -1, width)
        scores = th.bmm(query, keys.view(rows * groups, columns, width).transpose(1, 2))
        scores.view(rows, -1, columns).add_(self.mask.unsqueeze(1))
        found = th.bmm(scores.softmax(dim=2), values.view(rows * groups, columns, width))
        projected: th.Tensor = layer.o_proj(found.view(rows, -1))
        return projected

    def _grow(self) -> None:
        """Copy the cache to a larger one: an eighth more, so that copies are rare and little that is empty is looked at."""
        assert self.keys is not None
        room = max(_ROOM, self.filled // 8)
        for states in (self.keys, self.values):
            for number, old in enumerate(states):
                states[number] = old.new_empty(*old.shape[:2], self.filled + room, old.shape[3])
                states[number][:, :, : self.filled], states[number][:, :, self.filled :] = old, 0.0
        self.mask = th.cat([self.mask, self.mask.new_full((len(self.mask), room), -th.inf)], dim=1)

    def keep(self, rows: th.Tensor) -> None:
        """
        See :class:`ModelDecoding`; what stays in its place is not copied.

        :param rows: (m,) int64, m no more than n
        """
        if self.keys is None:
            super().keep(rows)
            return
        place = (rows != th.arange(len(rows), device=rows.device)).nonzero().squeeze(1)
        source = rows[place]
        for states in (self.keys, self.values):
            for number, old in enumerate(states):
                old[place] = old[source]
                states[number] = old[: len(rows)]
        self.hidden, self.mask, self.position = self.hidden[rows], self.mask[rows], self.position[rows]


class _Together:
    """
    Several layers that read the same, as one: (n, in) to (n, sum of out).

    :param layers: linear, or what stands for one (an adapter)
    """

    def __init__(self, *layers: Any):
        self._layers, self._weight, self._bias = layers, None, None
        if all(type(layer) is nn.Linear for layer in layers) and sum(layer.weight.numel() for layer in layers) <= _SMALL:
            self._weight = th.cat([layer.weight for layer in layers])
            if any(layer.bias is not None for layer in layers):
                parts = [layer.weight.new_zeros(len(layer.weight)) if layer.bias is None else layer.bias for layer in layers]
                self._bias = th.cat(parts)

    def __call__(self, states: th.Tensor) -> th.Tensor:
        if self._weight is None:
            return th.cat([layer(states) for layer in self._layers], dim=1)
        return nn.functional.linear(states, self._weight, self._bias)


def _normed(states: th.Tensor, norm: Any) -> th.Tensor:
    """What a Llama's own norm computes, in one call."""
    return nn.functional.rms_norm(states, norm.weight.shape, norm.weight, norm.variance_epsilon)


def _rotated(states: th.Tensor, turn: tuple[th.Tensor, th.Tensor]) -> th.Tensor:
    """(n, heads, d) by cosines and sines (n, 1, d), as Llama does it: the second half of a head is the first half's partner."""
    cosine, sine = turn
    first, second = states.chunk(2, dim=2)
    return (states * cosine).addcmul_(th.cat([-second, first], dim=2), sine)


def _distinct(prompts: Sequence[np.ndarray]) -> tuple[list[np.ndarray], th.Tensor]:
    """Each prompt once, and for every prompt its place among them, (n,) int64."""
    places: dict[bytes, int] = {}
    which = [places.setdefault(np.asarray(prompt, dtype=np.int64).tobytes(), len(places)) for prompt in prompts]
    return [prompts[which.index(place)] for place in range(len(places))], th.tensor(which)


@th.no_grad()
def why_not_lean(body: PreTrainedModel) -> str | None:
    """
    Find out whether :class:`LlamaDecoding` is the same function as a model's own forward pass.

    The kind of model is looked at, then both read three tokens behind a few prompts; the states must agree.

    :param body: a Hugging Face model without its head, in evaluation mode, on the device where it will run
    :return: the reason against it, or ``None``
    """
    config: Any = body.config
    if body.device.type != "cpu" or body.dtype is not th.float32:
        return "it is for float32 on a CPU"
    if config.model_type not in LEAN_KINDS:
        return f"models of type {config.model_type!r} are not of the Llama family"
    others = sorted(set(getattr(config, "layer_types", None) or ()) - {"full_attention"})
    if others or (getattr(config, "sliding_window", None) is not None and config.model_type == "mistral"):
        return f"it has layers of another kind than full attention: {', '.join(others) or 'sliding_attention'}"
    vocabulary = config.vocab_size
    prompts = [np.arange(length) * 31 % 97 % vocabulary for length in (5, 9, 1, 5)]
    own, lean = ModelDecoding(body, prompts), LlamaDecoding(body, prompts)
    for step in range(3):
        tokens = (7 + 13 * step + 29 * th.arange(len(own.hidden))) % vocabulary
        for decoding in (own, lean):
            decoding.append(tokens)
        if not th.allclose(lean.hidden, own.hidden, rtol=1e-4, atol=1e-4 * float(own.hidden.abs().max())):
            return "its states differ from those of the model's own forward pass"
        if step == 0:
            for decoding in (own, lean):
                decoding.keep(th.tensor([0, 2, 3]))
    return None
