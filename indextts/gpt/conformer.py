"""The conformer that reads reference features (Gulati et al. 2020, in WeNet's form).

Attribute names are the keys of the official checkpoints. No dropout anywhere, as in the original.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from indextts.config import ConditionConfig

KERNEL = 15  # of the depthwise convolution
MIN_FRAMES = 3  # what the subsampling needs


def sinusoids(n: int, dim: int, device: torch.device) -> Tensor:
    """Positions 0 .. n - 1 as sine and cosine in turn (Vaswani et al. 2017, 3.5): (n, dim)"""
    rates = torch.arange(0, dim, 2, device=device, dtype=torch.float32)
    angles = torch.arange(n, device=device, dtype=torch.float32)[:, None] * torch.exp(
        rates * (-math.log(10_000.0) / dim)
    )
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


class Subsampling(nn.Module):
    """Every second frame: a strided convolution over time and features, then a projection."""

    def __init__(self, input_dim: int, width: int):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(1, width, 3, stride=2), nn.ReLU())
        self.out = nn.Sequential(nn.Linear(width * ((input_dim - 1) // 2), width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, (T - 1) // 2, D)"""
        if x.shape[1] < MIN_FRAMES:
            raise ValueError(f"{x.shape[1]} frames of features; {MIN_FRAMES} are needed")
        h = self.conv(x.unsqueeze(1))  # (B, D, T', C')
        return self.out(h.transpose(1, 2).flatten(2))


class PositionAttention(nn.Module):
    """Self-attention with scores (q + u) k + (q + v) p, p standing for the key's position.

    Transformer-XL's form (Dai et al. 2019, 3.3) without its relative shift, as the original has it.
    """

    def __init__(self, width: int, n_heads: int):
        super().__init__()
        self.n_heads = n_heads
        self.linear_q = nn.Linear(width, width)
        self.linear_k = nn.Linear(width, width)
        self.linear_v = nn.Linear(width, width)
        self.linear_out = nn.Linear(width, width)
        self.linear_pos = nn.Linear(width, width, bias=False)
        self.pos_bias_u = nn.Parameter(torch.empty(n_heads, width // n_heads))
        self.pos_bias_v = nn.Parameter(torch.empty(n_heads, width // n_heads))
        nn.init.xavier_uniform_(self.pos_bias_u)
        nn.init.xavier_uniform_(self.pos_bias_v)

    def forward(self, x: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        """x (B, T, D), positions (T, D), mask (B, T) bool of real keys -> (B, T, D)"""
        q, k, v = (self._split(f(x)) for f in (self.linear_q, self.linear_k, self.linear_v))
        p = self._split(self.linear_pos(positions)[None])  # (1, H, T, d)
        # As p goes with the key, the score is q (k + p) plus a number per key.
        per_key = (k * self.pos_bias_u[:, None]).sum(-1) + (p * self.pos_bias_v[:, None]).sum(-1)
        bias = per_key / math.sqrt(q.shape[-1])  # (B, H, T)
        bias = bias.masked_fill(~mask[:, None], torch.finfo(bias.dtype).min)
        h = F.scaled_dot_product_attention(q, k + p, v, attn_mask=bias[:, :, None])
        return self.linear_out(h.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, H, T, d)"""
        return x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)


class ConvolutionModule(nn.Module):
    """Gated convolution over time, with a layer norm instead of a batch norm."""

    def __init__(self, width: int):
        super().__init__()
        self.pointwise_conv1 = nn.Conv1d(width, 2 * width, 1)
        self.depthwise_conv = nn.Conv1d(width, width, KERNEL, padding=KERNEL // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.pointwise_conv2 = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (B, T, D), mask (B, T) bool -> (B, T, D), padding 0"""
        padding = ~mask[:, None]  # (B, 1, T)
        h = x.transpose(1, 2).masked_fill(padding, 0.0)  # (B, D, T)
        h = self.depthwise_conv(F.glu(self.pointwise_conv1(h), dim=1))
        h = F.silu(self.norm(h.transpose(1, 2))).transpose(1, 2)
        return self.pointwise_conv2(h).masked_fill(padding, 0.0).transpose(1, 2)


class FeedForward(nn.Module):
    def __init__(self, width: int, hidden_dim: int):
        super().__init__()
        self.w_1 = nn.Linear(width, hidden_dim)
        self.w_2 = nn.Linear(hidden_dim, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.w_2(F.silu(self.w_1(x)))


class ConformerLayer(nn.Module):
    """Attention, convolution and feed-forward, each pre-norm and residual; a norm at the end."""

    def __init__(self, width: int, hidden_dim: int, n_heads: int):
        super().__init__()
        self.self_attn = PositionAttention(width, n_heads)
        self.feed_forward = FeedForward(width, hidden_dim)
        self.conv_module = ConvolutionModule(width)
        self.norm_ff = nn.LayerNorm(width)
        self.norm_mha = nn.LayerNorm(width)
        self.norm_conv = nn.LayerNorm(width)
        self.norm_final = nn.LayerNorm(width)

    def forward(self, x: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        """x (B, T, D), positions (T, D), mask (B, T) bool -> (B, T, D)"""
        x = x + self.self_attn(self.norm_mha(x), positions, mask)
        x = x + self.conv_module(self.norm_conv(x), mask)
        x = x + self.feed_forward(self.norm_ff(x))
        return self.norm_final(x)


class ConformerEncoder(nn.Module):
    """Features of a reference recording -> half as many frames, each knowing the others."""

    def __init__(self, input_dim: int, config: ConditionConfig):
        super().__init__()
        width = config.output_size
        self.embed = Subsampling(input_dim, width)
        self.after_norm = nn.LayerNorm(width)
        self.encoders = nn.ModuleList(
            ConformerLayer(width, config.linear_units, config.attention_heads)
            for _ in range(config.num_blocks)
        )

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Padded frames of the output hold numbers too; the returned mask says which are real.

        Args:
            x: (B, T, C), T >= 3
            mask: (B, T) bool, True on real frames

        Returns:
            (B, T', D) and its mask (B, T'), T' = (T - 1) // 2
        """
        h = self.embed(x)
        h = h * math.sqrt(h.shape[-1])
        # The positions reach the attention only, they are not added to the frames.
        positions = sinusoids(h.shape[1], h.shape[2], h.device).to(h.dtype)
        mask = mask[:, 2::2]
        for layer in self.encoders:
            h = layer(h, positions, mask)
        return self.after_norm(h), mask
