"""Phrases as synthetic voices say them, and recordings that are put together from them.

Every voice says every phrase in several takes at several paces. A recording is phrases with
silences between them, so all its pauses and fillers are known to the sample.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from examples.embedded_voice.voices import SAMPLE_RATE, Voice, named
from examples.pattern_experiment.speech_texts import FILLERS, PHRASES, Piece
from ttscommon import audio
from ttscommon.files import atomic
from ttscommon.seeds import seed_for
from ttscommon.segment import Span

log = logging.getLogger(__name__)

RATE = 16_000
VOICES = ("heart", "heart_low", "heart_high", "heart_deep", "joe", "slt", "rms")
PACES = (1.0, 1.1, 1.2)  # one a take
TRIM = -36.0  # decibels against the loudest, where a phrase begins and ends
LOUDNESS = 0.08  # root mean square of a phrase
LEAD, TRAIL = 0.12, 0.2  # seconds of silence
JOIN = 0.02  # seconds between phrases without a pause
AFTER_FILLER = 0.06
NOISE = 3e-4
SpeakAll = Callable[[Voice, Sequence[str], int], Sequence[NDArray[np.float32]]]
Takes = Mapping[str, Sequence[NDArray[np.float32]]]  # {phrase: its takes (S,)}


@dataclass(frozen=True)
class Recording:
    """A recording with what is known of it.

    Attributes:
        audio: (S,) at RATE
        pauses, fillers: in it
    """

    audio: NDArray[np.float32]
    pauses: tuple[Span, ...]
    fillers: tuple[Span, ...]


def record_voice(path: Path, name: str, speak_all: SpeakAll, seed: int) -> None:
    """Let a voice say all phrases, if that wasn't done before."""
    if path.is_file():
        return
    said, found = [*PHRASES, *FILLERS], {}
    for take, pace in enumerate(PACES):
        own = dataclasses.replace(named([name])[0], pace=pace)
        sounds = speak_all(own, said, seed_for(seed, name, take) % 2**31)
        for number, sound in enumerate(sounds):
            found[f"{number}_{take}"] = np.round(32767 * _clean(sound)).astype(np.int16)
    with atomic(path) as draft, draft.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **found)
    log.info("%s: %.1f s of phrases", name, sum(map(len, found.values())) / RATE)


@functools.cache
def read_voice(path: Path) -> Takes:
    """What `record_voice` wrote."""
    with np.load(path, allow_pickle=False) as kept:
        sounds = {key: kept[key].astype(np.float32) / 32767 for key in kept.files}
    return {
        phrase: [sounds[f"{number}_{take}"] for take in range(len(PACES))]
        for number, phrase in enumerate([*PHRASES, *FILLERS])
    }


def recorded(pieces: Sequence[Piece], takes: Takes, chance: np.random.Generator) -> Recording:
    """The pieces in one voice, at one pace but for the odd phrase."""
    own = int(chance.integers(len(PACES)))
    parts, pauses, fillers, now = [_silence(LEAD)], [], [], _count(LEAD)

    def add(sound: NDArray[np.float32]) -> Span:
        nonlocal now
        start, now = now, now + len(sound)
        parts.append(sound)
        return Span(start / RATE, now / RATE)

    for number, piece in enumerate(pieces):
        if piece.rest:
            pauses.append(add(_silence(piece.rest)))
        elif number:
            add(_silence(JOIN))
        take = own if chance.random() < 0.7 else int(chance.integers(len(PACES)))
        if piece.filler:
            fillers.append(add(takes[piece.filler][take]))
            add(_silence(AFTER_FILLER))
        add(takes[piece.phrase][take])
    add(_silence(TRAIL))
    sound = np.concatenate(parts)
    sound = sound + NOISE * chance.standard_normal(len(sound))
    return Recording(sound.astype(np.float32), tuple(pauses), tuple(fillers))


def _clean(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    import soxr

    sound = soxr.resample(np.asarray(sound, np.float32), SAMPLE_RATE, RATE)
    sound = audio.trim_silence(sound, RATE, TRIM)
    sound = sound * LOUDNESS / max(float(np.sqrt(np.square(sound).mean())), 1e-5)
    edge = np.minimum(1, np.arange(len(sound)) / (0.005 * RATE))
    return np.clip(sound * edge * edge[::-1], -1, 1).astype(np.float32)


def _silence(seconds: float) -> NDArray[np.float32]:
    return np.zeros(_count(seconds), np.float32)


def _count(seconds: float) -> int:
    return round(seconds * RATE)
