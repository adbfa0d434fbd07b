"""Ctrl-C that finishes the step, saves, and only then leaves."""

from __future__ import annotations

import contextlib
import logging
import signal
from collections.abc import Iterator
from typing import Any

log = logging.getLogger(__name__)


class StopRequest:
    """Set by the first Ctrl-C or SIGTERM; a second one stops at once."""

    asked = False

    def __call__(self, *_: Any) -> None:
        if self.asked:
            raise KeyboardInterrupt("stopped at once; the last resume point is whole")
        self.asked = True
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
