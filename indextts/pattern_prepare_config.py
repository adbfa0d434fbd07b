"""What can be set when clips are prepared for learning a manner of speaking."""

from __future__ import annotations

from dataclasses import dataclass, field

from ttscommon.errors import UserError

FEWEST_CODES = 5  # the voice detector knows no shorter gaps than 0.1 s


@dataclass(frozen=True, kw_only=True)
class PatternPrepareConfig:
    """What counts as a pause and as silence, and what the texts tell of them."""

    pause_threshold: int = field(
        default=10, metadata={"help": "codes, 20 ms each, from which a silence is a pause"}
    )
    strip_share: float = field(
        default=0.5, metadata={"help": "share of the texts without fillers, dots and repeats"}
    )
    silence_share: float = field(
        default=0.8, metadata={"help": "share of a code's frames that must be silent to be silence"}
    )
    silence_count: int = field(
        default=5, metadata={"help": "frames that a code must have to be taken for silence"}
    )

    def __post_init__(self) -> None:
        if self.pause_threshold < FEWEST_CODES:
            raise UserError(
                f"pause_threshold must be {FEWEST_CODES} codes or more, got {self.pause_threshold}",
                fix="--pause-threshold 10, which is 0.2 s; shorter silences belong to consonants",
            )
        if not 0 <= self.strip_share <= 1:
            raise UserError(f"strip_share must be from 0 to 1, got {self.strip_share:g}")
        if not 0.5 < self.silence_share <= 1:
            raise UserError(
                f"silence_share must be above 0.5 and at most 1, got {self.silence_share:g}"
            )
        if self.silence_count < 1:
            raise UserError(f"silence_count must be 1 or more, got {self.silence_count}")
