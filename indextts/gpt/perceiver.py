"""The perceiver resampler: any number of frames -> a fixed number of vectors.

Jaegle et al. 2021 in the form of Flamingo (Alayrac et al. 2022, A.1.1), without norms inside.
Attribute names are the keys of the official checkpoints.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HEAD_DIM = 64  # whatever the width: heads * 64 need not be the width
DEPTH = 2


class LatentAttention(nn.Module):
    """The latents ask the frames and one another."""

    def __init__(self, width: int, n_heads: int):
        super().__init__()
        inner_dim = HEAD_DIM * n_heads
        self.n_heads = n_heads
        self.to_q = nn.Linear(width, inner_dim, bias=False)
        self.to_kv = nn.Linear(width, 2 * inner_dim, bias=False)
        self.to_out = nn.Linear(inner_dim, width, bias=False)

    def forward(self, latents: Tensor, frames: Tensor, mask: Tensor) -> Tensor:
        """latents (B, N, D), frames (B, T, D), mask (B, 1, 1, N + T) bool -> (B, N, D)"""
        k, v = self.to_kv(torch.cat([latents, frames], dim=1)).chunk(2, dim=-1)
        q, k, v = (
            x.unflatten(-1, (self.n_heads, HEAD_DIM)).transpose(1, 2)
            for x in (self.to_q(latents), k, v)
        )
        h = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.to_out(h.transpose(1, 2).flatten(2))


class GatedGelu(nn.Module):
    """Second half, through GELU, times the first (GEGLU, Shazeer 2020)."""

    def forward(self, x: Tensor) -> Tensor:
        value, gate = x.chunk(2, dim=-1)
        return F.gelu(gate) * value


class UnitRms(nn.Module):
    """Root-mean-square norm (Zhang and Sennrich 2019) whose gain is called gamma."""

    def __init__(self, width: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=-1) * x.shape[-1] ** 0.5 * self.gamma


class ResamplerLayer(nn.ModuleList):
    """Attention, called 0 in the checkpoints, and feed-forward, called 1; both residual."""

    def __init__(self, width: int, inner_dim: int, n_heads: int):
        feed_forward = nn.Sequential(
            nn.Linear(width, 2 * inner_dim), GatedGelu(), nn.Linear(inner_dim, width)
        )
        super().__init__([LatentAttention(width, n_heads), feed_forward])

    def forward(self, latents: Tensor, frames: Tensor, mask: Tensor) -> Tensor:
        """latents (B, N, D), frames (B, T, D), mask (B, 1, 1, N + T) bool -> (B, N, D)"""
        attention, feed_forward = self
        latents = latents + attention(latents, frames, mask)
        return latents + feed_forward(latents)


class PerceiverResampler(nn.Module):
    """Args: widths of the output and of the frames read, output vectors, heads, feed-forward."""

    def __init__(self, width: int, context_dim: int, n_latents: int, n_heads: int, ff_mult: int):
        super().__init__()
        same = context_dim == width
        self.proj_context = nn.Identity() if same else nn.Linear(context_dim, width)
        self.latents = nn.Parameter(torch.empty(n_latents, width).normal_(std=0.02))
        inner_dim = int(width * ff_mult * 2 / 3)
        self.layers = nn.ModuleList(ResamplerLayer(width, inner_dim, n_heads) for _ in range(DEPTH))
        self.norm = UnitRms(width)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """
        Args:
            frames: (B, T, C)
            mask: (B, T) bool, True on real frames

        Returns:
            (B, N, D)
        """
        frames = self.proj_context(frames)
        latents = self.latents.expand(len(frames), -1, -1)
        # The latents see one another always.
        mask = F.pad(mask, (latents.shape[1], 0), value=True)[:, None, None]
        for layer in self.layers:
            latents = layer(latents, frames, mask)
        return self.norm(latents)
