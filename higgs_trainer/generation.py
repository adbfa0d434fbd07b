"""Frames from a prompt, with transformers' own loop, and what they say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from higgs_trainer.collator import Collator
from higgs_trainer.config import Streams
from higgs_trainer.delay import Cut, cut
from higgs_trainer.prompt import Written
from ttscommon.errors import UserError
from ttscommon.seeds import seed_for

SPARE_FRAMES = 3  # beyond a clip's own, so that its last codebook can end


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How codes are drawn.

    Attributes:
        temperature: 0 takes the likeliest code each time
        top_k: 0 allows all codes
        repetition_window, max_repetitions: a code that came so often in so many frames is drawn
            again (RAS, Chen et al. 2024); 0 switches it off
        max_steps: of 40 ms each in the released model
    """

    temperature: float = 0.3
    top_k: int = 50
    top_p: float = 0.95
    repetition_window: int = 7
    max_repetitions: int = 2
    max_steps: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.temperature < 0 or self.top_k < 0 or not 0 < self.top_p <= 1:
            raise UserError(
                "temperature and top_k are 0 or more, top_p above 0 and up to 1; got "
                f"{self.temperature:g}, {self.top_k}, {self.top_p:g}"
            )
        if self.max_steps < 1:
            raise UserError(f"max_steps must be 1 or more, got {self.max_steps}")

    @classmethod
    def greedy(cls, **changes: Any) -> Sampling:
        """The same codes each time."""
        return cls(temperature=0.0, repetition_window=0, **changes)

    def options(self, streams: Streams) -> dict[str, Any]:
        """For `generate` of transformers."""
        options: dict[str, Any] = {
            "max_new_tokens": streams.n_frames(self.max_steps) + SPARE_FRAMES,
            "do_sample": self.temperature > 0,
        }
        if self.temperature > 0:
            options |= {"temperature": self.temperature, "top_p": self.top_p, "top_k": self.top_k}
        if self.repetition_window:
            options["ras_win_len"] = self.repetition_window
            options["ras_win_max_num_repeat"] = self.max_repetitions
        return options


@torch.no_grad()
def generated_frames(
    model: Any, prompts: Sequence[Written], collator: Collator, sampling: Sampling
) -> Tensor:
    """(B, F, K) frames behind prompts, the first all begins; rows that ended go on with ends."""
    from transformers import GenerationConfig

    batch = collator.padded(prompts)
    device = model.audio_lm_head.weight.device
    n_before = batch.frames.shape[1]
    audio: dict[str, Tensor] = {}
    if n_before:
        audio["audio_input_ids"] = batch.frames.to(device)
        audio["audio_input_ids_mask"] = batch.frame_mask.to(device)
    config = GenerationConfig(
        **sampling.options(collator.streams),
        bos_token_id=model.config.bos_token_id,
        eos_token_id=model.config.eos_token_id,
        pad_token_id=model.config.pad_token_id,
    )
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed_for(sampling.seed, "generate"))
        found = model.generate(
            input_ids=batch.input_ids.to(device),
            attention_mask=batch.mask.long().to(device),
            generation_config=config,
            **audio,
        )
    return found[:, n_before:].cpu()


def spoken(
    model: Any, prompts: Sequence[Written], collator: Collator, sampling: Sampling
) -> list[Cut]:
    """The codes that a model says after each prompt.

    Args:
        collator: pads on the left
    """
    if collator.side != "left":
        raise ValueError("prompts are padded on the left")
    frames = generated_frames(model, prompts, collator, sampling)
    return [cut(row, collator.streams) for row in frames]
