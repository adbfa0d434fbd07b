"""Pitch and loudness of an utterance as a few numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ttscommon.evaluation.verdicts import run_lengths

PITCH_RATE = 16_000
LOWEST, HIGHEST = 60.0, 500.0  # Hz, of speaking voices
FRAME, HOP, PERIOD_WINDOW = 1024, 160, 512  # samples at 16 kHz; 64, 10 and 32 ms
# A frame is voiced if neighbouring periods correlate at least this much (0.6 agrees best with
# librosa's pYIN on recordings, 9 frames in 10, in a tenth of the time) and isn't near silence.
VOICED_CORRELATION, SILENCE_DB = 0.6, -40.0
SEMITONES = 12.0  # in an octave


@dataclass(frozen=True)
class Prosody:
    """How high, how lively and how loud.

    Attributes:
        f0: median pitch in Hz; None where nothing is voiced
        f0_spread: standard deviation of the pitch in semitones; None as above
        voiced_share: of the frames that aren't near silence
        level: root mean square of these frames in dB of full scale; None in digital silence
        level_spread: standard deviation of their levels in dB; None as above
        voiced_npvi: how unlike neighbouring voiced stretches are in length, the nPVI of Dellwo et
            al. 2007, 100 / (m - 1) * sum |(v_k - v_k+1) / mean of the two|; None for m < 2
    """

    f0: float | None
    f0_spread: float | None
    voiced_share: float
    level: float | None
    level_spread: float | None
    voiced_npvi: float | None = None


def measure_prosody(audio: NDArray[np.float32], sample_rate: int = PITCH_RATE) -> Prosody:
    """Pitch (librosa's YIN) and loudness of `audio` (S,) at 16 kHz.

    Raises:
        ValueError: if the audio is empty or at another rate
    """
    if sample_rate != PITCH_RATE:
        raise ValueError(f"wants audio at {PITCH_RATE} Hz, not {sample_rate}")
    if not len(audio):
        raise ValueError("no audio")
    frames = _frames(audio)  # (T, FRAME)
    power = np.square(frames).mean(axis=1)
    heard = (power > 0) & (power >= power.max() * 10 ** (SILENCE_DB / 10))
    if not heard.any():
        return Prosody(None, None, 0.0, None, None)
    levels = 10 * np.log10(power[heard])
    pitch, correlation = _pitch(audio, frames)
    voiced = heard & (correlation >= VOICED_CORRELATION)
    f0 = spread = None
    if voiced.any():
        f0 = float(np.median(pitch[voiced]))
        spread = float(np.std(SEMITONES * np.log2(pitch[voiced] / f0)))
    return Prosody(
        f0=f0,
        f0_spread=spread,
        voiced_share=float(voiced.sum() / heard.sum()),
        level=float(10 * np.log10(power[heard].mean())),
        level_spread=float(levels.std()),
        voiced_npvi=npvi([n for n in run_lengths(voiced) if n > 1]),
    )


def npvi(lengths: Sequence[float]) -> float | None:
    """The normalised pairwise variability index: 0 for equal lengths; None for fewer than two."""
    if len(lengths) < 2:
        return None
    a, b = np.asarray(lengths[:-1], np.float64), np.asarray(lengths[1:], np.float64)
    return float(100 * np.abs((a - b) / ((a + b) / 2)).mean())


def _frames(audio: NDArray) -> NDArray[np.float32]:
    """(T, FRAME) overlapping frames, centred."""
    padded = np.pad(np.asarray(audio, np.float32), FRAME // 2)
    return sliding_window_view(padded, FRAME)[::HOP]


def _pitch(audio: NDArray, frames: NDArray) -> tuple[NDArray, NDArray]:
    """(T,) Hz, and (T,) correlation of each frame with itself one period later."""
    import librosa  # seconds to import

    pitch = librosa.yin(
        np.asarray(audio, np.float32),
        fmin=LOWEST,
        fmax=HIGHEST,
        sr=PITCH_RATE,
        frame_length=FRAME,
        hop_length=HOP,
    )[: len(frames)]
    periods = np.round(PITCH_RATE / pitch).astype(int)
    first = np.arange(PERIOD_WINDOW) + (FRAME - PERIOD_WINDOW - periods[:, None]) // 2  # (T, W)
    here = np.take_along_axis(frames, first, axis=1)
    later = np.take_along_axis(frames, first + periods[:, None], axis=1)
    here, later = (x - x.mean(axis=1, keepdims=True) for x in (here, later))
    energy = np.sqrt(np.square(here).sum(axis=1) * np.square(later).sum(axis=1))
    correlation = (here * later).sum(axis=1) / np.maximum(energy, 1e-12)
    return pitch, correlation
