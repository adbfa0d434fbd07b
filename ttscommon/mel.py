"""Log-mel spectrograms, exactly as the public Vocos vocoder for 24 kHz wants them."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from dataclasses import dataclass

import torch
from torch import Tensor
from torchaudio.functional import melscale_fbanks


@dataclass(frozen=True, kw_only=True)
class MelRecipe:
    """What a mel was computed with. Two networks fit together if their recipes' hashes are equal.

    The defaults are those of `charactr/vocos-mel-24khz`, from its published configuration.
    """

    sample_rate: int = 24_000
    n_fft: int = 1024
    hop_length: int = 256
    n_mels: int = 100
    f_min: float = 0.0
    f_max: float | None = None  # None: half the sample rate
    floor: float = 1e-7  # magnitudes below it are raised to it before the logarithm

    @property
    def hash(self) -> str:
        """12 hexadecimal digits that change with any field."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.hop_length

    def to_dict(self) -> dict[str, int | float | None]:
        """Plain data; `MelRecipe(**data)` gives an equal recipe."""
        return dataclasses.asdict(self)


def log_mel(audio: Tensor, recipe: MelRecipe) -> Tensor:
    """Natural logarithm of the mel magnitudes (HTK scale, Hann window, frames centred).

    Args:
        audio: (B, S) or (S,) at the recipe's sample rate, S > n_fft / 2

    Returns:
        (B, M, T) or (M, T) with T = 1 + S // hop_length

    Raises:
        ValueError: if the audio is too short for the reflected padding
    """
    if audio.shape[-1] <= recipe.n_fft // 2:
        raise ValueError(f"{audio.shape[-1]} samples are too few for a window of {recipe.n_fft}")
    window, filters = _window_and_filters(recipe, audio.device, audio.dtype)
    spectrum = torch.stft(
        audio,
        n_fft=recipe.n_fft,
        hop_length=recipe.hop_length,
        window=window,
        center=True,
        pad_mode="reflect",
        return_complex=True,
    )  # (..., F, T)
    return (filters @ spectrum.abs()).clamp(min=recipe.floor).log()


@functools.lru_cache(maxsize=8)
def _window_and_filters(
    recipe: MelRecipe, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """(n_fft,) periodic Hann window and (M, F) triangular filters."""
    filters = melscale_fbanks(
        n_freqs=recipe.n_fft // 2 + 1,
        f_min=recipe.f_min,
        f_max=recipe.sample_rate / 2 if recipe.f_max is None else recipe.f_max,
        n_mels=recipe.n_mels,
        sample_rate=recipe.sample_rate,
        norm=None,
        mel_scale="htk",
    ).T.contiguous()
    return torch.hann_window(recipe.n_fft, device=device, dtype=dtype), filters.to(device, dtype)
