"""Filter banks as Kaldi computes them, which speaker encoders are trained on."""

from __future__ import annotations

import torch
from torch import Tensor

SAMPLE_RATE = 16_000
WINDOW, HOP = 400, 160  # samples


def kaldi_fbank(audio: Tensor, n_mels: int = 80) -> Tensor:
    """Log of the mel power spectrum, without dither and without scaling to 16-bit range.

    Args:
        audio: (S,) at 16 kHz, -1..1, at least 400 samples

    Returns:
        (T, M) with T = (S - 400) // 160 + 1

    Raises:
        ValueError: if the audio is shorter than one window
    """
    from torchaudio.compliance.kaldi import fbank  # takes a moment to import

    if audio.shape[-1] < WINDOW:
        raise ValueError(f"{audio.shape[-1]} samples are too few for a window of {WINDOW}")
    return fbank(audio.float()[None], num_mel_bins=n_mels, dither=0.0, sample_frequency=SAMPLE_RATE)


def centred_fbank(audio: Tensor, n_mels: int = 80) -> Tensor:
    """`kaldi_fbank` of each row less its mean over time: (B, S) -> (B, T, M)"""
    rows = torch.stack([kaldi_fbank(row, n_mels) for row in audio])
    return rows - rows.mean(dim=1, keepdim=True)
