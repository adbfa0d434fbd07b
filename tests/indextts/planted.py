"""Recordings with silences put in at known places."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import librosa
import numpy as np

from ttscommon.audio import find_audio, load
from ttscommon.segment import VAD_RATE, Span

SAMPLE = Path(__file__).resolve().parents[2] / "examples" / "sample_speaker" / "audio"
TOLERANCE = 0.1  # seconds


@dataclass(frozen=True)
class Planted:
    """A recording of which all pauses are known."""

    audio: np.ndarray
    pauses: list[Span]


def sample_recordings() -> list[Path]:
    return find_audio(SAMPLE)


def plant(path: Path, seed: int, *, noise_db: float | None = None) -> Planted:
    """The recording with its own rests closed and others put in.

    What is louder than 40 dB below the loudest is kept (another rule than the one that is tested)
    and joined with 20 ms of silence or, in 6 of 10 places between longer pieces, with 0.25 to
    1.6 s; 0.2 s stand before and 0.3 s after.

    Args:
        noise_db: of white noise over everything, relative to the recording
    """
    rng = np.random.default_rng(seed)
    audio = load(path, VAD_RATE)
    pieces = librosa.effects.split(audio, top_db=40, frame_length=400, hop_length=80)
    parts, pauses = [_silence(0.2)], []
    for number, (start, end) in enumerate(pieces):
        parts.append(audio[start:end])
        if number + 1 == len(pieces):
            break
        following = pieces[number + 1]
        long_enough = min(end - start, following[1] - following[0]) >= 0.15 * VAD_RATE
        if long_enough and rng.random() < 0.6:
            here = sum(map(len, parts)) / VAD_RATE
            length = float(np.exp(rng.uniform(np.log(0.25), np.log(1.6))))
            pauses.append(Span(here, here + length))
            parts.append(_silence(length))
        else:
            parts.append(_silence(0.02))
    sound = np.concatenate([*parts, _silence(0.3)])
    if noise_db is not None:
        level = np.sqrt(np.mean(audio**2)) * 10 ** (noise_db / 20)
        sound = sound + level * rng.standard_normal(len(sound))
    return Planted(sound.astype(np.float32), pauses)


def count_hits(found: list[Span], planted: list[Span]) -> int:
    """How many were found with both edges within 100 ms, each once."""
    left, hits = list(planted), 0
    for span in found:
        near = [
            one
            for one in left
            if abs(one.start - span.start) <= TOLERANCE and abs(one.end - span.end) <= TOLERANCE
        ]
        if near:
            left.remove(near[0])
            hits += 1
    return hits


def _silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * VAD_RATE), np.float32)
