"""Frames from a prompt, with transformers' own loop, and what they say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from higgs_trainer.collator import Collator
from higgs_trainer.delay import IGNORED, Cut, cut
from higgs_trainer.loss import hidden_states
from higgs_trainer.prompt import Written
from higgs_trainer.speaking_config import Sampling as Sampling  # who generates looks here
from higgs_trainer.speaking_config import most_frames
from ttscommon.batching import move
from ttscommon.seeds import seed_for


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
    model: Any,
    prompts: Sequence[Written],
    collator: Collator,
    sampling: Sampling,
    most: Sequence[int] | None = None,
) -> list[Cut]:
    """The codes that a model says after each prompt.

    Args:
        collator: pads on the left
        most: steps of each, by default `sampling.max_steps`
    """
    if collator.side != "left":
        raise ValueError("prompts are padded on the left")
    most = most or [sampling.max_steps] * len(prompts)
    frames = generated(model, prompts, collator, replace(sampling, max_steps=max(most))).frames
    # A row goes on while others do, past where it would have been stopped alone.
    ends = [most_frames(steps, collator.streams) for steps in most]
    return [cut(row[:end], collator.streams) for row, end in zip(frames, ends, strict=True)]
