"""BigVGAN v2 (Lee et al. 2023): a mel spectrogram to its waveform."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from indextts.vocoder.activation import AntiAliased
from indextts.vocoder.config import BigVGANConfig
from indextts.weight_norm import weight_normed

CHUNK_FRAMES = 1024  # 12 s of sound at a time


class AMPBlock(nn.Module):
    """Residual pairs of convolutions with growing dilation, each behind an activation.

    (B, C, T) -> (B, C, T)
    """

    def __init__(
        self, n_channels: int, kernel_size: int, dilations: tuple[int, ...], *, is_logarithmic: bool
    ):
        super().__init__()
        self.convs1 = nn.ModuleList(_conv(n_channels, kernel_size, d) for d in dilations)
        self.convs2 = nn.ModuleList(_conv(n_channels, kernel_size, 1) for _ in dilations)
        self.activations = nn.ModuleList(
            AntiAliased(n_channels, is_logarithmic=is_logarithmic) for _ in 2 * dilations
        )

    def forward(self, x: Tensor) -> Tensor:
        before, between = self.activations[::2], self.activations[1::2]
        for first, second, a, b in zip(self.convs1, self.convs2, before, between, strict=True):
            x = x + second(b(first(a(x))))
        return x


class BigVGAN(nn.Module):
    """Upsampling convolutions, after each the mean of several `AMPBlock`.

    Attributes:
        context: mel frames on either side that can have an influence on a frame's samples
    """

    def __init__(self, config: BigVGANConfig):
        super().__init__()
        self.config = config
        width = config.upsample_initial_channel
        self.conv_pre = weight_normed(nn.Conv1d(config.num_mels, width, 7, padding=3))
        self.ups, self.resblocks = nn.ModuleList(), nn.ModuleList()
        for rate, size in zip(config.upsample_rates, config.upsample_kernel_sizes, strict=True):
            up = nn.ConvTranspose1d(width, width // 2, size, rate, padding=(size - rate) // 2)
            self.ups.append(nn.Sequential(weight_normed(up)))
            width //= 2
            self.resblocks.extend(
                AMPBlock(width, kernel_size, dilations, is_logarithmic=config.snake_logscale)
                for kernel_size, dilations in zip(
                    config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True
                )
            )
        self.activation_post = AntiAliased(width, is_logarithmic=config.snake_logscale)
        self.conv_post = weight_normed(
            nn.Conv1d(width, 1, 7, padding=3, bias=config.use_bias_at_final)
        )
        self.context = self._context()

    def forward(self, mel: Tensor) -> Tensor:
        """Log-mel (B, M, T) to sound (B, 1, T * hop_length), -1..1."""
        n_blocks = len(self.config.resblock_kernel_sizes)
        x = self.conv_pre(mel)
        for stage, up in enumerate(self.ups):
            x = up(x)
            blocks = self.resblocks[stage * n_blocks : (stage + 1) * n_blocks]
            x = sum(block(x) for block in blocks) / n_blocks
        x = self.conv_post(self.activation_post(x))
        return x.tanh() if self.config.use_tanh_at_final else x.clamp(-1, 1)

    @torch.no_grad()
    def vocode(self, mel: Tensor, *, chunk_frames: int = CHUNK_FRAMES) -> Tensor:
        """What `forward` gives, in memory that doesn't grow with the length.

        Args:
            mel: (B, M, T)

        Returns:
            (B, 1, T * hop_length)
        """
        return torch.cat(list(self.stream(mel, chunk_frames=chunk_frames)), dim=-1)

    @torch.no_grad()
    def stream(self, mel: Tensor, *, chunk_frames: int = CHUNK_FRAMES) -> Iterator[Tensor]:
        """The sound of `vocode` piece by piece.

        Each chunk is computed with all the frames around it that reach into it, so the pieces
        differ from the whole by rounding only.

        Yields:
            (B, 1, chunk_frames * hop_length), the last one shorter
        """
        hop, n_frames = self.config.hop_length, mel.shape[-1]
        for start in range(0, n_frames, chunk_frames):
            end = min(start + chunk_frames, n_frames)
            first = max(0, start - self.context)
            sound = self(mel[..., first : end + self.context])
            yield sound[..., (start - first) * hop : (end - first) * hop].clone()

    def _context(self) -> int:
        """Counted from the samples back to the frames, rounded up at each stage."""
        config = self.config
        blocks = zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True)
        widest = max(_block_reach(kernel_size, dilations) for kernel_size, dilations in blocks)
        ups = zip(config.upsample_rates, config.upsample_kernel_sizes, strict=True)
        reach = 3 + AntiAliased.reach
        for rate, size in reversed(list(ups)):
            reach = -(-(reach + widest + size) // rate)
        return reach + 3


def _block_reach(kernel_size: int, dilations: tuple[int, ...]) -> int:
    """Samples on either side that an `AMPBlock` looks at."""
    convolutions = sum((d + 1) * (kernel_size - 1) // 2 for d in dilations)
    return convolutions + 2 * len(dilations) * AntiAliased.reach


def _conv(n_channels: int, kernel_size: int, dilation: int) -> nn.Conv1d:
    padding = (kernel_size - 1) * dilation // 2
    return weight_normed(
        nn.Conv1d(n_channels, n_channels, kernel_size, dilation=dilation, padding=padding)
    )
