"""Frames from a prompt, with transformers' own loop, and what they say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from higgs_trainer.collator import Collator
from higgs_trainer.config import Streams
from higgs_trainer.delay import IGNORED, Cut, cut
from higgs_trainer.loss import hidden_states
from higgs_trainer.prompt import Written
from ttscommon.batching import move
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


@dataclass(frozen=True)
class Generated:
    """What a model said.

    Attributes:
        frames: (B, F, K) long behind prompts, the first all begins; rows that ended go on with ends
        logits: (B, F, K, V) that each was drawn from, before anything was forced
    """

    frames: Tensor
    logits: Tensor


@torch.no_grad()
def generated(
    model: Any, prompts: Sequence[Written], collator: Collator, sampling: Sampling
) -> Generated:
    """Let a model go on after prompts, frame by frame."""
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
        return_dict_in_generate=True,
        output_logits=True,
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
    logits = torch.stack([one.float().cpu() for one in found.logits], dim=1)  # (B, F, K * V)
    n_codebooks = collator.streams.n_codebooks
    return Generated(
        found.audio_sequences[:, n_before:].cpu(), logits.unflatten(-1, (n_codebooks, -1))
    )


@torch.no_grad()
def forced(model: Any, prompt: Written, frames: Tensor, collator: Collator) -> Tensor:
    """(F, K, V) logits behind each of `frames` (F, K), all read at once after `prompt`."""
    config = model.config
    ids = torch.full((len(frames),), config.audio_token_id)
    silent = torch.full_like(frames, IGNORED)
    both = Written(
        ids=torch.cat([prompt.ids, ids]),
        frames=torch.cat([prompt.frames, frames]),
        labels=torch.cat([prompt.labels, torch.full_like(ids, IGNORED)]),
        audio_labels=torch.cat([prompt.audio_labels, silent]),
    )
    batch = move(collator.padded([both]), model.audio_lm_head.weight.device)
    logits = model.audio_lm_head(hidden_states(model, batch)[0, -len(frames) :])
    return logits.unflatten(-1, (config.num_codebooks, config.codebook_size)).float().cpu()


def spoken(
    model: Any, prompts: Sequence[Written], collator: Collator, sampling: Sampling
) -> list[Cut]:
    """The codes that a model says after each prompt.

    Args:
        collator: pads on the left
    """
    if collator.side != "left":
        raise ValueError("prompts are padded on the left")
    frames = generated(model, prompts, collator, sampling).frames
    return [cut(row, collator.streams) for row in frames]
