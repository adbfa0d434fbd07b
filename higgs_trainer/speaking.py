"""Whole texts and dialogues: spoken piece by piece, judged, and tried again with another seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from higgs_trainer.audio_validation import AudioQualityValidator, ValidationConfig, Verdict
from higgs_trainer.conversation import Conversation, as_read
from higgs_trainer.dialogue import Line, Said, asked, lines_of, pieces_of, references_of
from higgs_trainer.inference import HiggsVoice, Speech
from higgs_trainer.speaking_config import Sampling, SpeakingConfig
from higgs_trainer.statistics import Bounds
from higgs_trainer.text import language_of

Asked = tuple[Conversation, Sequence[Tensor]]  # with the codes (K, T) of its audio
# What another seed can put right: too short, too long, silent.
WORTH_A_TRY = ("steps", "seconds", "speech without an end", "silence", "silence at the end")


@dataclass(frozen=True)
class Take:
    """One try at a piece."""

    seed: int
    speech: Speech
    verdict: Verdict

    @property
    def is_kept(self) -> bool:
        """Whether nothing is wrong that another seed could put right."""
        return not any(issue.what in WORTH_A_TRY for issue in self.verdict.issues)

    def to_dict(self) -> dict[str, Any]:
        return {"seed": self.seed, "valid": self.verdict.is_valid, "issues": str(self.verdict)}


@dataclass(frozen=True)
class Segment:
    """A piece that was spoken.

    Attributes:
        bounds: how long it may take
        takes: all tries at it
    """

    line: Line
    bounds: Bounds
    takes: tuple[Take, ...]

    @property
    def take(self) -> Take:
        """The best: one that is kept, else the one of which least is wrong."""
        return min(self.takes, key=lambda one: (not one.is_kept, len(one.verdict.issues)))

    def to_dict(self) -> dict[str, Any]:
        cut = self.take.speech.cut
        return {
            "text": self.line.text,
            "speaker": self.line.speaker,
            "seed": self.take.seed,
            "duration": self.take.speech.seconds,
            "expected": [round(self.bounds.fewest, 3), round(self.bounds.most, 3)],
            "n_codes": cut.codes.shape[1],
            "stopped": cut.stopped,
            "ended_in_order": cut.is_sound,
            "takes": [one.to_dict() for one in self.takes],
        }


@dataclass(frozen=True)
class Spoken:
    """A text and its sound.

    Attributes:
        audio: (S,) float32; empty if nothing was said
    """

    audio: np.ndarray
    sample_rate: int
    segments: tuple[Segment, ...]
    verdict: Verdict

    @property
    def seconds(self) -> float:
        return len(self.audio) / self.sample_rate

    @property
    def n_retries(self) -> int:
        return sum(len(segment.takes) - 1 for segment in self.segments)


class _Telling:
    """A text that is being said.

    Args:
        fixed: the conversation that asks for it, if it was given as one
    """

    def __init__(
        self,
        lines: Sequence[Line],
        references: Sequence[Said] = (),
        fixed: Asked | None = None,
    ):
        self.lines, self.references, self.fixed = list(lines), references, fixed
        self.speakers = sorted({line.speaker for line in lines if line.speaker is not None})
        self.segments: list[Segment] = []
        self._before: list[Said] = []

    def asked(self, line: Line, config: SpeakingConfig) -> Asked:
        if self.fixed is not None:
            return self.fixed
        return asked(
            line,
            self._before,
            self.references,
            n_before=config.context_segments,
            system=config.system,
            scene=config.scene,
            speakers=self.speakers,
        )

    def add(self, segment: Segment) -> None:
        self.segments.append(segment)
        said = segment.take.speech.cut.codes
        if said.shape[1]:
            self._before.append(Said(segment.line, said))


class Narrator:
    """Says texts with one voice, in one way.

    Args:
        heard: the normalised text and the codes (K, T) of each reference, SPEAKER0's first
    """

    def __init__(
        self,
        voice: HiggsVoice,
        config: SpeakingConfig,
        sampling: Sampling,
        heard: Sequence[tuple[str, Tensor]] = (),
        judge: AudioQualityValidator | None = None,
    ):
        self.voice, self.config, self.sampling = voice, config, sampling
        self.heard, self.judge = list(heard), judge or AudioQualityValidator()

    def lines(self, text: str) -> list[Line]:
        """A text in the pieces that are spoken.

        Raises:
            UserError: if there is nothing to say, or it isn't clear who says it
        """
        whole = lines_of(text, self.voice.statistics.text)
        references_of(whole, self.heard)
        most = self.config.max_text_tokens_per_segment
        language = language_of(text)
        language = "en" if language == "other" else language
        return pieces_of(whole, most, size=self._n_tokens, language=language)

    def bounds(self, line: Line) -> Bounds:
        """Seconds that a line can take."""
        return self.voice.statistics.bounds(line.text)

    def usual_seconds(self, wanted: str | Conversation) -> float:
        if isinstance(wanted, Conversation):
            said = as_read(wanted.turns, self.voice.statistics.text)[-1].text
            return self.bounds(Line(said)).usual
        return sum(self.bounds(line).usual for line in self.lines(wanted))

    def tell(self, text: str, after: Callable[[float], None] = lambda _: None) -> Spoken:
        """Say a text.

        Args:
            after: called after each piece, with the seconds that it usually takes
        """
        return self.tell_all([text], after)[0]

    def tell_all(
        self,
        wanted: Sequence[str | Conversation],
        after: Callable[[float], None] = lambda _: None,
    ) -> list[Spoken]:
        """Say texts side by side: the first pieces of all in one batch, then the next ones.

        Without chance each is said as if it were alone.

        Args:
            wanted: texts; or conversations, whose next turn is said
        """
        tellings = [self._telling(one) for one in wanted]
        for number in range(max(len(one.lines) for one in tellings)):
            due = [one for one in tellings if number < len(one.lines)]
            lines = [one.lines[number] for one in due]
            asked = [one.asked(line, self.config) for one, line in zip(due, lines, strict=True)]
            for one, segment in zip(due, self._segments(lines, asked), strict=True):
                one.add(segment)
                after(segment.bounds.usual)
        return [self._joined(one.segments) for one in tellings]

    def _telling(self, wanted: str | Conversation) -> _Telling:
        if isinstance(wanted, Conversation):
            turns = as_read(wanted.turns, self.voice.statistics.text)
            heard = [self.voice.encoded(one.path) for one in wanted.audios if one.path]
            return _Telling([Line(turns[-1].text)], fixed=(Conversation(turns), heard))
        lines = self.lines(wanted)
        return _Telling(lines, references=references_of(lines, self.heard))

    def _segments(self, lines: Sequence[Line], asked: Sequence[Asked]) -> list[Segment]:
        """Each line after its conversation, in one batch with those that need another seed."""
        bounds = [self.bounds(line) for line in lines]
        expected = [one.steps(self.voice.codec.frame_rate) for one in bounds]
        most = [min(longest, self.sampling.max_steps) for _, longest in expected]
        fewest = [min(short, longest) for (short, _), longest in zip(expected, most, strict=True)]

        def attempt(seed: int, due: Sequence[int]) -> list[Take]:
            sampling = replace(self.sampling, seed=seed)
            found = self.voice.say([asked[i] for i in due], sampling, [most[i] for i in due])
            return [
                Take(seed, speech, self.verdict(speech, (fewest[i], most[i])))
                for i, speech in zip(due, found, strict=True)
            ]

        # Without chance every try is the same.
        retries = self.config.retries if self.sampling.is_random else 0
        takes = tries(attempt, len(lines), self.sampling.seed, retries)
        return [Segment(*one) for one in zip(lines, bounds, takes, strict=True)]

    def verdict(self, speech: Speech, expected: tuple[int, int]) -> Verdict:
        streams, codes = self.voice.writer.streams, speech.cut.codes.numpy().astype(np.int64)
        verdict = self.judge.tokens(codes, streams, expected=expected, stopped=speech.cut.stopped)
        if not len(speech.audio):
            return verdict
        return self.judge.waveform(speech.audio, speech.sample_rate) + verdict

    def _joined(self, segments: Sequence[Segment]) -> Spoken:
        rate = self.voice.codec.sample_rate
        sounds = [one.take.speech.audio for one in segments if len(one.take.speech.audio)]
        if len(segments) == 1:
            only = segments[0].take
            return Spoken(only.speech.audio, rate, tuple(segments), only.verdict)
        pause = np.zeros(round(self.config.interval_silence * rate / 1000), np.float32)
        pieces = [part for sound in sounds for part in (sound, pause)][:-1]
        whole = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
        verdict = Verdict(
            tuple(
                replace(finding, what=f"segment {number}: {finding.what}")
                for number, one in enumerate(segments, start=1)
                for finding in one.take.verdict.findings
            )
        )
        if len(whole):
            longest = max(self.judge.config.max_seconds, sum(one.bounds.most for one in segments))
            of_whole: ValidationConfig = replace(self.judge.config, max_seconds=longest + 1)
            verdict = AudioQualityValidator(of_whole).waveform(whole, rate) + verdict
        return Spoken(whole, rate, tuple(segments), verdict)

    def _n_tokens(self, text: str) -> int:
        return len(self.voice.writer.tokenizer.encode(text, add_special_tokens=False).ids)


def tries(
    attempt: Callable[[int, Sequence[int]], list[Take]], n: int, seed: int, retries: int
) -> list[tuple[Take, ...]]:
    """Takes of `seed` and of those after it, of each of `n` pieces until one can be kept.

    Args:
        attempt: takes of a seed, of the pieces of these numbers
    """
    takes: list[list[Take]] = [[] for _ in range(n)]
    due = list(range(n))
    for number in range(retries + 1):
        for i, take in zip(due, attempt(seed + number, due), strict=True):
            takes[i].append(take)
        due = [i for i in due if not takes[i][-1].is_kept]
        if not due:
            break
    return [tuple(one) for one in takes]
