"""What was spoken, measured as sound: words by Whisper, rests by a voice detector.

Whisper reads windows of 30 s, so several sentences are put in one. It hears each twice: as they
are, for words, and told of hesitations before, for fillers; untold it leaves them out, told it
misses words. Quality and likeness of voices aren't measured, everybody
speaks through the same small network; `tools/evaluate_patterns.py` does, on the same folders.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from examples.pattern_experiment.speech_base import fluent_errors
from ttscommon.audio import load
from ttscommon.evaluation.comparison import Context
from ttscommon.evaluation.conditions import find_utterances
from ttscommon.evaluation.measuring import Measured
from ttscommon.evaluation.pattern_protocol import MEAN, PatternResult, judge_patterns
from ttscommon.files import read_json, write_json
from ttscommon.segment import speech_spans
from ttscommon.spoken import hesitant_beginning
from ttscommon.transcribe import Word, WordTranscriber, sentence

RATE = 16_000
LANGUAGE = "en"
WINDOW = 28.0  # seconds that are heard at once
BETWEEN = 1.5  # seconds of silence between two sentences
FORMAT = "pattern_speech.heard"
MOST_ERRORS = 0.25  # a base that is understood worse doesn't read its text
SHOWN = ("pause_rate", "pause_duration", "pause_placement", "filler_rate", MEAN)
COUNTED = ("pauses_per_minute", "pause_seconds", "fillers_per_minute")
PATTERN, ADAPTED, OWN_PROMPT = SYSTEMS = ("P", "LP", "own prompt")
_BETWEEN = round(BETWEEN * RATE)


@dataclass(frozen=True)
class Outcome:
    """One target.

    Attributes:
        results: of the protocol, for each of SYSTEMS; that of the base which is prompted by the
            target calls it "P"
        errors: {condition: fluent word error rate}
    """

    target: str
    results: Mapping[str, PatternResult]
    errors: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        results = {name: result.to_dict() for name, result in self.results.items()}
        return {"target": self.target, "fluent_wer": dict(self.errors), "results": results}


def hear(paths: Sequence[Path], recogniser: WordTranscriber, kept: Path) -> dict[Path, Measured]:
    """Words and stretches of speech of each file.

    Args:
        kept: folder of what was heard before, by the sounds' content
    """
    found: dict[Path, Measured] = {}
    for group in _windows(paths):
        names, sounds = [path for path, _ in group], [sound for _, sound in group]
        heard = [
            _shared(_words(sounds, recogniser, kept, beginning), sounds)
            for beginning in ("", hesitant_beginning(LANGUAGE))
        ]
        for name, sound, own, told in zip(names, sounds, *heard, strict=True):
            speech = [[span.start, span.end] for span in speech_spans(sound, RATE)]
            found[name] = Measured(
                sample_rate=RATE,
                seconds=len(sound) / RATE,
                speech=speech,
                heard=sentence(own) if speech else "",
                words=[(word.word, word.start, word.end) for word in own],
                verbatim=sentence(told) if speech else None,
            )
    return found


def _words(
    sounds: Sequence[NDArray], recogniser: WordTranscriber, kept: Path, beginning: str
) -> list[Word]:
    """What is heard of a window that begins after those words."""
    mark = hashlib.sha256(beginning.encode() + b"".join(sound.tobytes() for sound in sounds))
    path = kept / f"{mark.hexdigest()[:24]}.json"
    if not path.is_file():
        whole = np.concatenate([np.pad(sound, (0, _BETWEEN)) for sound in sounds])
        words = recogniser.words(whole, RATE, LANGUAGE, beginning)
        plain = [[word.word, word.start, word.end, word.is_glued] for word in words]
        write_json(path, {"format": FORMAT, "words": plain})
    return [Word(*one) for one in read_json(path, format=FORMAT)["words"]]


def _windows(paths: Sequence[Path]) -> Iterator[list[tuple[Path, NDArray[np.float32]]]]:
    """Neighbours that fit into a window together."""
    group: list[tuple[Path, NDArray[np.float32]]] = []
    for path in paths:
        sound = load(path, RATE)
        if group and sum(len(s) + _BETWEEN for _, s in [*group, (path, sound)]) > WINDOW * RATE:
            yield group
            group = []
        group.append((path, sound))
    if group:
        yield group


def _shared(words: Sequence[Word], sounds: Sequence[NDArray]) -> list[list[Word]]:
    """The words of each sound, with times in it."""
    found, start = [], 0.0
    for sound in sounds:
        end = start + (len(sound) + _BETWEEN) / RATE
        own = [w for w in words if start <= (w.start + w.end) / 2 + BETWEEN / 2 < end]
        found.append([Word(w.word, w.start - start, w.end - start, w.is_glued) for w in own])
        start = end
    return found


def compare(
    target: str, folders: Mapping[str, Path], recogniser: WordTranscriber, kept: Path
) -> Outcome:
    """Measure what hasn't been measured yet, and compare.

    Args:
        folders: {condition: its folder}
        kept: folder of what was heard before
    """
    spoken = {name: find_utterances(folder) for name, folder in folders.items()}
    measured: dict[Path, Measured] = {}
    for own in spoken.values():
        measured |= hear([one.path for one in own], recogniser, kept)
    context = Context(measured, spoken["R"], LANGUAGE)
    errors = {}
    for name, own in spoken.items():
        heard = [measured[one.path].heard or "" for one in own]
        errors[name] = fluent_errors([one.text or "" for one in own], heard)
    manners = {name: [context.manner(one) for one in own] for name, own in spoken.items()}
    trouble = None
    if errors["B0"] > MOST_ERRORS:
        trouble = f"the base itself is hardly understood (fluent WER {errors['B0']:.0%})"
    adapted = {name: own for name, own in manners.items() if name != OWN_PROMPT}
    judged = {
        PATTERN: {n: own for n, own in adapted.items() if ADAPTED not in n},
        ADAPTED: adapted,
        OWN_PROMPT: {"B0": manners["B0"], "P": manners[OWN_PROMPT], "R": manners["R"]},
    }
    results = {name: judge_patterns(own, trouble=trouble) for name, own in judged.items()}
    return Outcome(target, results, errors)


def lines(outcome: Outcome) -> list[str]:
    """What was counted, then transfer scores, 0 as the base and 1 as the person."""
    result, prompted = outcome.results[ADAPTED], outcome.results[OWN_PROMPT]
    counts = {**result.counts, OWN_PROMPT: prompted.counts["P"]}
    found = [f"target '{outcome.target}'"]
    found.append("  ".join([f"{'':10}", *(f"{name:>18}" for name in COUNTED), " fluent WER"]))
    for name, own in counts.items():
        cells = [f"{own.get(event, float('nan')):18.2f}" for event in COUNTED]
        found.append("  ".join([f"{name:10}", *cells, f"{outcome.errors[name]:11.1%}"]))
    found.append("  ".join([f"{'transfer':10}", *(f"{name:>22}" for name in SHOWN)]))
    for name, scores in {**result.transfer, OWN_PROMPT: prompted.transfer["P"]}.items():
        cells = [
            f"{scores[measure]!s:>22}" if measure in scores else f"{'-':>22}" for measure in SHOWN
        ]
        found.append("  ".join([f"{name:10}", *cells]))
    found += [f"not scored: {measure}: {why}" for measure, why in result.refused.items()]
    for name in (PATTERN, ADAPTED):
        claims = outcome.results[name].claims
        found += [f"{name}: {claim.status}: {claim.name} ({claim.reason})" for claim in claims]
    return found
