"""CAM++ (Wang et al. 2023): one vector that says who is speaking."""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from indextts.s2mel.config import CampplusConfig

HEAD_CHANNELS = 32
HEAD_STRIDE = 8  # mel bands that end up in one
BLOCKS = ((12, 1), (24, 2), (16, 2))  # layers and dilation of the dense blocks
SEGMENT = 100  # frames over which a layer's context is averaged
MIN_FRAMES = 3  # two remain after the stride, and a spread needs two


class ResBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut: (B, C, F, T) -> (B, C, F / stride, T)"""

    def __init__(self, n_channels: int, stride: int):
        super().__init__()
        self.conv1 = _conv2d(n_channels, n_channels, stride)
        self.bn1 = nn.BatchNorm2d(n_channels)
        self.conv2 = _conv2d(n_channels, n_channels)
        self.bn2 = nn.BatchNorm2d(n_channels)
        self.shortcut = nn.Sequential()
        if stride > 1:
            narrow = nn.Conv2d(n_channels, n_channels, 1, stride=(stride, 1), bias=False)
            self.shortcut = nn.Sequential(narrow, nn.BatchNorm2d(n_channels))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x)).relu()
        return (self.bn2(self.conv2(y)) + self.shortcut(x)).relu()


class Head(nn.Module):
    """Reads the filter bank as an image: (B, M, T) -> (B, 32 * M / 8, T)"""

    def __init__(self) -> None:
        super().__init__()
        n = HEAD_CHANNELS
        self.conv1, self.bn1 = _conv2d(1, n), nn.BatchNorm2d(n)
        self.layer1 = nn.Sequential(ResBlock(n, 2), ResBlock(n, 1))
        self.layer2 = nn.Sequential(ResBlock(n, 2), ResBlock(n, 1))
        self.conv2, self.bn2 = _conv2d(n, n, 2), nn.BatchNorm2d(n)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x[:, None])).relu()  # (B, 32, M, T)
        x = self.layer2(self.layer1(x))
        return self.bn2(self.conv2(x)).relu().flatten(1, 2)


class ContextMasking(nn.Module):
    """A convolution gated by what surrounds each frame: (B, C, T) -> (B, growth, T)"""

    def __init__(self, n_channels: int, growth: int, dilation: int):
        super().__init__()
        self.linear_local = nn.Conv1d(
            n_channels, growth, 3, padding=dilation, dilation=dilation, bias=False
        )
        self.linear1 = nn.Conv1d(n_channels, n_channels // 2, 1)
        self.linear2 = nn.Conv1d(n_channels // 2, growth, 1)

    def forward(self, x: Tensor) -> Tensor:
        n_frames = x.shape[-1]
        segments = F.avg_pool1d(x, SEGMENT, stride=SEGMENT, ceil_mode=True)
        segments = segments.repeat_interleave(SEGMENT, dim=-1)[..., :n_frames]
        context = x.mean(-1, keepdim=True) + segments
        gate = self.linear2(self.linear1(context).relu()).sigmoid()
        return self.linear_local(x) * gate


class DenseLayer(nn.Module):
    """Puts `growth` new channels behind the old ones: (B, C, T) -> (B, C + growth, T)"""

    def __init__(self, n_channels: int, config: CampplusConfig, dilation: int):
        super().__init__()
        bottleneck = config.bottleneck_size * config.growth_rate
        self.nonlinear1 = _norm_relu(n_channels)
        self.linear1 = nn.Conv1d(n_channels, bottleneck, 1, bias=False)
        self.nonlinear2 = _norm_relu(bottleneck)
        self.cam_layer = ContextMasking(bottleneck, config.growth_rate, dilation)

    def forward(self, x: Tensor) -> Tensor:
        y = self.nonlinear2(self.linear1(self.nonlinear1(x)))
        return torch.cat([x, self.cam_layer(y)], dim=1)


class Statistics(nn.Module):
    """Mean and unbiased spread over time: (B, C, T) -> (B, 2C, 1)"""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x.mean(-1), x.std(-1)], dim=1)[..., None]


class Campplus(nn.Module):
    """The speaker encoder; in training mode its batch norms would make it depend on the batch."""

    def __init__(self, config: CampplusConfig):
        super().__init__()
        self.config = config
        self.head = Head()
        n_channels = config.init_channels
        width = HEAD_CHANNELS * (config.n_mels // HEAD_STRIDE)
        first = nn.Conv1d(width, n_channels, 5, stride=2, padding=2, bias=False)
        parts: dict[str, nn.Module] = {
            "tdnn": _named(linear=first, nonlinear=_norm_relu(n_channels))
        }
        for number, (n_layers, dilation) in enumerate(BLOCKS, 1):
            layers = {}
            for layer in range(1, n_layers + 1):
                layers[f"tdnnd{layer}"] = DenseLayer(n_channels, config, dilation)
                n_channels += config.growth_rate
            parts[f"block{number}"] = _named(**layers)
            half = nn.Conv1d(n_channels, n_channels // 2, 1, bias=False)
            parts[f"transit{number}"] = _named(nonlinear=_norm_relu(n_channels), linear=half)
            n_channels //= 2
        parts["out_nonlinear"] = _norm_relu(n_channels)
        parts["stats"] = Statistics()
        norm = _named(batchnorm=nn.BatchNorm1d(config.embedding_size, affine=False))
        last = nn.Conv1d(2 * n_channels, config.embedding_size, 1, bias=False)
        parts["dense"] = _named(linear=last, nonlinear=norm)
        self.xvector = _named(**parts)

    def forward(self, features: Tensor) -> Tensor:
        """Speaker vectors (B, E), of any length, of filter banks (B, T, M) less their mean.

        Raises:
            ValueError: if there are fewer than 3 frames
        """
        if features.shape[1] < MIN_FRAMES:
            raise ValueError(f"{features.shape[1]} frames are too few; at least {MIN_FRAMES}")
        return self.xvector(self.head(features.transpose(1, 2))).squeeze(-1)


def _conv2d(n_in: int, n_out: int, stride: int = 1) -> nn.Conv2d:
    """3x3, striding over the frequencies only."""
    return nn.Conv2d(n_in, n_out, 3, stride=(stride, 1), padding=1, bias=False)


def _norm_relu(n_channels: int) -> nn.Sequential:
    return _named(batchnorm=nn.BatchNorm1d(n_channels), relu=nn.ReLU())


def _named(**modules: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(modules))
