"""One offline HTML page to listen with: players side by side, numbers, and blind tests.

The page has four or five views: every clip with its waveform, spectrogram and pauses; the scores
with their intervals; blind A/B ("which do you prefer?"); ABX ("which of the two is X?"); and, if
there are recordings of the real voice, the same question about likeness ("which is more like X?").
Answers leave the page as a JSON file, which `ttscommon.listening.answers` reads.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import math
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import soundfile
from numpy.typing import NDArray

from ttscommon import audio
from ttscommon.errors import UserError
from ttscommon.evaluation.scores import Score
from ttscommon.files import atomic
from ttscommon.listening.answers import FORMAT
from ttscommon.pages import data_uri, is_number, mel_strip, paragraphs, render, shown

LOUDNESS = -23.0  # LUFS; the louder of two clips is preferred, so all are made equally loud
MAX_BYTES = 15_000_000
N_COLUMNS, WAVE_HEIGHT = 300, 40  # of a waveform's picture
PICTURE_QUALITY = 80  # of a spectrogram
SIGNS = {"better": "▲", "worse": "▼", "neither": "≈"}
ARROWS = {"better": "▲", "worse": "▼", "no clear difference": "≈"}


@dataclass(frozen=True)
class Version:
    """One condition's reading of a text.

    Attributes:
        pauses: (start, end) in seconds
        values: what was measured of it, by metric
        heard: what a recogniser understood, as (kind, word): "right", "wrong", "extra", "missing"
        faults: what is plainly wrong with it
        text: what it says, if that isn't the item's text
    """

    path: Path
    pauses: Sequence[tuple[float, float]] = ()
    values: Mapping[str, float] = field(default_factory=dict)
    heard: Sequence[tuple[str, str]] = ()
    faults: Sequence[str] = ()
    text: str = ""


@dataclass(frozen=True)
class Item:
    """One text, in the versions of several conditions."""

    id: str
    text: str
    versions: Mapping[str, Version]


@dataclass(frozen=True)
class Finding:
    """A sentence of the verdict at the top.

    Attributes:
        kind: better, worse or neither; decides its colour and sign
    """

    kind: Literal["better", "worse", "neither"]
    text: str


@dataclass(frozen=True)
class ScoreRow:
    """One metric over all items.

    Attributes:
        meaning: what the number is, in a few words
        scores: by condition
        differences: by condition, from the base
        better: which direction is good; None for a metric that is neither
    """

    metric: str
    scores: Mapping[str, Score]
    differences: Mapping[str, Score] = field(default_factory=dict)
    better: Literal["higher", "lower"] | None = None
    meaning: str = ""

    def verdict(self, condition: str) -> str:
        """What the difference's interval allows to say: better, worse, more, less, or nothing."""
        change = self.differences.get(condition)
        if change is None:
            return ""
        if change.low <= 0 <= change.high:
            return "no clear difference"
        if self.better is None:
            return "more" if change.value > 0 else "less"
        return "better" if (change.value > 0) == (self.better == "higher") else "worse"


@dataclass(frozen=True)
class ListeningPage:
    """What goes onto the page.

    Attributes:
        lead: a sentence or two under the title
        findings: the verdict, above everything else
        orders: values by which the texts can be sorted, the largest first; {name: one per item}
        own_order: what the order in which they are given is called
        scores: the table with intervals; differences are from `base`
        tables: further tables by caption, one mapping a row
        base: the condition that others are compared with; the first one by default
        reference: the condition of real recordings, for the test of likeness
        pairs: what blind tests compare; by default every pair of at most three conditions, else
            the base with each of the others
        question: what is asked in the A/B test
        view: what the page opens with; a test, where names shown first would spoil it
        loudness: LUFS that every clip is brought to; None leaves them as they are
    """

    title: str
    items: Sequence[Item]
    lead: str = ""
    scores: Sequence[ScoreRow] = ()
    tables: Mapping[str, Sequence[Mapping[str, object]]] = field(default_factory=dict)
    base: str | None = None
    reference: str | None = None
    pairs: Sequence[tuple[str, str]] | None = None
    question: str = "Which one do you prefer?"
    likeness_question: str = "Which one is spoken more like X, with its pauses and hesitations?"
    view: Literal["listen", "ab", "abx", "like"] = "listen"
    loudness: float | None = LOUDNESS
    max_bytes: int = MAX_BYTES
    findings: Sequence[Finding] = ()
    orders: Mapping[str, Sequence[float]] = field(default_factory=dict)
    own_order: str = "as they come"

    def __post_init__(self) -> None:
        ids = [item.id for item in self.items]
        if len(set(ids)) < len(ids):
            raise ValueError("two items have the same id")
        named = {self.base, self.reference, *itertools.chain(*(self.pairs or ()))} - {None}
        if any(len(values) != len(self.items) for values in self.orders.values()):
            raise ValueError("an order needs one value for each item")
        if unknown := sorted(map(str, named - set(self.conditions))):
            raise ValueError(f"no item has a version of {', '.join(unknown)}")

    @property
    def conditions(self) -> list[str]:
        """Every name of a version, in the order in which they first appear."""
        return list(dict.fromkeys(name for item in self.items for name in item.versions))

    def write(self, path: Path) -> None:
        """Write the page; a clip that can't be read is named on it and left out of the tests.

        Sound is embedded without loss as FLAC, or as MP3 if the page would exceed `max_bytes`.

        Raises:
            UserError: if no clip at all can be read
        """
        items = [_item(number, item, self) for number, item in enumerate(self.items)]
        clips = [clip for item in items for clip in item["clips"]]
        heard = [clip for clip in clips if clip["trouble"] is None]
        if not heard:
            first = clips[0]["trouble"] if clips else "there are no items"
            raise UserError(f"nothing to listen to: {first}")
        page = self._rendered(items, _embed(heard, _flac), is_lossy=False)
        if len(page) > self.max_bytes:
            page = self._rendered(items, _embed(heard, _mp3), is_lossy=True)
        with atomic(path) as draft:
            draft.write_bytes(page)

    def _rendered(
        self, items: Sequence[Mapping[str, Any]], sources: Mapping[str, str], *, is_lossy: bool
    ) -> bytes:
        base = self.base or self.conditions[0]
        return render(
            "listening/listening.html.j2",
            title=self.title,
            lead=paragraphs(self.lead),
            findings=[(SIGNS[f.kind], f.kind, f.text) for f in self.findings],
            orders=self.orders,
            own_order=self.own_order,
            items=items,
            sources=sources,
            conditions=self.conditions,
            base=base,
            scores=[_score_row(row, self.conditions) for row in self.scores],
            tables=[_table(caption, rows) for caption, rows in self.tables.items()],
            is_lossy=is_lossy,
            loudness=self.loudness,
            has_reference=self.reference is not None,
            data=self._data(items, base),
        ).encode()

    def _data(self, items: Sequence[Mapping[str, Any]], base: str) -> dict[str, Any]:
        """What the page's script needs to know."""
        names = [name for name in self.conditions if name != self.reference]
        if self.pairs is not None:
            pairs = list(self.pairs)
        elif len(names) <= 3:
            pairs = list(itertools.combinations(names, 2))
        else:
            pairs = [(base, name) for name in names if name != base]
        playable = [
            {
                "id": item["id"],
                "text": item["text"],
                "clips": {c["name"]: c["anchor"] for c in item["clips"] if c["trouble"] is None},
            }
            for item in items
        ]
        key = repr([(item["id"], *item["clips"].items()) for item in playable])
        return {
            "format": FORMAT,
            "title": self.title,
            "page": hashlib.sha256((self.title + key).encode()).hexdigest()[:16],
            "items": playable,
            "pairs": pairs,
            "view": self.view,
            "reference": self.reference,
            "orders": {
                name: [value if math.isfinite(value) else None for value in values]
                for name, values in self.orders.items()
            },
            "questions": {
                "ab": self.question,
                "abx": "Which of the two is X?",
                "like": self.likeness_question,
            },
        }


def _item(number: int, item: Item, page: ListeningPage) -> dict[str, Any]:
    clips = [
        {"name": name, "anchor": f"clip-{number}-{place}", **_clip(version, page)}
        for place, (name, version) in enumerate(item.versions.items())
    ]
    longest = max((clip["seconds"] for clip in clips if clip["trouble"] is None), default=1.0)
    for clip in clips:
        if clip["trouble"] is None:
            clip["width"] = round(100 * clip["seconds"] / longest, 1)
    return {"number": number, "id": item.id, "text": item.text, "clips": clips}


def _clip(version: Version, page: ListeningPage) -> dict[str, Any]:
    known: dict[str, Any] = {
        "values": {name: shown(value) for name, value in version.values.items()},
        "heard": version.heard,
        "faults": version.faults,
        "says": version.text,
    }
    try:
        audio.duration(version.path)  # says what is wrong with a file that can't be opened
        rate = soundfile.info(str(version.path)).samplerate
        sound = audio.load(version.path, rate)
    except UserError as error:
        return {**known, "trouble": f"{version.path.name}: {error.what}"}
    if page.loudness is not None:
        sound = audio.normalize_loudness(sound, rate, page.loudness)
    seconds = len(sound) / rate
    return {
        **known,
        "trouble": None,
        "seconds": seconds,
        "sound": np.clip(sound, -1, 1),
        "rate": rate,
        "wave": _wave(sound),
        "mel": mel_strip(_mel(sound, rate), quality=PICTURE_QUALITY),
        "pauses": [_place(start, end, seconds) for start, end in version.pauses],
    }


def _embed(
    clips: Sequence[Mapping[str, Any]], encode: Callable[[audio.Audio, int], str]
) -> dict[str, str]:
    """The sound of each clip as an address, by anchor; the encoders leave Python's lock free."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        made = pool.map(encode, [c["sound"] for c in clips], [c["rate"] for c in clips])
        return dict(zip([clip["anchor"] for clip in clips], made, strict=True))


def _flac(sound: audio.Audio, rate: int) -> str:
    buffer = io.BytesIO()
    soundfile.write(buffer, sound, rate, format="FLAC", subtype="PCM_16")
    return data_uri("audio/flac", buffer.getvalue())


def _mp3(sound: audio.Audio, rate: int) -> str:
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", rate, 1, format="MP3", compression_level=0.3) as file:
        file.write(sound)
    return data_uri("audio/mpeg", buffer.getvalue())


def _mel(sound: audio.Audio, rate: int) -> NDArray:
    import torch

    from ttscommon.mel import MelRecipe, log_mel

    recipe = MelRecipe()
    if rate != recipe.sample_rate:
        import soxr

        sound = soxr.resample(sound, rate, recipe.sample_rate)
    with torch.inference_mode():
        # Reflection at the edges needs more than half a window of sound.
        padded = np.pad(sound, (0, max(0, recipe.n_fft - len(sound))))
        return log_mel(torch.from_numpy(padded), recipe).numpy()


def _wave(sound: audio.Audio) -> str:
    """The outline of a waveform as the path of an SVG that is N_COLUMNS wide."""
    edges = np.linspace(0, len(sound), min(N_COLUMNS, len(sound)) + 1).astype(int)[:-1]
    top = np.maximum.reduceat(sound, edges)
    bottom = np.minimum.reduceat(sound, edges)
    across = np.linspace(0, N_COLUMNS, len(edges))
    middle, loudest = WAVE_HEIGHT / 2, max(float(np.abs(sound).max()), 1e-3)
    points = [(x, middle * (1 - y / loudest)) for x, y in zip(across, top, strict=True)]
    points += [(x, middle * (1 - y / loudest)) for x, y in zip(across, bottom, strict=True)][::-1]
    return "M" + "L".join(f"{x:.0f} {y:.1f}" for x, y in points) + "Z"


def _place(start: float, end: float, seconds: float) -> dict[str, Any]:
    """Where a pause is drawn, in percent of the clip."""
    start, end = (min(max(moment, 0.0), seconds) for moment in (start, end))
    return {
        "left": round(100 * start / seconds, 2),
        "width": round(100 * (end - start) / seconds, 2),
        "label": f"pause of {end - start:.2f} s",
    }


def _score_row(row: ScoreRow, conditions: Sequence[str]) -> dict[str, Any]:
    cells = []
    for name in conditions:
        value, verdict = row.scores.get(name), row.verdict(name)
        cells.append(
            {
                "value": "–" if value is None else shown(value.value),
                "interval": "" if value is None else _interval(value),
                "change": f"{row.differences[name].value:+.3f}" if verdict else "",
                "change_interval": _interval(row.differences[name]) if verdict else "",
                "verdict": verdict,
                "arrow": ARROWS.get(verdict, ""),
                "kind": {"better": "better", "worse": "worse"}.get(verdict, ""),
            }
        )
    counts = {score.n for score in row.scores.values()}
    good = {"higher": "higher is better", "lower": "lower is better", None: ""}[row.better]
    n = "–".join(str(count) for count in sorted({min(counts), max(counts)})) if counts else "0"
    notes = [note for note in (row.meaning, good) if note]
    return {"metric": row.metric, "notes": notes, "n": n, "cells": cells}


def _interval(score: Score) -> str:
    bounds = (score.low, score.high)
    return " to ".join(shown(bound) if math.isfinite(bound) else "∞" for bound in bounds)


def _table(caption: str, rows: Sequence[Mapping[str, object]]) -> dict[str, Any]:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    numeric = [any(is_number(row.get(name)) for row in rows) for name in columns]
    cells = [[shown(row.get(name)) for name in columns] for row in rows]
    return {"caption": caption, "columns": columns, "numeric": numeric, "cells": cells}
