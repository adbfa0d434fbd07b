"""Children that a test trains in or kills: forks of a process that has computed nothing.

After a backward pass of its own a process can't have forks that do one (pytorch's wiki, Autograd
and Fork), so plain forks of the test's own process work or fail with the order of the tests.
"""

from __future__ import annotations

import multiprocessing

METHOD = "forkserver"
FRESH = multiprocessing.get_context(METHOD)
FRESH.set_forkserver_preload(["torch._dynamo", "peft", "lewm.train", "indextts.train"])
