"""What a person wrote into the table of texts, told apart from what a program wrote there.

words.json keeps of every clip what the tool wrote into the table, so whatever else stands there is
somebody's work. It holds for the sound that it was written for, and waits for a clip that is gone.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CORRECTED = "corrected"
EDITABLE = ("text", "verbatim")  # columns that count
OTHER_SOUND = "its sound is another now; the correction is dropped"
GONE = "no such clip, or excluded, or no speech in it; its correction is kept for its return"
BY_HAND = "transcripts by hand say otherwise and win; correct it there"

Row = Mapping[str, str]
Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Correction:
    """Somebody's work on a row; None where there is none. An empty text leaves the clip out.

    Attributes:
        lost: why it holds no more
    """

    text: str | None = None
    verbatim: str | None = None
    lost: str | None = None

    def __bool__(self) -> bool:
        return self.text is not None or self.verbatim is not None


def find_correction(row: Row | None, entry: Entry | None, sound: str | None) -> Correction:
    """What somebody wrote about a clip.

    Args:
        row: of the table, as it is now
        entry: what is known about the clip from the last run
        sound: key of the clip's content; None if it doesn't matter
    """
    entry = entry or {}
    found = _edits(row, entry) if row is not None else _kept(entry)
    if found and sound is not None and entry.get("sound") not in (None, sound):
        return Correction(lost=OTHER_SOUND)
    return found


def _edits(row: Row, entry: Entry) -> Correction:
    if not entry or entry.get("absent"):  # whoever wrote it, it wasn't us
        return Correction(row.get("text") or None, row.get("verbatim") or None)
    edited = {}
    for column in EDITABLE:
        ours, now = written_by_us(entry, column), row.get(column)
        edited[column] = None if ours is None or now is None or now in ours else now
    return Correction(**edited)


def _kept(entry: Entry) -> Correction:
    """Of a clip that was away."""
    if not entry.get("absent"):
        return Correction()
    return Correction(entry.get("text"), entry.get("verbatim"))


def written_by_us(entry: Entry, column: str) -> list[str] | None:
    """What the table holds of ours, now or after a kill before the last one was written."""
    if entry.get("absent"):
        return []
    if "table" in entry:
        return list(entry["table"].get(column, ()))
    if column == "text" and "text" in entry:  # as it was noted first
        return [entry.get("heard", "") if entry.get("source") == CORRECTED else entry["text"]]
    return None


def note_of_table(new: Row, row: Row | None, entry: Entry | None) -> dict[str, list[str]]:
    """What to keep about the table when `new` is about to take the place of `row`."""
    noted = {}
    for column in EDITABLE:
        before = (row or {}).get(column)
        ours = written_by_us(entry or {}, column) or []
        noted[column] = list(dict.fromkeys([new[column], *([before] if before in ours else [])]))
    return noted


def absent_entries(
    rows: Mapping[str, Row], entries: Mapping[str, Entry], present: Iterable[str]
) -> dict[str, dict[str, Any]]:
    """Corrections of clips that aren't there, to be kept among the words."""
    waiting = {}
    for name in sorted({*rows, *entries} - set(present)):
        row, entry = rows.get(name), entries.get(name)
        if found := find_correction(row, entry, None):
            sound = (entry or {}).get("sound")
            known = {"source": CORRECTED, "sound": sound, "absent": True}
            waiting[name] = {**known, "text": found.text, "verbatim": found.verbatim}
    return waiting


def keep_backup(table: Path, lost: Mapping[str, str], say: Callable[[str], object]) -> None:
    """Copy a table that is about to lose corrections; an older copy of another table stays."""
    if not lost or not table.is_file():
        return
    backup = table.with_name(table.name + ".bak")
    if not backup.exists():
        shutil.copyfile(table, backup)
        say(f"{len(lost)} corrections leave the table; as it was it is kept in {backup}")
