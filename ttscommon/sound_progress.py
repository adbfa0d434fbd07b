"""How far a pass over many hours of recordings is."""

from __future__ import annotations

import logging
import sys
import time

from tqdm import tqdm

log = logging.getLogger(__name__)

LOG_EVERY = 5.0  # seconds


def clock(seconds: float) -> str:
    """A duration to read at a glance: 45s, 8m10s, 3h05m."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


class SoundProgress:
    """A bar on a terminal, elsewhere a line every few seconds; counts seconds of sound.

    Args:
        verb: what was done to the sound: "prepared", "cut"
        seconds: of sound that there is to do
    """

    def __init__(self, verb: str, seconds: float, *, is_shown: bool = True):
        self.verb, self.total, self.done = verb, seconds, 0.0
        self._began = time.monotonic()
        self._next_line = self._began + LOG_EVERY
        is_terminal = sys.stderr.isatty()
        self._bar = tqdm(total=round(seconds), unit="s", disable=not (is_shown and is_terminal))
        self._shows_lines = is_shown and not is_terminal

    def advance(self, seconds: float) -> None:
        self.done += seconds
        self._bar.update(round(self.done) - self._bar.n)
        now = time.monotonic()
        if self._shows_lines and now >= self._next_line:
            self._next_line = now + LOG_EVERY
            speed = self.done / (now - self._began)
            log.info(
                "%s %s of %s of sound  %.1f x real time  eta %s",
                *(self.verb, clock(self.done), clock(self.total), speed),
                clock((self.total - self.done) / max(speed, 1e-9)),
            )

    def close(self) -> None:
        self._bar.close()
