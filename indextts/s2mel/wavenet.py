"""Gated convolutions (van den Oord et al. 2016, WaveNet) at the end of the flow's estimator."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from indextts.s2mel.config import DiTConfig
from indextts.weight_norm import weight_normed


class ReflectConv(nn.Module):
    """Weight-normed convolution, ends reflected: (B, C, T) -> (B, C', T)"""

    def __init__(self, n_in: int, n_out: int, kernel_size: int = 1, dilation: int = 1):
        super().__init__()
        layer = nn.Conv1d(n_in, n_out, kernel_size, dilation=dilation)
        self.conv = nn.ModuleDict({"conv": weight_normed(layer)})
        total = (kernel_size - 1) * dilation
        self.left, self.right = total - total // 2, total // 2

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """lengths (B,): reflect each row at its own end; x must be zero beyond it."""
        if self.left:
            x = reflect(x, self.left, self.right, lengths)
        return self.conv["conv"](x)


class WaveNet(nn.Module):
    """Layers of tanh times sigmoid, whose skips add up: (B, C, T) -> (B, C, T)"""

    def __init__(self, config: DiTConfig):
        super().__init__()
        width, n_layers = config.hidden_dim, config.n_wavenet_layers
        self.cond_layer = ReflectConv(width, 2 * width * n_layers)
        self.in_layers = nn.ModuleList(
            ReflectConv(
                width, 2 * width, config.wavenet_kernel_size, config.wavenet_dilation_rate**layer
            )
            for layer in range(n_layers)
        )
        # The last layer has no successor, so it makes a skip only.
        self.res_skip_layers = nn.ModuleList(
            ReflectConv(width, width if layer == n_layers - 1 else 2 * width)
            for layer in range(n_layers)
        )
        self.dropout = nn.Dropout(config.wavenet_dropout)

    def forward(
        self,
        x: Tensor,
        condition: Tensor,
        mask: Tensor | None = None,
        own_lengths: Tensor | None = None,
    ) -> Tensor:
        """
        Args:
            x: (B, C, T)
            condition: (B, C, 1)
            mask: (B, 1, T) bool, True on real frames, or None if all are
            own_lengths: (B,) reflect each row at its own end instead of at T, where the original
                does it; then padding has no influence on real frames
        """
        width = x.shape[1]
        padding = None if mask is None else ~mask
        if own_lengths is not None and padding is not None:
            x = x.masked_fill(padding, 0)
        gates = self.cond_layer(condition).split(2 * width, dim=1)
        out = torch.zeros_like(x)
        pairs = zip(self.in_layers, self.res_skip_layers, gates, strict=True)
        for layer, (inner, outer, gate) in enumerate(pairs):
            signal, opening = (inner(x, own_lengths) + gate).chunk(2, dim=1)
            y = outer(self.dropout(signal.tanh() * opening.sigmoid()))
            if layer < len(self.in_layers) - 1:
                residual, y = y.chunk(2, dim=1)
                x = x + residual
                x = x if padding is None else x.masked_fill(padding, 0)
            out = out + y
        return out if padding is None else out.masked_fill(padding, 0)


def reflect(x: Tensor, left: int, right: int, lengths: Tensor | None = None) -> Tensor:
    """x (B, C, T) continued by its mirror image: (B, C, left + T + right)

    A row too short to be reflected is first lengthened by zeros, as EnCodec does it.

    Args:
        lengths: (B,) where each row ends, x being zero beyond; its frames behind the reflection
            mean nothing
    """
    n_frames, widest = x.shape[-1], max(left, right)
    x = F.pad(x, (0, max(0, widest + 1 - n_frames)))
    if lengths is None:
        return F.pad(x, (left, right), mode="reflect")[..., : left + n_frames + right]
    last = lengths[:, None].clamp(min=widest + 1) - 1  # (B, 1)
    place = torch.arange(-left, n_frames + right, device=x.device).abs()  # (left + T + right,)
    source = torch.where(place > last, 2 * last - place, place).clamp(min=0)
    return x.gather(2, source[:, None].expand(-1, x.shape[1], -1))
