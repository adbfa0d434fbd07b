"""Layers of NanoCodec, all of them (B, T, C) -> (B, T', C').

Time before channels: oneDNN computes convolutions of few channels in that order up to three times
as fast as in torch's own (B, C, T). Names of parameters are those of NeMo with weight norm folded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEAK = 0.01
SIZES, DILATIONS = (3, 7, 11), (1, 3, 5)  # of a residual layer's three blocks, and of their units
EPSILON = 1e-9
CACHED = 2**16  # numbers
WIDE = 1024  # numbers of a row from which on a row's own overhead doesn't matter


def convolved(x: Tensor, conv: nn.Conv1d, n_zeros: int = 0) -> Tensor:
    """`conv` without its own padding.

    Args:
        n_zeros: to put in front of `x`
    """
    flat = x.transpose(1, 2)[:, :, None]  # (B, C, 1, T), channels last in memory
    found = F.conv2d(
        flat,
        conv.weight[:, :, None],
        conv.bias,
        stride=(1, conv.stride[0]),
        padding=(0, n_zeros),
        dilation=(1, conv.dilation[0]),
    )
    # The zeros are behind it too: a few samples computed for nothing cost less than a copy of `x`.
    found = found[:, :, 0].transpose(1, 2)
    return (found[:, : x.shape[1]] if n_zeros else found).contiguous()


@dataclass(frozen=True)
class Ends:
    """Where each row of a batch ends.

    Attributes:
        lengths: of the B rows
        are_repeated: what a convolution sees behind an end is its last sample, as if the row were
            alone; else zeros
    """

    lengths: tuple[int, ...]
    are_repeated: bool

    def fill(self, padded: Tensor, reach: int) -> None:
        """Change what is seen behind the ends of shorter rows in (B, reach + T + reach, C)."""
        for row, length in zip(padded, self.lengths, strict=True):
            end = reach + length
            if end + reach < len(row):
                row[end : end + reach] = row[end - 1] if self.are_repeated else 0

    def slower(self, rate: int) -> Ends:
        """The ends when only each `rate`-th sample is left."""
        return replace(self, lengths=tuple(length // rate for length in self.lengths))


class SameConv(nn.Module):
    """A convolution that sees as much after as before; both ends of the sound are repeated.

    Args:
        activates: take the leaky ReLU of the sound first

    Attributes:
        reach: samples in front that it sees, and behind
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        size: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        activates: bool = True,
    ):
        super().__init__()
        self.conv = nn.Conv1d(n_in, n_out, size, stride=stride, dilation=dilation)
        self.reach, self.activates = ((size - 1) * dilation - stride + 2) // 2, activates

    def forward(self, x: Tensor, ends: Ends | None = None) -> Tensor:
        batch, n_steps, n_channels = x.shape
        padded = x.new_empty(batch, n_steps + 2 * self.reach, n_channels)
        inner = padded[:, self.reach : self.reach + n_steps]
        # Computed into its place: copies of `x` were a tenth of the encoder's time.
        if self.activates:
            torch.ops.aten.leaky_relu.out(x, LEAK, out=inner)
        else:
            inner.copy_(x)
        padded[:, : self.reach] = inner[:, :1]
        padded[:, self.reach + n_steps :] = inner[:, -1:]
        if ends is not None:
            ends.fill(padded, self.reach)
        return convolved(padded, self.conv)


class CausalConv(nn.Module):
    """A convolution that sees only what came before; before the sound there are zeros."""

    def __init__(self, n_in: int, n_out: int, size: int, *, dilation: int = 1):
        super().__init__()
        self.conv = nn.Conv1d(n_in, n_out, size, dilation=dilation)
        self.reach = (size - 1) * dilation

    def forward(self, x: Tensor, ends: Ends | None = None) -> Tensor:
        del ends  # what stands behind an end isn't seen before it
        return convolved(x, self.conv, self.reach)


class CausalUpsample(nn.Module):
    """`stride` samples of each, from it and the one before; each output mixes two channels.

    (B, T, 2C) -> (B, T * stride, C)
    """

    def __init__(self, n_out: int, stride: int):
        super().__init__()
        self.conv: Any = nn.ConvTranspose1d(2 * n_out, n_out, 2 * stride, stride, groups=n_out)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        batch, n_steps, n_in = x.shape
        # Samples j of a step are w[j] of the step itself and w[stride + j] of the one before.
        pairs = F.pad(x.view(batch, n_steps, 1, n_in // 2, 2), (0, 0, 0, 0, 0, 0, 1, 0))
        pairs = pairs.movedim(-1, 0).contiguous()  # (2, B, 1 + T, 1, C)
        taps = self.conv.weight.view(n_in // 2, 2, 2, self.stride)
        taps = taps.permute(1, 2, 3, 0).contiguous()  # (2, 2, stride, C)
        found = self.conv.bias.repeat(batch, n_steps, self.stride, 1)
        for side in range(2):
            found.addcmul_(pairs[side, :, 1:], taps[side, 0])
            found.addcmul_(pairs[side, :, :-1], taps[side, 1])
        return found.view(batch, n_steps * self.stride, n_in // 2)


class Snake(nn.Module):
    """Holds the frequencies of a `HalfSnake`, under NeMo's name."""

    def __init__(self, n_channels: int):
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, n_channels, 1))


class HalfSnake(nn.Module):
    """x + sin(alpha x)^2 / alpha on the first half of the channels, leaky ReLU on the others."""

    def __init__(self, n_channels: int):
        super().__init__()
        self.activation = nn.ModuleDict({"snake_act": Snake(n_channels // 2)})
        self.n_channels = n_channels

    def forward(self, x: Tensor) -> Tensor:
        alpha = self.activation["snake_act"].alpha.flatten()  # type: ignore[union-attr]
        # All channels alike, so that memory is passed over in one piece: without a wave where the
        # ReLU is, without a leak where the snake is.
        rest = alpha.new_zeros(self.n_channels - len(alpha))
        alphas = torch.cat([alpha, rest])
        heights = torch.cat([(alpha + EPSILON).reciprocal(), rest])
        slopes = torch.cat([torch.ones_like(alpha), rest + LEAK])
        times = math.gcd(x.numel() // self.n_channels, max(1, WIDE // self.n_channels))
        alphas, heights, slopes = (one.repeat(times) for one in (alphas, heights, slopes))
        rows = x.view(-1, times * self.n_channels)
        found = torch.empty_like(rows)
        # Step by step on as much as a CPU's cache holds: long sounds two to three times as fast.
        height = len(rows) if x.is_cuda else max(1, CACHED // rows.shape[1])
        for part, out in zip(rows.split(height), found.split(height), strict=True):
            waves = (part * alphas).sin_()
            torch.maximum(part, part * slopes, out=out)
            out.addcmul_(waves, waves * heights)
        return found.view_as(x)


class Unit(nn.Module):
    """x + conv(act(dilated conv(act(x))))"""

    def __init__(self, n_channels: int, size: int, dilation: int, *, is_causal: bool):
        super().__init__()
        make = CausalConv if is_causal else SameConv
        self.input_activation = HalfSnake(n_channels) if is_causal else nn.Identity()
        self.skip_activation = HalfSnake(n_channels) if is_causal else nn.Identity()
        self.input_conv = make(n_channels, n_channels, size, dilation=dilation)
        self.skip_conv = make(n_channels, n_channels, size)

    def forward(self, x: Tensor, ends: Ends | None = None) -> Tensor:
        inner = self.input_conv(self.input_activation(x), ends)
        return self.skip_conv(self.skip_activation(inner), ends).add_(x)


class Block(nn.Module):
    """Units of growing dilation, one after the other."""

    def __init__(self, n_channels: int, size: int, *, is_causal: bool):
        super().__init__()
        self.res_blocks = nn.ModuleList(
            Unit(n_channels, size, dilation, is_causal=is_causal) for dilation in DILATIONS
        )

    def forward(self, x: Tensor, ends: Ends | None = None) -> Tensor:
        for unit in self.res_blocks:
            x = unit(x, ends)
        return x


class ResidualLayer(nn.Module):
    """The mean of three blocks."""

    def __init__(self, n_channels: int, *, is_causal: bool):
        super().__init__()
        self.res_blocks = nn.ModuleList(
            Block(n_channels, size, is_causal=is_causal) for size in SIZES
        )

    def forward(self, x: Tensor, ends: Ends | None = None) -> Tensor:
        found = self.res_blocks[0](x, ends)
        for block in self.res_blocks[1:]:
            found.add_(block(x, ends))
        return found.div_(len(self.res_blocks))


class FiniteScalars(nn.Module):
    """Finite scalar quantization (Mentzer et al. 2023) of one group: each number to few levels.

    Attributes:
        num_levels: of each dimension
        dim_base_index: what a level counts in the code
    """

    num_levels: Tensor
    dim_base_index: Tensor

    def __init__(self, levels: tuple[int, ...], *, epsilon: float = 1e-3):
        super().__init__()
        bases = [math.prod(levels[:place]) for place in range(len(levels))]
        for name, values in (("num_levels", levels), ("dim_base_index", bases)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.int32).view(1, -1, 1))
        self.epsilon = epsilon

    def encode(self, x: Tensor) -> Tensor:
        """Codes (B, T) int32 of (B, T, D)."""
        levels = self.num_levels.flatten()
        scale = (levels - 1) / 2 * (1 - self.epsilon)
        offset = torch.where(levels % 2 == 0, 0.5, 0.0).to(scale)
        nearest = (scale * torch.tanh(x + torch.tan(offset / scale)) - offset).round()
        steps = nearest.to(torch.int32) + levels // 2
        return (steps * self.dim_base_index.flatten()).sum(-1, dtype=torch.int32)

    def decode(self, codes: Tensor) -> Tensor:
        """(B, T, D), -1..1, of codes (B, T)."""
        levels = self.num_levels.flatten()
        half = levels // 2
        steps = codes[..., None] // self.dim_base_index.flatten() % levels
        return (steps - half) / half
