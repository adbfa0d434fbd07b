"""What goes into speaking, what comes out, and what passes between its stages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from indextts.config import DecodingConfig, SpeechConfig
from indextts.emotion import Mood
from indextts.frontend.text import Pause, Segment
from indextts.stored_voice import Voice

Stage = Literal["reference", "conditioning", "codes", "latents", "mel", "sound"]
STAGES: tuple[Stage, ...] = get_args(Stage)
Seconds = float
Samples = NDArray[np.int16]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to say, by whom and how.

    Attributes:
        items: the text as `Synthesizer.plan` cuts it
        seed: names every chance; the same request sounds the same in any batch
        reading: seconds spent on the recordings
    """

    items: Sequence[Segment | Pause]
    voice: Voice
    seed: int
    mood: Mood = field(default_factory=Mood)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    speech: SpeechConfig = field(default_factory=SpeechConfig)
    reading: Seconds = 0.0

    @property
    def n_segments(self) -> int:
        """Items that are spoken, not silent."""
        return sum(isinstance(item, Segment) for item in self.items)


@dataclass(frozen=True)
class Conditioning:
    """What the language model is told besides the text.

    Attributes:
        speaker: (1, N, D)
        emotion: (1, D), which is added to each of the N
    """

    speaker: Tensor
    emotion: Tensor


@dataclass(frozen=True)
class Utterance:
    """A segment as the language model wrote it.

    Attributes:
        codes: (n,) long, without the stop token
        latents: (1, n, D) of the second pass
        is_complete: it ended by itself
    """

    codes: Tensor
    latents: Tensor
    is_complete: bool


@dataclass(frozen=True)
class Piece:
    """A stretch of the result: a segment's sound, or silence.

    Attributes:
        samples: (S,) int16
        segment: None for silence
        n_codes: semantic codes of the segment
        is_complete: it ended by itself, not at the most codes allowed
    """

    samples: Samples
    segment: Segment | None = None
    n_codes: int = 0
    is_complete: bool = True


@dataclass(frozen=True)
class Speech:
    """All that was said for one request.

    Attributes:
        pieces: in order
        seconds: time spent per stage
    """

    pieces: tuple[Piece, ...]
    sample_rate: int
    seed: int
    seconds: dict[Stage, Seconds]

    @property
    def samples(self) -> Samples:
        """(S,) int16"""
        return np.concatenate([piece.samples for piece in self.pieces])

    @property
    def segments(self) -> tuple[Piece, ...]:
        """The pieces that aren't silence."""
        return tuple(piece for piece in self.pieces if piece.segment is not None)

    @property
    def duration(self) -> Seconds:
        return sum(len(piece.samples) for piece in self.pieces) / self.sample_rate

    @property
    def real_time_factor(self) -> float:
        """Seconds of work per second of sound."""
        return sum(self.seconds.values()) / max(self.duration, 1e-9)

    @property
    def summary(self) -> str:
        """One line: how much, how fast, from which seed."""
        stages = ", ".join(f"{stage} {spent:.2f} s" for stage, spent in self.seconds.items())
        rtf = self.real_time_factor
        return f"{self.duration:.2f} s  RTF {rtf:.3f}  seed {self.seed}  ({stages})"


# Told after every segment: how many are done, how many there are, and the last one.
Progress = Callable[[int, int, Piece], None]
