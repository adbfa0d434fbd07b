"""From recordings to clips: read in parts, cut in silence, trimmed, of one loudness."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ttscommon.audio import Audio, load, normalize_loudness, sound_edges
from ttscommon.segment import REACH, Span, join_spans, longest_silence, speech_spans

# A longer recording is worked on in parts, so that memory stays flat and processes can share it.
PART_SECONDS = 300.0
# Parts are divided at the longest silence within so many seconds of the even division.
SEARCH_SECONDS = 15.0
SHORTEST_SPEECH = 0.3  # seconds
# Noise is no speech: where it is louder than the threshold of silence, that rises to so many dB
# above it, though never above what soft consonants have.
ABOVE_NOISE_DB, SOFTEST_DB = 6.0, -25.0


@dataclass(frozen=True)
class PartSound:
    """A stretch of a recording.

    Attributes:
        start: seconds into the recording
        torn: whether its start and its end may be inside a word
    """

    audio: Audio
    start: float
    torn: tuple[bool, bool]


@dataclass(frozen=True)
class Piece:
    """The sound of one clip; `start` in seconds from where its source began."""

    audio: Audio
    start: float


def count_parts(seconds: float) -> int:
    """In how many parts a recording is worked on."""
    return max(1, math.ceil(seconds / PART_SECONDS))


def read_part(path: Path, seconds: float, index: int, n_parts: int, sample_rate: int) -> PartSound:
    """Part `index` of a recording of `seconds`, divided from the next one in a silence.

    Raises:
        UserError: if it can't be read
    """
    if n_parts == 1:
        return PartSound(load(path, sample_rate), 0.0, (False, False))
    start, starts_torn = _boundary(path, seconds, index, n_parts, sample_rate)
    end, ends_torn = _boundary(path, seconds, index + 1, n_parts, sample_rate)
    audio = load(path, sample_rate, start=start, end=end)
    return PartSound(audio, start, (starts_torn, ends_torn))


def cut_spans(
    part: PartSound,
    sample_rate: int,
    speech: Sequence[Span],
    *,
    min_seconds: float,
    max_seconds: float,
) -> tuple[list[Span], list[Span]]:
    """Where the clips of a part are, and the stretches of `speech` that are in none of them."""
    total = len(part.audio) / sample_rate
    whole_words = [
        span
        for span in speech
        if not (part.torn[0] and span.start <= REACH)  # the detector is late by up to that
        and not (part.torn[1] and span.end >= total - REACH)
    ]
    kept = join_spans(
        part.audio, sample_rate, whole_words, min_seconds=min_seconds, max_seconds=max_seconds
    )
    lost = [span for span in speech if not any(k.start <= span.start < k.end for k in kept)]
    return kept, lost


def tidy(
    audio: Audio,
    sample_rate: int,
    *,
    trim_db: float,
    loudness: float,
    lead: float,
    tail: float,
) -> Piece | None:
    """Trimmed, with `lead` and `tail` seconds around, of the wanted loudness; None if all silent.

    The edges are the recording's own as far as it goes, and silence beyond.
    """
    start, end = sound_edges(audio, sample_rate, trim_db)
    if end - start < SHORTEST_SPEECH * sample_rate:
        return None
    n_lead, n_tail = round(lead * sample_rate), round(tail * sample_rate)
    before, after = max(0, n_lead - start), max(0, end + n_tail - len(audio))
    kept = audio[max(0, start - n_lead) : end + n_tail]
    level = normalize_loudness(np.pad(kept, (before, after)), sample_rate, loudness)
    return Piece(level, max(0, start - n_lead) / sample_rate)


def silence_db(audio: Audio, sample_rate: int, speech: Sequence[Span], trim_db: float) -> float:
    """The threshold of silence for this recording: `trim_db`, or just above its noise."""
    window = round(0.02 * sample_rate)
    power = np.square(audio[: len(audio) // window * window].reshape(-1, window)).mean(axis=1)
    is_speech = np.zeros(len(power), bool)
    for span in speech:  # the detector is late and early by up to REACH
        first, last = (
            round(t * sample_rate / window) for t in (span.start - REACH, span.end + REACH)
        )
        is_speech[max(0, first) : max(0, last)] = True
    noise = power[~is_speech & (power > 0)]
    if not len(noise):
        return trim_db
    above = 10 * math.log10(float(np.median(noise)) / float(power.max())) + ABOVE_NOISE_DB
    return max(trim_db, min(above, SOFTEST_DB))


@functools.lru_cache(maxsize=16)
def _boundary(
    path: Path, seconds: float, index: int, n_parts: int, sample_rate: int
) -> tuple[float, bool]:
    """Seconds at which a part begins, and whether that may be inside a word.

    Both neighbours work it out for themselves and come to the same.
    """
    even = seconds * index / n_parts
    if index in (0, n_parts):
        return even, False
    window = Span(even - SEARCH_SECONDS, even + SEARCH_SECONDS)
    around = load(path, sample_rate, start=window.start, end=window.end)
    middle = longest_silence(around, sample_rate)
    return (even, True) if middle is None else (window.start + middle, False)


def has_speech(audio: Audio, sample_rate: int) -> bool:
    return sum(span.duration for span in speech_spans(audio, sample_rate)) >= SHORTEST_SPEECH
