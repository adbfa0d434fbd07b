"""What can be set, and how audio and text are written as tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ttscommon.errors import UserError


def setting(default: Any, words: str) -> Any:
    return field(default=default, metadata={"help": words})


@dataclass(frozen=True, kw_only=True)
class Streams:
    """The codebooks of a model.

    Attributes:
        n_codes: of each codebook; codes are below
        begin_id, end_id: of a stream; they follow the codes in embeddings and head
    """

    n_codebooks: int = 8
    n_codes: int = 1024
    begin_id: int = 1024
    end_id: int = 1025

    def __post_init__(self) -> None:
        if self.n_codebooks < 1 or {self.begin_id, self.end_id} != {self.n_codes, self.n_codes + 1}:
            raise UserError(f"these aren't the codebooks of a Higgs Audio model: {self}")

    @property
    def n_rows(self) -> int:
        """Of a codebook in embeddings and head."""
        return self.n_codes + 2

    def n_frames(self, n_steps: int) -> int:
        """Of a clip of so many codes."""
        return n_steps + self.n_codebooks + 1


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """Which audio is taken, and what is held out of it."""

    min_duration: float = setting(0.5, "leave out shorter audio, seconds")
    max_duration: float = setting(30.0, "leave out longer audio, seconds")
    validation_share: float = setting(0.1, "share of the recordings to measure with")
    seed: int = setting(42, "chooses the recordings that are held out")

    def __post_init__(self) -> None:
        if not 0 <= self.min_duration < self.max_duration:
            raise UserError(
                f"min_duration {self.min_duration:g} must be 0 or more, and below max_duration "
                f"{self.max_duration:g}",
                fix="--min-duration 0.5 --max-duration 30",
            )
        if not 0 < self.validation_share < 1:
            raise UserError(
                f"validation_share must be between 0 and 1, got {self.validation_share:g}"
            )
