"""From vocoded sound to the samples that are written."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

FULL_SCALE = 32_767


def to_int16(audio: Tensor) -> NDArray[np.int16]:
    """(S,) sound, -1..1, as 16-bit samples, cut towards zero as the original does it."""
    scaled = (FULL_SCALE * audio.detach().float()).clamp(-FULL_SCALE, FULL_SCALE)
    return scaled.cpu().numpy().astype(np.int16)


def silence(seconds: float, sample_rate: int) -> NDArray[np.int16]:
    """No sound; less than none is none."""
    n_samples = int(sample_rate * seconds + 1e-6)  # lest rounding of the product takes one away
    return np.zeros(max(0, n_samples), dtype=np.int16)
