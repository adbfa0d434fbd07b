"""How a training run tells what it does: log lines, `progress.jsonl`, TensorBoard."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from tqdm import tqdm

from ttscommon.files import atomic

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


class Monitor:
    """Records one run; on other processes than the first it records nothing.

    Args:
        folder: gets TensorBoard events and `progress.jsonl`
        start: the step the run goes on from; records of later steps are dropped
    """

    def __init__(self, folder: Path, *, start: int, total: int, active: bool, title: str):
        self.folder, self.total, self.active, self.title = folder, total, active, title
        self._began, self._start, self._items = time.monotonic(), start, 0
        self._writer: Any = None
        if not active:
            return
        from torch.utils.tensorboard import SummaryWriter  # slow to import

        folder.mkdir(parents=True, exist_ok=True)
        self.records = folder / "progress.jsonl"
        kept = [r for r in read_records(self.records) if r["step"] <= start]
        with atomic(self.records) as draft:
            lines = "".join(json.dumps(record) + "\n" for record in kept)
            draft.write_text(lines, encoding="utf-8")
        self._writer = SummaryWriter(str(folder), purge_step=start + 1)

    def count(self, n_items: int) -> None:
        """Add to the number of clips seen, for the clips per second of the next line."""
        self._items += n_items

    def step(self, step: int, values: Mapping[str, float], *, lr: float) -> None:
        """One log line and one record for the training step just done."""
        seconds = time.monotonic() - self._began
        done = max(1, step - self._start)
        eta = clock(seconds / done * (self.total - step))
        if not self.active:
            return
        shown = "  ".join(f"{name} {value:.4f}" for name, value in values.items())
        rate = self._items / max(seconds, 1e-9)
        log.info(
            "%s step %d/%d  %s  lr %.1e  %.1f clips/s  eta %s",
            *(self.title, step, self.total, shown, lr, rate, eta),
        )
        self.scalars("train", step, {**values, "lr": lr})

    def scalars(self, group: str, step: int, values: Mapping[str, float]) -> None:
        """Record numbers under `group/name`."""
        if not self.active:
            return
        for name, value in values.items():
            self._writer.add_scalar(f"{group}/{name}", value, step)
        record = {"step": step, "group": group, **{k: float(v) for k, v in values.items()}}
        with self.records.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def image(self, name: str, step: int, values: np.ndarray) -> None:
        """Record a matrix (H, W), in colours, with row 0 at the bottom."""
        if not self.active:
            return
        low, high = float(values.min()), float(values.max())
        shades = (values[::-1] - low) / max(high - low, 1e-9)
        pixels = colormaps["magma"](shades)[..., :3]  # (H, W, 3)
        self._writer.add_image(name, pixels, step, dataformats="HWC")

    def audio(self, name: str, step: int, audio: np.ndarray, sample_rate: int) -> None:
        """Record mono audio (S,)."""
        if self.active:
            self._writer.add_audio(name, audio[None], step, sample_rate=sample_rate)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records of a `progress.jsonl`; a last line cut short by a kill is left out."""
    if not path.exists():
        return []
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            log.warning("%s: left out a broken line", path)
    return records


class SoundProgress:
    """A bar on a terminal, elsewhere a line every few seconds; counts seconds of sound.

    Args:
        done: what is done to the sound, such as "prepared"
        seconds: of sound to work on
    """

    def __init__(self, done: str, seconds: float, *, is_shown: bool = True):
        self.what, self.total, self.done, self._began = done, seconds, 0.0, time.monotonic()
        self._next_line = self._began + LOG_EVERY
        is_terminal = sys.stderr.isatty()
        self._bar = tqdm(total=round(seconds), unit="s", disable=not (is_shown and is_terminal))
        self._shows_lines = is_shown and not is_terminal

    def advance(self, seconds: float) -> None:
        """Count sound that was worked on."""
        self.done += seconds
        self._bar.update(round(self.done) - self._bar.n)
        now = time.monotonic()
        if self._shows_lines and now >= self._next_line:
            self._next_line = now + LOG_EVERY
            speed = self.done / (now - self._began)
            log.info(
                "%s %s of %s of sound  %.1f x real time  eta %s",
                *(self.what, clock(self.done), clock(self.total), speed),
                clock((self.total - self.done) / max(speed, 1e-9)),
            )

    def close(self) -> None:
        self._bar.close()
