"""NanoCodec (Casanova et al. 2025): sound to four codes a frame of 80 ms, and back.

The encoder sees what comes after, the decoder doesn't. Both see only so far, so that long sounds
are worked on piece by piece, with the same result as at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kani.codec_kernels import LEAK
from kani.codec_layers import (
    REACH,
    CausalUpsample,
    Conv,
    Edges,
    FiniteScalars,
    HalfSnake,
    ResidualLayer,
    pieces,
    piecewise,
)
from ttscommon.errors import UserError

EDGE_SIZE, LAST_SIZE = 7, 3  # of the convolutions at the ends
FRAMES_AT_ONCE = 160  # 12.8 s; 350 MB on a CPU, measured


@dataclass(frozen=True, kw_only=True)
class NanoCodecConfig:
    """The shape of a NanoCodec; by default that of 0.6 kbit/s and 12.5 frames a second.

    Attributes:
        encoder_channels: of its first layer; each stage doubles them
        decoder_channels: of its first layer; each stage halves them
        n_codebooks: groups of `levels`
        levels: of each number of a group
    """

    sample_rate: int = 22050
    encoder_channels: int = 24
    down_rates: tuple[int, ...] = (2, 3, 6, 7, 7)
    decoder_channels: int = 864
    up_rates: tuple[int, ...] = (7, 7, 6, 3, 2)
    n_codebooks: int = 4
    levels: tuple[int, ...] = (9, 8, 8, 7)

    @classmethod
    def tiny(cls) -> NanoCodecConfig:
        """The same graph with few channels."""
        return cls(encoder_channels=2, decoder_channels=64)

    def __post_init__(self) -> None:
        if math.prod(self.down_rates) != math.prod(self.up_rates):
            raise UserError(
                f"the codec takes {self.down_rates} apart, puts {self.up_rates} together"
            )
        if self.decoder_channels % 2 ** len(self.up_rates):
            raise UserError(f"the decoder can't halve {self.decoder_channels} channels so often")

    @property
    def samples_per_frame(self) -> int:
        return math.prod(self.down_rates)

    @property
    def frame_rate(self) -> float:
        return self.sample_rate / self.samples_per_frame

    @property
    def codebook_size(self) -> int:
        return math.prod(self.levels)

    @property
    def latent_dim(self) -> int:
        return self.n_codebooks * len(self.levels)


@dataclass(frozen=True)
class Ends:
    """Where each row of a batch ends.

    Attributes:
        lengths: of the B rows
        are_repeated: what a convolution sees behind an end is its last sample, as if the row were
            alone; else zeros, except behind a row that is as long as the batch
    """

    lengths: tuple[int, ...]
    are_repeated: bool

    def edges(self, x: Tensor) -> Edges:
        """Of the batch (B, T, C)."""
        ends = ((size, self.are_repeated or size == x.shape[1]) for size in self.lengths)
        return Edges(0, tuple(ends))

    def slower(self, rate: int) -> Ends:
        """The ends when only each `rate`-th sample is left."""
        return replace(self, lengths=tuple(length // rate for length in self.lengths))


class Encoder(nn.Module):
    """Sound to latents: (B, T * samples_per_frame, 1) -> (B, T, D)."""

    def __init__(self, config: NanoCodecConfig):
        super().__init__()
        width, self.rates = config.encoder_channels, config.down_rates
        self.pre_conv = Conv(1, width, EDGE_SIZE)
        self.res_layers, self.down_sample_conv_layers = nn.ModuleList(), nn.ModuleList()
        for rate in config.down_rates:
            self.res_layers.append(ResidualLayer(width, is_causal=False))
            self.down_sample_conv_layers.append(Conv(width, 2 * width, 2 * rate, stride=rate))
            width *= 2
        self.post_conv = Conv(width, config.latent_dim, EDGE_SIZE)

    def forward(self, x: Tensor, ends: Ends | None = None) -> Tensor:
        ends = ends or Ends((x.shape[1],) * len(x), are_repeated=True)

        def first(x: Tensor, edges: Edges) -> Tensor:
            return self.pre_conv(edges.fill(x.clone()))

        reach = self.pre_conv.before
        width = self.pre_conv.conv.out_channels
        x = piecewise(first, x, ends.edges(x), before=reach, behind=reach, width=width)
        stages = zip(self.res_layers, self.down_sample_conv_layers, self.rates, strict=True)
        for residual, down, rate in stages:
            x = _shrunk(x, ends.edges(x), residual, down, rate)  # type: ignore[arg-type]
            ends = ends.slower(rate)

        def last(x: Tensor, edges: Edges) -> Tensor:
            return self.post_conv(edges.fill(F.leaky_relu(x, LEAK)))

        reach = self.post_conv.before
        return piecewise(last, x, ends.edges(x), before=reach, behind=reach, width=x.shape[2])


def _shrunk(x: Tensor, edges: Edges, residual: ResidualLayer, down: Conv, rate: int) -> Tensor:
    """A stage of the encoder: (B, T * rate, C) -> (B, T, 2C)."""

    def stage(x: Tensor, edges: Edges) -> Tensor:
        x = F.leaky_relu_(residual(x, edges), LEAK)
        return down(edges.behind(residual.before).fill(x))

    before, behind = residual.before + down.before, residual.behind + down.behind
    width = x.shape[2] * rate
    return piecewise(stage, x, edges, before=before, behind=behind, step=rate, width=width)


class Decoder(nn.Module):
    """Latents to sound: (B, T, D) -> (B, T * samples_per_frame, 1)."""

    def __init__(self, config: NanoCodecConfig):
        super().__init__()
        width = config.decoder_channels
        self.pre_conv = Conv(config.latent_dim, width, EDGE_SIZE, is_causal=True)
        self.activations, self.res_layers = nn.ModuleList(), nn.ModuleList()
        self.up_sample_conv_layers = nn.ModuleList()
        for rate in config.up_rates:
            self.activations.append(HalfSnake(width))
            width //= 2
            self.up_sample_conv_layers.append(CausalUpsample(width, rate))
            self.res_layers.append(ResidualLayer(width, is_causal=True))
        self.post_activation = HalfSnake(width)
        self.post_conv = Conv(width, 1, LAST_SIZE, is_causal=True)

    def forward(self, x: Tensor) -> Tensor:
        whole = Edges(0, is_causal=True)

        def first(x: Tensor, edges: Edges) -> Tensor:
            del edges  # zeros are there already
            return self.pre_conv(x)

        width = self.pre_conv.conv.out_channels
        x = piecewise(first, x, whole, before=self.pre_conv.before, width=width)
        stages = zip(self.activations, self.up_sample_conv_layers, self.res_layers, strict=True)
        for activation, up, residual in stages:
            x = _grown(x, activation, up, residual)  # type: ignore[arg-type]

        def last(x: Tensor, edges: Edges) -> Tensor:
            return self.post_conv(edges.fill(self.post_activation(x)))

        x = piecewise(last, x, whole, before=self.post_conv.before, width=x.shape[2])
        return x.clamp_(-1, 1)


def _grown(x: Tensor, activation: HalfSnake, up: CausalUpsample, residual: ResidualLayer) -> Tensor:
    """A stage of the decoder: (B, T, 2C) -> (B, T * up.stride, C)."""
    margin = math.ceil(residual.before / up.stride)  # steps
    surplus = margin * up.stride - residual.before  # samples

    def stage(x: Tensor, edges: Edges) -> Tensor:
        x = up(edges.fill(activation(x)))[:, surplus:].contiguous()
        return residual(x, edges.behind(1).faster(up.stride).behind(surplus))

    width = up.stride * x.shape[2] // 2
    return piecewise(stage, x, Edges(0, is_causal=True), before=1 + margin, width=width)


class Quantizer(nn.Module):
    """Latents to codes, a group of numbers each."""

    def __init__(self, config: NanoCodecConfig):
        super().__init__()
        self.fsqs = nn.ModuleList(FiniteScalars(config.levels) for _ in range(config.n_codebooks))

    def encode(self, latents: Tensor) -> Tensor:
        """(B, K, T) int32 of (B, T, D)."""
        groups = latents.chunk(len(self.fsqs), dim=-1)
        return torch.stack(
            [fsq.encode(group) for fsq, group in zip(self.fsqs, groups, strict=True)],  # type: ignore[operator]
            dim=1,
        )

    def decode(self, tokens: Tensor) -> Tensor:
        """(B, T, D) of (B, K, T)."""
        codes = tokens.unbind(1)
        return torch.cat(
            [fsq.decode(code) for fsq, code in zip(self.fsqs, codes, strict=True)],  # type: ignore[operator]
            dim=-1,
        )


class NanoCodec(nn.Module):
    """Sound to codes and back.

    Attributes:
        encoder_context: frames on either side that an encoded frame depends on
        decoder_context: frames before a decoded one that it depends on
        name: changes with the weights, so that stored codes can be told apart
        frames_at_once: of all rows together, in a piece
    """

    def __init__(self, config: NanoCodecConfig, frames_at_once: int = FRAMES_AT_ONCE):
        super().__init__()
        self.config, self.frames_at_once, self.name = config, frames_at_once, ""
        self.audio_encoder = Encoder(config)
        self.vector_quantizer = Quantizer(config)
        self.audio_decoder = Decoder(config)
        self.encoder_context = _encoder_context(config)
        self.decoder_context = _decoder_context(config)

    @torch.no_grad()
    def encode(
        self, audio: Tensor, lengths: Tensor | None = None, *, as_nemo: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Codes of each row, the same whatever else is in the batch.

        Args:
            audio: (B, S) at `config.sample_rate`; a last part of a frame is filled with silence
            lengths: (B,) samples of each row; all of them by default
            as_nemo: let a shorter row end in zeros, as NeMo's batches do, instead of as if it were
                alone; it makes another code of a row's last second or so

        Returns:
            (B, K, T) int32, 0 behind a row's end, and (B,) the rows' frames
        """
        n_samples = _sizes(audio, lengths)
        hop = self.config.samples_per_frame
        n_frames = torch.tensor([-(-size // hop) for size in n_samples], device=audio.device)
        longest = int(n_frames.max())
        sound = F.pad(audio, (0, max(0, longest * hop - audio.shape[1])))[:, : longest * hop]
        is_real = torch.arange(sound.shape[1]) < torch.tensor(n_samples)[:, None]  # (B, S)
        sound = sound * is_real.to(sound.device)
        tokens = torch.zeros(len(sound), self.config.n_codebooks, longest, dtype=torch.int32)
        tokens = tokens.to(sound.device)
        for rows, begin, end in pieces(len(sound), longest, self.frames_at_once):
            start = max(0, begin - self.encoder_context)
            stop = min(longest, end + self.encoder_context)
            there = (n_frames[rows] - start).clamp(1, stop - start).tolist()
            ends = Ends(tuple(n * hop for n in there), are_repeated=not as_nemo)
            latents = self.latents(sound[rows, start * hop : stop * hop], ends)
            tokens[rows, :, begin:end] = self.vector_quantizer.encode(
                latents[:, begin - start : end - start]
            )
        is_real = torch.arange(longest, device=tokens.device) < n_frames[:, None]  # (B, T)
        return tokens * is_real[:, None], n_frames

    @torch.no_grad()
    def decode(self, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The sound of codes.

        Args:
            tokens: (B, K, T)
            lengths: (B,) frames of each row; all of them by default

        Returns:
            (B, T * samples_per_frame), zeros behind a row's end
        """
        n_frames = _sizes(tokens, lengths)
        self._require_codes(tokens)
        hop = self.config.samples_per_frame
        weight = self.audio_decoder.post_conv.conv.weight
        audio = torch.zeros(len(tokens), tokens.shape[-1] * hop, device=tokens.device).to(weight)
        for rows, begin, end in pieces(len(tokens), max(n_frames), self.frames_at_once):
            # The decoder doesn't look ahead, so that what stands behind a row's end is harmless.
            start = max(0, begin - self.decoder_context)
            latents = self.vector_quantizer.decode(tokens[rows, :, start:end]).to(weight)
            sound = self.audio_decoder(latents)[:, (begin - start) * hop :, 0]
            audio[rows, begin * hop : end * hop] = sound
        for row, size in enumerate(n_frames):
            audio[row, size * hop :] = 0
        return audio

    @torch.no_grad()
    def latents(self, audio: Tensor, ends: Ends | None = None) -> Tensor:
        """(B, T, D) of sound (B, T * samples_per_frame)."""
        return self.audio_encoder(audio[..., None], ends)

    def _require_codes(self, tokens: Tensor) -> None:
        size = self.config.codebook_size
        if tokens.shape[1] != self.config.n_codebooks:
            raise ValueError(f"{self.config.n_codebooks} codes a frame, got {tokens.shape[1]}")
        if bool(((tokens < 0) | (tokens >= size)).any()):
            raise UserError(f"codes must be between 0 and {size - 1}")


def _sizes(rows: Tensor, lengths: Tensor | None) -> list[int]:
    """Of each row, checked."""
    whole = rows.shape[-1]
    sizes = [whole] * len(rows) if lengths is None else [int(size) for size in lengths]
    if len(sizes) != len(rows) or not all(1 <= size <= whole for size in sizes):
        raise ValueError(f"lengths {sizes} of {len(rows)} rows of {whole}")
    return sizes


def _encoder_context(config: NanoCodecConfig) -> int:
    """Frames: the reach of each stage and of the convolution behind it, in samples."""
    samples, apart = EDGE_SIZE // 2, 1
    for rate in config.down_rates:
        samples += (REACH // 2 + 2 * rate) * apart
        apart *= rate
    return math.ceil(samples / apart) + EDGE_SIZE // 2


def _decoder_context(config: NanoCodecConfig) -> int:
    samples, apart = LAST_SIZE - 1, 1
    for rate in reversed(config.up_rates):
        samples += REACH * apart
        apart *= rate
        samples += apart  # the step before
    return math.ceil(samples / apart) + EDGE_SIZE - 1
