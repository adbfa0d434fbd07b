"""How processes are launched: by accelerate, which says so to each, and how that is typed again.

No torch in here.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence

from ttscommon.errors import UserError

# As accelerate's launcher sets them.
FSDP, FSDP_VERSION, FSDP_OFFLOAD = "ACCELERATE_USE_FSDP", "FSDP_VERSION", "FSDP_OFFLOAD_PARAMS"
TAKEN_OVER = "VOXTUNE_FSDP"


def launcher(device: str) -> list[str]:
    """What a tool is started with here: one process, or as many as accelerate launched."""
    n_processes = os.environ.get("WORLD_SIZE", "1")
    if n_processes == "1":
        return ["python"]
    words = ["--cpu"] if device == "cpu" else []
    words += ["--use_fsdp", "--fsdp_version", "2"] if is_sharding_asked() else []
    return ["accelerate", "launch", *words, "--num_processes", n_processes]


def same_command(tool: str, argv: Sequence[str] | None, device: str) -> str:
    """What goes on with a run of `tools/<tool>.py`.

    Args:
        argv: its words, by default those that were typed; --overwrite would begin anew
    """
    words = [w for w in (sys.argv[1:] if argv is None else argv) if w != "--overwrite"]
    return shlex.join([*launcher(device), f"tools/{tool}.py", *words])


def is_sharding_asked() -> bool:
    """Whether this process was launched with others to share out weights (FSDP).

    Raises:
        UserError: if that is to be done in a way that isn't followed here
    """
    if not (_is_set(FSDP) or _is_set(TAKEN_OVER)) or os.environ.get("WORLD_SIZE", "1") == "1":
        return False
    if os.environ.get(FSDP_VERSION, "1") != "2":
        what = "this FSDP configuration is of version 1"
        raise UserError(what, fix="fsdp_version: 2, as in configs/accelerate/fsdp.yaml")
    if _is_set(FSDP_OFFLOAD):
        what = "weights can't be kept in the computer's memory while they are trained"
        raise UserError(what, fix="fsdp_offload_params: false")
    return True


def take_over_sharding() -> None:
    """Keep accelerate and transformers from sharing out weights; `ttscommon.sharding` does.

    Told of it, accelerate would wrap networks by rules of its own, and transformers would read
    weights in the first process only.
    """
    if FSDP in os.environ:
        os.environ[TAKEN_OVER] = os.environ.pop(FSDP)


def _is_set(name: str) -> bool:
    return os.environ.get(name, "false").lower() == "true"
