"""What is asked for, checked as far as that needs no weights: before minutes of loading them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from indextts.checkpoint import FETCH, CheckpointFolder
from indextts.config import DecodingConfig, SpeechConfig, speech_settings
from indextts.emotion import Mood, emotion_vector
from indextts.frontend.fbank import SAMPLE_RATE
from indextts.frontend.text import Pause, split_pauses
from indextts.gpt.decoding import require_room
from indextts.references import load_reference
from ttscommon.errors import UserError


@dataclasses.dataclass(frozen=True)
class Wishes:
    """How to speak, by what was asked for."""

    speech: SpeechConfig
    decoding: DecodingConfig
    mood: Mood


def checked(
    text: str,
    settings: dict[str, Any],
    *,
    arguments: Sequence[str] = (),
    emo_alpha: float = 1.0,
    emo_vector: Sequence[float] | None = None,
    use_random: bool = False,
    seed: int | None = None,
    more_segment_before: int = 0,
) -> Wishes:
    """Arguments of `IndexTTS2.request`, if they make sense.

    Args:
        settings: fields of `SpeechConfig` and `DecodingConfig`
        arguments: further names that exist, for guessing at misspelt ones

    Raises:
        UserError: for a wrong type or value, an unknown setting, or a text that says nothing
    """
    speech, decoding = speech_settings(settings, arguments)
    require_text(text)
    if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool)):
        raise UserError(f"seed must be a whole number, got {seed!r}", fix="seed=1")
    if not isinstance(more_segment_before, int) or more_segment_before < 0:
        raise UserError(
            f"more_segment_before must be a whole number from 0 on, got {more_segment_before!r}"
        )
    vector = None if emo_vector is None else emotion_vector(emo_vector)
    return Wishes(speech, decoding, Mood(alpha=emo_alpha, vector=vector, is_random=use_random))


def require_text(text: str) -> None:
    """Refuse what can't be spoken whatever the tokenizer knows.

    Raises:
        UserError: for anything but text, for a bad pause, or if there are only pauses and spaces
    """
    if not isinstance(text, str):
        raise UserError(f"the text is a {type(text).__name__}", fix="give a str")
    if all(isinstance(part, Pause) for part in split_pauses(text)):
        raise UserError("there is no text to speak")


def require_loadable(
    folder: CheckpointFolder,
    wishes: Wishes,
    *,
    recordings: Sequence[Path],
    reads_moods: bool = False,
) -> None:
    """Refuse what this checkpoint can't do, and recordings that can't be read.

    Args:
        reads_moods: moods shall be read from text

    Raises:
        UserError: naming the file or the setting
    """
    require_room(folder.config.gpt, wishes.decoding)
    if reads_moods and folder.qwen_emotion is None:
        raise no_mood_model(folder)
    for path in recordings:
        load_reference(path, SAMPLE_RATE)


def no_mood_model(folder: CheckpointFolder) -> UserError:
    """What to say where no mood can be read from text."""
    return UserError("no model to read moods from text", where=folder.root, fix=FETCH)
