"""Weight norm (Salimans and Kingma, 2016): folded in memory, apart in checkpoints.

The official checkpoints hold a length `weight_g` and a direction `weight_v` instead of `weight`.
Multiplying them once on loading saves that work in every call.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Layer = TypeVar("Layer", bound=nn.Module)


def weight_normed(layer: Layer) -> Layer:
    """Let `layer` read weight norm (or a plain `weight`), and always write weight norm.

    The length runs over every dimension but the first. A weight read back is the weight written,
    bit for bit in float32; `weight_v` itself comes back scaled to the length `weight_g`.
    """
    layer.register_load_state_dict_pre_hook(_fold)
    layer.register_state_dict_post_hook(_split)
    return layer


def _fold(_: nn.Module, state: MutableMapping[str, Tensor], prefix: str, *_others: Any) -> None:
    _fold_one(state, prefix)


def _fold_one(state: MutableMapping[str, Tensor], prefix: str) -> None:
    if prefix + "weight_g" in state and prefix + "weight_v" in state:
        length, direction = state.pop(prefix + "weight_g"), state.pop(prefix + "weight_v")
        state[prefix + "weight"] = direction * (length / _length(direction))


def _split(_: nn.Module, state: MutableMapping[str, Any], prefix: str, _metadata: object) -> None:
    weight = state.pop(prefix + "weight")
    state[prefix + "weight_g"] = _length(weight)
    state[prefix + "weight_v"] = weight


def _length(direction: Tensor) -> Tensor:
    """Norm over every dimension but the first, kept as ones: (N, 1, ...)"""
    length = torch.linalg.vector_norm(direction, dim=tuple(range(1, direction.dim())), keepdim=True)
    return length.clamp(min=torch.finfo(direction.dtype).tiny)  # a zero row stays zero
