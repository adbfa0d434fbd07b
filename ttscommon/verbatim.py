"""The words of a data set with their times, pauses and fillers, in the files that others read."""

from __future__ import annotations

import csv
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ttscommon.audio import find_audio
from ttscommon.clip_config import VerbatimConfig
from ttscommon.clip_words import ClipWords
from ttscommon.config import to_dict
from ttscommon.corrections import (
    BY_HAND,
    CORRECTED,
    GONE,
    Correction,
    absent_entries,
    find_correction,
    keep_backup,
    note_of_table,
)
from ttscommon.errors import UserError
from ttscommon.evaluation.wording import plain_words
from ttscommon.exclusions import EXCLUDED, read_exclusions
from ttscommon.files import atomic, read_json, write_json
from ttscommon.hearing import Ear, listen
from ttscommon.ledger import content_key
from ttscommon.manifest import read_manifest, write_manifest
from ttscommon.metrics import word_errors
from ttscommon.spoken import Heard, Utterance, understand, unmarked
from ttscommon.transcripts import hand_written_texts, texts_in
from ttscommon.workspace import DatasetFolder, Speaker

log = logging.getLogger(__name__)

STATS_FORMAT, VERSION = "ttscommon.transcription", 1
KEPT = ".heard.jsonl"
COLUMNS = ("filename", "text", "verbatim", "duration", "num_pauses", "num_fillers")
HEARD, WRITTEN = "heard", "written"


@dataclass(frozen=True)
class Desk:
    """Where clips are read and texts are written.

    Attributes:
        written: gives the texts by hand
        manifest: of the clips, where they were cut by us
    """

    clips: Path
    data: DatasetFolder
    written: Callable[[], dict[str, str]]
    manifest: Path | None = None

    @classmethod
    def of(cls, speaker: Speaker | None, audio: Path | None, output: Path | None) -> Desk:
        """The speaker's clips and data set, or the folders that are given instead."""
        if speaker is None and audio is None:
            raise ValueError("without a speaker, a folder of clips is needed")
        if speaker is not None and audio is None:
            manifest = speaker.clips_manifest if speaker.clips_manifest.is_file() else None
            data = DatasetFolder(output) if output else speaker.data
            return cls(speaker.clips_folder, data, lambda: hand_written_texts(speaker), manifest)
        assert audio is not None
        return cls(audio, DatasetFolder(output or audio), lambda: _written_in(audio))

    @property
    def table(self) -> Path:
        return self.data.transcripts_verbatim

    @property
    def words(self) -> Path:
        return self.data.words

    @property
    def stats(self) -> Path:
        return self.data.transcription_stats


@dataclass(frozen=True)
class VerbatimReport:
    """What was heard.

    Attributes:
        stats: as in transcription_stats.json
        sources: how many texts were heard, written by hand, corrected by hand
        dropped: {clip: why what somebody wrote about it in the table doesn't count}
    """

    stats: dict[str, Any]
    sources: dict[str, int]
    left_out: list[tuple[str, str]]
    dropped: dict[str, str]


def transcribe_clips(
    desk: Desk,
    config: VerbatimConfig,
    ear: Ear,
    *,
    skip_existing: bool = False,
    overwrite: bool = False,
) -> VerbatimReport:
    """Write table, words and statistics for every clip.

    Texts by hand stand instead of what was heard: those in transcripts.csv and the like, and those
    that somebody corrected in the table itself, unless the clip's sound is another now. A text
    that somebody emptied stays empty, and the clip without text. Excluded clips aren't heard.

    Args:
        skip_existing: leave rows that the table has already as they are, if the sound is the same
        overwrite: replace also what was corrected in the table

    Raises:
        UserError: if there are no clips, or nobody speaks in any
    """
    clips, excluded = _clips(desk.clips)
    rows, entries = _rows(desk.table), ClipWords(desk.words).read()
    written = desk.written()
    done = set()
    if skip_existing:
        done = {n for n in clips if n in rows and _is_same_sound(entries.get(n), clips[n])}
    kept = desk.data.folder / KEPT
    hearing = listen(clips, ear, config.language, kept, known=done, prunes=True)
    left_out = [*excluded, *hearing.left_out]
    new_rows, new_entries = {n: rows[n] for n in done}, {n: entries[n] for n in done}
    dropped: dict[str, str] = {}
    for name, heard in hearing.heard.items():
        said = understand(heard, config, hearing.language)
        row, entry, sound = rows.get(name), entries.get(name), content_key(clips[name])
        found = Correction() if overwrite else find_correction(row, entry, sound)
        if why := found.lost or _is_outvoted(found, written.get(name)):
            dropped[name] = why
        ours = _row(name, written.get(name, said.text), said, heard)
        new_row, source = _final(ours, found, is_written=name in written)
        if not new_row["text"] and source != CORRECTED:
            left_out.append((name, "no words in it"))
            continue
        new_rows[name] = new_row
        table = note_of_table(ours, row, entry)
        new_entries[name] = _entry(new_row["text"], source, said, heard, sound, table)
    if not new_rows:
        raise UserError("nobody says anything in any clip", where=desk.clips)
    waiting = {} if overwrite else absent_entries(rows, entries, new_rows)
    dropped |= {n: GONE for n in waiting if not entries.get(n, {}).get("absent")}
    stats = _stats(new_entries, config, hearing.language, ear.name, left_out)
    keep_backup(desk.table, dropped, log.warning)
    _write(desk, new_rows, {**waiting, **new_entries}, stats)
    if desk.manifest is not None:
        fresh = {name: new_rows[name] for name in hearing.heard if name in new_rows}
        _note_texts(desk.manifest, fresh, hearing.language)
    sources = Counter(entry["source"] for entry in new_entries.values())
    return VerbatimReport(stats, dict(sources), left_out, dropped)


def _clips(folder: Path) -> tuple[dict[str, Path], list[tuple[str, str]]]:
    """The clips to hear by name, and those that are excluded."""
    paths = find_audio(folder) if folder.is_dir() else []
    excluded = read_exclusions(folder)
    excluded.tell()
    clips = {path.relative_to(folder).as_posix(): path for path in paths}
    clips = {name: path for name, path in clips.items() if name not in excluded.clips}
    if not clips:
        what = f"no clips to transcribe{excluded.remark()}"
        raise UserError(what, where=folder, fix="put recordings there")
    return clips, [(name, EXCLUDED) for name in sorted(excluded.clips)]


def _is_outvoted(found: Correction, written: str | None) -> str | None:
    """Why a correction of a text by hand doesn't count."""
    is_other = written is not None and found.text not in (None, written)
    return BY_HAND if is_other else None


def _final(
    ours: dict[str, str], found: Correction, *, is_written: bool
) -> tuple[dict[str, str], str]:
    """A row with what somebody corrected in it, and whose its text is."""
    row, source = dict(ours), WRITTEN if is_written else HEARD
    if found.verbatim is not None:
        row["verbatim"] = found.verbatim
    if found.text is not None and not is_written:
        row["text"], source = found.text, CORRECTED
    return row, source


def heard_by(folder: Path, model: str) -> dict[str, str]:
    """{clip: text} of those in a folder's files that `model` itself heard: it will agree."""
    data = DatasetFolder(folder)
    stats = data.transcription_stats
    if not stats.is_file() or read_json(stats).get("model") != model:
        return {}
    return {n: e["text"] for n, e in ClipWords(data.words).read().items() if e["source"] == HEARD}


def _written_in(folder: Path) -> dict[str, str]:
    """The texts by hand that lie in a folder of clips."""
    texts, unmatched = texts_in(folder)
    if unmatched:
        log.warning("%d transcripts fit no file, for example %s", len(unmatched), unmatched[0])
    return texts


def _rows(table: Path) -> dict[str, dict[str, str]]:
    """The rows of the table by file name."""
    if not table.is_file():
        return {}
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            return {row["filename"]: row for row in csv.DictReader(file)}
    except (KeyError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            "not a table of ours any more", where=table, fix="move it away and run again"
        ) from error


def _is_same_sound(entry: Mapping[str, Any] | None, clip: Path) -> bool:
    if entry is None or entry.get("absent"):
        return False
    return entry.get("sound") in (None, content_key(clip))


def _row(name: str, text: str, said: Utterance, heard: Heard) -> dict[str, str]:
    values = (name, text, said.verbatim, f"{heard.duration:.2f}", len(said.pauses))
    return dict(zip(COLUMNS, map(str, (*values, sum(said.fillers.values()))), strict=True))


def _entry(
    text: str,
    source: str,
    said: Utterance,
    heard: Heard,
    sound: str,
    table: Mapping[str, list[str]],
) -> dict[str, Any]:
    return {
        "text": text,
        "heard": said.text,
        "source": source,
        "words": [{"word": w.word, "start": w.start, "end": w.end} for w in said.words],
        "pauses": [[round(pause.start, 3), round(pause.end, 3)] for pause in said.pauses],
        "num_long_pauses": said.n_long_pauses,
        "fillers": said.fillers,
        "lead": round(said.lead, 3),
        "trail": round(said.trail, 3),
        "duration": heard.duration,
        "sound": sound,
        "table": table,
    }


def _is_by_hand(entry: Mapping[str, Any]) -> bool:
    return entry["source"] != HEARD and bool(plain_words(unmarked(entry["text"])))


def _stats(
    entries: Mapping[str, Mapping[str, Any]],
    config: VerbatimConfig,
    language: str,
    model: str,
    left_out: Iterable[tuple[str, str]],
) -> dict[str, Any]:
    every = list(entries.values())
    fillers: Counter[str] = Counter()
    for entry in every:
        fillers.update(entry["fillers"])
    seconds = sum(entry["duration"] for entry in every)
    resting = sum(end - start for entry in every for start, end in entry["pauses"])
    by_hand = [entry for entry in every if _is_by_hand(entry)]
    errors = [
        word_errors(unmarked(entry["text"]), unmarked(entry["heard"]), language=language)
        for entry in by_hand
    ]
    n_words = sum(one.n_units for one in errors)
    return {
        "format": STATS_FORMAT,
        "version": VERSION,
        "config": to_dict(config),
        "model": model,
        "language": language,
        "clips": len(every),
        "seconds": round(seconds, 2),
        "words": sum(len(entry["words"]) for entry in every),
        "num_pauses": sum(len(entry["pauses"]) for entry in every),
        "num_long_pauses": sum(entry["num_long_pauses"] for entry in every),
        "pause_seconds": round(resting, 2),
        "clips_with_lead": sum(entry["lead"] >= config.min_pause for entry in every),
        "clips_with_trail": sum(entry["trail"] >= config.min_pause for entry in every),
        "num_fillers": sum(fillers.values()),
        "fillers": dict(sorted(fillers.items())),
        "by_hand": len(by_hand),
        "word_error_rate_by_hand": sum(e.n_errors for e in errors) / n_words if n_words else None,
        "left_out": [list(pair) for pair in left_out],
    }


def _write(
    desk: Desk,
    rows: Mapping[str, Mapping[str, str]],
    entries: Mapping[str, Mapping[str, Any]],
    stats: Mapping[str, Any],
) -> None:
    # Words first: a kill before the table leaves corrections in the old one recognisable.
    ClipWords(desk.words).write(entries)
    with atomic(desk.table) as draft, draft.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([rows[name].get(key, "") for key in COLUMNS] for name in sorted(rows))
    write_json(desk.stats, stats)


def _note_texts(manifest: Path, rows: Mapping[str, Mapping[str, str]], language: str) -> None:
    """Put the texts into the list of clips as well."""
    clips = []
    for clip in read_manifest(manifest):
        row = rows.get(Path(clip.audio).name)
        clips.append(replace(clip, text=row["text"], language=language) if row else clip)
    write_manifest(manifest, clips, speaker=clips[0].speaker if clips else "")
