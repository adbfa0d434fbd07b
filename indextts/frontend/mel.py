"""Log-mel spectrograms as IndexTTS2 and BigVGAN v2 take them."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from indextts.s2mel.config import MelConfig

FLOOR = 1e-5  # mel magnitudes below it are raised to it before the logarithm


def mel_spectrogram(audio: Tensor, config: MelConfig) -> Tensor:
    """Natural logarithm of the mel magnitudes (Slaney scale and norm, periodic Hann window).

    Args:
        audio: (B, S) at config.sample_rate, about -1..1, S > (n_fft - hop_length) / 2

    Returns:
        (B, M, T) with T = S // hop_length

    Raises:
        ValueError: if the audio is too short for the reflected padding
    """
    padding = (config.n_fft - config.hop_length) // 2
    if audio.shape[-1] <= padding:
        raise ValueError(f"{audio.shape[-1]} samples are too few; at least {padding + 1}")
    window, filters = _window_and_filters(config, audio.device)
    spectrum = torch.stft(
        F.pad(audio, (padding, padding), mode="reflect"),
        n_fft=config.n_fft,
        hop_length=config.hop_length,
        window=window,
        center=False,
        return_complex=True,
    )  # (B, F, T)
    magnitude = (spectrum.real.square() + spectrum.imag.square() + 1e-9).sqrt()
    return (filters @ magnitude).clamp(min=FLOOR).log()


@functools.lru_cache(maxsize=8)
def _window_and_filters(config: MelConfig, device: torch.device) -> tuple[Tensor, Tensor]:
    """(n_fft,) window and (M, F) triangular filters."""
    from librosa.filters import mel  # takes a moment to import

    filters = mel(
        sr=config.sample_rate,
        n_fft=config.n_fft,
        n_mels=config.n_mels,
        fmin=config.f_min,
        fmax=config.f_max,
    )
    # Made while inference_mode is on they could never be used in training.
    with torch.inference_mode(False):
        return torch.hann_window(config.n_fft, device=device), torch.from_numpy(filters).to(device)
