"""What is known about the speech that was learned: how its texts were written, how long it takes.

A list of clips has it beside it as `statistics.json`, an adapter takes it along, and whoever speaks
with the adapter reads it there. Without one the paces are those of people who read aloud.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from higgs_trainer.text import Language, TextConfig, language_of, n_events, n_letters
from ttscommon.config import differences, from_dict, to_dict
from ttscommon.errors import UserError
from ttscommon.files import read_json, write_json

FILE, FORMAT = "statistics.json", "higgs_trainer.statistics"
FEWEST_CLIPS = 20  # of a language, for paces of its own
QUANTILE, MARGIN = 0.01, 1.5
AROUND = 10  # letters' worth of time before, behind and between what is said
EVENT_SECONDS = 3.0


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Seconds that a letter takes.

    Attributes:
        fastest: of letters alone; usual, slowest: of letters and `AROUND` more
        n_clips: it was learned from; 0: it is built in
    """

    fastest: float
    usual: float
    slowest: float
    n_clips: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.fastest <= self.usual <= self.slowest:
            raise UserError(
                f"fastest, usual and slowest must rise from above 0, got {self.fastest:g}, "
                f"{self.usual:g}, {self.slowest:g}"
            )


@dataclass(frozen=True)
class Bounds:
    """Seconds that a text can take."""

    fewest: float
    usual: float
    most: float

    def steps(self, frame_rate: float) -> tuple[int, int]:
        """The fewest and the most steps of codes."""
        return max(1, int(self.fewest * frame_rate)), max(1, round(self.most * frame_rate))


# Seconds per character, read aloud: 60 / 987 in English, 60 / 612 in Arabic, 60 / 255 in Chinese
# and 60 / 863 over 17 languages (Trauzettel-Klosinski & Dietz 2012, IReST); with room for those who
# speak twice as fast, or at a third of the pace.
READ_ALOUD: dict[Language, float] = {"en": 0.061, "ar": 0.098, "zh": 0.235, "other": 0.070}
BUILT_IN: dict[Language, Pace] = {
    language: Pace(fastest=seconds / 2, usual=seconds, slowest=seconds * 3)
    for language, seconds in READ_ALOUD.items()
}


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Of a data set.

    Attributes:
        paces: of languages that have enough clips
    """

    text: TextConfig = field(default_factory=TextConfig)
    paces: Mapping[str, Pace] = field(default_factory=dict)
    n_clips: int = 0
    seconds: float = 0.0

    @classmethod
    def of(cls, spoken: Iterable[tuple[str, float]], text: TextConfig) -> Statistics:
        """Of texts and the seconds that each took."""
        spoken = list(spoken)
        measured: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for said, seconds in spoken:
            if n_letters(said) and not n_events(said):
                measured[language_of(said)].append((n_letters(said), seconds))
        return cls(
            text=text,
            paces={
                language: _pace(clips)
                for language, clips in sorted(measured.items())
                if len(clips) >= FEWEST_CLIPS
            },
            n_clips=len(spoken),
            seconds=round(sum(seconds for _, seconds in spoken), 2),
        )

    def pace(self, language: Language) -> Pace:
        return self.paces.get(language) or BUILT_IN[language]

    def bounds(self, text: str) -> Bounds:
        """How long a normalised text can take."""
        pace, letters = self.pace(language_of(text)), n_letters(text)
        beside = EVENT_SECONDS * n_events(text)
        with_pauses = letters + AROUND
        return Bounds(
            pace.fastest * letters, pace.usual * with_pauses, pace.slowest * with_pauses + beside
        )


def write_statistics(folder: Path, statistics: Statistics) -> None:
    write_json(folder / FILE, {"format": FORMAT, "version": 1, **to_dict(statistics)})


def read_statistics(folder: Path) -> Statistics | None:
    """Those in a folder of clips or of an adapter, if there are any.

    Raises:
        UserError: if the file is broken
    """
    path = folder / FILE
    if not path.is_file():
        return None
    data: dict[str, Any] = dict(read_json(path, format=FORMAT))
    if data.pop("version", None) != 1:
        raise UserError(f"expected a {FORMAT} file of version 1", where=path)
    data.pop("format")
    return from_dict(Statistics, data, where=path)


def followed(folder: Path | None, wish: TextConfig | None) -> Statistics:
    """Those in a folder, if it is given and has any; else only how texts are wished.

    Raises:
        UserError: if texts are wished in another form than they were learned
    """
    known = read_statistics(folder) if folder else None
    if known is None or wish is None:
        return known or Statistics(text=wish or TextConfig())
    changed = differences(to_dict(known.text), to_dict(wish))
    if changed:
        raise UserError(
            f"texts were learned in another form: {', '.join(changed)}",
            where=folder,
            fix="leave out --arabic-...; what was learned is followed",
        )
    return known


def _pace(clips: list[tuple[int, float]]) -> Pace:
    letters, seconds = (np.array(column, dtype=float) for column in zip(*clips, strict=True))
    alone, with_pauses = seconds / letters, seconds / (letters + AROUND)
    usual = float(np.median(with_pauses))
    fastest = float(np.quantile(alone, QUANTILE)) / MARGIN
    return Pace(
        fastest=round(min(fastest, usual), 5),
        usual=round(usual, 5),
        slowest=round(float(np.quantile(with_pauses, 1 - QUANTILE)) * MARGIN, 5),
        n_clips=len(clips),
    )
