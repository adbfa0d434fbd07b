"""One frame through one decoder block, written for few operations.

At a single frame the arithmetic is nothing: a step costs what it takes to read the weights once
and to make the calls. So this repeats `layers.DecoderBlock.forward` with queries, keys and values
turned together, residuals added inside the matrix products, keys remembered on their side, and no
module in between; a test holds the two equal.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lewm.layers import DecoderBlock, KeysValues


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

        def norm(layer: nn.LayerNorm) -> tuple:
            return layer.normalized_shape, layer.weight, layer.bias, layer.eps

        def biased(layer: nn.Linear) -> tuple[Tensor, Tensor]:
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
        rotations: (1, 3, 1, d/2), or (B, 3, 1, d/2) where rows differ; complex, and those of the
            queries scaled by 1 / sqrt(d)
        ahead: (B, 1, n_columns) bool, True where a row has no column yet; None if all stand alike
    """

    column: int | tuple[Tensor, Tensor]
    n_columns: int
    rotations: Tensor
    ahead: Tensor | None


def step_block(
    x: Tensor,
    weights: StepWeights,
    cache: KeysValues,
    text: KeysValues,
    place: Place,
    hidden: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """What `DecoderBlock.forward` makes of the newest frame, without dropout.

    Args:
        x: (B, D), changed in place
        cache: keys (B, H, d, max_length) and values (B, H, max_length, d), changed in place
        text: projected text, keys (B, H, d, L) and values (B, H, L, d)
        hidden: (B, 1 or H, L) bool, True on padding and what a head may not see; None for nothing

    Returns:
        (B, D) and the cross-attention weights (B, H, L)
    """
    w, shape = weights, (len(x), weights.n_heads, -1)
    qkv = torch.addmm(w.qkv[0], torch.layer_norm(x, *w.attention_norm), w.qkv[1])
    # As in `layers.rotate`; pairs of floats read as complex numbers need no other view of them.
    pairs = qkv.float().view(torch.complex64).view(len(x), 3, w.n_heads, -1)
    turned = (pairs * place.rotations).view(torch.float32).to(x.dtype)  # (B, 3, H, d)
    queries, new_keys, new_values = turned.unbind(1)
    keys, values = cache
    if isinstance(place.column, int):
        keys.select(3, place.column).copy_(new_keys)
        values.select(2, place.column).copy_(new_values)
    else:
        rows, columns = place.column
        keys[rows, :, :, columns] = new_keys
        values[rows, :, columns] = new_values
    n = place.n_columns
    out, _ = _read(queries, keys.narrow(3, 0, n), values.narrow(2, 0, n), place.ahead)
    x.addmm_(out, w.attention_out)

    bias, matrix = w.query
    normed, scale = torch.layer_norm(x, *w.cross_norm), values.shape[3] ** -0.5
    queries = torch.addmm(bias, normed, matrix, beta=scale, alpha=scale).view(shape)
    out, attention = _read(queries, *text, hidden)
    x.addmm_(out, w.cross_out)

    wide = torch.addmm(w.widen[0], torch.layer_norm(x, *w.ff_norm), w.widen[1])
    return x.addmm_(F.silu(wide, inplace=True), w.narrow), attention


def _read(
    queries: Tensor, keys: Tensor, values: Tensor, hidden: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Attention of one frame, whose queries are scaled already.

    Two batched products: on a CPU faster than PyTorch's fused attention, which is made for many
    queries.

    Args:
        queries: (B, H, d)
        keys: (B, H, d, n)
        values: (B, H, n, d)
        hidden: (B, 1 or H, n) bool, True where nothing may be read

    Returns:
        (B, H * d) and the weights (B, H, n)
    """
    n_rows, n_heads, dim = queries.shape
    scores = torch.bmm(queries.reshape(-1, 1, dim), keys.flatten(0, 1))  # (B * H, 1, n)
    if hidden is not None:
        scores.view(n_rows, n_heads, -1).masked_fill_(hidden, -torch.inf)
    weights = scores.softmax(-1)
    out = torch.bmm(weights, values.flatten(0, 1))  # (B * H, 1, d)
    return out.view(n_rows, -1), weights.view(n_rows, n_heads, -1)
