"""Where speech is in a recording, and where a long one may be cut: in silence, never in a word."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import soxr
import torch
from numpy.typing import NDArray

VAD_RATE = 16_000
SHORTEST_SILENCE = 0.1  # seconds; shorter gaps are mostly the closures of plosives inside words
LONGEST_PAUSE = 2.0  # seconds; no clip goes on across a longer one
EDGE = 0.1  # seconds of silence kept around a clip, so that soft word ends aren't lost
# A cut in a gap of g seconds costs as much as losing CUT_COST / g seconds of speech, so that of
# two ways to cut, the one with the longer gaps wins.
CUT_COST = 0.1


@dataclass(frozen=True)
class Span:
    """A part of a recording, in seconds."""

    start: float
    end: float

    @property
    def duration(self) -> float:
        return self.end - self.start


def speech_spans(audio: NDArray[np.float32], sample_rate: int) -> list[Span]:
    """The stretches of speech in `audio` (S,), by Silero VAD, exact to one of its 32 ms windows."""
    if sample_rate != VAD_RATE:
        audio = soxr.resample(audio, sample_rate, VAD_RATE)
    model, find = _silero()
    found = find(
        torch.from_numpy(np.ascontiguousarray(audio, dtype=np.float32)),
        model,
        sampling_rate=VAD_RATE,
        min_silence_duration_ms=round(SHORTEST_SILENCE * 1000),
        min_speech_duration_ms=100,
        speech_pad_ms=0,
    )
    return [Span(piece["start"] / VAD_RATE, piece["end"] / VAD_RATE) for piece in found]


def segment(
    audio: NDArray[np.float32], sample_rate: int, *, min_seconds: float, max_seconds: float
) -> list[Span]:
    """Cut a long recording into clips of `min_seconds` to `max_seconds`, in silence only.

    Keeps as much speech as it can and prefers long gaps. Left out are speech that runs longer
    than `max_seconds` without a silence, and speech that stands too far from any other to fill
    `min_seconds`.
    """
    spans = speech_spans(audio, sample_rate)
    total = len(audio) / sample_rate
    return join_spans(spans, total, min_seconds=min_seconds, max_seconds=max_seconds)


def longest_silence(audio: NDArray[np.float32], sample_rate: int) -> float | None:
    """The middle of the longest silence in seconds, or None where speech never rests."""
    total = len(audio) / sample_rate
    spans = speech_spans(audio, sample_rate)
    edges = [0.0, *(edge for span in spans for edge in (span.start, span.end)), total]
    gaps = list(zip(edges[::2], edges[1::2], strict=True))
    start, end = max(gaps, key=lambda gap: gap[1] - gap[0])
    return (start + end) / 2 if end - start >= SHORTEST_SILENCE else None


def join_spans(
    spans: Sequence[Span], total: float, *, min_seconds: float, max_seconds: float
) -> list[Span]:
    """The clips that `segment` makes of stretches of speech in `total` seconds of sound.

    Each clip starts and ends up to EDGE seconds, or half the silence, outside its speech.
    """
    # Dynamic programming: score[i] is the best for the first i spans, back[i] how it came about.
    starts = [0.0, *(span.end for span in spans)]  # where the silence before span i begins
    ends = [*(span.start for span in spans), total]  # where the silence before span i ends
    gaps = [end - start for start, end in zip(starts, ends, strict=True)]
    score, back = [0.0], [-1]
    for last in range(len(spans)):
        best, origin = score[last], -1  # leave the last span out
        for first in range(last, -1, -1):
            if first < last and gaps[first + 1] > LONGEST_PAUSE:
                break
            piece = _padded(spans[first], spans[last], gaps[first], gaps[last + 1])
            if piece.duration > max_seconds:
                break
            cut = CUT_COST / max(gaps[first], 1e-3) if first else 0.0
            value = score[first] + piece.duration - cut
            if piece.duration >= min_seconds and value > best:
                best, origin = value, first
        score.append(best)
        back.append(origin)
    pieces, i = [], len(spans)
    while i > 0:
        first = back[i]
        if first >= 0:
            pieces.append(_padded(spans[first], spans[i - 1], gaps[first], gaps[i]))
        i = first if first >= 0 else i - 1
    return pieces[::-1]


def _padded(first: Span, last: Span, gap_before: float, gap_after: float) -> Span:
    """From `first` to `last` with up to EDGE seconds of the silence around them."""
    return Span(first.start - min(EDGE, gap_before / 2), last.end + min(EDGE, gap_after / 2))


@functools.lru_cache(maxsize=1)
def _silero() -> tuple[Any, Any]:
    n_threads = torch.get_num_threads()
    from silero_vad import get_speech_timestamps, load_silero_vad

    torch.set_num_threads(n_threads)  # importing the package sets it to one for the whole process
    return load_silero_vad(), get_speech_timestamps
