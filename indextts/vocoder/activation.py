"""Anti-aliased periodic activation (Lee et al. 2023, BigVGAN, section 3.2)."""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

N_TAPS = 12
CUTOFF, HALF_WIDTH = 0.25, 0.3  # of the doubled sample rate, as published


class SnakeBeta(nn.Module):
    """x + sin(alpha x)^2 / beta, with alpha and beta for each channel: (B, C, T) -> (B, C, T)."""

    def __init__(self, n_channels: int, *, is_logarithmic: bool):
        super().__init__()
        start = torch.zeros(n_channels) if is_logarithmic else torch.ones(n_channels)
        self.alpha = nn.Parameter(start)
        self.beta = nn.Parameter(start.clone())
        self.is_logarithmic = is_logarithmic

    def forward(self, x: Tensor) -> Tensor:
        alpha, beta = self.alpha[:, None], self.beta[:, None]
        if self.is_logarithmic:
            alpha, beta = alpha.exp(), beta.exp()
        waves = x * alpha
        if waves.requires_grad:
            waves = waves.sin().square()
        else:
            waves.sin_()
            waves.mul_(waves)
        return torch.addcmul(x, waves, 1 / (beta + 1e-9))


class UpSample(nn.Module):
    """Twice the samples by a low-pass filter, ends repeated: (B, C, T) -> (B, C, 2T)."""

    filter: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("filter", low_pass_filter())

    def forward(self, x: Tensor) -> Tensor:
        n_channels = x.shape[1]
        edge = N_TAPS // 2 - 1
        weight = (2 * self.filter).expand(n_channels, -1, -1)
        cut = 2 * edge + N_TAPS // 2 - 1  # the repeated ends, and the filter's own delay
        x = _lengthened(x, edge, edge)
        return F.conv_transpose1d(x, weight, stride=2, padding=cut, groups=n_channels)


class LowPass(nn.Module):
    """Half the samples through a low-pass filter, ends repeated: (B, C, 2T) -> (B, C, T)."""

    filter: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("filter", low_pass_filter())

    def forward(self, x: Tensor) -> Tensor:
        n_channels = x.shape[1]
        x = _lengthened(x, N_TAPS // 2 - 1, N_TAPS // 2)
        return F.conv1d(x, self.filter.expand(n_channels, -1, -1), stride=2, groups=n_channels)


class DownSample(nn.Module):
    """`LowPass` under the name that checkpoints know it by."""

    def __init__(self) -> None:
        super().__init__()
        self.lowpass = LowPass()

    def forward(self, x: Tensor) -> Tensor:
        return self.lowpass(x)


class AntiAliased(nn.Module):
    """SnakeBeta at twice the sample rate, so that its overtones don't fold back: same shape."""

    reach = N_TAPS // 2  # no output sample depends on input samples further away

    def __init__(self, n_channels: int, *, is_logarithmic: bool):
        super().__init__()
        self.act = SnakeBeta(n_channels, is_logarithmic=is_logarithmic)
        self.upsample = UpSample()
        self.downsample = DownSample()

    def forward(self, x: Tensor) -> Tensor:
        return self.downsample(self.act(self.upsample(x)))


def _lengthened(x: Tensor, left: int, right: int) -> Tensor:
    """The ends of (B, C, T) repeated; three times as fast on a CPU as `F.pad` does it."""
    first, last = x[..., :1].expand(-1, -1, left), x[..., -1:].expand(-1, -1, right)
    return torch.cat([first, x, last], dim=-1)


def low_pass_filter() -> Tensor:
    """Kaiser-windowed sinc of 12 taps that add up to 1: (1, 1, 12)."""
    return torch.tensor(_taps()).view(1, 1, N_TAPS)


@functools.cache
def _taps() -> list[float]:
    """Kaiser's rule for the window's beta from the attenuation (Oppenheim and Schafer, 7.5.3)."""
    half = N_TAPS // 2
    attenuation = 2.285 * (half - 1) * math.pi * 4 * HALF_WIDTH + 7.95
    # On the CPU even where a network is made without memory: there these steps take milliseconds.
    with torch.device("cpu"):
        window = torch.kaiser_window(N_TAPS, periodic=False, beta=0.1102 * (attenuation - 8.7))
        time = torch.arange(-half, half) + 0.5
        taps = 2 * CUTOFF * window * torch.sinc(2 * CUTOFF * time)
        return (taps / taps.sum()).tolist()
