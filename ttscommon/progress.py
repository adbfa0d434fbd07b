"""How a training run tells what it does: log lines, `progress.jsonl`, TensorBoard, a page."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import platform
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps

from ttscommon.curves import History, short
from ttscommon.errors import UserError
from ttscommon.files import read_json, write_json
from ttscommon.memory import gpu_peak, peak
from ttscommon.monitor_page import MACHINE, About, MonitorPage
from ttscommon.records import append_record, keep_until
from ttscommon.records import read_kept as read_kept  # who reads the record looks here
from ttscommon.samples import Samples
from ttscommon.sound_progress import clock

log = logging.getLogger(__name__)

RUN_FORMAT = "ttscommon.run"
PACKAGES = ("voxtune", "torch", "numpy", "accelerate", "transformers", "peft", "safetensors")
GB = 10**9


class Monitor:
    """Records one run; on other processes than the first it records nothing.

    Args:
        folder: gets `progress.jsonl`, `report.html`, `run.json`, samples and TensorBoard events
        start: the step the run goes on from; records of later steps are dropped
        watched: the metric by which the best checkpoint is chosen; less is better
        command: what started the run, by default as the system tells it
        settings: shown on the page
        device: whose memory is told
    """

    def __init__(
        self,
        folder: Path,
        *,
        start: int,
        total: int,
        active: bool,
        title: str,
        watched: str = "loss",
        command: str = "",
        settings: Mapping[str, Any] | None = None,
        device: str = "cpu",
    ):
        self.folder, self.total, self.active, self.title = folder, total, active, title
        self.watched, self.device, self.last_step = watched, device, start
        self._began, self._start, self._items = time.monotonic(), start, 0
        self._since, self._items_since, self._earlier_seconds = self._began, 0, 0.0
        self._history, self._is_in_trouble = History(), False
        self._writer: Any = None
        if not active:
            return
        from torch.utils.tensorboard import SummaryWriter  # slow to import

        folder.mkdir(parents=True, exist_ok=True)
        self.records = folder / "progress.jsonl"
        for record in keep_until(self.records, start)[0]:
            self._history.add(record)
        self._earlier_seconds = self._history.last("train", "seconds") or 0.0
        self._samples = Samples(folder, start=start)
        starts = _note_start(folder / "run.json", start, command, device, settings or {})
        about = About(title, total, watched, settings or {}, starts)
        self.page = MonitorPage(folder / "report.html", about, self._history, self._samples)
        self._writer = SummaryWriter(str(folder), purge_step=start + 1)

    def count(self, n_items: int) -> None:
        """Add to the number of clips seen, for the clips per second of the next line."""
        self._items += n_items

    def step(
        self, step: int, values: Mapping[str, float], *, lr: float, epoch: float | None = None
    ) -> None:
        """One log line and one record for the training step just done."""
        if not self.active:
            return
        now = time.monotonic()
        done = max(1, step - self._start)
        eta = (now - self._began) / done * (self.total - step)
        rate = (self._items - self._items_since) / max(now - self._since, 1e-9)
        self._since, self._items_since, self.last_step = now, self._items, step
        memory = self._memory()
        shown = "  ".join(f"{name} {value:.4f}" for name, value in values.items())
        taken = "  ".join(f"{n[:-3].replace('_', ' ')} {gb:.1f} GB" for n, gb in memory.items())
        log.info(
            "%s step %d/%d  %s  lr %.1e  %.1f clips/s  %s  eta %s",
            *(self.title, step, self.total, shown, lr, rate, taken, clock(eta)),
        )
        losses = {**values, "lr": lr, "clips_per_second": rate, **memory}
        others = {"eta_seconds": round(eta, 1), "seconds": round(self._seconds(), 1)}
        if epoch is not None:
            others["epoch"] = round(epoch, 4)
        self._record("train", step, losses, others)
        self._refresh()

    def scalars(self, group: str, step: int, values: Mapping[str, float]) -> None:
        """Record numbers under `group/name`.

        Those of the group "val" are an evaluation; those of the group "sample" score the sounds
        of a step, less is better.
        """
        if not self.active:
            return
        self.last_step = max(self.last_step, step)
        self._record(group, step, values)
        if group == "val":
            with self._surviving():
                self._samples.prune(self._best_steps())
        self._refresh(is_urgent=group == "val")

    def has(self, name: str) -> bool:
        """Whether there is a sound or picture of that name from an evaluation before."""
        return self.active and any(sample.name == name for sample in self._samples.kept)

    def image(
        self,
        name: str,
        step: int,
        values: np.ndarray,
        *,
        low: float | None = None,
        high: float | None = None,
    ) -> None:
        """Record a matrix (H, W), in colours, with row 0 at the bottom.

        Args:
            name: "mel/NAME" stands under the sound "NAME" on the page
            low, high: what is darkest and brightest, by default the extremes
        """
        if not self.active:
            return
        low = float(values.min()) if low is None else low
        high = float(values.max()) if high is None else high
        shades = (values[::-1] - low) / max(high - low, 1e-9)
        pixels = colormaps["magma"](shades)[..., :3]  # (H, W, 3)
        self._writer.add_image(name, pixels, step, dataformats="HWC")
        with self._surviving():
            self._samples.add_picture(name, step, pixels)

    def audio(
        self, name: str, step: int, audio: np.ndarray, sample_rate: int, text: str = ""
    ) -> None:
        """Record mono audio (S,), and the words that are spoken in it."""
        if not self.active:
            return
        self._writer.add_audio(name, audio[None], step, sample_rate=sample_rate)
        with self._surviving():
            self._samples.add_sound(name, step, audio, sample_rate, text)

    def close(self, *, is_finished: bool = False) -> None:
        """Write the last page, which says whether the run is finished or was stopped."""
        if self._writer is None:
            return
        state = "finished" if is_finished else "stopped"
        self.page.refresh(self._facts(is_over=True), state=state)
        self._writer.close()

    def _record(
        self,
        group: str,
        step: int,
        values: Mapping[str, float],
        others: Mapping[str, float] | None = None,
    ) -> None:
        record = {"step": step, "group": group, **(others or {})}
        record |= {name: float(value) for name, value in values.items()}
        self._history.add(record)
        with self._surviving():
            for name, value in values.items():
                self._writer.add_scalar(f"{group}/{name}", value, step)
            append_record(self.records, record)

    def _refresh(self, *, is_urgent: bool = False) -> None:
        self.page.refresh(self._facts(), state="training", is_urgent=is_urgent)

    def _best_steps(self) -> set[int]:
        """Where the best checkpoints come from, by the watched metric and by ear."""
        scores = [("val", self.watched), *(("sample", n) for n in self._history.names("sample"))]
        curves = [points for key in scores if (points := self._history.points(*key))]
        return {int(min(points, key=lambda point: point[1])[0]) for points in curves}

    def _facts(self, *, is_over: bool = False) -> dict[str, str]:
        """What stands on top of the page."""
        history, last = self._history, lambda name: self._history.last("train", name)
        facts = {"step": f"{self.last_step:,} of {self.total:,}"}
        if (epoch := last("epoch")) is not None:
            facts["epoch"] = f"{epoch:.1f}"
        if (left := last("eta_seconds")) is not None and not is_over:
            facts["left"] = clock(left)
        facts["trained for"] = clock(self._seconds())
        if (loss := last("loss")) is not None:
            facts["loss"] = short(loss)
        if scored := history.points("val", self.watched):
            step, value = min(scored, key=lambda point: point[1])
            facts[f"best {self.watched}, step {step:,.0f}"] = short(value)
        for name in ("clips_per_second", "memory_gb", "gpu_memory_gb"):
            if (value := last(name)) is not None:
                facts[MACHINE[name]] = short(value)
        return facts

    def _memory(self) -> dict[str, float]:
        """The most that was taken so far, in GB, where the system tells."""
        found = {"memory_gb": peak(), "gpu_memory_gb": gpu_peak(self.device)}
        return {name: size / GB for name, size in found.items() if size is not None}

    def _seconds(self) -> float:
        return self._earlier_seconds + time.monotonic() - self._began

    @contextmanager
    def _surviving(self) -> Iterator[None]:
        """Trouble with the disk costs a sample, never the training; it is told once."""
        try:
            yield
        except OSError as error:
            if not self._is_in_trouble:
                log.warning("can't keep samples in %s (%s)", self.folder, error.strerror)
            self._is_in_trouble = True


def _note_start(
    path: Path, step: int, command: str, device: str, settings: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Add this start to the run's own record; returns all of them, the first one first."""
    starts: list[dict[str, Any]] = []
    try:
        known = read_json(path, format=RUN_FORMAT)["starts"] if step and path.exists() else []
        starts = [start for start in known if start["step"] <= step]
    except UserError as error:
        log.warning("%s; it begins anew", error)
    starts.append(
        {
            "step": step,
            "time": datetime.now().astimezone().isoformat(" ", "seconds"),
            "command": command or shlex.join([Path(sys.orig_argv[0]).name, *sys.orig_argv[1:]]),
            "device": device,
            "versions": _versions(),
        }
    )
    plain = json.loads(json.dumps(settings, default=str))
    header = {"format": RUN_FORMAT, "version": 1}
    write_json(path, {**header, "starts": starts, "settings": plain})
    return starts


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
