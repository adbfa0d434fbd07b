"""Training the miniature's adapters, for the tests of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch

from higgs_trainer.checkpoint import HiggsCheckpoint
from higgs_trainer.clips import TRAIN, VALIDATION, CodeStore, HiggsClip, Sound, write_clips
from higgs_trainer.config import HiggsTrainConfig
from higgs_trainer.train import Job, TrainReport, train
from ttscommon.workspace import SystemFolder

TEXTS = ("one fine day.", "two.", "three of them.", "four.", "five more.", "six.")
CODEC = "c0dec"


def made_up(processed: Path, n_steps: tuple[int, ...] = (9, 14, 11, 7)) -> Path:
    """Lists of clips with random codes; the last is held out."""
    store, clips = CodeStore(processed, CODEC), []
    chance = torch.Generator().manual_seed(1)
    for number, length in enumerate(n_steps):
        store.write(f"key{number}_{length}", torch.randint(0, 64, (8, length), generator=chance))
        sound = Sound(f"{number}.wav", f"key{number}_{length}", length)
        clips.append(HiggsClip(f"clip{number}", "anna", f"tape{number}", TEXTS[number], (sound,)))
    write_clips(processed / TRAIN, clips[:-1], CODEC)
    write_clips(processed / VALIDATION, clips[-1:], CODEC)
    return processed


def job_of(folder: Path, model: Path, **changes: Any) -> Job:
    processed = made_up(folder / "processed")
    job = Job(
        processed / TRAIN,
        processed / VALIDATION,
        SystemFolder(folder / "out"),
        HiggsCheckpoint.open(model),
        device="cpu",
    )
    return dataclasses.replace(job, **changes)


def trained(job: Job, **changes: Any) -> TrainReport:
    torch.set_num_threads(1)
    return train(job, HiggsTrainConfig.tiny(**changes))


def elsewhere(job: Job, name: str) -> Job:
    """The same job with another output folder."""
    return dataclasses.replace(job, output=SystemFolder(job.output.folder.parent / name))
