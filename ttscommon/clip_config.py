"""How recordings become clips, and clips texts."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ttscommon.errors import UserError

LONGEST_CLIP = 15.0  # seconds; what is cut, found good and trained on by default
ROUNDING = 0.01  # seconds that a clip may grow by when its ends are moved to whole samples


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """From recordings of any length to clips."""

    min_seconds: float = field(default=2.0, metadata={"help": "shortest clip that is kept"})
    max_seconds: float = field(
        default=LONGEST_CLIP,
        metadata={"help": "longest clip; longer recordings are cut in silences"},
    )
    sample_rate: int = field(
        default=24_000, metadata={"help": "Hz of the clips, or the recording's own if that is less"}
    )
    loudness: float = field(default=-23.0, metadata={"help": "LUFS every clip is brought to"})
    trim_db: float = field(
        default=-42.0, metadata={"help": "dB below the loudest moment at which silence begins"}
    )
    pad: float = field(
        default=0.1, metadata={"help": "seconds of silence that every clip begins and ends with"}
    )
    workers: int = field(default=2, metadata={"help": "processes"})

    def __post_init__(self) -> None:
        if not 0 <= self.pad <= 1:
            raise UserError(f"pad {self.pad:g} must be 0 to 1 s", fix="--pad 0.1")
        if not 0 < self.min_seconds < self.longest_cut < math.inf:
            raise UserError(
                f"min_seconds {self.min_seconds:g} must be above 0 and below "
                f"max_seconds {self.max_seconds:g} without its two pads of {self.pad:g} s",
                fix="--min-seconds 2 --max-seconds 15",
            )
        if not -120 <= self.trim_db < 0:
            raise UserError(f"trim_db {self.trim_db:g} must be below 0", fix="--trim-db -42")
        if not -70 <= self.loudness < 0:
            raise UserError(f"loudness {self.loudness:g} must be -70 to 0", fix="--loudness -23")
        if self.sample_rate < 8_000:
            raise UserError(f"sample_rate {self.sample_rate} is too low", fix="--sample-rate 24000")
        if self.workers < 1:
            raise UserError(f"workers {self.workers} must be 1 or more", fix="--workers 1")

    @property
    def longest_cut(self) -> float:
        """Seconds of a recording that become a clip of `max_seconds` with its pads."""
        return self.max_seconds - 2 * self.pad - ROUNDING


@dataclass(frozen=True, kw_only=True)
class VerbatimConfig:
    """From clips to their words, pauses and fillers."""

    whisper_model: str = field(
        default="medium", metadata={"help": "Whisper name, .pt file or CTranslate2 folder"}
    )
    language: str | None = field(
        default=None, metadata={"help": "spoken in the recordings; by default it is recognised"}
    )
    min_pause: float = field(
        default=0.3, metadata={"help": "seconds from which a silence between words is a pause"}
    )
    long_pause: float = field(
        default=0.7, metadata={"help": "seconds from which a pause is a long one"}
    )
    fillers: bool = field(
        default=True, metadata={"help": "mark fillers in the verbatim text: [UH], [UM] and so on"}
    )
    marked_text: bool = field(
        default=False, metadata={"help": "put the marks of pauses and fillers into `text` as well"}
    )

    def __post_init__(self) -> None:
        if not 0.1 <= self.min_pause <= self.long_pause:
            raise UserError(
                f"min_pause {self.min_pause:g} must be 0.1 or more and not above "
                f"long_pause {self.long_pause:g}",
                fix="--min-pause 0.3 --long-pause 0.7",
            )
