"""How kani-tts-2 counts: the ids of a frame share a position, and each attention layer may stretch
all positions by a factor of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ttscommon.errors import UserError

# As utils/model.py of nineninesix-ai/kani-tts-2-pretrain names them; N counts all layers.
LAYERS = "learnable_rope_layers"
FACTOR = re.compile(rf"model\.{LAYERS}\.(\d+)\.alpha_weight")
LEAST, MOST = 0.1, 2.0


class Stretch(nn.Module):
    """A layer's factor: alpha_min + (alpha_max - alpha_min) * sigmoid(w)."""

    def __init__(self, weight: Tensor, least: float, most: float):
        super().__init__()
        self.alpha_weight = nn.Parameter(weight.reshape(()).float(), requires_grad=False)
        self.least, self.most = least, most

    def forward(self, positions: Tensor) -> Tensor:
        share = torch.sigmoid(self.alpha_weight.float())
        return positions * (self.least + (self.most - self.least) * share)


def audio_step_of(config: Mapping[str, Any]) -> float | None:
    """How far frames lie apart: kani-tts-2 says so in its `config.json`, kani-tts-1 doesn't."""
    return config.get("audio_step")


def stretches(config: Mapping[str, Any]) -> bool:
    return bool(config.get("use_learnable_rope"))


def stretch(
    model: Any, tensors: Mapping[str, Tensor], config: Mapping[str, Any], where: Path
) -> None:
    """Let each attention layer multiply its rotary frequencies by a factor of its own.

    Args:
        tensors: the numbers w, by their names in the checkpoint

    Raises:
        UserError: if they don't fit the layers
    """
    layers = [n for n, kind in enumerate(model.config.layer_types) if kind == "full_attention"]
    found = {int(m[1]): tensor for name, tensor in tensors.items() if (m := FACTOR.fullmatch(name))}
    if sorted(found) != layers or any(tensor.numel() != 1 for tensor in tensors.values()):
        raise UserError(
            f"use_learnable_rope needs a number model.{LAYERS}.N.alpha_weight for each of the "
            f"layers {layers}, the weights have {sorted(tensors) or 'none'}",
            where=where,
            fix="take the whole checkpoint, or a kani-tts-1 model",
        )
    least, most = config.get("alpha_min", LEAST), config.get("alpha_max", MOST)
    factors = {str(n): Stretch(weight, least, most) for n, weight in sorted(found.items())}
    setattr(model.model, LAYERS, nn.ModuleDict(factors))  # so they are saved under their name
    for number in found:
        _stretch_one(model, number, factors[str(number)])


def _stretch_one(model: Any, number: int, factor: Stretch) -> None:
    def stretched(_: Any, args: Any, given: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        # Stretched positions are stretched frequencies: only their product is used.
        places = factor(given["position_ids"])
        rotary = model.model.rotary_emb(given["hidden_states"], position_ids=places)
        return args, {**given, "position_embeddings": rotary}

    model.model.layers[number].self_attn.register_forward_pre_hook(stretched, with_kwargs=True)
