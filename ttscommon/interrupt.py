"""Ctrl-C that finishes the step, saves, and only then leaves."""

from __future__ import annotations

import contextlib
import logging
import signal
import time
from collections.abc import Iterator
from typing import Any

log = logging.getLogger(__name__)

SAME_REQUEST = 2.0  # seconds within which a signal repeats the one before


class StopRequest:
    """Set by the first Ctrl-C or SIGTERM; a second one, later, stops at once.

    Under a launcher one Ctrl-C arrives twice, from the terminal and from the parent.
    """

    asked = False
    since = 0.0

    def __call__(self, *_: Any) -> None:
        if self.asked and time.monotonic() - self.since < SAME_REQUEST:
            return
        if self.asked:
            raise KeyboardInterrupt("stopped at once; the last resume point is whole")
        self.asked, self.since = True, time.monotonic()
        log.info("stopping after this step; press Ctrl-C again to stop at once")


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Turn SIGINT and SIGTERM into a request for as long as the block runs.

    Outside the main thread signals aren't ours to handle, and the request is never set.
    """
    request = StopRequest()
    try:
        old = {s: signal.signal(s, request) for s in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:
        yield request
        return
    try:
        yield request
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
