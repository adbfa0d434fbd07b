"""transformers draws progress bars of its own, which fill a log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_bars() -> Iterator[None]:
    """Keep it from drawing them."""
    from transformers.utils import logging as chatter

    was_on = chatter.is_progress_bar_enabled()
    chatter.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            chatter.enable_progress_bar()
