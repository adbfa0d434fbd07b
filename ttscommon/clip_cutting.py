"""One recording, or a part of a long one, becomes clips on disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from ttscommon.audio import Audio, save
from ttscommon.clip_config import ClipConfig
from ttscommon.clipping import (
    SHORTEST_SPEECH,
    PartSound,
    Piece,
    cut_spans,
    read_part,
    silence_db,
    tidy,
)
from ttscommon.errors import UserError
from ttscommon.segment import LONGEST_PAUSE, REACH, Span, speech_spans

NO_SPEECH = "no speech in it"
N_PLACES = 20  # of lost speech that are listed for each part


@dataclass(frozen=True)
class PartResult:
    """What came of a part.

    Attributes:
        clips: {"id", "start", "duration"} of each, in seconds from the recording's start
        speech: seconds of it
        lost: {why: seconds of speech that are in no clip}
        lost_at: [start, end, why] of the first of them
        trouble: why nothing came of it
    """

    clips: list[dict[str, Any]] = field(default_factory=list)
    speech: float = 0.0
    lost: dict[str, float] = field(default_factory=dict)
    lost_at: list[list[Any]] = field(default_factory=list)
    trouble: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def cut_part(
    path: Path,
    seconds: float,
    part: tuple[int, int],
    config: ClipConfig,
    place: Callable[[float | None, float], Path],
) -> PartResult:
    """Write the clips of a part.

    A recording that fits into `max_seconds` stays whole.

    Args:
        part: its index, and how many there are
        place: (start, end) in seconds to the file of a clip; (None, end) for a whole recording
    """
    try:
        rate = min(config.sample_rate, soundfile.info(str(path)).samplerate)
        sound = read_part(path, seconds, *part, rate)
    except (UserError, soundfile.LibsndfileError) as error:
        return PartResult(trouble=error.what if isinstance(error, UserError) else str(error))
    speech = speech_spans(sound.audio, rate)
    spoken = sum(span.duration for span in speech)
    if spoken < SHORTEST_SPEECH:
        return PartResult(speech=spoken, trouble=None if part[1] > 1 else NO_SPEECH)
    trim = silence_db(sound.audio, rate, speech, config.trim_db)
    whole = _around(sound.audio, rate, speech, trim, config) if part[1] == 1 else None
    if whole is not None and len(whole.audio) <= config.max_seconds * rate:
        return _whole(whole, rate, spoken, config, place)
    return _pieces(sound, rate, speech, trim, config, place)


def _whole(
    whole: Piece,
    rate: int,
    spoken: float,
    config: ClipConfig,
    place: Callable[[float | None, float], Path],
) -> PartResult:
    duration = len(whole.audio) / rate
    if duration < config.min_seconds:
        why = f"shorter than {config.min_seconds:g} s"
        at = [round(whole.start, 2), round(whole.start + duration, 2), why]
        return PartResult(speech=spoken, lost={why: spoken}, lost_at=[at])
    clip = _write(whole, rate, place(None, 0.0))
    return PartResult(clips=[clip], speech=spoken)


def _pieces(
    sound: PartSound,
    rate: int,
    speech: Sequence[Span],
    trim: float,
    config: ClipConfig,
    place: Callable[[float | None, float], Path],
) -> PartResult:
    low, high = config.min_seconds, config.longest_cut
    kept, lost = cut_spans(sound, rate, speech, min_seconds=low, max_seconds=high)
    clips, trimmed = [], []
    for span in kept:
        audio = sound.audio[round(span.start * rate) : round(span.end * rate)]
        piece = _tidy(audio, rate, trim, config)
        if piece is None or len(piece.audio) < low * rate:
            trimmed += [s for s in speech if span.start <= s.start < span.end]
            continue
        start = sound.start + span.start
        where = place(start, sound.start + span.end)
        clips.append(_write(Piece(piece.audio, start + piece.start), rate, where))
    reasons = [(span, _why(span, speech, config)) for span in lost]
    reasons += [(span, f"shorter than {low:g} s without silence") for span in trimmed]
    reasons.sort(key=lambda reason: reason[0].start)
    seconds: dict[str, float] = {}
    for span, why in reasons:
        seconds[why] = seconds.get(why, 0.0) + span.duration
    places = [
        [round(sound.start + span.start, 2), round(sound.start + span.end, 2), why]
        for span, why in reasons[:N_PLACES]
    ]
    spoken = sum(span.duration for span in speech)
    return PartResult(clips, spoken, seconds, places)


def _why(span: Span, speech: Sequence[Span], config: ClipConfig) -> str:
    """Why a stretch of speech fits into no clip."""
    if span.duration > config.longest_cut:
        return f"more than {config.max_seconds:g} s without a silence"
    start, end = span.start, span.end
    for before in reversed([s for s in speech if s.end <= span.start]):
        if start - before.end > LONGEST_PAUSE:
            break
        start = before.start
    for after in (s for s in speech if s.start >= span.end):
        if after.start - end > LONGEST_PAUSE:
            break
        end = after.end
    if end - start < config.min_seconds:
        return f"shorter than {config.min_seconds:g} s between pauses of {LONGEST_PAUSE:g} s"
    return "no silence where the length of a clip asks for one"


def _around(
    audio: Audio, rate: int, speech: Sequence[Span], trim: float, config: ClipConfig
) -> Piece | None:
    """The recording from its first word to its last; other noises before and after are left out."""
    start = max(0, round((speech[0].start - REACH) * rate))
    end = round((speech[-1].end + REACH) * rate)
    piece = _tidy(audio[start:end], rate, trim, config)
    return None if piece is None else Piece(piece.audio, piece.start + start / rate)


def _tidy(audio: Audio, rate: int, trim: float, config: ClipConfig) -> Piece | None:
    look = {"loudness": config.loudness, "lead": config.pad, "tail": config.pad}
    return tidy(audio, rate, trim_db=trim, **look)


def _write(piece: Piece, rate: int, path: Path) -> dict[str, Any]:
    save(path, np.asarray(piece.audio, np.float32), rate)
    seconds = round(len(piece.audio) / rate, 3)
    return {"id": path.stem, "start": round(piece.start, 3), "duration": seconds}
