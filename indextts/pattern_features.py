"""How a clip is spoken, as spans of its codes: pauses, fillers, stutters, drawn-out words, pace.

`<id>_pattern.json` holds it for the trainer. Spans are [first, last + 1] in codes, 50 a second.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indextts.pattern_frames import (
    FRAME,
    SILENT,
    SPOKEN,
    UNSURE,
    Frames,
    Rests,
    runs,
    to_frames,
    to_seconds,
)
from indextts.pattern_words import find_fillers, find_stutters, speech_rate
from ttscommon.errors import UserError
from ttscommon.evaluation.paces import Paces
from ttscommon.evaluation.wording import count_syllables, is_filler, plain_words
from ttscommon.files import read_json, write_json
from ttscommon.segment import Span
from ttscommon.transcribe import Word

FORMAT, VERSION = "indextts.pattern_features", 1
SPANS = ("pauses", "fillers", "stutters", "prolongations")
MADE_BY = "python tools/prepare_pattern_dataset_v3.py"


@dataclass(frozen=True, kw_only=True)
class PatternFeatures:
    """One clip.

    Attributes:
        key: of what the sound was and how it was looked at
        frames: number of codes, T
        pauses: silences between the first and the last word; lead, trail: before and after
        silent, spoken: frames that surely are; silence codes are learned from them
        fillers: hesitation sounds, of which filler_words are the words
        prolongations: words that the speaker draws out
        rate: syllables a second, see `indextts.pattern_words.speech_rate`; empty without words
        n_words, n_syllables: without fillers; 0 where nothing is known
    """

    key: str
    frames: int
    pauses: list[Frames]
    lead: Frames
    trail: Frames
    silent: list[Frames]
    spoken: list[Frames]
    fillers: list[Frames] = field(default_factory=list)
    filler_words: list[str] = field(default_factory=list)
    stutters: list[Frames] = field(default_factory=list)
    prolongations: list[Frames] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)
    n_words: int = 0
    n_syllables: int = 0

    @property
    def kinds(self) -> NDArray[np.int8]:
        """(T,) as in `indextts.pattern_frames.Rests`."""
        kinds = np.full(self.frames, UNSURE, np.int8)
        for spans, kind in ((self.silent, SILENT), (self.spoken, SPOKEN)):
            for first, last in spans:
                kinds[first:last] = kind
        return kinds

    @property
    def seconds(self) -> float:
        """From the first word to the last."""
        return max(0, self.trail[0] - self.lead[1]) * FRAME

    @property
    def pause_seconds(self) -> list[float]:
        """How long each pause is."""
        return [(last - first) * FRAME for first, last in self.pauses]

    def write(self, path: Path) -> None:
        write_json(path, {"format": FORMAT, "version": VERSION, **asdict(self)})

    @classmethod
    def read(cls, path: Path) -> PatternFeatures:
        """What `write` wrote.

        Raises:
            UserError: if it is missing, broken or of another version
        """
        data = read_json(path, format=FORMAT)
        try:
            if data.pop("version") != VERSION:
                raise UserError("pattern features of another version", where=path, fix=MADE_BY)
            del data["format"]
            for name in (*SPANS, "silent", "spoken"):
                data[name] = [_pair(span) for span in data[name]]
            return cls(**{**data, "lead": _pair(data["lead"]), "trail": _pair(data["trail"])})
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"no pattern features: {error!r}", where=path, fix=MADE_BY) from error


def features_of_rests(rests: Rests, key: str) -> PatternFeatures:
    """What is known of a clip from its sound alone."""
    return PatternFeatures(
        key=key,
        frames=rests.n_frames,
        pauses=rests.pauses,
        lead=rests.lead,
        trail=rests.trail,
        silent=runs(rests.kinds == SILENT),
        spoken=runs(rests.kinds == SPOKEN),
    )


def with_words(
    features: PatternFeatures,
    words: Sequence[Word],
    text: str,
    paces: Paces,
    language: str,
) -> PatternFeatures:
    """The same clip with what its words tell.

    Args:
        text: what is said, word for word
        paces: of the speaker
    """
    n = features.frames
    fillers = find_fillers(words, text, language)
    own = [word for word in words if plain_words(word.word)]
    own = [w for w in own if not is_filler(plain_words(w.word).replace(" ", ""), language)]
    drawn_out = [Span(word.start, word.end) for word in own if paces.is_drawn_out(word, language)]
    known = {
        "fillers": [to_frames(span, n) for _, span in fillers],
        "filler_words": [name for name, _ in fillers],
        "stutters": [to_frames(span, n) for span in find_stutters(words, language)],
        "prolongations": [to_frames(span, n) for span in drawn_out],
        "rate": speech_rate(words, _speech(features), n * FRAME, language),
        "n_words": len(own),
        "n_syllables": sum(count_syllables(word.word, language) for word in own),
    }
    return PatternFeatures(**{**features.__dict__, **known})


def rates(clips: Sequence[PatternFeatures]) -> dict[str, float]:
    """How the speaker speaks in all clips together; what nothing is known of is left out.

    Returns:
        pauses_per_minute, fillers_per_minute, stutters_per_minute, prolongations_per_minute: of
        speech with its pauses; pauses_per_100_words and so on; pause_seconds: the median;
        pause_log_mean, pause_log_std: of the natural logarithm of the durations; pause_share: of
        the time; syllables_per_second: while speaking
    """
    seconds = sum(clip.seconds for clip in clips)
    n_words = sum(clip.n_words for clip in clips)
    pauses = [length for clip in clips for length in clip.pause_seconds]
    counts = {"pauses": len(pauses)}
    if n_words:
        counts |= {name: sum(len(getattr(clip, name)) for clip in clips) for name in SPANS[1:]}
    found: dict[str, float] = {"seconds": seconds, "words": float(n_words)}
    for name, count in counts.items():
        if seconds > 0:
            found[f"{name}_per_minute"] = 60 * count / seconds
        if n_words:
            found[f"{name}_per_100_words"] = 100 * count / n_words
    if pauses:
        logs = np.log(pauses)
        found |= {"pause_seconds": float(np.median(pauses)), "pause_log_mean": float(logs.mean())}
        found["pause_log_std"] = float(logs.std())
    if seconds > 0:
        found["pause_share"] = sum(pauses) / seconds
        spoken = seconds - sum(pauses)
        syllables = sum(clip.n_syllables for clip in clips)
        if syllables and spoken > 0:
            found["syllables_per_second"] = syllables / spoken
    return {name: round(value, 4) for name, value in found.items() if math.isfinite(value)}


def read_words(words: Mapping[str, Any], name: str) -> list[Word]:
    """The words of one clip in words.json; none if it isn't there.

    Raises:
        UserError: if its entry is broken
    """
    entry = words.get(name)
    if entry is None:
        return []
    try:
        found = [Word(str(w["word"]), float(w["start"]), float(w["end"])) for w in entry["words"]]
    except (KeyError, TypeError, ValueError) as error:
        fix = "python tools/transcribe_dataset.py again, with --overwrite"
        raise UserError(f"broken words of {name}", where="words.json", fix=fix) from error
    return [word for word in found if word.end > word.start >= 0]


def _speech(features: PatternFeatures) -> list[Span]:
    """The stretches between the pauses, as seconds."""
    edges = [features.lead[1], *(e for pause in features.pauses for e in pause), features.trail[0]]
    pairs = zip(edges[::2], edges[1::2], strict=True)
    return [to_seconds((first, last)) for first, last in pairs if last > first]


def _pair(span: Sequence[int]) -> Frames:
    first, last = span
    return int(first), int(last)
