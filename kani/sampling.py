"""How codes are drawn; no torch here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ttscommon.errors import UserError

CODES_PER_SECOND = 50.0  # four a frame, 12.5 frames
TOKENS_PER_SECOND = 3.5  # slow English: 15 letters a second (measured), four a token (estimated)
FEWEST_TOKENS = 20  # of a segment; pieces of sentences are spoken worse than whole ones
N_OPENING = 2  # ids of the answer before its first code: start_of_ai, start_of_speech


def setting(default: Any, words: str) -> Any:
    return field(default=default, metadata={"help": words})


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Names and numbers are those of the public `inference_config.yaml`, and one more.

    transformers' penalty looks at everything said so far, which makes long clips drift: each code
    that was used is a little less likely for good. Ours looks back over a few frames.
    """

    max_new_tokens: int = setting(1200, "most ids of an answer; 1200 are 23.9 s of sound")
    temperature: float = setting(0.6, "liveliness; 0 takes the likeliest code each time")
    top_p: float = setting(0.95, "draw from the likeliest codes that make up this share")
    repetition_penalty: float = setting(1.1, "how much less likely a code is that was just used")
    repetition_window: int = setting(20, "ids that the penalty looks back over; 0: all of them")
    seed: int = setting(0, "the same gives the same speech")

    def __post_init__(self) -> None:
        if self.temperature < 0 or not 0 < self.top_p <= 1:
            raise UserError(
                "temperature is 0 or more, top_p above 0 and up to 1; got "
                f"{self.temperature:g}, {self.top_p:g}"
            )
        if self.repetition_penalty <= 0 or self.repetition_window < 0:
            raise UserError(
                "repetition_penalty is above 0, repetition_window 0 or more; got "
                f"{self.repetition_penalty:g}, {self.repetition_window}"
            )
        if self.max_new_tokens < N_OPENING + 1:
            raise UserError(f"max_new_tokens must be 3 or more, got {self.max_new_tokens}")

    @classmethod
    def greedy(cls, **changes: Any) -> Sampling:
        """The likeliest code each time, without a penalty."""
        return cls(**{"temperature": 0.0, "repetition_penalty": 1.0, **changes})

    @property
    def n_steps(self) -> int:
        """Most codes of an answer."""
        return self.max_new_tokens - N_OPENING


@dataclass(frozen=True, kw_only=True)
class Segments:
    """How a text is cut that would take longer than an answer can be."""

    max_text_tokens_per_segment: int = setting(
        0,
        "longer texts are cut at sentences and spoken in segments; "
        "0: as long as the longest answer",
    )
    interval_silence: int = setting(200, "milliseconds of silence between segments")

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 0:
                raise UserError(f"{name} must be 0 or more, got {value}")

    def most_tokens(self, sampling: Sampling) -> int:
        """Of a segment."""
        longest = int(sampling.n_steps / CODES_PER_SECOND * TOKENS_PER_SECOND)
        return self.max_text_tokens_per_segment or max(FEWEST_TOKENS, longest)
