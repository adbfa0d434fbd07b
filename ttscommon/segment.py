"""Where speech is in a recording, and where a long one may be cut: in silence, never in a word."""

from __future__ import annotations

import functools
import math
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
# A voice detector is up to 0.3 s late on a word (measured on speech that starts at once), so a cut
# is made at the quietest moment this near to the speech, and only if that moment is quiet.
REACH = 0.3  # seconds
WINDOW = 0.01  # seconds
# A moment is quiet if it is nearer, in decibels, to the recording's noise than to its speech;
# noise 50 dB below the speech is as good as any, and 8 dB below the speech is never quiet.
NOISE_QUANTILE, NOISE_DEPTH, QUIET_AT_MOST = 0.05, 10 ** (-50 / 20), 10 ** (-8 / 20)
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


@dataclass(frozen=True)
class _Silence:
    """A gap between two stretches of speech.

    Attributes:
        leave, enter: where a clip that comes before may end and one that comes after may start
        may_cut: whether it is quiet there
    """

    duration: float
    leave: float
    enter: float
    may_cut: bool


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


def longest_silence(audio: NDArray[np.float32], sample_rate: int) -> float | None:
    """The middle of the longest silence in seconds, or None where speech never really rests."""
    total = len(audio) / sample_rate
    spans = speech_spans(audio, sample_rate)
    edges = [0.0, *(edge for span in spans for edge in (span.start, span.end)), total]
    gaps = list(zip(edges[::2], edges[1::2], strict=True))
    start, end = max(gaps, key=lambda gap: gap[1] - gap[0])
    return (start + end) / 2 if end - start >= 2 * REACH else None


def join_spans(
    audio: NDArray[np.float32],
    sample_rate: int,
    spans: Sequence[Span],
    *,
    min_seconds: float,
    max_seconds: float,
) -> list[Span]:
    """Cut a long recording into clips of `min_seconds` to `max_seconds`, in silence only.

    Keeps as much speech as it can and prefers long gaps. Left out are speech that runs longer
    than `max_seconds` without a silence, and speech that stands too far from any other to fill
    `min_seconds`.

    Args:
        spans: the stretches of speech
    """
    silences = _silences(audio, sample_rate, spans)
    # Dynamic programming: score[i] is the best for the first i spans, back[i] how it came about.
    score, back = [0.0], [-1]
    for last in range(len(spans)):
        best, origin = score[last], -1  # leave the last span out
        for first in range(last, -1, -1):
            if first < last and silences[first + 1].duration > LONGEST_PAUSE:
                break
            before, after = silences[first], silences[last + 1]
            length = after.leave - before.enter
            if length > max_seconds:
                break
            if length < min_seconds or not (before.may_cut and after.may_cut):
                continue
            cut = CUT_COST / max(before.duration, WINDOW) if first else 0.0
            if score[first] + length - cut > best:
                best, origin = score[first] + length - cut, first
        score.append(best)
        back.append(origin)
    pieces, i = [], len(spans)
    while i > 0:
        first = back[i]
        if first >= 0:
            pieces.append(Span(silences[first].enter, silences[i].leave))
        i = first if first >= 0 else i - 1
    return pieces[::-1]


def _silences(
    audio: NDArray[np.float32], sample_rate: int, spans: Sequence[Span]
) -> list[_Silence]:
    """The gaps before, between and after the spans, one more than there are spans."""
    size = round(WINDOW * sample_rate)
    levels = np.sqrt(np.square(audio[: len(audio) // size * size].reshape(-1, size)).mean(axis=1))
    total = len(audio) / sample_rate
    if not spans or not len(levels):
        return [_Silence(total, 0.0, total, False)]
    speech = np.median(np.concatenate([levels[_windows(span)] for span in spans]))
    noise = max(np.quantile(levels, NOISE_QUANTILE), speech * NOISE_DEPTH)
    limit = min(np.sqrt(speech * noise), speech * QUIET_AT_MOST)

    def quietest(start: float, end: float) -> tuple[float, bool]:
        inside = levels[_windows(Span(start, end))]
        if not len(inside):
            return (start + end) / 2, False
        lowest = int(np.argmin(inside))
        moment = (_windows(Span(start, end)).start + lowest + 0.5) * WINDOW
        return min(max(moment, start), end), bool(inside[lowest] <= limit)

    silences = []
    edges = [0.0, *(edge for span in spans for edge in (span.start, span.end)), total]
    for number, (start, end) in enumerate(zip(edges[::2], edges[1::2], strict=True)):
        if number == 0 and end <= REACH:  # the recording's own edges are as good as silence
            silences.append(_Silence(end, 0.0, 0.0, True))
        elif number == len(spans) and end - start <= REACH:
            silences.append(_Silence(end - start, total, total, True))
        elif end - start <= 2 * REACH:
            moment, is_quiet = quietest(start, end)
            silences.append(_Silence(end - start, moment, moment, is_quiet))
        else:
            leave, is_quiet_after = quietest(start, start + REACH)
            enter, is_quiet_before = quietest(end - REACH, end)
            may_cut = is_quiet_after and is_quiet_before
            silences.append(_Silence(end - start, leave, enter, may_cut))
    return silences


def _windows(span: Span) -> slice:
    """The level windows that lie in `span`."""
    return slice(math.ceil(span.start / WINDOW - 1e-6), math.floor(span.end / WINDOW + 1e-6))


@functools.lru_cache(maxsize=1)
def _silero() -> tuple[Any, Any]:
    n_threads = torch.get_num_threads()
    from silero_vad import get_speech_timestamps, load_silero_vad

    torch.set_num_threads(n_threads)  # importing the package sets it to one for the whole process
    return load_silero_vad(), get_speech_timestamps
