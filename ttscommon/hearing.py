"""A recogniser and a voice detector listen to clips; nothing is listened to twice.

What was heard is kept clip by clip, under a hash of the sound and of all that influences it, so
that a run that was killed at any moment goes on.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ttscommon.audio import Audio, duration, load
from ttscommon.errors import UserError
from ttscommon.ledger import Ledger, content_key
from ttscommon.segment import VAD_RATE, speech_spans
from ttscommon.sound_progress import SoundProgress
from ttscommon.spoken import Heard, hesitant_beginning
from ttscommon.transcribe import WordTranscriber

log = logging.getLogger(__name__)

RULES = 1  # raised when the same clip would be heard otherwise
N_LISTENED = 5  # clips by which the language is recognised
OF = "of"  # sounds that a result was heard in


@dataclass(frozen=True)
class Ear:
    """A recogniser that is loaded only if there is something to listen to.

    Attributes:
        name: stands for it among the results that are kept
    """

    name: str
    load: Callable[[], WordTranscriber]

    def key(self, *inputs: str) -> str:
        return hashlib.sha256(repr((RULES, self.name, *inputs)).encode()).hexdigest()[:24]


@dataclass(frozen=True)
class Hearing:
    """What was heard in each clip, and why in some nothing."""

    heard: dict[str, Heard]
    language: str
    left_out: list[tuple[str, str]]


def listen(
    clips: Mapping[str, Path],
    ear: Ear,
    language: str | None,
    kept: Path,
    *,
    known: Collection[str] = (),
    prunes: bool = False,
) -> Hearing:
    """Hear every clip.

    Args:
        clips: {name: file}
        language: recognised by all clips, if it is None
        kept: file of results, read first and appended to
        known: names of clips that needn't be heard
        prunes: in the end forget what was heard in clips that are no more

    Raises:
        UserError: if the recogniser can't be had or doesn't know the language
    """
    ledger = Ledger(kept)
    lengths, left_out = _lengths(clips)
    sounds = {name: content_key(clips[name]) for name in lengths}
    language = language or _language(clips, lengths, sounds, ear, ledger)
    prompt = hesitant_beginning(language)
    wanted = {name: sound for name, sound in sounds.items() if name not in known}
    keys = {name: ear.key(sound, language, prompt) for name, sound in wanted.items()}
    fresh = [name for name, key in keys.items() if key not in ledger]
    if len(fresh) < len(lengths):
        log.info("%d of %d clips were transcribed before", len(lengths) - len(fresh), len(lengths))
    progress = SoundProgress("transcribed", sum(lengths[name] for name in fresh))
    try:
        for name in fresh:
            progress_by = lengths[name]
            try:
                audio = load(clips[name], VAD_RATE)
            except UserError as error:
                left_out.append((name, error.what))
            else:
                heard = _hear(audio, ear, language, prompt).to_dict()
                ledger.append(keys[name], {**heard, OF: [sounds[name]]})
            progress.advance(progress_by)
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt("stopped; the same command goes on from here") from stop
    finally:
        progress.close()
    if prunes:
        _prune(ledger, set(keys.values()), set(sounds.values()))
    heard = {name: Heard.from_dict(ledger[key]) for name, key in keys.items() if key in ledger}
    left_out += [(name, "no speech in it") for name, found in heard.items() if not found.speech]
    return Hearing({n: h for n, h in heard.items() if h.speech}, language, left_out)


def _prune(ledger: Ledger, used: Collection[str], sounds: Collection[str]) -> None:
    """Keep what was used, and what others heard in the same clips."""

    def is_wanted(key: str, value: Any) -> bool:
        of = value.get(OF) if isinstance(value, dict) else None
        return key in used or (of is not None and set(of) <= set(sounds))

    ledger.replace({key: value for key, value in ledger.items() if is_wanted(key, value)})


def _hear(audio: Audio, ear: Ear, language: str, prompt: str) -> Heard:
    spans = speech_spans(audio, VAD_RATE)
    # A recogniser makes up words for silence.
    words = ear.load().words(audio, VAD_RATE, language, prompt) if spans else []
    speech = [(round(span.start, 4), round(span.end, 4)) for span in spans]
    return Heard(words, speech, round(len(audio) / VAD_RATE, 3))


def _lengths(clips: Mapping[str, Path]) -> tuple[dict[str, float], list[tuple[str, str]]]:
    lengths, unreadable = {}, []
    for name, path in clips.items():
        try:
            lengths[name] = duration(path)
        except UserError as error:
            unreadable.append((name, error.what))
    return lengths, unreadable


def _language(
    clips: Mapping[str, Path],
    lengths: Mapping[str, float],
    sounds: Mapping[str, str],
    ear: Ear,
    ledger: Ledger,
) -> str:
    """What is spoken in most of the longest clips that can be read."""
    by_length = sorted(lengths, key=lambda name: (-lengths[name], name))
    listened = [sounds[name] for name in by_length[:N_LISTENED]]
    key = ear.key("spoken", *listened)
    if key not in ledger:
        votes: Counter[str] = Counter()
        for name in by_length:
            if votes.total() == N_LISTENED:
                break
            with contextlib.suppress(UserError):  # told when the whole clip is read
                audio = load(clips[name], VAD_RATE, end=30.0)
                votes[ear.load().spoken_language(audio, VAD_RATE)] += 1
        language = votes.most_common(1)[0][0] if votes else "en"
        ledger.append(key, {"language": language, OF: listened})
    return str(ledger[key]["language"])
