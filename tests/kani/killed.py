"""An evaluation that is killed at its worst moment."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from kani import speaking
from kani.evaluate import Judging
from ttscommon.evaluation.measuring import Instruments


def judge_until_killed(configs: Path, codec: Path) -> None:
    """SIGKILL when the base's second clip is known, and its sound not yet written."""
    original = speaking.audio.save
    written: list[Path] = []

    def save_or_die(path: Path, *what: Any) -> None:
        if path.parent.name == "base" and written:
            os.kill(os.getpid(), signal.SIGKILL)
        written.extend([path] * (path.parent.name == "base"))
        original(path, *what)

    speaking.audio.save = save_or_die  # type: ignore[assignment]
    judging = Judging(configs, codec, device="cpu")
    judging.run(Instruments(has_quality=False), language="en", most_clips=60)
