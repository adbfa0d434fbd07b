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

STRETCH = "alpha_weight"  # what the names of the factors end in; the rest of them isn't published
LAYER = re.compile(r"\blayers\.(\d+)\.")
LEAST, MOST = 0.1, 2.0


def audio_step_of(config: Mapping[str, Any]) -> float | None:
    """How far frames lie apart: kani-tts-2 says so in its `config.json`, kani-tts-1 doesn't."""
    return config.get("audio_step")


def stretches(config: Mapping[str, Any]) -> bool:
    return bool(config.get("use_learnable_rope"))


def stretch(
    model: Any, tensors: Mapping[str, Tensor], config: Mapping[str, Any], where: Path
) -> None:
    """Let each attention layer multiply its rotary frequencies by
    alpha_min + (alpha_max - alpha_min) * sigmoid(w).

    Args:
        tensors: the numbers w, by their names in the checkpoint

    Raises:
        UserError: if they don't fit the layers
    """
    layers = [n for n, kind in enumerate(model.config.layer_types) if kind == "full_attention"]
    found = {int(m[1]): tensor for name, tensor in tensors.items() if (m := LAYER.search(name))}
    if sorted(found) != layers or any(tensor.numel() != 1 for tensor in tensors.values()):
        raise UserError(
            f"use_learnable_rope needs a number layers.N. ... {STRETCH} for each of the layers "
            f"{layers}, the weights have {sorted(tensors) or 'none'}",
            where=where,
            fix="take the whole checkpoint, or a kani-tts-1 model",
        )
    least, most = config.get("alpha_min", LEAST), config.get("alpha_max", MOST)

    def stretched(attention: Any, args: Any, given: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        alpha = least + (most - least) * torch.sigmoid(attention.alpha_weight.float())
        # Stretched positions are stretched frequencies: only their product is used.
        places = given["position_ids"] * alpha
        rotary = model.model.rotary_emb(given["hidden_states"], position_ids=places)
        return args, {**given, "position_embeddings": rotary}

    for number, weight in found.items():
        attention = model.model.layers[number].self_attn
        attention.alpha_weight = nn.Parameter(weight.flatten()[0].float(), requires_grad=False)
        attention.register_forward_pre_hook(stretched, with_kwargs=True)
