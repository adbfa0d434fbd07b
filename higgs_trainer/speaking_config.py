"""How codes are drawn, and how texts become pieces that are spoken. No torch in here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from higgs_trainer.config import Streams, setting
from higgs_trainer.conversation import SCENE, SYSTEM
from ttscommon.errors import UserError

SPARE_FRAMES = 3  # beyond a clip's own, so that its last codebook can end


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How codes are drawn.

    A code that came too often in the last frames is drawn again (RAS, Chen et al. 2024).
    """

    temperature: float = setting(0.3, "liveliness; 0 takes the likeliest code each time")
    top_k: int = setting(50, "draw from so many likeliest codes; 0: from all")
    top_p: float = setting(0.95, "draw from the likeliest codes of this probability together")
    repetition_window: int = setting(7, "frames in which repetitions are counted; 0: they aren't")
    max_repetitions: int = setting(2, "a code that came so often in them is drawn again")
    max_steps: int = setting(1000, "most steps of codes, 40 ms each in the released model")
    seed: int = setting(0, "names the chance")

    def __post_init__(self) -> None:
        if self.temperature < 0 or self.top_k < 0 or not 0 < self.top_p <= 1:
            raise UserError(
                "temperature and top_k are 0 or more, top_p above 0 and up to 1; got "
                f"{self.temperature:g}, {self.top_k}, {self.top_p:g}"
            )
        if self.repetition_window < 0 or self.max_repetitions < 1:
            raise UserError(
                "repetition_window is 0 or more, max_repetitions 1 or more; got "
                f"{self.repetition_window}, {self.max_repetitions}"
            )
        if self.max_steps < 1:
            raise UserError(f"max_steps must be 1 or more, got {self.max_steps}")

    @classmethod
    def greedy(cls, **changes: Any) -> Sampling:
        """The same codes each time."""
        return cls(temperature=0.0, repetition_window=0, **changes)

    @property
    def is_random(self) -> bool:
        """Whether another seed may give other codes; repetitions are drawn again by chance."""
        return self.temperature > 0 or self.repetition_window > 0

    def options(self, streams: Streams) -> dict[str, Any]:
        """For `generate` of transformers."""
        options: dict[str, Any] = {
            "max_new_tokens": most_frames(self.max_steps, streams),
            "do_sample": self.temperature > 0,
        }
        if self.temperature > 0:
            options |= {"temperature": self.temperature, "top_p": self.top_p, "top_k": self.top_k}
        if self.repetition_window:
            options["ras_win_len"] = self.repetition_window
            options["ras_win_max_num_repeat"] = self.max_repetitions
        return options


def most_frames(n_steps: int, streams: Streams) -> int:
    """That are generated for so many steps."""
    return streams.n_frames(n_steps) + SPARE_FRAMES


@dataclass(frozen=True, kw_only=True)
class SpeakingConfig:
    """How texts are cut, how often a piece is tried, and how many are spoken at a time."""

    max_text_tokens_per_segment: int = setting(
        100, "longer texts are cut at sentences and spoken in segments"
    )
    interval_silence: int = setting(100, "milliseconds of silence between segments")
    context_segments: int = setting(1, "segments before the one that is spoken, which are heard")
    retries: int = setting(2, "other seeds for a segment of wrong length, or of silence")
    batch_size: int = setting(
        1, "texts that are spoken at a time; above 1 chance draws otherwise for each"
    )
    system: str = setting(SYSTEM, "what the model is told first")
    scene: str = setting(SCENE, "how it sounds around; '' leaves it out")

    def __post_init__(self) -> None:
        for name in ("max_text_tokens_per_segment", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be 1 or more, got {getattr(self, name)}")
        for name in ("interval_silence", "context_segments", "retries"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} must be 0 or more, got {getattr(self, name)}")
