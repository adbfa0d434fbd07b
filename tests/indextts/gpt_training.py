"""Training the miniature's language model, for the tests of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch

from indextts import weights
from indextts.checkpoint import CheckpointFolder
from indextts.train import Job, train_full, train_lora
from indextts.train_config import FullTrainConfig, LoraTrainConfig
from tests.indextts.prepared_clips import write_clips
from ttscommon.workspace import SystemFolder

SIZES = [(3, 9), (4, 14), (6, 21), (5, 12), (4, 17), (3, 8)]


def prepared(folder: Path, miniature: Path, sizes: list[tuple[int, int]] | None = None) -> Job:
    """A job with random clips of the miniature's base."""
    opened = CheckpointFolder.open(miniature)
    config = opened.config.gpt
    base = weights.fingerprint(weights.load_gpt(opened.gpt, config))
    processed = folder / "processed"
    options: dict[str, Any] = {"config": config, "base": base}
    train = write_clips(processed, sizes or SIZES, **options)
    held_out = write_clips(
        processed, [(4, 11), (3, 15)], name="val_manifest.jsonl", prefix="held", **options
    )
    return Job([train], [held_out], SystemFolder(folder / "out"), opened, device="cpu")


def train(job: Job, config: LoraTrainConfig | FullTrainConfig, **changes: Any) -> Any:
    torch.set_num_threads(1)
    config = dataclasses.replace(config, **changes)
    if isinstance(config, LoraTrainConfig):
        return train_lora(job, config)
    return train_full(job, config)
