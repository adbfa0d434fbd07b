"""Which device to work on, and which of several launched processes this is."""

from __future__ import annotations

from datetime import timedelta

import torch
from accelerate import PartialState

from ttscommon.errors import UserError

DEVICES = ("auto", "cpu", "cuda")


def on_cpu(device: str) -> bool:
    """Whether "auto", "cpu" or "cuda" means the CPU here.

    Raises:
        UserError: if a GPU is asked for and there is none
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("no CUDA GPU was found", fix="--device cpu, or check nvidia-smi")
    return device == "cpu" or not torch.cuda.is_available()


def processes(device: str = "auto", *, patience: timedelta | None = None) -> PartialState:
    """This process among those that `accelerate launch` started (or the only one).

    accelerate joins CPU processes into a group only when told that the CPU is meant; without that
    each would believe to be alone.

    Args:
        patience: how long one process waits for the others; torch's default is 10 to 30 minutes
    """
    options = {} if patience is None else {"timeout": patience}
    return PartialState(cpu=on_cpu(device), **options)
