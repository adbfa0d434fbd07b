"""What can be measured of a clip's sound: level, noise, silence at its ends, likeness to others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from ttscommon.audio import LOUDNESS_BLOCK, Audio, load
from ttscommon.errors import UserError
from ttscommon.segment import VAD_RATE, Span, speech_spans

FULL_SCALE = 0.999
WINDOW = 0.02  # seconds
EDGE_SECONDS = 0.05
BESIDE = 0.06  # seconds in which words begin and die away; clips are trimmed to so much
ENOUGH = 0.25  # seconds to tell noise by; the detector may miss a first syllable of nearly as much
MAX_SNR = 80.0  # dB
ENVELOPE_SECONDS = 0.05
SAME_LENGTH, SAME_ENVELOPE = 0.1, 0.998  # seconds; correlation


@dataclass(frozen=True)
class ClipSound:
    """One clip's sound in numbers.

    Attributes:
        loudness: LUFS; None for silence
        clipped: share of samples at the limit
        snr: dB of speech over what is between it; None where nothing is
        lead, trail: seconds before the first and after the last speech
        start_db, end_db: the first and last 50 ms against the median of speech
        envelope: level in steps of 50 ms, which tells copies
        trouble: why it can't be read
    """

    seconds: float = 0.0
    sample_rate: int = 0
    loudness: float | None = None
    peak: float = 0.0
    clipped: float = 0.0
    speech: float = 0.0
    snr: float | None = None
    lead: float = 0.0
    trail: float = 0.0
    start_db: float | None = None
    end_db: float | None = None
    envelope: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    trouble: str | None = None


def measure_clip(path: Path) -> ClipSound:
    """Decode a clip and measure it."""
    try:
        rate = int(soundfile.info(str(path)).samplerate) if path.stat().st_size else 0
        audio = load(path, rate or VAD_RATE)
    except UserError as error:
        return ClipSound(trouble=error.what)
    except (soundfile.LibsndfileError, OSError) as error:
        return ClipSound(trouble=f"cannot decode the audio: {error}")
    spans = speech_spans(audio, rate)
    total = len(audio) / rate
    power = _power(audio, rate)
    speech_power = _median(power[_inside(power, spans)])
    size = round(EDGE_SECONDS * rate)
    return ClipSound(
        seconds=total,
        sample_rate=rate,
        loudness=_loudness(audio, rate),
        peak=float(np.abs(audio).max()),
        clipped=float((np.abs(audio) >= FULL_SCALE).mean()),
        speech=sum(span.duration for span in spans),
        snr=_snr(power, spans, speech_power),
        lead=spans[0].start if spans else total,
        trail=total - spans[-1].end if spans else total,
        start_db=_level(audio[:size], speech_power),
        end_db=_level(audio[-size:], speech_power),
        envelope=_envelope(audio, rate),
    )


def find_copies(sounds: Sequence[ClipSound]) -> dict[int, int]:
    """{a clip: an earlier one of the same sound, at whatever level and in whatever encoding}."""
    order = sorted(range(len(sounds)), key=lambda i: sounds[i].seconds)
    copies: dict[int, int] = {}
    for place, first in enumerate(order):
        for second in order[place + 1 :]:
            if sounds[second].seconds - sounds[first].seconds > SAME_LENGTH:
                break
            if _is_same(sounds[first].envelope, sounds[second].envelope):
                copies.setdefault(max(first, second), min(first, second))
    return copies


def _is_same(a: NDArray[np.float32], b: NDArray[np.float32]) -> bool:
    n = min(len(a), len(b))
    if n < 10:
        return False
    return float(np.dot(a[:n], b[:n])) / n > SAME_ENVELOPE


def _envelope(audio: Audio, rate: int) -> NDArray[np.float32]:
    """Standardised, so that the mean product of two is their correlation."""
    size = round(ENVELOPE_SECONDS * rate)
    blocks = audio[: len(audio) // size * size].reshape(-1, size)
    level = np.sqrt(np.square(blocks).mean(axis=1))
    deviation = float(level.std()) if len(level) else 0.0
    return ((level - level.mean()) / deviation).astype(np.float32) if deviation else level[:0]


def _power(audio: Audio, rate: int) -> NDArray[np.float32]:
    size = round(WINDOW * rate)
    return np.square(audio[: len(audio) // size * size].reshape(-1, size)).mean(axis=1)


def _inside(power: NDArray[np.float32], spans: Sequence[Span]) -> NDArray[np.bool_]:
    found = np.zeros(len(power), bool)
    for span in spans:
        found[round(span.start / WINDOW) : round(span.end / WINDOW)] = True
    return found


def _snr(power: NDArray[np.float32], spans: Sequence[Span], speech: float | None) -> float | None:
    """The quieter half of what isn't speech, nor right beside it, is noise: the detector is late.

    Digital silence, which editors put in, says nothing of the recording.
    """
    if speech is None:
        return None
    wide = [Span(max(0.0, s.start - BESIDE), s.end + BESIDE) for s in spans]
    between = power[~_inside(power, wide) & (power > 0)]
    if len(between) * WINDOW < ENOUGH:
        return None
    noise = float(np.quantile(between, 0.25))
    return min(MAX_SNR, 10 * math.log10(speech / noise))


def _level(edge: Audio, speech: float | None) -> float | None:
    if speech is None or not len(edge):
        return None
    return 10 * math.log10(max(float(np.square(edge).mean()), 1e-12) / speech)


def _median(values: NDArray[np.float32]) -> float | None:
    median = float(np.median(values)) if len(values) else 0.0
    return median if median > 0 else None


def _loudness(audio: Audio, rate: int) -> float | None:
    import pyloudnorm  # brings all of scipy.signal

    block = min(LOUDNESS_BLOCK, len(audio) / rate)
    meter = pyloudnorm.Meter(rate, block_size=block)
    loudness = float(meter.integrated_loudness(audio.astype(np.float64)))
    return loudness if math.isfinite(loudness) else None
