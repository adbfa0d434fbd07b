"""One utterance against its text, the speaker's voice, and a recording of the same text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from ttscommon.audio import load
from ttscommon.evaluation.conditions import Utterance, partners
from ttscommon.evaluation.disfluency import find_fillers
from ttscommon.evaluation.manner import Manner
from ttscommon.evaluation.measuring import RATE, Measured, faults
from ttscommon.evaluation.paces import Paces
from ttscommon.evaluation.pauses import measure_timing, timing_parts
from ttscommon.evaluation.placement import agreement, find_places
from ttscommon.evaluation.verdicts import LONGEST, SHORTEST
from ttscommon.evaluation.voices import mean_voice, similarity
from ttscommon.evaluation.wording import count_syllables
from ttscommon.metrics import character_errors, mel_cepstral_distance, word_errors
from ttscommon.segment import Span
from ttscommon.transcribe import Word


@dataclass(frozen=True)
class Result:
    """One utterance's numbers.

    Attributes:
        parts: {metric: (numerator, denominator)}; errors and words, so that rates can be summed
        pauses: (start, end) in seconds
        faults: "name: reason" for each verdict
    """

    condition: str
    id: str
    group: str
    text: str | None
    seed: int | None
    path: str
    seconds: float
    heard: str | None
    pauses: Sequence[Sequence[float]]
    faults: Sequence[str]
    parts: Mapping[str, Sequence[float]]

    @property
    def values(self) -> dict[str, float]:
        """{metric: value} of this utterance alone."""
        return {name: top / of for name, (top, of) in self.parts.items() if of > 0}


@dataclass(frozen=True)
class Known:
    """What is known of an utterance besides its sound, as in `Result`."""

    parts: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    faults: Sequence[str] = ()


@dataclass(frozen=True)
class Context:
    """What an utterance is compared with.

    Attributes:
        measured: every file of every condition
        real: the recordings of the speaker; none if there are no
        known: of some of the files
    """

    measured: Mapping[Path, Measured]
    real: Sequence[Utterance]
    language: str
    known: Mapping[Path, Known] = field(default_factory=dict)

    @cached_property
    def paces(self) -> Paces:
        """How long the real speaker takes for words."""
        return Paces.of((_words(self.measured[one.path]) for one in self.real), self.language)

    def voice_likeness(self, utterance: Utterance) -> dict[str, float]:
        """The cosine with the mean of the real recordings, itself left out, for each encoder."""
        others = [
            self.measured[one.path].voices
            for one in self.real
            if one.path != utterance.path and one.speaker in ("", utterance.speaker)
        ]
        found = {}
        for name, voice in self.measured[utterance.path].voices.items():
            known = [np.array(voices[name], np.float32) for voices in others if name in voices]
            if known:
                found[name] = similarity(np.array(voice, np.float32), mean_voice(known))
        return found

    def manner(self, utterance: Utterance) -> Manner:
        """How the utterance is spoken."""
        measured = self.measured[utterance.path]
        spans = [Span(start, end) for start, end in measured.speech]
        text, heard = utterance.text or measured.heard or "", _words(measured)
        verbatim = _verbatim(text, measured)
        timing = measure_timing(spans, text=text, said=verbatim, language=self.language)
        paces = []
        for word in heard:
            syllables = count_syllables(word.word, self.language)
            if syllables and word.end > word.start:
                paces.append((syllables, (word.end - word.start) / syllables))
        return Manner(
            group=utterance.group,
            timing=timing,
            places=find_places(text, heard, timing.pauses, self.language),
            paces=paces,
            voiced_npvi=measured.prosody.get("voiced_npvi"),
            fillers=find_fillers(verbatim, self.language),
            n_drawn_out=sum(self.paces.is_drawn_out(word, self.language) for word in heard),
        )

    def manners(self, utterances: Sequence[Utterance]) -> list[Manner]:
        """How those are spoken that could be read."""
        known = [one for one in utterances if self.measured[one.path].trouble is None]
        return [self.manner(one) for one in known]

    def recording_of(self, utterance: Utterance) -> Utterance | None:
        """The real recording of the same text, unless it is this one."""
        found = partners([utterance], self.real).get(0)
        return found if found and found.path != utterance.path else None


def compare(condition: str, utterance: Utterance, context: Context) -> Result:
    """All numbers of one measured utterance."""
    measured = context.measured[utterance.path]
    manner, known = context.manner(utterance), context.known.get(utterance.path, Known())
    spans, pauses = manner.timing.speech, manner.timing.pauses
    parts = {
        **_word_parts(utterance.text, measured, context.language),
        **timing_parts(manner.timing),
        **{name: (value, 1.0) for name, value in context.voice_likeness(utterance).items()},
        **{name: (value, 1.0) for name, value in measured.prosody.items() if value is not None},
        **known.parts,
    }
    for name, key in (("dnsmos", "overall"), ("dnsmos_signal", "signal"), ("dnsmos_p808", "p808")):
        if key in measured.quality:
            parts[name] = (measured.quality[key], 1.0)
    recording, expected = context.recording_of(utterance), None
    if recording and spans and (reference := context.measured[recording.path].speech):
        expected = reference[-1][1] - reference[0][0]
        seconds = spans[-1].end - spans[0].start
        parts["duration_ratio"] = (seconds, expected)
        parts["right_length"] = (float(SHORTEST <= seconds / expected <= LONGEST), 1.0)
        parts["pause_placement_f1"] = agreement(manner.places, context.manner(recording).places)
        with suppress(ValueError):  # a click that passed for speech
            ours, theirs = (load(one.path, RATE) for one in (utterance, recording))
            parts["mel_cepstral_distance"] = (mel_cepstral_distance(ours, theirs), 1.0)
    found = faults(utterance.path, measured, text=utterance.text, expected_seconds=expected,
                   language=context.language) + list(known.faults)  # fmt: skip
    parts["faults"] = (float(bool(found)), 1.0)
    return Result(
        condition=condition,
        id=utterance.id,
        group=utterance.group,
        text=utterance.text,
        seed=utterance.seed,
        path=str(utterance.path),
        seconds=measured.seconds,
        heard=measured.heard,
        pauses=[[pause.start, pause.end] for pause in pauses],
        faults=found,
        parts={name: [float(top), float(of)] for name, (top, of) in sorted(parts.items())},
    )


def _word_parts(
    text: str | None, measured: Measured, language: str
) -> dict[str, tuple[float, float]]:
    if text is None or measured.heard is None:
        return {}
    found = {
        "wer": word_errors(text, measured.heard, language=language),
        "fluent_wer": word_errors(text, measured.heard, language=language, fluent=True),
        "cer": character_errors(text, measured.heard, language=language),
    }
    return {name: (errors.n_errors, errors.n_units) for name, errors in found.items()}


def _verbatim(text: str, measured: Measured) -> str:
    """What was said, hesitations included, as far as a recogniser writes them down."""
    heard = measured.heard if measured.verbatim is None else measured.verbatim
    return text if heard is None else heard


def _words(measured: Measured) -> list[Word]:
    return [Word(str(word), float(start), float(end)) for word, start, end in measured.words]
