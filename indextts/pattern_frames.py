"""Where a recording rests, in the frames that IndexTTS2's codes stand for.

A pause is a gap between stretches of speech that a voice detector confirms, with its edges where
the sound falls quiet. The detector alone is up to 0.3 s late on a word; quiet alone is also the
closure of a plosive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ttscommon.evaluation.pauses import SHORTEST_PAUSE
from ttscommon.segment import VAD_RATE, Span, speech_spans

# w2v-bert's frames: two windows of 25 ms, 10 ms apart, so 35 ms of sound every 20 ms.
HOP, WINDOW = 320, 560  # samples at 16 kHz
FRAME: float = HOP / VAD_RATE  # seconds
MARGIN: float = (WINDOW - HOP) / 2 / VAD_RATE  # seconds of a window that its neighbours have, too
# A frame is quiet if it is nearer, in decibels, to the recording's noise than to its speech, as in
# `ttscommon.segment`: noise is at least 50 dB below the speech, and 8 dB below is never quiet.
NOISE_QUANTILE, NOISE_DEPTH, QUIET_AT_MOST = 0.05, 10 ** (-50 / 20), 10 ** (-8 / 20)
SHORTEST_QUIET = 3  # frames; 60 ms, as long as the closure of a plosive

Frames = tuple[int, int]  # first, and last + 1
SILENT, SPOKEN, UNSURE = 1, 0, -1


@dataclass(frozen=True)
class Rests:
    """When a recording speaks and when it rests.

    Attributes:
        n_frames: codes of the recording
        pauses: between the first and the last word
        lead, trail: before and after, possibly empty
        kinds: (T,) SILENT, SPOKEN, or UNSURE where sound and voice detector disagree
    """

    n_frames: int
    pauses: list[Frames]
    lead: Frames
    trail: Frames
    kinds: NDArray[np.int8]


def count_frames(n_samples: int) -> int:
    """How many codes so many samples at 16 kHz have."""
    return max(0, (n_samples - WINDOW) // HOP + 1)


def frame_levels(audio: NDArray[np.float32], n_frames: int) -> NDArray[np.float64]:
    """(T,) root mean square of what each frame covers, of `audio` (S,) at 16 kHz."""
    padded = np.pad(audio, (0, max(0, (n_frames - 1) * HOP + WINDOW - len(audio))))
    windows = sliding_window_view(np.asarray(padded, np.float64), WINDOW)[::HOP][:n_frames]
    return np.sqrt(np.square(windows).mean(axis=1))


def find_rests(
    audio: NDArray[np.float32], *, n_frames: int | None = None, shortest: float = SHORTEST_PAUSE
) -> Rests:
    """Pauses of at least `shortest` seconds in `audio` (S,) at 16 kHz.

    Args:
        n_frames: codes of the recording, where they are known; their number may differ a little
            from what the length says
    """
    n = count_frames(len(audio)) if n_frames is None else n_frames
    speech = speech_spans(audio, VAD_RATE)
    if not speech or not n:
        return Rests(n, [], (0, n), (n, n), np.full(n, SILENT, np.int8))
    levels = frame_levels(audio, n)
    is_quiet = levels <= _quiet_level(levels, speech)
    quiet = [run for run in runs(is_quiet) if run[1] - run[0] >= SHORTEST_QUIET]
    edges = [0, *(to_frame(edge) for span in speech for edge in (span.start, span.end)), n]
    gaps = [(min(a, n), min(b, n)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    touched = [[run for run in quiet if run[0] < end and run[1] > first] for first, end in gaps]
    kinds = np.where(is_quiet, UNSURE, SPOKEN).astype(np.int8)
    for first, end in gaps:  # what sounds there may be breath, or a word that was found late
        kinds[first:end] = UNSURE
    for first, end in (run for found in touched for run in found):
        kinds[first:end] = SILENT
    # From the first quiet stretch of a gap to its last: breath between them belongs to the rest.
    rests = [(found[0][0], found[-1][1]) if found else None for found in touched]
    least = shortest / FRAME - 0.5
    head, tail = rests[0], rests[-1]
    return Rests(
        n_frames=n,
        pauses=[rest for rest in rests[1:-1] if rest and rest[1] - rest[0] >= least],
        lead=(0, head[1]) if head and head[0] == 0 else (0, 0),
        trail=(tail[0], n) if tail and tail[1] == n else (n, n),
        kinds=kinds,
    )


def to_frame(seconds: float) -> int:
    """How many frames are over at that moment."""
    return max(0, round((seconds - MARGIN) / FRAME))


def to_frames(span: Span, n_frames: int) -> Frames:
    """The frames of a span, at least one where it lies inside the recording."""
    first = min(to_frame(span.start), max(n_frames - 1, 0))
    return first, min(max(first + 1, to_frame(span.end)), n_frames)


def to_seconds(frames: Frames) -> Span:
    """The sound that these frames are nearest to."""
    return Span(frames[0] * FRAME + MARGIN, frames[1] * FRAME + MARGIN)


def runs(flags: NDArray[np.bool_]) -> list[Frames]:
    """Stretches of True."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], flags.astype(np.int8), [0]))))
    return [(int(first), int(last)) for first, last in zip(edges[::2], edges[1::2], strict=True)]


def _quiet_level(levels: NDArray[np.float64], speech: Sequence[Span]) -> float:
    n = len(levels)
    inside = [levels[slice(*to_frames(span, n))] for span in speech]
    loud = float(np.median(np.concatenate(inside)))
    noise = max(float(np.quantile(levels, NOISE_QUANTILE)), loud * NOISE_DEPTH)
    return min(np.sqrt(loud * noise), loud * QUIET_AT_MOST)
