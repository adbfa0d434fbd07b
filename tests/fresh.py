"""Children that a test trains in or kills: forks of a process that has computed nothing.

After a backward pass of its own a process can't have forks that do one (pytorch's wiki, Autograd
and Fork), so plain forks of the test's own process work or fail with the order of the tests.
"""

from __future__ import annotations

import multiprocessing
from multiprocessing.context import ForkServerContext, ForkServerProcess

METHOD = "forkserver"


class _Process(ForkServerProcess):
    """Has its own children by forking, as any program on Linux.

    Those of a forkserver don't notice when the process is killed that wanted them, and stay.
    """

    def run(self) -> None:
        multiprocessing.set_start_method("fork", force=True)
        super().run()


class _Context(ForkServerContext):
    Process = _Process


FRESH = _Context()
FRESH.set_forkserver_preload(["torch._dynamo", "peft", "lewm.train", "indextts.train"])
