"""Transformer with adaptive norms and U-shaped skips, the body of the flow's estimator."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NORM_EPSILON = 1e-5
ROTARY_BASE = 10_000.0
FF_MULTIPLE = 256


class AdaptiveNorm(nn.Module):
    """RMS norm whose scale and shift come from a condition: w * RMS(x) + b."""

    def __init__(self, dim: int):
        super().__init__()
        self.project_layer = nn.Linear(dim, 2 * dim)
        self.norm = nn.RMSNorm(dim, eps=NORM_EPSILON)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x (B, T, D), condition (B, 1, D) -> (B, T, D)"""
        scale, shift = self.project_layer(condition).chunk(2, dim=-1)
        return torch.addcmul(shift, self.norm(x), scale)


class Attention(nn.Module):
    """Self-attention that looks both ways, with rotary positions (Su et al. 2021, RoFormer)."""

    def __init__(self, dim: int, n_heads: int):
        super().__init__()
        self.n_heads = n_heads
        self.wqkv = nn.Linear(dim, 3 * dim, bias=False)
        self.wo = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor, rotations: Tensor, mask: Tensor | None) -> Tensor:
        """x (B, T, D), rotations (2, T, 1, d/2), mask (B, 1, 1, T) bool or None -> (B, T, D)"""
        qkv = self.wqkv(x).view(*x.shape[:2], 3, self.n_heads, -1)  # (B, T, 3, H, d)
        turned = rotate(qkv[:, :, :2], rotations[:, :, None])  # (B, T, 2, H, d)
        queries, keys = turned.transpose(1, 3).unbind(2)  # (B, H, T, d) each
        values = qkv[:, :, 2].transpose(1, 2)
        out = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        return self.wo(out.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """SwiGLU (Shazeer 2020): (B, T, D) -> (B, T, D)"""

    def __init__(self, dim: int):
        super().__init__()
        inner = -(-int(2 * 4 * dim / 3) // FF_MULTIPLE) * FF_MULTIPLE
        self.w1 = nn.Linear(dim, inner, bias=False)
        self.w3 = nn.Linear(dim, inner, bias=False)
        self.w2 = nn.Linear(inner, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class Block(nn.Module):
    """Attention and feed-forward, each behind an adaptive norm: (B, T, D) -> (B, T, D)"""

    def __init__(self, dim: int, n_heads: int):
        super().__init__()
        self.attention = Attention(dim, n_heads)
        self.feed_forward = FeedForward(dim)
        self.ffn_norm = AdaptiveNorm(dim)
        self.attention_norm = AdaptiveNorm(dim)
        self.skip_in_linear = nn.Linear(
            2 * dim, dim
        )  # stored in every layer, used above the middle

    def forward(
        self,
        x: Tensor,
        condition: Tensor,
        rotations: Tensor,
        mask: Tensor | None,
        skip: Tensor | None = None,
    ) -> Tensor:
        if skip is not None:
            x = self.skip_in_linear(torch.cat([x, skip], dim=-1))
        x = x + self.attention(self.attention_norm(x, condition), rotations, mask)
        return x + self.feed_forward(self.ffn_norm(x, condition))


class Transformer(nn.Module):
    """Blocks of which each above the middle also reads its mirror image below (Bao et al. 2023)."""

    def __init__(self, dim: int, n_heads: int, depth: int):
        super().__init__()
        self.head_dim = dim // n_heads
        self.layers = nn.ModuleList(Block(dim, n_heads) for _ in range(depth))
        self.norm = AdaptiveNorm(dim)

    def forward(self, x: Tensor, condition: Tensor, mask: Tensor | None) -> Tensor:
        """
        Args:
            x: (B, T, D)
            condition: (B, 1, D), the time of the flow
            mask: (B, T) bool, True on real frames, or None if all are

        Returns:
            (B, T, D)
        """
        rotations = rotations_of(x.shape[1], self.head_dim, x.device)
        key_mask = None if mask is None else mask[:, None, None, :]
        middle, skips = len(self.layers) // 2, []
        for number, block in enumerate(self.layers):
            skip = skips.pop() if number > middle else None
            x = block(x, condition, rotations, key_mask, skip)
            if number < middle:
                skips.append(x)
        return self.norm(x, condition)


def rotations_of(n_frames: int, head_dim: int, device: torch.device) -> Tensor:
    """Cosine and sine of each frame's angles: (2, T, 1, d/2) float32"""
    exponents = torch.arange(0, head_dim, 2, device=device, dtype=torch.float32) / head_dim
    places = torch.arange(n_frames, device=device, dtype=torch.float32)
    angles = torch.outer(places, 1 / ROTARY_BASE**exponents)[:, None]  # (T, 1, d/2)
    return torch.stack([angles.cos(), angles.sin()])


def rotate(x: Tensor, rotations: Tensor) -> Tensor:
    """Turn neighbouring pairs of x (..., d) by rotations (2, ..., d/2); computed in float32."""
    first, second = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    cosine, sine = rotations
    turned = torch.stack([first * cosine - second * sine, first * sine + second * cosine], dim=-1)
    return turned.flatten(-2).to(x.dtype)
