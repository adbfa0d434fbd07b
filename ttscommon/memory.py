"""How much memory this process takes, where the system tells (Linux does)."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
M_MMAP_THRESHOLD, MAPPED_FROM = -3, 1 << 17  # of mallopt(3)


def resident() -> int | None:
    """Bytes this process occupies now; None where the system doesn't tell."""
    return _read("VmRSS")


def peak() -> int | None:
    """The most bytes it has occupied since `reset_peak`, or since it began."""
    return _read("VmHWM")


def reset_peak() -> None:
    """Let `peak` begin anew, where the system allows it."""
    with suppress(OSError):
        RESET.write_text("5", encoding="ascii")


def gpu_peak(device: str) -> int | None:
    """The most bytes that tensors have occupied on a CUDA device; None for other devices."""
    if not device.startswith("cuda"):
        return None
    import torch  # slow to import, and most who ask for memory don't need it

    return torch.cuda.max_memory_allocated(device)


def _read(field: str) -> int | None:
    with suppress(OSError):
        for line in STATUS.read_text(encoding="ascii").splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
    return None


def map_large_tensors() -> None:
    """Give large blocks back to the system as soon as they are free, where the C library is glibc.

    By default it raises the size from which it does so up to 32 MB, and the holes between smaller
    blocks then took as much memory again as the tensors in a training step (measured).
    """
    import ctypes

    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").mallopt(M_MMAP_THRESHOLD, MAPPED_FROM)
