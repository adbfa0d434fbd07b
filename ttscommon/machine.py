"""Which device to work on, and which of several launched processes this is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import timedelta

import torch
from accelerate import Accelerator, PartialState

from ttscommon.errors import UserError
from ttscommon.launching import take_over_sharding


def pick_device(device: str) -> torch.device:
    """The device meant by "auto", "cpu", "cuda" or "cuda:1".

    Raises:
        UserError: if it isn't there
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise UserError(f"unknown device '{device}'", fix="use auto, cpu or cuda") from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise UserError("no CUDA GPU here", fix="--device cpu")
    return chosen


def on_cpu(device: str) -> bool:
    """Whether `device` means the CPU here.

    Raises:
        UserError: if it isn't there
    """
    return pick_device(device).type == "cpu"


def processes(device: str = "auto", *, patience: timedelta | None = None) -> PartialState:
    """This process among those that `accelerate launch` started (or the only one).

    accelerate joins CPU processes into a group only when told that the CPU is meant; without that
    each would believe to be alone.

    Args:
        patience: how long one process waits for the others; torch's default is 10 to 30 minutes
    """
    take_over_sharding()
    options = {} if patience is None else {"timeout": patience}
    return PartialState(cpu=on_cpu(device), **options)


def accelerator(amp: str, device: str) -> Accelerator:
    """What moves, casts and averages for this process.

    Raises:
        UserError: if another one of this process computes in another precision
    """
    take_over_sharding()
    try:
        return Accelerator(mixed_precision=amp, cpu=on_cpu(device))
    except ValueError as error:
        raise UserError(
            f"this process can't train in precision '{amp}': {error}",
            fix="restart the notebook's kernel to change --amp, or use --amp no",
        ) from error


@contextlib.contextmanager
def memory_advice(when: str) -> Iterator[None]:
    """Say what to do where a GPU's memory doesn't suffice.

    Raises:
        UserError: instead of torch's own
    """
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise UserError(
            f"out of GPU memory {when}",
            fix="halve --batch-size and double --grad-accumulation: nearly the same, less memory",
        ) from error
