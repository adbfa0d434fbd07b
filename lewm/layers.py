"""Attention with rotary positions and the two pre-norm blocks every LeWM network is built from."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Rotation = tuple[Tensor, Tensor]
KeysValues = tuple[Tensor, Tensor]


def fill_padding(x: Tensor, mask: Tensor | None) -> Tensor:
    """`x` (B, C, T) with zeros where `mask` (B, T) is False; inf and nan go too."""
    return x if mask is None else x.masked_fill(~mask[:, None, :], 0.0)


class Rotary(nn.Module):
    """Rotary position tables (Su et al. 2021, RoFormer, eq. 34), in the half-split form.

    Only differences of positions reach the attention, so nothing breaks beyond the lengths seen in
    training; the tables grow when a longer sequence comes.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, head_dim: int, n_positions: int = 4096, base: float = 10_000.0):
        super().__init__()
        self.head_dim, self.base = head_dim, base
        self.register_buffer("cos", torch.empty(0), persistent=False)
        self.register_buffer("sin", torch.empty(0), persistent=False)
        self._grow(n_positions)

    def span(self, start: int, n: int) -> Rotation:
        """Tables of the positions start .. start + n - 1: two (n, 1, 1, d)."""
        if start + n > len(self.cos):
            self._grow(2 * (start + n))
        return self.cos[start : start + n], self.sin[start : start + n]

    def at(self, positions: Tensor) -> Rotation:
        """Tables of one position per row, `positions` (B,): two (B, 1, 1, 1, d)."""
        return self.cos[positions].unsqueeze(1), self.sin[positions].unsqueeze(1)

    def reserve(self, n_positions: int) -> None:
        """Make room before `at`, which can't look at its positions without a device sync."""
        if n_positions > len(self.cos):
            self._grow(n_positions)

    def _grow(self, n_positions: int) -> None:
        half = self.head_dim // 2
        frequencies = self.base ** (-torch.arange(half, dtype=torch.float64) / half)
        angles = torch.arange(n_positions, dtype=torch.float64)[:, None] * frequencies  # (N, d/2)
        cos, sin = angles.cos(), angles.sin()
        # The sign of the half-split rotation lives in the table, so `rotate` needs no negation.
        for name, table in (("cos", (cos, cos)), ("sin", (-sin, sin))):
            rows = torch.cat(table, dim=-1)[:, None, None, :]  # (N, 1, 1, d)
            setattr(self, name, rows.to(self.cos.device, self.cos.dtype))


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn `x` (B, T, 2, H, d) by its positions."""
    cos, sin = rotation
    swapped = x.roll(x.shape[-1] // 2, dims=-1)  # (x1, x2) -> (x2, x1)
    return torch.addcmul(x * cos, swapped, sin)


def attend(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    *,
    mask: Tensor | None = None,
    is_causal: bool = False,
    need_attention: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Scaled dot-product attention.

    Args:
        queries: (B, H, T, d)
        keys, values: (B, H, L, d)
        mask: bool, broadcastable to (B, H, T, L), True where attention is allowed
        need_attention: also return the weights (B, H, T, L), at the price of a slower path

    Returns:
        (B, T, H * d) and the weights or None
    """
    weights = None
    if need_attention:
        scores = queries @ keys.transpose(-2, -1) * queries.shape[-1] ** -0.5  # (B, H, T, L)
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        weights = scores.softmax(dim=-1)
        out = weights @ values
    else:
        out = F.scaled_dot_product_attention(
            queries, keys, values, attn_mask=mask, is_causal=is_causal
        )
    return out.transpose(1, 2).flatten(2), weights


class SelfAttention(nn.Module):
    """Multi-head self-attention with rotary positions."""

    def __init__(self, dim: int, n_heads: int):
        super().__init__()
        self.n_heads = n_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(
        self,
        x: Tensor,
        rotation: Rotation,
        *,
        mask: Tensor | None = None,
        is_causal: bool = False,
        remember: Callable[[Tensor, Tensor], KeysValues] | None = None,
    ) -> Tensor:
        """Attend from x (B, T, D) to itself, or to what `remember` makes of its keys and values.

        Args:
            remember: takes this call's keys and values, each (B, H, T, d), and returns all that
                shall be attended to: the KV cache
        """
        qkv = self.qkv(x).unflatten(-1, (3, self.n_heads, -1))  # (B, T, 3, H, d)
        turned = rotate(qkv[:, :, :2], rotation).transpose(1, 3)  # (B, H, 2, T, d)
        queries, keys = turned[:, :, 0], turned[:, :, 1]
        values = qkv[:, :, 2].transpose(1, 2)
        if remember is not None:
            keys, values = remember(keys, values)
        out, _ = attend(queries, keys, values, mask=mask, is_causal=is_causal)
        return self.out(out)


class CrossAttention(nn.Module):
    """Multi-head attention to a text; keys and values are projected apart, once per text."""

    def __init__(self, dim: int, n_heads: int):
        super().__init__()
        self.n_heads = n_heads
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)

    def project(self, text: Tensor) -> KeysValues:
        """Keys and values of text (B, L, D): two (B, H, L, d)."""
        both = self.key_value(text).unflatten(-1, (2, self.n_heads, -1)).transpose(1, 3)
        return both[:, :, 0], both[:, :, 1]

    def forward(
        self, x: Tensor, text: KeysValues, mask: Tensor | None, *, need_attention: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Attend from x (B, T, D) to projected text; mask (B, 1, 1, L) or None."""
        queries = self.query(x).unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
        out, weights = attend(queries, *text, mask=mask, need_attention=need_attention)
        return self.out(out), weights


class FeedForward(nn.Sequential):
    """Linear, GELU, linear: (..., D) -> (..., D)."""

    def __init__(self, dim: int, ff_dim: int):
        super().__init__(nn.Linear(dim, ff_dim), nn.GELU(), nn.Linear(ff_dim, dim))


class EncoderBlock(nn.Module):
    """Pre-norm transformer block that looks both ways: (B, T, D) -> (B, T, D)."""

    def __init__(self, dim: int, ff_dim: int, n_heads: int, dropout: float):
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = SelfAttention(dim, n_heads)
        self.ff_norm = nn.LayerNorm(dim)
        self.ff = FeedForward(dim, ff_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, rotation: Rotation, mask: Tensor | None) -> Tensor:
        """mask: broadcastable to (B, H, T, T)."""
        x = x + self.dropout(self.attention(self.attention_norm(x), rotation, mask=mask))
        return x + self.dropout(self.ff(self.ff_norm(x)))


class DecoderBlock(nn.Module):
    """Pre-norm block of causal self-attention, cross-attention to text, and feed-forward."""

    def __init__(self, dim: int, ff_dim: int, n_heads: int, dropout: float):
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = SelfAttention(dim, n_heads)
        self.cross_norm = nn.LayerNorm(dim)
        self.cross = CrossAttention(dim, n_heads)
        self.ff_norm = nn.LayerNorm(dim)
        self.ff = FeedForward(dim, ff_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        rotation: Rotation,
        text: KeysValues,
        text_mask: Tensor | None,
        *,
        mask: Tensor | None = None,
        is_causal: bool = False,
        remember: Callable[[Tensor, Tensor], KeysValues] | None = None,
        need_attention: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """x (B, T, D) -> (B, T, D) and the cross-attention weights (B, H, T, L) or None."""
        attended = self.attention(
            self.attention_norm(x), rotation, mask=mask, is_causal=is_causal, remember=remember
        )
        x = x + self.dropout(attended)
        read, weights = self.cross(
            self.cross_norm(x), text, text_mask, need_attention=need_attention
        )
        x = x + self.dropout(read)
        return x + self.dropout(self.ff(self.ff_norm(x))), weights
