"""Layers of NanoCodec, all of them (B, T, C) -> (B, T', C').

Time before channels: oneDNN computes convolutions of few channels in that order up to three times
as fast as in torch's own (B, C, T). A sound is worked on in pieces that have margins, which
convolutions use up: nothing is copied for padding. Names of parameters are those of NeMo with
weight norm folded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kani.codec_kernels import EPSILON, LEAK, half_snake, upsampled

SIZES, DILATIONS = (3, 7, 11), (1, 3, 5)  # of a residual layer's three blocks, and of their units
# Samples that a residual layer sees in all, beyond the one itself.
REACH = (max(SIZES) - 1) * (sum(DILATIONS) + len(DILATIONS))
PIECE = 2**20  # numbers; 4 MB, the best of 2^15 to 2^24


@dataclass(frozen=True)
class Edges:
    """Where the sound is in a piece (B, T, C) that has margins; what is outside is seen, too.

    Attributes:
        begin: place of its first sample; below 0 if that isn't in the piece
        ends: place behind each row's last sample, and whether that sample is what is seen behind it
            (else zeros); empty if no layer sees what is behind
        is_causal: what is seen before the first sample is zeros, not that sample
    """

    begin: int
    ends: tuple[tuple[int, bool], ...] = ()
    is_causal: bool = False

    def fill(self, x: Tensor) -> Tensor:
        """`x` itself, with what is seen outside the sound written into it."""
        if self.begin > 0:
            x[:, : self.begin] = 0 if self.is_causal else x[:, self.begin : self.begin + 1]
        alike = self.ends[:1] if len(set(self.ends)) == 1 else self.ends  # else row by row
        for rows, (end, is_repeated) in zip(x.chunk(len(alike) or 1), alike, strict=bool(alike)):
            if 0 < end < x.shape[1]:
                rows[:, end:] = rows[:, end - 1 : end] if is_repeated else 0
        return x

    def behind(self, n_steps: int) -> Edges:
        """The edges when so many first steps are gone."""
        ends = tuple((end - n_steps, is_repeated) for end, is_repeated in self.ends)
        return replace(self, begin=self.begin - n_steps, ends=ends)

    def faster(self, rate: int) -> Edges:
        """The edges when each step has become `rate` of them."""
        ends = tuple((end * rate, is_repeated) for end, is_repeated in self.ends)
        return replace(self, begin=self.begin * rate, ends=ends)


def pieces(n_rows: int, n_steps: int, many: int) -> Iterator[tuple[slice, int, int]]:
    """Rows, begin and end of pieces of at most `many` steps, all rows together."""
    step = max(1, min(n_steps, many))
    height = max(1, many // step)
    for row in range(0, n_rows, height):
        for begin in range(0, n_steps, step):
            yield slice(row, row + height), begin, min(n_steps, begin + step)


def piecewise(
    stage: Callable[[Tensor, Edges], Tensor],
    x: Tensor,
    edges: Edges,
    *,
    before: int,
    behind: int = 0,
    step: int = 1,
    width: int,
) -> Tensor:
    """What a stage makes of a sound, on a CPU in pieces that its cache holds.

    Args:
        stage: makes (B, n * r, C') of (B, before + n * step + behind, C), with any r
        x: (B, N * step, C)
        edges: of `x`
        before, behind: margins
        width: numbers that a step of the stage takes while it is worked on

    Returns:
        (B, N * r, C')
    """
    n_rows, n_samples = x.shape[:2]
    n_steps = n_samples // step
    many = n_rows * n_steps if x.is_cuda else max(PIECE // width, 2 * (before + behind) // step)
    found = None
    for rows, begin, end in pieces(n_rows, n_steps, many):
        start, stop = begin * step - before, end * step + behind
        part = x[rows, max(0, start) : stop]
        if start < 0 or stop > n_samples:
            part = F.pad(part, (0, 0, max(0, -start), max(0, stop - n_samples)))
        part = stage(part, replace(edges, ends=edges.ends[rows]).behind(start))
        rate = part.shape[1] // (end - begin)
        if found is None:
            if len(part) == n_rows and end - begin == n_steps:
                return part
            found = part.new_empty(n_rows, n_steps * rate, part.shape[2])
        found[rows, begin * rate : end * rate] = part
    assert found is not None
    return found


class Conv(nn.Module):
    """A convolution without padding.

    Attributes:
        before, behind: samples that it sees beside the one itself: the margins that it uses up
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        size: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        is_causal: bool = False,
    ):
        super().__init__()
        self.conv = nn.Conv1d(n_in, n_out, size, stride=stride, dilation=dilation)
        reach = (size - 1) * dilation
        half = (reach - stride + 2) // 2
        self.before, self.behind = (reach, 0) if is_causal else (half, half)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.transpose(1, 2)[:, :, None]  # (B, C, 1, T), channels last in memory
        conv = self.conv
        strides, dilations = (1, conv.stride[0]), (1, conv.dilation[0])
        found = F.conv2d(
            flat, conv.weight[:, :, None], conv.bias, stride=strides, dilation=dilations
        )
        return found[:, :, 0].transpose(1, 2).contiguous()


class CausalUpsample(nn.Module):
    """`stride` samples of each, from it and the one before; each output mixes two channels.

    (B, 1 + T, 2C) -> (B, T * stride, C)
    """

    def __init__(self, n_out: int, stride: int):
        super().__init__()
        self.conv: Any = nn.ConvTranspose1d(2 * n_out, n_out, 2 * stride, stride, groups=n_out)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        batch, n_steps, n_in = x.shape
        if _is_compiled(x):
            # Samples j of a step are w[j] of the step itself and w[stride + j] of the one before.
            taps = self.conv.weight.view(n_in // 2, 2, 2, self.stride).permute(1, 2, 3, 0)
            found = x.new_empty(batch, (n_steps - 1) * self.stride, n_in // 2)
            bias = self.conv.bias.detach()
            upsampled(*(t.detach().contiguous().numpy() for t in (x, taps, bias, found)))
            return found
        found = self.conv(x.transpose(1, 2))[..., self.stride : -self.stride]
        return found.transpose(1, 2).contiguous()


class Snake(nn.Module):
    """Holds the frequencies of a `HalfSnake`, under NeMo's name."""

    def __init__(self, n_channels: int):
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, n_channels, 1))


class HalfSnake(nn.Module):
    """x + sin(alpha x)^2 / alpha on the first half of the channels, leaky ReLU on the others.

    Args:
        in_place: lose `x`
    """

    def __init__(self, n_channels: int, *, in_place: bool = False):
        super().__init__()
        self.activation = nn.ModuleDict({"snake_act": Snake(n_channels // 2)})
        self.in_place = in_place

    @property
    def alpha(self) -> Tensor:
        """(C // 2,)"""
        return self.activation["snake_act"].alpha.detach().flatten()  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        x = x.contiguous()
        found = x if self.in_place else torch.empty_like(x)
        if _is_compiled(x):
            half_snake(x.numpy(), self.alpha.numpy(), found.numpy())
            return found
        waves, rest = x.split([len(self.alpha), x.shape[-1] - len(self.alpha)], dim=-1)
        lifts = (self.alpha + EPSILON).reciprocal() * (self.alpha * waves).sin().square()
        return torch.cat([waves + lifts, F.leaky_relu(rest, LEAK)], dim=-1, out=found)


def _is_compiled(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == torch.float32


class Unit(nn.Module):
    """x + conv(act(dilated conv(act(x))))"""

    def __init__(self, n_channels: int, size: int, dilation: int, *, is_causal: bool):
        super().__init__()
        if is_causal:
            self.input_activation: nn.Module = HalfSnake(n_channels)
            self.skip_activation: nn.Module = HalfSnake(n_channels, in_place=True)
        else:
            self.input_activation = nn.LeakyReLU(LEAK)
            self.skip_activation = nn.LeakyReLU(LEAK, inplace=True)
        self.input_conv = Conv(n_channels, n_channels, size, dilation=dilation, is_causal=is_causal)
        self.skip_conv = Conv(n_channels, n_channels, size, is_causal=is_causal)
        self.before = self.input_conv.before + self.skip_conv.before
        self.behind = self.input_conv.behind + self.skip_conv.behind

    def forward(self, x: Tensor, edges: Edges) -> Tensor:
        inner = self.input_conv(edges.fill(self.input_activation(x)))
        edges = edges.behind(self.input_conv.before)
        inner = self.skip_conv(edges.fill(self.skip_activation(inner)))
        return inner.add_(x[:, self.before : x.shape[1] - self.behind])


class Block(nn.Module):
    """Units of growing dilation, one after the other."""

    def __init__(self, n_channels: int, size: int, *, is_causal: bool):
        super().__init__()
        units = [Unit(n_channels, size, dilation, is_causal=is_causal) for dilation in DILATIONS]
        self.res_blocks = nn.ModuleList(units)
        self.before = sum(unit.before for unit in units)
        self.behind = sum(unit.behind for unit in units)

    def forward(self, x: Tensor, edges: Edges) -> Tensor:
        for unit in self.res_blocks:
            x = unit(x, edges)
            edges = edges.behind(unit.before)  # type: ignore[arg-type]
        return x


class ResidualLayer(nn.Module):
    """The mean of three blocks."""

    def __init__(self, n_channels: int, *, is_causal: bool):
        super().__init__()
        blocks = [Block(n_channels, size, is_causal=is_causal) for size in SIZES]
        self.res_blocks = nn.ModuleList(blocks)
        self.before = max(block.before for block in blocks)
        self.behind = max(block.behind for block in blocks)

    def forward(self, x: Tensor, edges: Edges) -> Tensor:
        found = None
        for block in self.res_blocks:
            start: int = self.before - block.before  # type: ignore[operator]
            stop: int = x.shape[1] - self.behind + block.behind  # type: ignore[operator]
            mine = block(x[:, start:stop].contiguous(), edges.behind(start))
            found = mine if found is None else found.add_(mine)
        assert found is not None
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
