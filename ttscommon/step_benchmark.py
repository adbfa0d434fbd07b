"""How fast adapters are trained here, and how much memory a step takes.

A case is measured in a process of its own, with random weights and a made-up batch, for neither
speed nor memory depends on the numbers. A family says what its stage and its batch are.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from typing import Any, Literal, TypeVar

import torch
from torch import nn

from ttscommon.errors import UserError
from ttscommon.machine import pick_device
from ttscommon.memory import map_large_tensors
from ttscommon.metering import Clock, Meter
from ttscommon.step_memory import StepMemory


@dataclass(frozen=True, kw_only=True)
class StepCase:
    """What is trained, and how.

    Attributes:
        seconds: of sound in each clip
        threads: of the CPU; 0: torch's choice
        repeats: steps of which the median counts
        warmups: steps before, whose time doesn't count; their memory does
    """

    batch_size: int = 1
    checkpointing: bool = True
    seconds: float = 5.0
    lora_rank: int = 16
    device: str = "cpu"
    amp: Literal["no", "bf16"] = "no"
    threads: int = 0
    clock: Literal["wall", "cpu"] = "wall"
    repeats: int = 1
    warmups: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.batch_size, self.repeats) < 1 or self.warmups < 0:
            raise UserError("batches and repeats are 1 or more, warmups 0 or more")
        if self.seconds <= 0.1:
            raise UserError(f"clips need 0.1 s and more, not {self.seconds}")


C = TypeVar("C", bound=StepCase)


@dataclass(frozen=True)
class StepSpeed:
    """What a case took.

    Attributes:
        n_tokens: columns of each clip in the transformer
        seconds: of one step
        memory: as it was computed
        peak: bytes that the process occupied at most, less what it occupied after it had trained a
            miniature, so without the libraries; on a GPU what its tensors occupied. None where the
            system doesn't tell
    """

    case: StepCase
    n_tokens: int
    n_trained: int
    seconds: float
    memory: StepMemory
    peak: int | None

    @property
    def estimate(self) -> int:
        return self.memory.total

    @property
    def clips_per_second(self) -> float:
        return self.case.batch_size / max(self.seconds, 1e-9)

    @property
    def estimate_share(self) -> float | None:
        """Of the peak that was estimated."""
        return self.estimate / self.peak if self.peak else None

    def to_dict(self) -> dict[str, Any]:
        told = {"estimate": self.estimate, "estimated": str(self.memory)}
        derived = {"clips_per_second": self.clips_per_second, "estimate_share": self.estimate_share}
        return {**asdict(self), **told, **derived}


@dataclass(frozen=True)
class Steps:
    """Something to train: a stage in training mode, and a batch for it.

    Attributes:
        estimate: computes what a step takes
    """

    stage: nn.Module
    batch: Any
    n_tokens: int
    clip_norm: float
    estimate: Callable[[], StepMemory]


def in_own_process(trained: Callable[[C], StepSpeed], case: C) -> StepSpeed:
    """Train a few steps in a new process: what another has occupied must not count.

    Args:
        trained: a function of a module

    Raises:
        UserError: if the device isn't there, or memory doesn't suffice
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as processes:
        try:
            return processes.submit(trained, case).result()
        except BrokenProcessPool as error:
            raise UserError(
                f"the process that trains with {case.batch_size} clips was killed, probably for "
                "its memory",
                fix="fewer --batch-sizes or --seconds, with --gradient-checkpointing alone",
            ) from error


def trained_steps(case: C, small: C, make: Callable[[C, torch.device], Steps]) -> StepSpeed:
    """Train in this process, which should hold nothing else.

    Args:
        small: a miniature, which brings the libraries
    """
    device = pick_device(case.device)
    if case.threads:
        torch.set_num_threads(case.threads)
    if device.type == "cpu":
        map_large_tensors()
    _timed(make(small, device), small, 1, time.perf_counter)
    gc.collect()
    clock: Clock = time.process_time if case.clock == "cpu" else time.perf_counter
    meter = Meter(device, clock)
    before = meter.held()
    steps = make(case, device)
    estimate = steps.estimate()
    found = meter.measure(lambda: _timed(steps, case, case.warmups + case.repeats, clock))
    held = 0 if device.type == "cuda" else before
    return StepSpeed(
        case=case,
        n_tokens=steps.n_tokens,
        n_trained=sum(p.numel() for p in steps.stage.parameters() if p.requires_grad),
        seconds=sorted(found.result[case.warmups :])[case.repeats // 2],
        memory=estimate,
        peak=None if found.peak is None or held is None else found.peak - held,
    )


def _timed(steps: Steps, case: StepCase, n: int, clock: Clock) -> list[float]:
    """Seconds that each of `n` steps took."""
    trained = [p for p in steps.stage.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)
    device, found = trained[0].device, []
    for _ in range(n):
        start = clock()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=case.amp == "bf16"):
            loss = steps.stage(steps.batch).total
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, steps.clip_norm)
        optimizer.step()
        del loss
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        found.append(clock() - start)
    return found
