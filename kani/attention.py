"""Attention of packed clips, each within itself.

A mask over a whole batch makes every place look at every other only to forget most of it: the cost
grows with the square of the batch, and no fast kernel takes such a mask. Here each clip is cut out,
attended to causally beside the others, and put back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

NAME = "within_clips"


@dataclass(frozen=True)
class Segments:
    """Where the clips of a batch (B, T) are; N of them, the longest of L ids.

    Attributes:
        places: (N, L), flat places in the batch of each clip's ids; behind its end any others,
            which no causal attention sees
        back: (B * T,), flat places in (N, L); 0 for padding
    """

    places: Tensor
    back: Tensor

    @classmethod
    def of(cls, segments: Tensor) -> Segments:
        """
        Args:
            segments: (B, T), the number of the clip in its row, from 1; 0 on padding
        """
        rows = torch.arange(len(segments), device=segments.device)[:, None]
        of_all = (rows * (segments.max() + 1) + segments).flatten()
        real = (segments.flatten() > 0).nonzero()[:, 0]
        sizes = torch.unique_consecutive(of_all[real], return_counts=True)[1]
        steps = torch.arange(int(sizes.max()), device=segments.device)
        first = sizes.cumsum(0) - sizes
        places = real[(first[:, None] + steps).clamp(max=len(real) - 1)]
        back = torch.zeros_like(of_all)
        numbers = torch.arange(places.numel(), device=segments.device).view_as(places)
        back[real] = numbers[steps < sizes[:, None]]
        return cls(places, back)

    def apart(self, x: Tensor) -> Tensor:
        """(N, H, L, D) of (B, H, T, D)."""
        flat = x.transpose(1, 2).flatten(0, 1)
        cut = flat.index_select(0, self.places.flatten())
        return cut.view(*self.places.shape, *cut.shape[1:]).transpose(1, 2)

    def together(self, x: Tensor, shape: torch.Size) -> Tensor:
        """(B, T, H, D), `shape`, of (N, L, H, D)."""
        return x.flatten(0, 1).index_select(0, self.back).view(shape)


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | Segments | None,
    **settings: Any,
) -> tuple[Tensor, Tensor | None]:
    """transformers' own, or within each clip if the mask is `Segments`.

    Args:
        query: (B, H, T, D); key, value: (B, H', T, D)

    Returns:
        (B, T, H, D), and no weights
    """
    own = ALL_ATTENTION_FUNCTIONS["sdpa"]
    if not isinstance(attention_mask, Segments):
        return own(module, query, key, value, attention_mask, **settings)
    parts = (attention_mask.apart(x) for x in (query, key, value))
    found, _ = own(module, *parts, None, **{**settings, "is_causal": True})
    batch, n_heads, n_steps, width = query.shape
    return attention_mask.together(found, torch.Size((batch, n_steps, n_heads, width))), None


def attend_within_clips(model: Any) -> None:
    """Let a model of transformers take `Segments` for a mask of its attention layers."""
    model.set_attn_implementation(NAME)


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
