"""Attention with rotary positions and the two pre-norm blocks every LeWM network is built from."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KeysValues = tuple[Tensor, Tensor]
Remember = Callable[[Tensor, Tensor], None]


def fill_padding(x: Tensor, mask: Tensor | None) -> Tensor:
    """`x` (B, C, T) with zeros where `mask` (B, T) is False; inf and nan go too."""
    return x if mask is None else x.masked_fill(~mask[:, None, :], 0.0)


class Rotary(nn.Module):
    """Rotary positions (Su et al. 2021, RoFormer, eq. 34) as complex numbers of modulus 1.

    Only differences of positions reach the attention, so nothing breaks beyond the lengths seen in
    training; the tables grow when a longer sequence comes.
    """

    def __init__(self, head_dim: int, base: float = 10_000.0):
        super().__init__()
        self.head_dim, self.base = head_dim, base
        # Not a buffer: it must stay complex64 when the model is cast to half precision.
        self._tables: dict[torch.device, Tensor] = {}

    def span(self, start: int, n: int, device: torch.device) -> Tensor:
        """Rotations of the positions start .. start + n - 1: (n, 3, 1, d/2)"""
        return self.table(start + n, device)[start : start + n]

    def table(self, n_positions: int, device: torch.device) -> Tensor:
        """Rotations of at least the first `n_positions` positions.

        Returns:
            (N, 3, 1, d/2) complex64, for queries, keys and values; the values' are 1, so that a
            decoding step can turn all three in one operation
        """
        table = self._tables.get(device)
        if table is None or len(table) < n_positions:
            table = self._tables[device] = self._build(max(2048, 2 * n_positions)).to(device)
        return table

    def _build(self, n_positions: int) -> Tensor:
        # A table made while inference_mode is on could never be used for training.
        with torch.inference_mode(False):
            half = self.head_dim // 2
            frequencies = self.base ** (-torch.arange(half, dtype=torch.float64) / half)
            angles = torch.arange(n_positions, dtype=torch.float64)[:, None] * frequencies
            turn = torch.polar(torch.ones_like(angles), angles)  # (N, d/2)
            rotations = torch.stack([turn, turn, torch.ones_like(turn)], dim=1)[:, :, None]
            return rotations.to(torch.complex64)


def rotate(x: Tensor, rotations: Tensor) -> Tensor:
    """Turn x (..., d), seen as d/2 pairs, by rotations broadcastable to (..., d/2)."""
    pairs = x.float().view(*x.shape[:-1], -1, 2)
    turned = torch.view_as_real(torch.view_as_complex(pairs) * rotations)
    return turned.view(x.shape).to(x.dtype)


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
        self.out = nn.Linear(dim, dim, bias=False)

    def forward(
        self,
        x: Tensor,
        rotations: Tensor,
        *,
        mask: Tensor | None = None,
        is_causal: bool = False,
        remember: Remember | None = None,
    ) -> Tensor:
        """Attend from x (B, T, D) to itself.

        Args:
            rotations: (T, 3, 1, d/2)
            remember: is shown the keys and values, each (B, H, T, d): fills a KV cache
        """
        qkv = self.qkv(x).view(*x.shape[:2], 3, self.n_heads, -1)  # (B, T, 3, H, d)
        turned = rotate(qkv[:, :, :2], rotations[:, :2]).transpose(1, 3)  # (B, H, 2, T, d)
        queries, keys = turned.unbind(2)
        values = qkv[:, :, 2].transpose(1, 2)
        if remember is not None:
            remember(keys, values)
        out, _ = attend(queries, keys, values, mask=mask, is_causal=is_causal)
        return self.out(out)


class CrossAttention(nn.Module):
    """Multi-head attention to a text; keys and values are projected apart, once per text."""

    def __init__(self, dim: int, n_heads: int):
        super().__init__()
        self.n_heads = n_heads
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim, bias=False)

    def project(self, text: Tensor) -> KeysValues:
        """Keys and values of text (B, L, D): two (B, H, L, d)."""
        both = self.key_value(text).view(*text.shape[:2], 2, self.n_heads, -1)  # (B, L, 2, H, d)
        keys, values = both.transpose(1, 3).unbind(2)
        return keys, values

    def forward(
        self, x: Tensor, text: KeysValues, mask: Tensor | None, *, need_attention: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Attend from x (B, T, D) to projected text; mask (B, 1, 1, L) or None."""
        queries = self.query(x).view(*x.shape[:2], self.n_heads, -1).transpose(1, 2)
        out, weights = attend(queries, *text, mask=mask, need_attention=need_attention)
        return self.out(out), weights


class FeedForward(nn.Module):
    """Linear, SiLU, linear: (..., D) -> (..., D)."""

    def __init__(self, dim: int, ff_dim: int):
        super().__init__()
        self.widen = nn.Linear(dim, ff_dim)
        self.narrow = nn.Linear(ff_dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.narrow(F.silu(self.widen(x)))


class EncoderBlock(nn.Module):
    """Pre-norm transformer block that looks both ways: (B, T, D) -> (B, T, D)."""

    def __init__(self, dim: int, ff_dim: int, n_heads: int, dropout: float):
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = SelfAttention(dim, n_heads)
        self.ff_norm = nn.LayerNorm(dim)
        self.ff = FeedForward(dim, ff_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, rotations: Tensor, mask: Tensor | None) -> Tensor:
        """mask: broadcastable to (B, H, T, T)."""
        x = x + self.dropout(self.attention(self.attention_norm(x), rotations, mask=mask))
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
        rotations: Tensor,
        text: KeysValues,
        text_mask: Tensor | None,
        *,
        remember: Remember | None = None,
        need_attention: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """x (B, T, D) -> (B, T, D) and the cross-attention weights (B, H, T, L) or None."""
        attended = self.attention(
            self.attention_norm(x), rotations, is_causal=True, remember=remember
        )
        x = x + self.dropout(attended)
        read, weights = self.cross(
            self.cross_norm(x), text, text_mask, need_attention=need_attention
        )
        x = x + self.dropout(read)
        return x + self.dropout(self.ff(self.ff_norm(x))), weights
