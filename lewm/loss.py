"""The losses of LeWM-TTS, except the prediction loss, which belongs to its head (`lewm.heads`).

Every loss is a mean over real frames. Padding is filled before any arithmetic: masking afterwards
would let an inf or nan in the padding reach the gradient as nan.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STOP_POSITIVE_WEIGHT = 8.0
GUIDED_HEADS = 2
# The reference floors magnitudes at 1e-5; then bands that hardly move rule the loss
# and get garbage (measured, docs/lewm.md). A magnitude of 1 is a ripple of a thirtieth of the
# mel's standard deviation at the smallest size: quieter ones count as equal.
MAGNITUDE_FLOOR = 1.0


def kl_to_standard_normal(mean: Tensor, log_variance: Tensor, mask: Tensor) -> Tensor:
    """KL(N(mean, exp(log_variance)) || N(0, I)) = 0.5 mean(exp(lv) + mu^2 - 1 - lv).

    A mean over dimensions too: summed over C dimensions it would be C times larger.

    Args:
        mean, log_variance: (B, T, C)
        mask: (B, T) bool, True on real frames

    Returns:
        () nats per frame and dimension
    """
    padding = ~mask[..., None]  # (B, T, 1)
    mean, log_variance = mean.masked_fill(padding, 0), log_variance.masked_fill(padding, 0)
    per_dim = 0.5 * (log_variance.exp() + mean.square() - 1 - log_variance)  # (B, T, C)
    return per_dim.sum() / (_count(mask) * mean.shape[-1])


def reconstruction_l1(predicted: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """mean |predicted - target| over real frames and bands.

    Args:
        predicted, target: (B, M, T) normalised mels
        mask: (B, T) bool, True on real frames

    Returns:
        ()
    """
    padding = ~mask[:, None, :]  # (B, 1, T)
    error = predicted.masked_fill(padding, 0) - target.masked_fill(padding, 0)
    return error.abs().sum() / (_count(mask) * predicted.shape[1])


def stop_loss(stop_logits: Tensor, mask: Tensor) -> Tensor:
    """Binary cross-entropy of "this is the last frame", mean over real frames.

    One frame of a clip is positive and weighs 8, or the head would learn to say never.

    Args:
        stop_logits: (B, T)
        mask: (B, T) bool, True on real frames, which come first

    Returns:
        ()
    """
    is_last = mask & ~F.pad(mask[:, 1:], (0, 1))  # (B, T)
    per_frame = F.binary_cross_entropy_with_logits(
        stop_logits.masked_fill(~mask, 0),
        is_last.to(stop_logits.dtype),
        pos_weight=stop_logits.new_tensor(STOP_POSITIVE_WEIGHT),
        reduction="none",
    )
    return per_frame.masked_fill(~mask, 0).sum() / _count(mask)


def guided_attention(
    attention: Sequence[Tensor],
    text_lengths: Tensor,
    latent_lengths: Tensor,
    *,
    width: float = 0.15,
    n_joined: Tensor | None = None,
) -> Tensor:
    """mean over frames of sum_n A[t, n] (1 - exp(-(t/T - n/N)^2 / (2 g^2))).

    After Tachibana et al. 2018 (eq. 8). It holds the first two heads of every layer to the
    diagonal and leaves the others free.

    Args:
        attention: per layer (B, H, T, L)
        text_lengths, latent_lengths: (B,) N and T of each row
        width: g, the share of the text that a head may stray
        n_joined: (B,) clips joined in each row; g is divided by its root, as the strays of
            independent clips add up like independent errors

    Returns:
        ()
    """
    n_frames, n_bytes = attention[0].shape[-2:]
    device = attention[0].device
    frame = torch.arange(n_frames, device=device)  # (T,)
    byte = torch.arange(n_bytes, device=device)  # (L,)
    real = (frame < latent_lengths[:, None])[:, :, None] & (byte < text_lengths[:, None])[:, None]
    stray = (
        frame[:, None] / latent_lengths[:, None, None] - byte / text_lengths[:, None, None]
    )  # (B, T, L)
    variance = torch.full_like(stray[:, :1, :1], width**2)  # (B, 1, 1)
    if n_joined is not None:
        variance = variance / n_joined[:, None, None]
    penalty = (1 - torch.exp(-stray.square() / (2 * variance))).masked_fill(~real, 0)
    guided = torch.stack([layer[:, :GUIDED_HEADS] for layer in attention])  # (layers, B, 2, T, L)
    kept = guided.float().masked_fill(~real[:, None], 0) * penalty[:, None]
    n_maps = guided.shape[0] * guided.shape[2]
    return kept.sum() / (n_maps * latent_lengths.sum().clamp(min=1))


def sigreg(latents: Tensor, mask: Tensor, *, n_directions: int = 1024, n_knots: int = 17) -> Tensor:
    """Sketched isotropic Gaussian regulariser: the Epps-Pulley test on random projections.

    After arXiv 2603.19312: with x = Z a for random unit directions a, and knots t_k on [0, 3],
    e_k = (mean cos(t_k x) - exp(-t_k^2 / 2))^2 + (mean sin(t_k x))^2, and the statistic is
    N sum_k w_k exp(-t_k^2 / 2) e_k with trapezoid weights. The means are over the batch, apart for
    each time step; the result is averaged over directions and time steps. The paper puts a batch
    norm before it because its encoder ends in one norm; ours ends in a linear layer, which is free
    to find the scale.

    Args:
        latents: (B, T, C)
        mask: (B, T) bool, True on real frames

    Returns:
        ()
    """
    latents = latents.masked_fill(~mask[..., None], 0).float()
    directions = torch.randn(latents.shape[-1], n_directions, device=latents.device)
    x = latents @ F.normalize(directions, dim=0)  # (B, T, A)
    n_rows = mask.sum(0)  # (T,)
    step = 3 / (n_knots - 1)
    statistic = x.new_zeros(x.shape[1:])  # (T, A)
    for k in range(n_knots):
        knot = k * step
        normal = math.exp(-(knot**2) / 2)
        weight = normal * (step if k in (0, n_knots - 1) else 2 * step)
        cos, sin = _row_mean((knot * x).cos(), mask), _row_mean((knot * x).sin(), mask)  # (T, A)
        statistic = statistic + weight * ((cos - normal).square() + sin.square())
    per_step = statistic.mean(-1) * n_rows  # (T,), 0 where no row is real
    return per_step.sum() / (n_rows > 0).sum().clamp(min=1)


class MultiResolutionSpectralLoss(nn.Module):
    """Modulation spectra of the mel bands at several resolutions.

    Training sees no waveform, so each mel band's course over time is the signal. Per size n (Hann
    window, hop n / 4, zeros beyond the clip) with magnitudes X of the prediction and Y of the
    target: ||Y - X||_F / ||Y||_F + mean |log X - log Y|, both per clip, then the mean over sizes
    and over clips weighted by their frames. Sizes longer than a clip are left out for it, but
    never the smallest. Blur in time is loud here and quiet in an L1.
    """

    def __init__(self, fft_sizes: Sequence[int] = (64, 128, 256)):
        super().__init__()
        self.fft_sizes = tuple(fft_sizes)

    def forward(self, predicted: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        """predicted, target: (B, M, T) normalised; mask: (B, T) bool -> ()"""
        padding = ~mask[:, None, :]  # (B, 1, T)
        predicted = predicted.masked_fill(padding, 0).float()
        target = target.masked_fill(padding, 0).float()
        lengths = mask.sum(1)  # (B,)
        total, n_sizes = torch.zeros_like(lengths, dtype=torch.float32), torch.zeros_like(lengths)
        for n_fft in self.fft_sizes:
            if n_fft > mask.shape[1] and n_fft > min(self.fft_sizes):
                continue
            fits = (lengths >= n_fft) | (n_fft == min(self.fft_sizes))  # (B,)
            distance = self._one_size(predicted, target, lengths, n_fft)
            total, n_sizes = total + distance.masked_fill(~fits, 0), n_sizes + fits
        return (total / n_sizes * lengths).sum() / _count(mask)

    def _one_size(self, predicted: Tensor, target: Tensor, lengths: Tensor, n_fft: int) -> Tensor:
        """Convergence + log-magnitude distance of each clip: (B,)"""
        hop = n_fft // 4
        x, y = _magnitudes(predicted, n_fft, hop), _magnitudes(target, n_fft, hop)  # (B, M, F, J)
        # Frames are centred on j * hop; those centred on padding belong to no clip.
        centres = torch.arange(x.shape[-1], device=x.device) * hop
        padding = (centres >= lengths[:, None])[:, None, None, :]  # (B, 1, 1, J)
        error, reach = (y - x).masked_fill(padding, 0), y.masked_fill(padding, 0)
        convergence = error.flatten(1).norm(dim=1) / reach.flatten(1).norm(dim=1)
        n_values = (~padding).sum(-1).flatten().clamp(min=1) * x.shape[1] * x.shape[2]  # (B,)
        distance = (x.log() - y.log()).masked_fill(padding, 0).abs().sum((1, 2, 3)) / n_values
        return convergence + distance


def _magnitudes(mel: Tensor, n_fft: int, hop: int) -> Tensor:
    """Spectrum magnitudes of every band over time: (B, M, T) -> (B, M, F, J)."""
    spectrum = torch.stft(
        mel.flatten(0, 1),
        n_fft=n_fft,
        hop_length=hop,
        window=torch.hann_window(n_fft, device=mel.device),
        center=True,
        pad_mode="constant",
        return_complex=True,
    )  # (B * M, F, J)
    power = spectrum.real.square() + spectrum.imag.square()
    return power.clamp(min=MAGNITUDE_FLOOR**2).sqrt().unflatten(0, mel.shape[:2])


def _row_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean over the rows that are real at each step: (B, T, A) -> (T, A)"""
    return x.masked_fill(~mask[..., None], 0).sum(0) / mask.sum(0).clamp(min=1)[:, None]


def _count(mask: Tensor) -> Tensor:
    return mask.sum().clamp(min=1)
