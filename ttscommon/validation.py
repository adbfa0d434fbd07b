"""Clips and their texts one by one: what a training would suffer from, and what only looks odd."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ttscommon.clip_config import LONGEST_CLIP
from ttscommon.clip_measures import ClipSound, find_copies, measure_clip
from ttscommon.errors import UserError
from ttscommon.evaluation.wording import longest_loop, separate_words
from ttscommon.files import write_json
from ttscommon.metrics import word_error_rate
from ttscommon.spoken import unmarked

FORMAT, VERSION = "ttscommon.validation", 1
# Robust z of Iglewicz and Hoaglin (1993): 0.6745 (x - median) / median |x - median|, odd from 3.5;
# and never for less than a factor of 1.5, where all others are nearly equal.
ODD_Z, ODD_RATIO = 3.5, 1.5
ABOVE_NOISE = 6.0  # dB
FEW = 5  # clips too few to say what is usual


@dataclass(frozen=True, kw_only=True)
class Limits:
    """From where on something is worth a word."""

    min_seconds: float = 1.0
    max_seconds: float = LONGEST_CLIP
    quietest: float = -35.0  # LUFS
    clipped: float = 1e-3  # share of samples
    snr: float = 20.0  # dB
    edge_silence: float = 0.6  # seconds
    edge_level: float = -20.0  # dB against speech
    dull_rate: int = 16_000  # Hz; below it consonants are missing
    error_rate: float = 0.3  # of words
    loop: int = 4  # repeats of a word or phrase


@dataclass(frozen=True)
class Fault:
    """One thing about a clip; `is_wrong` if training on it does harm or can't be."""

    name: str
    what: str
    is_wrong: bool = False


@dataclass(frozen=True)
class ClipVerdict:
    """A clip and what was found about it.

    Attributes:
        pace: letters a second of the time from first to last speech
        heard: what a recogniser understood, if one was asked
    """

    name: str
    text: str
    sound: ClipSound
    pace: float | None = None
    heard: str | None = None
    error_rate: float | None = None
    faults: list[Fault] = field(default_factory=list)


@dataclass(frozen=True)
class Validation:
    """A data set and what was found about it.

    Attributes:
        orphans: texts without a clip
        sample_rates: {Hz: clips}
        notes: what to know about the checks themselves
    """

    clips: list[ClipVerdict]
    orphans: list[str]
    sample_rates: dict[int, int]
    notes: list[str] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        """{fault: clips that have it}, the most frequent first."""
        found = Counter(fault.name for clip in self.clips for fault in clip.faults)
        return dict(found.most_common())

    @property
    def faulty(self) -> list[ClipVerdict]:
        """Clips with faults, the worst first."""
        found = [clip for clip in self.clips if clip.faults]
        return sorted(found, key=lambda c: (-sum(f.is_wrong for f in c.faults), -len(c.faults)))

    @property
    def is_clean(self) -> bool:
        return not self.faulty and not self.orphans

    def write(self, path: Path) -> None:
        """As JSON."""
        clips = []
        for clip in self.clips:
            sound = {k: _rounded(v) for k, v in vars(clip.sound).items() if k != "envelope"}
            found = {
                "clip": clip.name,
                "text": clip.text,
                "letters_a_second": _rounded(clip.pace),
                "heard": clip.heard,
                "word_error_rate": _rounded(clip.error_rate),
                "faults": [asdict(fault) for fault in clip.faults],
            }
            clips.append(sound | found)
        seconds = sum(clip.sound.seconds for clip in self.clips)
        write_json(
            path,
            {
                "format": FORMAT,
                "version": VERSION,
                "n_clips": len(self.clips),
                "minutes": round(seconds / 60, 3),
                "n_faulty": len(self.faulty),
                "is_clean": self.is_clean,
                "faults": self.counts,
                "texts_without_a_clip": self.orphans,
                "notes": self.notes,
                "sample_rates": {str(rate): n for rate, n in self.sample_rates.items()},
                "clips": clips,
            },
        )


def validate(
    clips: Mapping[str, Path],
    texts: Mapping[str, str],
    *,
    limits: Limits | None = None,
    orphans: Sequence[str] = (),
    heard: Mapping[str, str] | None = None,
    unknown: Callable[[str], list[str]] | None = None,
    notes: Sequence[str] = (),
    on_clip: Callable[[], object] = lambda: None,
) -> Validation:
    """Measure every clip and compare it with its text and with the other clips.

    Args:
        orphans: texts for which there is no clip
        heard: what a recogniser understood
        unknown: the pieces of a text that a tokenizer doesn't know
        notes: what to know about the checks themselves
        on_clip: called after each clip that was measured

    Raises:
        UserError: if there are no clips
    """
    if not clips:
        raise UserError("no clips to validate")
    limits = limits or Limits()
    names, sounds = list(clips), []
    for name in names:
        sounds.append(measure_clip(clips[name]))
        on_clip()
    paces = [_pace(texts.get(n, ""), s) for n, s in zip(names, sounds, strict=True)]
    odd = _odd_paces(paces)
    copies = find_copies(sounds)
    verdicts = []
    for i, (name, sound) in enumerate(zip(names, sounds, strict=True)):
        text, understood = texts.get(name, ""), (heard or {}).get(name)
        rate = _error_rate(text, understood)
        faults = _sound_faults(sound, limits)
        faults += _text_faults(text, unknown, limits) if sound.trouble is None else []
        if i in copies:
            faults.append(Fault("copy", f"the same sound as {names[copies[i]]}"))
        if i in odd:
            faults.append(Fault("pace", f"{paces[i]:.1f} letters a second, usual are {odd[i]:.1f}"))
        if rate is not None and rate > limits.error_rate:
            faults.append(Fault("disagreement", f"a recogniser hears: {understood or 'nothing'}"))
        verdicts.append(ClipVerdict(name, text, sound, paces[i], understood, rate, faults))
    rates = Counter(sound.sample_rate for sound in sounds if sound.trouble is None)
    return Validation(verdicts, sorted(orphans), dict(rates.most_common()), list(notes))


def _sound_faults(sound: ClipSound, limits: Limits) -> list[Fault]:
    if sound.trouble is not None:
        return [Fault("unreadable", sound.trouble, is_wrong=True)]
    if sound.loudness is None or not sound.speech:
        return [Fault("no speech", "nobody speaks in it", is_wrong=True)]
    faults = []
    if sound.seconds < limits.min_seconds:
        faults.append(Fault("short", f"{sound.seconds:.2f} s"))
    if sound.seconds > limits.max_seconds:
        what = f"{sound.seconds:.1f} s, at most {limits.max_seconds:g} s are trained on"
        faults.append(Fault("long", what, is_wrong=True))
    if sound.loudness < limits.quietest:
        faults.append(Fault("quiet", f"{sound.loudness:.0f} LUFS"))
    if sound.clipped > limits.clipped:
        faults.append(Fault("clipped", f"{sound.clipped:.2%} of the samples are at the limit"))
    if sound.snr is not None and sound.snr < limits.snr:
        faults.append(Fault("noise", f"only {sound.snr:.0f} dB below the speech"))
    loudest_edge = limits.edge_level
    if sound.snr is not None:  # noise is no word
        loudest_edge = max(loudest_edge, ABOVE_NOISE - sound.snr)
    for side, seconds, level in (
        ("start", sound.lead, sound.start_db),
        ("end", sound.trail, sound.end_db),
    ):
        if seconds > limits.edge_silence:
            faults.append(Fault("silence at an end", f"{seconds:.1f} s at the {side}"))
        if level is not None and level > loudest_edge:
            what = f"{level:.0f} dB at the very {side}: a word may be cut"
            faults.append(Fault("speech at an end", what))
    if sound.sample_rate < limits.dull_rate:
        faults.append(Fault("dull", f"{sound.sample_rate:,} Hz"))
    return faults


def _text_faults(
    text: str, unknown: Callable[[str], list[str]] | None, limits: Limits
) -> list[Fault]:
    if not text.strip():
        return [Fault("no text", "nothing says what is spoken", is_wrong=True)]
    faults = []
    count, words = longest_loop(separate_words(text))
    if count >= limits.loop:
        what = f"'{' '.join(words)}' {count} times in a row"
        faults.append(Fault("loop", f"{what}; recognisers do so in silence"))
    strange = unknown(text) if unknown is not None else []
    if strange:
        what = f"the tokenizer doesn't know {' '.join(dict.fromkeys(strange))}"
        faults.append(Fault("unknown tokens", what, is_wrong=True))
    return faults


def _pace(text: str, sound: ClipSound) -> float | None:
    seconds = sound.seconds - sound.lead - sound.trail
    letters = sum(map(str.isalnum, unmarked(text)))
    return letters / seconds if letters and seconds >= 0.5 else None


def _odd_paces(paces: Sequence[float | None]) -> dict[int, float]:
    """{clip: the usual pace} for those far from it."""
    known = {i: math.log(pace) for i, pace in enumerate(paces) if pace}
    if len(known) < FEW:
        return {}
    middle = float(np.median(list(known.values())))
    spread = float(np.median([abs(value - middle) for value in known.values()]))
    found = {}
    for i, value in known.items():
        distance = abs(value - middle)
        if distance > math.log(ODD_RATIO) and 0.6745 * distance > ODD_Z * spread:
            found[i] = math.exp(middle)
    return found


def _error_rate(text: str, heard: str | None) -> float | None:
    plain = unmarked(text)
    if heard is None or not any(map(str.isalnum, plain)):
        return None
    return word_error_rate([plain], [heard])


def _rounded(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value
