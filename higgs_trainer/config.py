"""What can be set, and how audio and text are written as tokens."""

from __future__ import annotations

from dataclasses import dataclass

from ttscommon.errors import UserError


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
