"""Speaking in a person's manner, by the one path that all voices are spoken by."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soxr

from indextts.pattern_embeddings import (
    PatternEmbedding,
    pattern_effect,
    require_fit,
    require_scale,
)
from indextts.pattern_features import PatternFeatures, features_of_rests, rates, with_words
from indextts.pattern_frames import find_rests
from indextts.speech import Piece, Speech
from indextts.tuned import patterns
from ttscommon.errors import UserError
from ttscommon.evaluation.paces import Paces
from ttscommon.segment import VAD_RATE
from ttscommon.transcribe import WordTranscriber, sentence
from ttscommon.workspace import Speaker, speaker_flags

if TYPE_CHECKING:
    from indextts.infer_v2 import IndexTTS2

# What is told of a manner of speaking: the name among `rates`, in words, with how many digits.
TOLD = {
    "pauses_per_minute": ("pauses a minute", 1),
    "pause_seconds": ("seconds of a pause", 2),
    "fillers_per_minute": ("fillers a minute", 1),
    "stutters_per_minute": ("stutters a minute", 1),
    "syllables_per_second": ("syllables a second", 1),
}


def trained_pattern(speaker: Speaker) -> Path:
    """The file of a speaker's pattern: of the best checkpoint, or else of the last.

    Raises:
        UserError: if none was trained
    """
    found = next((path for path in patterns(speaker) if path.is_file()), None)
    if found is None:
        command = ["python tools/train_pattern_embeddings.py", *speaker_flags([speaker])]
        what = f"'{speaker.name}' has no pattern embedding"
        raise UserError(what, where=speaker.pattern_training.folder, fix=" ".join(command))
    return found


@contextmanager
def speaking_with(
    tts: IndexTTS2,
    pattern: PatternEmbedding,
    *,
    scale: float = 1.0,
    injection_mode: str | None = None,
    is_shuffled: bool = False,
) -> Iterator[None]:
    """Let whatever `tts` says in the block be said in this manner.

    Args:
        scale: 1 as it was trained, 0 as without it
        injection_mode: refuse a pattern of another one
        is_shuffled: with its numbers in another order, whatever the scale: what any disturbance of
            that strength does

    Raises:
        UserError: if the pattern belongs to another base or mode, or the scale is no number
    """
    pattern.require_mode(injection_mode)
    synthesizer = tts.synthesizer
    before = synthesizer.manner
    speak_in_manner(tts, pattern, scale=scale)
    if is_shuffled:
        synthesizer.manner = pattern.shuffled
    try:
        yield
    finally:
        synthesizer.manner = before


def speak_in_manner(tts: IndexTTS2, pattern: PatternEmbedding, *, scale: float = 1.0) -> None:
    """Let `tts` speak in this manner from now on.

    Args:
        scale: 1 as it was trained, 0 as without it

    Raises:
        UserError: if the pattern belongs to another base, or the scale is no number
    """
    require_scale(scale)
    require_fit(pattern, tts.language_model.gpt)
    pattern = pattern.to(tts.device)
    tts.synthesizer.manner = functools.partial(pattern.get_injection_embedding, scale=scale)


def require_effect(tts: IndexTTS2, pattern: PatternEmbedding, scale: float) -> float:
    """How far the pattern moves the logits of a first code at most.

    Raises:
        UserError: if it moves none, though it should
    """
    gpt = tts.language_model.gpt
    effect = pattern_effect(gpt, pattern.to(tts.device), scale=scale)
    if effect == 0 and scale != 0:
        raise UserError(
            "the pattern changes nothing: with and without it the model says the same",
            fix="train it, or take another checkpoint",
        )
    return effect


def produced_rates(
    speeches: Sequence[Speech],
    *,
    transcriber: WordTranscriber | None = None,
    language: str = "en",
) -> dict[str, float]:
    """How it was spoken, named as in `indextts.pattern_features.rates`.

    Segments are looked at one by one, as the silence between them is put there and not spoken.

    Args:
        transcriber: hears words; without it nothing is known of fillers, stutters and pace
    """
    pieces = [(p, speech.sample_rate) for speech in speeches for p in speech.segments]
    found = [_features(piece, rate, transcriber, language) for piece, rate in pieces]
    return rates(found)


def told_rates(wanted: Mapping[str, float], found: Mapping[str, float]) -> list[str]:
    """A line for each thing that is known of the speaker and of what was spoken."""
    lines = [f"{'':20} {'speaker':>8} {'spoken':>8}"]
    for name, (words, digits) in TOLD.items():
        numbers = [_shown(rates.get(name), digits) for rates in (wanted, found)]
        if any(number != "-" for number in numbers):
            lines.append(f"{words:20} {numbers[0]:>8} {numbers[1]:>8}")
    return lines


def _features(
    piece: Piece, rate: int, transcriber: WordTranscriber | None, language: str
) -> PatternFeatures:
    sound = (piece.samples / 32768).astype(np.float32)
    features = features_of_rests(find_rests(soxr.resample(sound, rate, VAD_RATE)), key="spoken")
    if transcriber is None:
        return features
    words = transcriber.words(sound, rate, language)
    return with_words(features, words, sentence(words), Paces({}), language)


def _shown(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
