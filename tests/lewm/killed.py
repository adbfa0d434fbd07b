"""A training that is killed at a chosen moment."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from lewm import weights
from tools.lewm_train import main


def run_until_killed(words: list[str], kill_after: str) -> None:
    """Run the tool and SIGKILL it as soon as `kill_after` exists."""
    original = weights.save

    def save_then_die(folder, model, info):
        original(folder, model, info)
        if Path(kill_after) == folder:
            os.kill(os.getpid(), signal.SIGKILL)

    weights.save = save_then_die
    main(words)
