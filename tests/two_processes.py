"""Work in two processes that train together, as a launcher starts them."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

from torch.multiprocessing.spawn import start_processes

from tests.fresh import METHOD
from ttscommon.machine import processes


def launch_two(work: Any, folder: Path) -> None:
    """Run `work(folder)` as `accelerate launch --cpu --num_processes 2` would: in two processes."""
    folder.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start_processes(as_one_of_two, (work, folder, port), nprocs=2, start_method=METHOD)


def as_one_of_two(rank: int, work: Any, folder: Path, port: int) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    me = processes("cpu")
    (folder / f"rank{me.process_index}").write_text(str(me.num_processes))
    work(folder)
