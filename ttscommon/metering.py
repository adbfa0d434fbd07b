"""How long an action takes, and how much memory, by one clock on one device."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch

from ttscommon import memory

Clock = Callable[[], float]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Measured(Generic[Result]):
    """What came out of an action, and what it took.

    Attributes:
        seconds: median of the repeats
        peak: most bytes occupied meanwhile, of the device; None where that isn't known
    """

    result: Result
    seconds: float
    peak: int | None


class Meter:
    """Measures actions by one clock on one device."""

    def __init__(self, device: torch.device, clock: Clock = time.perf_counter):
        self.device, self.clock = device, clock

    def measure(
        self, action: Callable[[], Result], *, repeats: int = 1, warmups: int = 0
    ) -> Measured[Result]:
        for _ in range(warmups):
            action()
        times, peaks, result = [], [], None
        for _ in range(repeats):
            result = None  # lest two results are in memory at once
            self._begin()
            start = self.clock()
            result = action()
            self._wait()
            times.append(self.clock() - start)
            peaks.append(self._peak())
        assert result is not None
        known = [peak for peak in peaks if peak is not None]
        return Measured(result, statistics.median(times), max(known, default=None))

    def held(self) -> int | None:
        """Bytes occupied now."""
        if self.device.type == "cuda":
            return torch.cuda.memory_allocated(self.device)
        return memory.resident()

    def _begin(self) -> None:
        self._wait()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            memory.reset_peak()

    def _peak(self) -> int | None:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return memory.peak()

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def processor() -> str:
    """The name of this machine's."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "cpu"
