"""How recordings become clips, and clips texts."""

from __future__ import annotations

from dataclasses import dataclass, field

from ttscommon.errors import UserError


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """From recordings of any length to clips."""

    min_seconds: float = field(default=2.0, metadata={"help": "shortest clip that is kept"})
    max_seconds: float = field(
        default=15.0, metadata={"help": "longest clip; longer recordings are cut in silences"}
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
        if not 0 < self.min_seconds < self.max_seconds:
            raise UserError(
                f"min_seconds {self.min_seconds:g} must be above 0 and below "
                f"max_seconds {self.max_seconds:g}"
            )
        if self.sample_rate < 8_000:
            raise UserError(f"sample_rate {self.sample_rate} is too low", fix="--sample-rate 24000")
        if not 0 <= self.pad <= 1:
            raise UserError(f"pad {self.pad:g} must be 0 to 1 s", fix="--pad 0.1")
        if self.workers < 1:
            raise UserError(f"workers {self.workers} must be 1 or more", fix="--workers 1")


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
    long_pause: float = field(default=0.7, metadata={"help": "seconds from which it is a long one"})
    fillers: bool = field(default=True, metadata={"help": "write fillers as [UH], [UM] and so on"})
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
