"""A run as a page that is read while it trains: curves, sounds, pictures, how it was started.

The page is one file that needs no network. It never costs more than a fiftieth of the training:
after it took a second to write, it rests for fifty.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ttscommon.curves import Chart, History, chart, short
from ttscommon.files import atomic
from ttscommon.pages import data_uri, render
from ttscommon.samples import Sample, Samples

log = logging.getLogger(__name__)

PATIENCE = 30.0  # seconds between two pages, where no evaluation asks for one
REST = 50.0  # times as long as the page took, before the next one
RELOAD = 60  # seconds after which an open page looks for a newer one
N_EARLIER = 3  # evaluations before the newest one that can be heard and seen
N_ROWS = 12  # of the table of evaluations
MIME_TYPES = {"sound": "audio/flac", "picture": "image/webp"}
# What every step records beside its losses, in the order of the page.
MACHINE = {
    "lr": "learning rate",
    "grad_norm": "gradient norm",
    "clips_per_second": "clips per second",
    "memory_gb": "memory, peak GB",
    "gpu_memory_gb": "GPU memory, peak GB",
}
UNDRAWN = {"epoch", "eta_seconds", "seconds"}


@dataclass(frozen=True)
class About:
    """What a run is, for the head and the foot of its page.

    Attributes:
        watched: the metric that the best checkpoint has least of
        starts: one row for each time that it was started: step, time, command, versions
    """

    title: str
    total: int
    watched: str
    settings: Mapping[str, Any]
    starts: Sequence[Mapping[str, Any]]


class MonitorPage:
    """`report.html` of one run."""

    def __init__(self, path: Path, about: About, history: History, samples: Samples):
        self.path, self.about, self.history, self.samples = path, about, history, samples
        self.cost = 0.0  # seconds that the last page took
        self.n_written = 0
        self._written = -float("inf")
        self._is_in_trouble = False

    def refresh(self, facts: Mapping[str, str], *, state: str, is_urgent: bool = False) -> None:
        """Write the page if it is time for it; trouble with the disk is told and survived.

        Args:
            facts: the few numbers on top, by what they are
            state: "training", "finished" ...
            is_urgent: there is something new to hear or see
        """
        began = time.monotonic()
        rest = max(0.0 if is_urgent else PATIENCE, REST * self.cost)
        if state == "training" and began - self._written < rest:
            return
        try:
            page = self._rendered(facts, state)
            with atomic(self.path) as draft:
                draft.write_text(page, encoding="utf-8")
        except OSError as error:
            if not self._is_in_trouble:
                log.warning("can't write %s (%s); training goes on", self.path, error.strerror)
            self._is_in_trouble = True
            self._written = time.monotonic()
            return
        if not self.n_written:
            log.info("watch it: %s", self.path)
        self._is_in_trouble = False
        self.n_written += 1
        self._written = time.monotonic()
        self.cost = self._written - began

    def _rendered(self, facts: Mapping[str, str], state: str) -> str:
        about, history = self.about, self.history
        return render(
            "monitor.html.j2",
            title=about.title,
            state=state,
            reload=RELOAD if state == "training" else 0,
            facts=facts,
            written=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S"),
            sections=_sections(history),
            table=_table(history, about.watched),
            watched=about.watched,
            cards=_cards(self.samples),
            starts=about.starts,
            settings=_flat(about.settings),
        )


def _sections(history: History) -> list[tuple[str, list[Chart]]]:
    """Charts under headings: losses of training, metrics of evaluations, the machine."""
    trained, scored, last = history.names("train"), history.names("val"), history.last_step
    losses = [name for name in trained if name not in MACHINE and name not in UNDRAWN]
    drawn = {
        "Training": [
            chart(name, history.points("train", name), history.points("val", name), last_step=last)
            for name in losses
        ],
        "Held-out clips": [
            chart(name, (), history.points("val", name), last_step=last)
            for name in scored
            if name not in losses
        ],
        **{
            group.capitalize(): [
                chart(name, (), history.points(group, name), last_step=last)
                for name in history.names(group)
            ]
            for group in history.groups
            if group not in ("train", "val")
        },
        "Pace and machine": [
            chart(title, history.points("train", name), last_step=last)
            for name, title in MACHINE.items()
        ],
    }
    found = {title: [one for one in charts if one] for title, charts in drawn.items()}
    return [(title, charts) for title, charts in found.items() if charts]


def _table(history: History, watched: str) -> dict[str, Any]:
    """The newest evaluations, and the best one where it is older."""
    names = sorted(history.names("val"), key=lambda name: name != watched)
    by_step: dict[int, dict[str, float]] = {}
    for name in names:
        for step, value in history.points("val", name):
            by_step.setdefault(int(step), {})[name] = value
    scored = {step: row[watched] for step, row in by_step.items() if watched in row}
    best = min(scored, key=lambda step: scored[step]) if scored else None
    steps = sorted(by_step)[-N_ROWS:]
    if best is not None and best not in steps:
        steps = [best, *steps]
    rows = [
        (f"{step:,}", step == best, [short(v) if (v := by_step[step].get(n)) is not None else "–"
                                     for n in names])
        for step in reversed(steps)
    ]  # fmt: skip
    return {"names": names, "rows": rows}


def _cards(samples: Samples) -> list[dict[str, Any]]:
    """A card for each thing that was let hear or seen: its newest state, and some earlier ones."""
    by_group: dict[str, dict[int, list[Sample]]] = {}
    for sample in samples.kept:
        by_group.setdefault(sample.group, {}).setdefault(sample.step, []).append(sample)
    widest: dict[str, int] = {}
    for sample in samples.kept:
        widest[sample.aspect] = max(widest.get(sample.aspect, 1), sample.width)
    cards = []
    for group, by_step in by_group.items():
        steps = sorted(by_step)
        newest, earlier = steps[-1], steps[:-1]
        count = min(N_EARLIER, len(earlier))
        spread = sorted({round(i * (len(earlier) - 1) / max(1, count - 1)) for i in range(count)})
        shown = [newest, *(earlier[place] for place in reversed(spread))]
        states = [_state(samples.folder, step, by_step[step], widest) for step in shown]
        text = next((s.text for s in reversed(by_step[newest]) if s.text), "")
        cards.append({"name": group, "text": text, "states": states})
    return cards


def _state(
    folder: Path, step: int, samples: Sequence[Sample], widest: Mapping[str, int]
) -> dict[str, Any]:
    """One group at one evaluation, its files as addresses; those that are gone are left out."""
    sound, pictures = None, []
    for sample in {sample.name: sample for sample in samples}.values():
        path = folder / sample.file
        if not path.is_file():
            continue
        source = data_uri(MIME_TYPES[sample.kind], path.read_bytes())
        if sample.kind == "sound":
            sound = source
        else:
            width = round(100 * sample.width / widest[sample.aspect], 1)
            pictures.append({"what": sample.aspect or sample.name, "source": source,
                             "width": width if sample.aspect == "mel" else 100})  # fmt: skip
    return {"step": f"{step:,}", "sound": sound, "pictures": pictures}


def _flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Settings as rows, those inside others with a dotted name."""
    rows: list[tuple[str, str]] = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", str(value)))
    return rows
