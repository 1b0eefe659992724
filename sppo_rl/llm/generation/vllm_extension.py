"""Methods for vLLM's worker, mixed into it as its ``worker_extension_cls``: everything that touches vLLM's weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch as th

EXTENSION = f"{__name__}.WeightSync"
"""For ``worker_extension_cls``."""
OLDEST = (0, 32)
"""Oldest vLLM whose ``reload_weights`` takes an iterator as it is used here; the release that the tests run."""
COMPARED = 8
"""Values of a parameter that are looked at."""


def require_vllm(version: str) -> None:
    """
    Refuse a vLLM that this code does not know: its weight updates change with every release.

    :param version: of vLLM
    :raises RuntimeError: if it is too old
    """
    numbers = tuple(int(part) for part in version.split("+")[0].split(".")[:2] if part.isdigit())
    if len(numbers) == 2 and numbers < OLDEST:
        raise RuntimeError(
            f"vLLM {version} is too old: weights are handed over by a call that {OLDEST[0]}.{OLDEST[1]} has. Upgrade with "
            "pip install 'sppo-rl[vllm]'."
        )


class WeightSync:
    """
    Methods that vLLM's worker inherits; called by name through ``collective_rpc``.

    The one way that leaves right weights is ``reload_weights`` with an iterator over the checkpoint's own names: on CPUs the engine's
    linear layers are repacked, so copying in place is impossible, and ``load_weights`` alone leaves them half changed.
    """

    reload_weights: Any
    get_model: Any

    def sppo_load(self, weights: Iterable[tuple[str, th.Tensor]]) -> None:
        """
        Take over weights from the process itself.

        :param weights: under the checkpoint's names
        """
        self.reload_weights(weights_iterator=iter(weights))
        model = self.get_model()
        head = getattr(model, "lm_head", None)
        if head is not None and head.weight.device.type == "cpu" and getattr(model.config, "tie_word_embeddings", False):
            # on CPUs the output layer computes with a packed copy, which a reload leaves as it was where embeddings are tied to it
            head.quant_method.process_weights_after_loading(head)

    def sppo_load_file(self, path: str) -> None:
        """
        Take over weights from a safetensors file that the worker can read.

        :param path: of the file
        """
        from safetensors.torch import load_file

        self.sppo_load(load_file(path).items())

    def sppo_stored(self, names: list[str]) -> dict[str, list[float]]:
        """
        Read what the worker holds.

        :param names: parameters of one dimension; those that the engine stores under other names are left out
        :return: the first :data:`COMPARED` values of each
        """
        held = dict(self.get_model().named_parameters())
        return {name: held[name].detach()[:COMPARED].float().tolist() for name in names if name in held}
