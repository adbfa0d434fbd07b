"""What is plainly wrong with an utterance: silent, clipped, looping, far too long, cut short."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ttscommon.evaluation.wording import longest_loop, normal_words, separate_words
from ttscommon.segment import Span, speech_spans

SILENT_DB = -60.0  # root mean square of the whole, of full scale
FULL_SCALE, FLAT_RUN = 0.999, 3  # a clipped peak is at least three samples at the limit
CLIPPED_SHARE = 1e-4  # of samples; one flat peak in a second is heard by nobody
STUCK_SECONDS = 0.5  # of one and the same value other than digital silence
SHORTEST, LONGEST = 0.7, 1.4  # times the expected duration, after which an ending is wrong
EXTRA_REPEATS = 3  # more copies in a row than the text has; a stutter has up to two


@dataclass(frozen=True)
class Verdict:
    """One fault.

    Attributes:
        name: silent, no_speech, clipped, stuck, repeats, too_long or too_short
        reason: what was measured, to be read by a person
    """

    name: str
    reason: str


def judge(
    audio: NDArray[np.float32],
    sample_rate: int,
    *,
    speech: Sequence[Span] | None = None,
    text: str | None = None,
    heard: str | None = None,
    expected_seconds: float | None = None,
    language: str = "en",
) -> list[Verdict]:
    """The faults of `audio` (S,); an empty list for speech with none.

    Args:
        speech: where speech is, if that is known already
        text, heard: what should be said and what a recogniser understood; both together show loops
        expected_seconds: from first to last word, such as a recording of the same text takes
    """
    if not len(audio) or not np.any(audio):
        return [Verdict("silent", "digital silence throughout")]
    level = 10 * np.log10(np.square(audio, dtype=np.float64).mean())
    if level < SILENT_DB:
        return [Verdict("silent", f"{level:.0f} dB of full scale")]
    verdicts = _faults_of_samples(audio, sample_rate)
    speech = speech_spans(audio, sample_rate) if speech is None else speech
    if not speech:
        return [*verdicts, Verdict("no_speech", "the voice detector finds none")]
    if expected_seconds:
        verdicts += _faults_of_length(speech[-1].end - speech[0].start, expected_seconds)
    if text is not None and heard is not None:
        verdicts += _faults_of_words(text, heard, language)
    return verdicts


def run_lengths(flags: NDArray[np.bool_]) -> list[int]:
    """How long each stretch of True is."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], flags.astype(np.int8), [0]))))
    return (edges[1::2] - edges[::2]).tolist()


def clipped_share(audio: NDArray[np.floating]) -> float:
    """The share of samples (S,) in flat peaks at full scale; one that only reaches it is none."""
    limit = np.abs(audio) >= FULL_SCALE
    return sum(n for n in run_lengths(limit) if n >= FLAT_RUN) / max(1, len(audio))


def _faults_of_samples(audio: NDArray[np.float32], sample_rate: int) -> list[Verdict]:
    found = []
    share = clipped_share(audio)
    if share > CLIPPED_SHARE:
        found.append(Verdict("clipped", f"{100 * share:.2f} % of samples stand at full scale"))
    same = (np.diff(audio) == 0) & (audio[1:] != 0)
    stuck = max(run_lengths(same), default=0) / sample_rate
    if stuck >= STUCK_SECONDS:
        found.append(Verdict("stuck", f"one value for {stuck:.1f} s"))
    return found


def _faults_of_length(seconds: float, expected: float) -> list[Verdict]:
    ratio = seconds / expected
    if SHORTEST <= ratio <= LONGEST:
        return []
    name = "too_long" if ratio > LONGEST else "too_short"
    return [Verdict(name, f"{seconds:.1f} s, {ratio:.1f} times the expected {expected:.1f} s")]


def _faults_of_words(text: str, heard: str, language: str) -> list[Verdict]:
    # Not the normal words: what is spelt is one of them, and so "A B A B A B" would be no loop.
    words = separate_words(text)
    count, gram = longest_loop(separate_words(heard))
    wanted = longest_loop(words)[0]
    if all(len(word) == 1 for word in gram):  # "10000" may be heard as "1 0 0 0 0"
        wanted = max(wanted, longest_loop(list("".join(words)))[0])
    if count < wanted + EXTRA_REPEATS:
        return []
    if normal_words(text, language) == normal_words(heard, language):
        return []
    return [Verdict("repeats", f"'{' '.join(gram)}' {count} times in a row")]
