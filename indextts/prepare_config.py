"""What can be set in the preparation of clips for training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ttscommon.clip_config import LONGEST_CLIP
from ttscommon.errors import UserError

Seconds = float


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """Which clips are taken, and which of them are held out; defaults are the original's."""

    train_split: float = field(default=0.9, metadata={"help": "share of the sound to train on"})
    max_duration: Seconds = field(default=LONGEST_CLIP, metadata={"help": "leave out longer clips"})
    min_duration: Seconds = field(default=1.0, metadata={"help": "leave out shorter clips"})
    split_by: Literal["recording", "clip"] = field(
        default="recording",
        metadata={"help": "clip: hold out the last clips, also of recordings that are trained on"},
    )
    seed: int = field(default=42, metadata={"help": "chooses the recordings that are held out"})
    workers: int = field(default=2, metadata={"help": "threads that read sound ahead"})

    def __post_init__(self) -> None:
        if not 0 < self.train_split < 1:
            raise UserError(
                f"train_split must be between 0 and 1, got {self.train_split:g}",
                fix="--train-split 0.9 holds out a tenth to measure with",
            )
        if not 0 <= self.min_duration < self.max_duration:
            raise UserError(
                f"min_duration {self.min_duration:g} must be 0 or more, and below max_duration "
                f"{self.max_duration:g}",
                fix="--min-duration 1 --max-duration 15",
            )
        if self.workers < 1:
            raise UserError(f"workers must be 1 or more, got {self.workers}", fix="--workers 1")
