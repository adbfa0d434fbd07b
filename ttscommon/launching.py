"""How the command of a run is typed again: alone, or by the launcher with as many processes."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence


def launcher(device: str) -> list[str]:
    """What a tool is started with here: one process, or as many as accelerate launched."""
    n_processes = os.environ.get("WORLD_SIZE", "1")
    if n_processes == "1":
        return ["python"]
    cpu = ["--cpu"] if device == "cpu" else []
    return ["accelerate", "launch", *cpu, "--num_processes", n_processes]


def same_command(tool: str, argv: Sequence[str] | None, device: str) -> str:
    """What goes on with a run of `tools/<tool>.py`.

    Args:
        argv: its words, by default those that were typed; --overwrite would begin anew
    """
    words = [w for w in (sys.argv[1:] if argv is None else argv) if w != "--overwrite"]
    return shlex.join([*launcher(device), f"tools/{tool}.py", *words])
