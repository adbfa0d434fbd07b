"""Clips and their texts: our own manifest, and the transcript files people already have."""

from __future__ import annotations

import csv
import io
import json
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ttscommon.audio import AUDIO_SUFFIXES, find_audio
from ttscommon.config import from_dict
from ttscommon.errors import UserError
from ttscommon.files import atomic

log = logging.getLogger(__name__)

FORMAT, VERSION = "ttscommon.manifest", 1
TABLE_NAMES = ("transcripts", "metadata")
TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".txt")
SIDECAR_SUFFIXES = (".txt", ".lab")
AUDIO_COLUMNS = ("audio_path", "audio", "filename", "file_name", "audio_file", "path", "file", "id")
TEXT_COLUMNS = ("text", "transcription", "transcript", "normalized_text", "sentence")


@dataclass(frozen=True)
class Clip:
    """One utterance.

    Attributes:
        audio: the file it is in, relative to the speaker's folder, with "/"
        duration: seconds
        recording: what it was cut from; clips of one recording belong on one side of a split
        start: seconds into the recording
    """

    id: str
    audio: str
    text: str
    duration: float
    speaker: str
    language: str
    recording: str
    start: float = 0.0


def write_manifest(path: Path, clips: Iterable[Clip], **header: Any) -> None:
    """Write clips as JSONL after one line that says what the file is, atomically."""
    with atomic(path) as draft, draft.open("w", encoding="utf-8") as file:
        first = {"format": FORMAT, "version": VERSION, **header}
        for record in (first, *map(asdict, clips)):
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


def read_manifest(path: Path) -> list[Clip]:
    """The clips that `write_manifest` wrote.

    Raises:
        UserError: if the file is missing, broken or of another format
    """
    records = read_records(path)
    header = records[0] if records else {}
    if (header.get("format"), header.get("version")) != (FORMAT, VERSION):
        raise UserError(f"expected a {FORMAT} file of version {VERSION}", where=path)
    return [from_dict(Clip, record, where=path) for record in records[1:]]


def read_transcripts(source: Path) -> dict[str, str]:
    """What was said in each recording: {audio path as written, or stem: text}.

    `source` is a file, or a folder that holds `transcripts` or `metadata` with one of the suffixes
    .csv .tsv .jsonl .txt; in a folder, `.txt` and `.lab` files beside recordings count too.
    Read are: CSV or TSV with a header (audio_path,text and the like), the LJSpeech form
    `id|text|normalised text` without a header, JSONL with the same keys, our own manifest.

    Raises:
        UserError: if a table isn't UTF-8, lacks a column or can't be parsed
    """
    if not source.is_dir():
        return _read_table(source)
    transcripts = _read_sidecars(source)  # a table comes first: it is what people edit later
    names = [source / (name + suffix) for name in TABLE_NAMES for suffix in TABLE_SUFFIXES]
    table = next((path for path in names if path.is_file()), None)
    texts = _read_table(table) if table else {}
    return texts | {key: text for key, text in transcripts.items() if key not in texts}


def match_transcripts(
    transcripts: Mapping[str, str], recordings: Sequence[Path]
) -> tuple[dict[Path, str], list[str]]:
    """Bring texts and audio files together.

    A key names a file if it has the same name, or the same stem (`clip_1`, or `clip_1.wav` for a
    `clip_1.flac`). Where several files qualify, the one wins that shares most folders with it.
    Of two texts for one file the first counts.

    Returns:
        the text of each file that has one, and the keys for which there is no file

    Raises:
        UserError: if a key fits several files equally well
    """
    by_stem: dict[str, list[Path]] = defaultdict(list)
    for path in recordings:
        by_stem[path.stem].append(path)
        by_stem[path.name].append(path)
    texts: dict[Path, str] = {}
    orphans: list[str] = []
    for key, text in transcripts.items():
        wanted = PurePosixPath(key.replace("\\", "/"))
        stem = wanted.stem if wanted.suffix.lower() in AUDIO_SUFFIXES else wanted.name
        candidates = by_stem.get(wanted.name) or by_stem.get(stem) or []
        if not candidates:
            orphans.append(key)
            continue
        ranks = [(_common_folders(path, wanted), path) for path in candidates]
        best = max(rank for rank, _ in ranks)
        winners = [path for rank, path in ranks if rank == best]
        if len(winners) > 1:
            raise UserError(
                f"'{key}' fits {len(winners)} files: {winners[0]}, {winners[1]}",
                fix="write the path with its folder",
            )
        if texts.setdefault(winners[0], text) != text:
            log.warning("'%s' says otherwise than what came before it for %s", key, winners[0])
    return texts, orphans


def _common_folders(path: Path, wanted: PurePosixPath) -> int:
    """How many folders, counted from the file upwards, are the same."""
    count = 0
    for ours, theirs in zip(path.parent.parts[::-1], wanted.parent.parts[::-1], strict=False):
        if ours != theirs:
            break
        count += 1
    return count


def _read_sidecars(folder: Path) -> dict[str, str]:
    texts = {}
    for path in find_audio(folder):
        beside = (path.with_suffix(suffix) for suffix in SIDECAR_SUFFIXES)
        file = next((candidate for candidate in beside if candidate.is_file()), None)
        if file is not None and (text := read_text(file).strip()):
            texts[path.relative_to(folder).as_posix()] = text
    return texts


def _read_table(path: Path) -> dict[str, str]:
    if path.suffix == ".jsonl":
        pairs = _pairs_of_records(read_records(path), path)
    else:
        pairs = _pairs_of_rows(_rows(path), path)
    transcripts: dict[str, str] = {}
    for key, text in pairs:
        if not key or not text:
            log.warning("%s: left out a line without %s", path, "text" if key else "a file name")
        elif transcripts.setdefault(key, text) != text:
            log.warning("%s: '%s' is there twice; the first text is used", path, key)
    if not transcripts:
        raise UserError("no transcripts in the file", where=path)
    return transcripts


def _rows(path: Path) -> list[list[str]]:
    text = read_text(path)
    first = text.partition("\n")[0]
    delimiter = next((mark for mark in ("|", "\t") if mark in first), ",")
    quoting = csv.QUOTE_NONE if delimiter == "|" else csv.QUOTE_MINIMAL
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting)
        return [[cell.strip() for cell in row] for row in reader if any(map(str.strip, row))]
    except csv.Error as error:
        raise UserError(f"cannot read the table: {error}", where=path) from error


def _pairs_of_rows(rows: list[list[str]], path: Path) -> list[tuple[str, str]]:
    if not rows:
        return []
    header = [cell.lower() for cell in rows[0]]
    audio = next((header.index(name) for name in AUDIO_COLUMNS if name in header), None)
    text = next((header.index(name) for name in TEXT_COLUMNS if name in header), None)
    if audio is not None and text is not None:
        return [(_cell(row, audio), _cell(row, text)) for row in _whole(rows, text, path)]
    if audio is None and text is None and len(header) in (2, 3) and _is_ljspeech(path):
        return [(row[0], next(filter(None, row[:0:-1]), "")) for row in rows]
    missing = [
        f"one of {', '.join(names)}"
        for names, found in ((AUDIO_COLUMNS, audio), (TEXT_COLUMNS, text))
        if found is None
    ]
    raise UserError(
        f"missing column: {' and '.join(missing)}; found {', '.join(rows[0])[:80]}",
        where=path,
        fix="make its first line audio_path,text",
    )


def _whole(rows: list[list[str]], text: int, path: Path) -> list[list[str]]:
    """The rows below the header; a comma that somebody forgot to quote stays in the text."""
    width, whole = len(rows[0]), []
    for row in rows[1:]:
        if len(row) > width and text != width - 1:
            raise UserError(
                f"{len(row)} columns instead of {width} after '{row[0]}'",
                where=path,
                fix='put texts with a comma in quotes: "..."',
            )
        whole.append([*row[: width - 1], ", ".join(row[width - 1 :])])
    return whole


def _is_ljspeech(path: Path) -> bool:
    return "|" in read_text(path).partition("\n")[0]


def _pairs_of_records(records: list[dict[str, Any]], path: Path) -> list[tuple[str, str]]:
    if records and records[0].get("format") == FORMAT:
        records = records[1:]
    pairs = []
    for number, record in enumerate(records, start=1):
        audio = next((record[name] for name in AUDIO_COLUMNS if name in record), None)
        text = next((record[name] for name in TEXT_COLUMNS if name in record), None)
        if not isinstance(audio, str) or not isinstance(text, str):
            raise UserError(
                f'record {number} lacks "audio_path" or "text": it has {", ".join(record)}',
                where=path,
            )
        pairs.append((audio.strip(), text.strip()))
    return pairs


def read_records(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL file.

    Raises:
        UserError: naming the first line that is none
    """
    records = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"line {number} isn't JSON: {error.msg}", where=path) from error
        if not isinstance(record, dict):
            raise UserError(f"line {number} isn't a JSON object", where=path)
        records.append(record)
    return records


def read_text(path: Path) -> str:
    """A whole UTF-8 file, with or without a byte order mark."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise UserError("no such file", where=path) from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UserError(
            f"line {line} isn't UTF-8", where=path, fix="save the file as UTF-8 and run again"
        ) from error


def _cell(row: list[str], index: int) -> str:
    return row[index] if index < len(row) else ""
