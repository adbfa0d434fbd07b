"""Attention of packed clips, each within itself.

A mask over a whole batch makes every place look at every other only to forget most of it: the cost
grows with the square of the batch, and no fast kernel takes such a mask. Here clips are cut out,
attended to causally beside others of about their length, and put back.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    """Where the clips of a batch (B, T) are, in groups of clips of about the same length.

    Attributes:
        places: for each group of N clips, the longest of L ids, the flat places in the batch of
            each clip's ids, (N, L); behind its end any others, which no causal attention sees
        back: (B * T,), flat places in all groups one after the other; 0 for padding
    """

    places: tuple[Tensor, ...]
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
        first, back, n_before = sizes.cumsum(0) - sizes, torch.zeros_like(of_all), 0
        places: list[Tensor] = []
        for group in _alike(sizes.tolist()):
            steps = torch.arange(max(sizes[group].tolist()), device=segments.device)
            found = real[(first[group][:, None] + steps).clamp(max=len(real) - 1)]
            numbers = torch.arange(found.numel(), device=segments.device).view_as(found) + n_before
            is_own = steps < sizes[group][:, None]
            back[found[is_own]] = numbers[is_own]
            places.append(found)
            n_before += found.numel()
        return cls(tuple(places), back)

    def apart(self, x: Tensor) -> list[Tensor]:
        """(N, H, L, D) of each group of (B, H, T, D)."""
        flat = x.transpose(1, 2).flatten(0, 1)
        cuts = [(flat.index_select(0, one.flatten()), one.shape) for one in self.places]
        return [cut.view(*shape, *cut.shape[1:]).transpose(1, 2) for cut, shape in cuts]

    def together(self, groups: Sequence[Tensor], shape: torch.Size) -> Tensor:
        """(B, T, H, D), `shape`, of (N, L, H, D) of each group."""
        flat = torch.cat([group.flatten(0, 1) for group in groups])
        return flat.index_select(0, self.back).view(shape)


def _alike(sizes: Sequence[int]) -> list[list[int]]:
    """Numbers of the sizes in groups in which none is more than twice another."""
    groups: list[list[int]] = []
    for number in sorted(range(len(sizes)), key=lambda n: -sizes[n]):
        if groups and 2 * sizes[number] >= sizes[groups[-1][0]]:
            groups[-1].append(number)
        else:
            groups.append([number])
    return groups


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
    groups = zip(*(attention_mask.apart(x) for x in (query, key, value)), strict=True)
    found = [own(module, *group, None, **{**settings, "is_causal": True})[0] for group in groups]
    batch, n_heads, n_steps, width = query.shape
    return attention_mask.together(found, torch.Size((batch, n_steps, n_heads, width))), None


def attend_within_clips(model: Any) -> None:
    """Let a model of transformers take `Segments` for a mask of its attention layers."""
    model.set_attn_implementation(NAME)


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
