"""LeWM-TTS: text encoder, audio encoder, joint-embedding predictor and mel decoder.

Text and audio each become a sequence of vectors; the predictor walks along the text and says the
next audio latent; the decoder turns latents into a mel spectrogram. Sizes are in `ModelConfig`.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lewm.cache import DecodeState
from lewm.config import LOG_MEL_FLOOR, ModelConfig
from lewm.layers import EncoderBlock, Rotary, fill_padding
from lewm.loss import MultiResolutionSpectralLoss
from lewm.predictor import JEPAPredictor, Prediction
from lewm.text import PAD, VOCABULARY
from ttscommon.mel import MelRecipe

__all__ = [
    "AudioEncoder",
    "DecodeState",
    "JEPAPredictor",
    "LeWMTTS",
    "MelDecoder",
    "MultiResolutionSpectralLoss",
    "Prediction",
    "TextEncoder",
]

LOG_VARIANCE_RANGE = (-8.0, 4.0)
# A latent dimension that moves less than this is dead; dividing by its std would only raise noise.
MIN_LATENT_STD = 0.05
# Latent frames an audio encoder layer sees to each side. It is trained on crops of a second and
# used on whole clips; a window keeps every distance it meets within those it was trained on.
ENCODER_WINDOW = 12


class ConvBlock(nn.Module):
    """Residual convolution over time with kernel 5: (B, T, D) -> (B, T, D)."""

    def __init__(self, dim: int, dropout: float):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.conv = nn.Conv1d(dim, dim, kernel_size=5, padding=2)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """mask: (B, T)"""
        h = self.conv(fill_padding(self.norm(x).transpose(1, 2), mask)).transpose(1, 2)
        return x + self.dropout(F.gelu(h))


class TextEncoder(nn.Module):
    """UTF-8 bytes -> one vector per byte, coloured by speaker and language."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        width = config.width
        self.embedding = nn.Embedding(VOCABULARY, width, padding_idx=PAD)
        self.dropout = nn.Dropout(config.dropout)
        self.convs = nn.ModuleList(
            ConvBlock(width, config.dropout) for _ in range(config.n_text_convs)
        )
        self.rotary = Rotary(width // config.n_heads)
        self.blocks = nn.ModuleList(
            EncoderBlock(width, config.ff_dim, config.n_heads, config.dropout)
            for _ in range(config.n_text_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.speakers = _table(len(config.speakers), width)
        self.languages = _table(len(config.languages), width)

    def forward(
        self,
        ids: Tensor,
        mask: Tensor,
        speaker_ids: Tensor | None = None,
        language_ids: Tensor | None = None,
    ) -> Tensor:
        """Encode a batch of texts.

        Args:
            ids: (B, L) long, from `lewm.text.encode`
            mask: (B, L) bool, True on real bytes
            speaker_ids, language_ids: (B,) rows of the tables; None means row 0; ignored by a
                model without that table

        Returns:
            (B, L, D), zero on padding
        """
        x = self.dropout(self.embedding(ids))
        for conv in self.convs:
            x = conv(x, mask)
        rotations = self.rotary.span(0, ids.shape[1], x.device)
        for block in self.blocks:
            x = block(x, rotations, mask[:, None, None, :])
        x = self.norm(x)
        for table, rows in ((self.speakers, speaker_ids), (self.languages, language_ids)):
            if table is not None:
                rows = ids.new_zeros(len(ids)) if rows is None else rows
                x = x + table(rows)[:, None, :]
        return x.masked_fill(~mask[..., None], 0.0)


class AudioEncoder(nn.Module):
    """Mel frames -> a Gaussian over latents, one per `downsample` frames."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        dim = config.encoder_dim
        self.downsample = config.downsample
        self.front = nn.Conv1d(config.n_mels, dim, kernel_size=5, padding=2)
        self.strided = nn.ModuleList(
            nn.Conv1d(dim, dim, kernel_size=4, stride=2, padding=1)
            for _ in range(int(math.log2(config.downsample)))
        )
        self.rotary = Rotary(dim // config.n_heads)
        self.blocks = nn.ModuleList(
            EncoderBlock(dim, config.encoder_ff_dim, config.n_heads, dropout=0.0)
            for _ in range(config.n_encoder_layers)
        )
        self.norm = nn.LayerNorm(dim)
        self.out = nn.Linear(dim, 2 * config.latent_dim)

    def forward(self, mel: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Encode a batch of mels.

        Args:
            mel: (B, M, T) normalised
            mask: (B, T) bool, True on real frames, which come first

        Returns:
            mean and log-variance, each (B, ceil(T / downsample), C), zero on padding
        """
        missing = -mel.shape[-1] % self.downsample
        mel, mask = F.pad(mel, (0, missing)), F.pad(mask, (0, missing))
        x = F.gelu(self.front(fill_padding(mel, mask)))  # (B, D, T)
        for conv in self.strided:
            x = F.gelu(conv(fill_padding(x, mask)))  # (B, D, T/2), then T/4
            mask = mask[:, ::2]
        x = x.transpose(1, 2)  # (B, T', D)
        rotations = self.rotary.span(0, x.shape[1], x.device)
        nearby = _window_mask(mask, ENCODER_WINDOW)
        for block in self.blocks:
            x = block(x, rotations, nearby)
        out = self.out(self.norm(x)).masked_fill(~mask[..., None], 0.0)
        mean, log_variance = out.chunk(2, dim=-1)
        return mean, log_variance.clamp(*LOG_VARIANCE_RANGE)


class ResConvBlock(nn.Module):
    """Two residual convolutions with kernel 3: (B, D, T) -> (B, D, T)."""

    def __init__(self, dim: int):
        super().__init__()
        self.norm = ChannelNorm(dim)
        self.first = nn.Conv1d(dim, dim, kernel_size=3, padding=1)
        self.second = nn.Conv1d(dim, dim, kernel_size=3, padding=1)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """mask: (B, T)"""
        h = self.first(fill_padding(F.gelu(self.norm(x)), mask))
        return x + self.second(fill_padding(F.gelu(h), mask))


class ChannelNorm(nn.Module):
    """Root-mean-square normalisation of each frame of (B, D, T), so padding can't reach it."""

    def __init__(self, dim: int):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(dim, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-6) * self.gain


class MelDecoder(nn.Module):
    """Latents -> normalised mel, `downsample` frames per latent."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        dim = config.decoder_dim
        self.project = nn.Linear(config.latent_dim, dim)
        n_upsamplings = int(math.log2(config.downsample))
        self.upsample = nn.ModuleList(
            nn.ConvTranspose1d(dim, dim, kernel_size=4, stride=2, padding=1)
            for _ in range(n_upsamplings)
        )
        self.residual = nn.ModuleList(
            nn.ModuleList(ResConvBlock(dim) for _ in range(config.n_res_blocks))
            for _ in range(n_upsamplings)
        )
        self.refine = nn.ModuleList(
            nn.Conv1d(dim, dim, kernel_size=3, padding=1) for _ in range(config.n_refine)
        )
        self.norm = ChannelNorm(dim)
        self.out = nn.Conv1d(dim, config.n_mels, kernel_size=3, padding=1)

    def forward(self, latents: Tensor, mask: Tensor | None = None) -> Tensor:
        """Decode a batch of latents.

        Args:
            latents: (B, T', C) as the audio encoder gives them, not standardised
            mask: (B, T') bool, True on real frames; None when all are

        Returns:
            (B, M, T' * downsample)
        """
        if mask is not None:
            latents = latents.masked_fill(~mask[..., None], 0.0)
        x = self.project(latents).transpose(1, 2)  # (B, D, T')
        for upsample, blocks in zip(self.upsample, self.residual, strict=True):
            x = upsample(fill_padding(F.gelu(x), mask))  # (B, D, 2 T'), then 4 T'
            mask = None if mask is None else mask.repeat_interleave(2, dim=1)
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x, mask)
        for conv in self.refine:
            x = x + conv(fill_padding(F.gelu(x), mask))
        return self.out(fill_padding(F.gelu(self.norm(x)), mask))


class LeWMTTS(nn.Module):
    """The four networks with the numbers that join them.

    The networks see normalised mels and standardised latents; `encode` and `decode` translate from
    and to log-mels, so a caller never does.
    """

    latent_mean: Tensor
    latent_std: Tensor
    mel_mean: Tensor
    mel_std: Tensor

    def __init__(self, config: ModelConfig, recipe: MelRecipe):
        super().__init__()
        if recipe.n_mels != config.n_mels:
            raise ValueError(f"a {recipe.n_mels}-band recipe for a {config.n_mels}-band model")
        self.config, self.recipe = config, recipe
        self.text_encoder = TextEncoder(config)
        self.audio_encoder = AudioEncoder(config)
        self.predictor = JEPAPredictor(config)
        self.mel_decoder = MelDecoder(config)
        self.register_buffer("latent_mean", torch.zeros(config.latent_dim))
        self.register_buffer("latent_std", torch.ones(config.latent_dim))
        self.register_buffer("mel_mean", torch.tensor(0.0))
        self.register_buffer("mel_std", torch.tensor(1.0))

    @property
    def frame_rate(self) -> float:
        """Latent frames per second."""
        return self.recipe.frame_rate / self.config.downsample

    def set_mel_statistics(self, mean: float, std: float) -> None:
        """The one global mean and standard deviation of the training set's log-mels."""
        self.mel_mean.fill_(mean)
        self.mel_std.fill_(std)

    def set_latent_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Mean and standard deviation of each latent dimension (C,); dead ones get a floor."""
        self.latent_mean.copy_(mean)
        self.latent_std.copy_(std.clamp(min=MIN_LATENT_STD))

    def normalise(self, log_mel: Tensor) -> Tensor:
        """Log-mel, in nats, to what the networks see; silence is cut at -9.5."""
        return (log_mel.clamp(min=LOG_MEL_FLOOR) - self.mel_mean) / self.mel_std

    def denormalise(self, mel: Tensor) -> Tensor:
        """The inverse of `normalise` above its floor."""
        return mel * self.mel_std + self.mel_mean

    def standardise(self, latents: Tensor) -> Tensor:
        """(B, T', C) of the audio encoder to mean 0, standard deviation 1 per dimension."""
        return (latents - self.latent_mean) / self.latent_std

    def destandardise(self, latents: Tensor) -> Tensor:
        """The inverse of `standardise`."""
        return latents * self.latent_std + self.latent_mean

    def encode(self, log_mel: Tensor, mask: Tensor) -> Tensor:
        """log_mel (B, M, T), mask (B, T) -> standardised mean latents (B, T', C), 0 on padding."""
        mean, _ = self.audio_encoder(self.normalise(log_mel), mask)
        return self.standardise(mean).masked_fill(~self.latent_mask(mask)[..., None], 0.0)

    def decode(self, latents: Tensor, mask: Tensor | None = None) -> Tensor:
        """Standardised latents (B, T', C), mask (B, T') -> log-mel (B, M, T' * downsample)."""
        return self.denormalise(self.mel_decoder(self.destandardise(latents), mask))

    def latent_mask(self, mask: Tensor) -> Tensor:
        """Mel mask (B, T) to latent mask (B, T'): a latent is real if its first frame is."""
        return mask[:, :: self.config.downsample]


def _table(n_rows: int, width: int) -> nn.Embedding | None:
    """Small at first, so that unseen differences between speakers start small.

    One name is nothing to tell apart, so it gets no table.
    """
    if n_rows < 2:
        return None
    table = nn.Embedding(n_rows, width)
    nn.init.normal_(table.weight, std=0.1)
    return table


def _window_mask(mask: Tensor, window: int) -> Tensor:
    """Real frames at most `window` away, and always the frame itself: (B, T) -> (B, 1, T, T)."""
    position = torch.arange(mask.shape[1], device=mask.device)
    distance = (position[:, None] - position).abs()  # (T, T)
    # A padded frame sees itself: a row without any key would be nan, in the gradient too.
    return ((distance <= window) & mask[:, None, :] | (distance == 0))[:, None]
