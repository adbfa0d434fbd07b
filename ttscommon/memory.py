"""How much memory this process takes, where the system tells (Linux does)."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


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
