"""One frame through one decoder block, written for few operations.

At a single frame the arithmetic is nothing: a step costs what it takes to read the weights once
and to make the calls. So this repeats `layers.DecoderBlock.forward` with queries, keys and values
turned and stored together, residuals added inside the matrix products, and no module in between; a
test holds the two equal.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lewm.layers import DecoderBlock, KeysValues, attend


class StepWeights(NamedTuple):
    """A block's parameters as a step uses them; views, so they follow the block's training.

    Norms are (shape, weight, bias, eps). Matrices are transposed, (in, out), and stand behind their
    bias (1, out) where there is one: a bias of two dimensions spares each product an expansion.
    """

    n_heads: int
    attention_norm: tuple
    qkv: tuple[Tensor, Tensor]
    attention_out: Tensor
    cross_norm: tuple
    query: tuple[Tensor, Tensor]
    cross_out: Tensor
    ff_norm: tuple
    widen: tuple[Tensor, Tensor]
    narrow: Tensor

    @classmethod
    def of(cls, block: DecoderBlock) -> StepWeights:
        """The weights of one block."""

        def norm(layer: torch.nn.LayerNorm) -> tuple:
            return layer.normalized_shape, layer.weight, layer.bias, layer.eps

        def biased(layer: torch.nn.Linear) -> tuple[Tensor, Tensor]:
            return layer.bias[None], layer.weight.t()

        return cls(
            n_heads=block.attention.n_heads,
            attention_norm=norm(block.attention_norm),
            qkv=biased(block.attention.qkv),
            attention_out=block.attention.out.weight.t(),
            cross_norm=norm(block.cross_norm),
            query=biased(block.cross.query),
            cross_out=block.cross.out.weight.t(),
            ff_norm=norm(block.ff_norm),
            widen=biased(block.ff.widen),
            narrow=block.ff.narrow.weight.t(),
        )


class Place(NamedTuple):
    """Where in the cache the coming step stands.

    Attributes:
        column: the column all rows write to, or (rows, columns) (B,) each where they differ
        n_columns: how many columns are attended to
        rotations: (1, 3, 1, 1, d/2), or (B, 3, 1, 1, d/2) where rows differ; complex
        mask: (B, 1, 1, n_columns) bool where rows differ
    """

    column: int | tuple[Tensor, Tensor]
    n_columns: int
    rotations: Tensor
    mask: Tensor | None


def step_block(
    x: Tensor,
    weights: StepWeights,
    cache: Tensor,
    place: Place,
    text: KeysValues,
    text_mask: Tensor | None,
    need_attention: bool,
) -> tuple[Tensor, Tensor | None]:
    """What `DecoderBlock.forward` makes of the newest frame, without dropout.

    Args:
        x: (B, D)
        cache: (B, 2, H, max_length, d) keys and values, changed in place
        text: projected text, two (B, H, L, d); text_mask: (B, 1, 1, L) or None

    Returns:
        (B, D) and the cross-attention weights (B, H, 1, L) or None
    """
    w, n_rows, n_heads = weights, len(x), weights.n_heads
    qkv = torch.addmm(w.qkv[0], torch.layer_norm(x, *w.attention_norm), w.qkv[1])
    # As in `layers.rotate`; pairs of floats read as complex numbers need no other view of them.
    pairs = qkv.float().view(torch.complex64).view(n_rows, 3, n_heads, 1, -1)
    turned = (pairs * place.rotations).view(torch.float32).to(x.dtype)  # (B, 3, H, 1, d)
    if isinstance(place.column, int):
        cache.narrow(3, place.column, 1).copy_(turned.narrow(1, 1, 2))
    else:
        rows, columns = place.column
        cache[rows, :, :, columns] = turned[:, 1:, :, 0].to(cache.dtype)
    keys, values = cache.narrow(3, 0, place.n_columns).unbind(1)
    queries = turned.select(1, 0)
    out = F.scaled_dot_product_attention(queries, keys, values, attn_mask=place.mask)
    x = torch.addmm(x, out.view(n_rows, -1), w.attention_out)

    queries = torch.addmm(w.query[0], torch.layer_norm(x, *w.cross_norm), w.query[1])
    queries = queries.view(n_rows, n_heads, 1, -1)
    attention = None
    if need_attention:
        out, attention = attend(queries, *text, mask=text_mask, need_attention=True)
    else:
        out = F.scaled_dot_product_attention(queries, *text, attn_mask=text_mask)
    x = torch.addmm(x, out.view(n_rows, -1), w.cross_out)

    wide = torch.addmm(w.widen[0], torch.layer_norm(x, *w.ff_norm), w.widen[1])
    return torch.addmm(x, F.silu(wide, inplace=True), w.narrow), attention
