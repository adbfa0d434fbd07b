"""Training the miniature's language model, for the tests of it."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from indextts import weights
from indextts.checkpoint import CheckpointFolder
from indextts.train import Job, train_full, train_lora
from indextts.train_config import FullTrainConfig, LoraTrainConfig
from tests.fresh import FRESH
from tests.indextts.prepared_clips import write_clips
from ttscommon import training
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


def moved(job: Job, name: str) -> Job:
    """The same job with another output folder."""
    return dataclasses.replace(job, output=SystemFolder(job.output.folder.parent / name))


def started(work: Callable[..., Any], *args: Any) -> BaseProcess:
    """`work` of a test module, in a process of its own."""
    process = FRESH.Process(target=work, args=args)
    process.start()
    return process


def train_and_die(job: Job, config: LoraTrainConfig | FullTrainConfig, at_batch: int) -> None:
    """For a process of its own, which is killed once it has the gradients of a batch."""
    count, backward = [0], training.Accelerator.backward

    def dying(accelerator: Any, loss: torch.Tensor, **options: Any) -> None:
        backward(accelerator, loss, **options)
        count[0] += 1
        if count[0] == at_batch:
            os.kill(os.getpid(), signal.SIGKILL)

    training.Accelerator.backward = dying  # type: ignore[reportAttributeAccessIssue]
    train(job, config)


def train_in_two_processes(job: Job, config: LoraTrainConfig | FullTrainConfig) -> None:
    """As `accelerate launch --cpu --num_processes 2` would, over gloo."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    both = [started(train_as_one_of_two, rank, port, job, config) for rank in (0, 1)]
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]


def train_as_one_of_two(
    rank: int, port: int, job: Job, config: LoraTrainConfig | FullTrainConfig
) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    train(job, config)
    from accelerate import PartialState

    assert PartialState().num_processes == 2
