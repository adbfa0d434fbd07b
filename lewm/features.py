"""Mels with their texts on disk: Arrow shards, read through memory maps by `datasets`.

A shard is an Arrow IPC stream with one row a clip. The mel is one binary cell, float16, frame
after frame, so that a crop of a clip touches only its own pages. Nothing but the texts and a few
numbers per clip is ever in memory.
"""

from __future__ import annotations

import functools
import hashlib
import json
import mmap
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, concatenate_datasets
from numpy.typing import NDArray

from lewm.config import LOG_MEL_FLOOR
from ttscommon.errors import UserError
from ttscommon.files import atomic, read_json
from ttscommon.mel import MelRecipe

SHARD_FORMAT, FEATURES_FORMAT, VERSION = "lewm.shard", "lewm.features", 1
FEATURES_FILE, MANIFEST_FILE = "features.json", "manifest.jsonl"
AGAIN = "prepare the features again: python tools/lewm_preprocess.py --speaker NAME"
RESIDENT_BYTES = 128_000_000  # mels that may stay in memory before their pages are given back
ROWS_PER_BATCH = 32  # Arrow record batch; a reader maps the file and finds rows by batch
_HEADER = b"lewm"
_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("mel", pa.binary()),
        ("n_frames", pa.int32()),
        ("text", pa.string()),
        ("speaker", pa.string()),
        ("language", pa.string()),
        ("recording", pa.string()),
    ]
)


@dataclass(frozen=True)
class Features:
    """One clip as the network sees it.

    Attributes:
        mel: (M, T) float16 log-mel
        recording: the file it was cut from
    """

    id: str
    mel: NDArray[np.float16]
    text: str
    speaker: str
    language: str
    recording: str


def write_shard(
    path: Path, clips: Sequence[Features], recipe: MelRecipe, notes: dict[str, Any] | None = None
) -> None:
    """Write `clips` as one shard, atomically.

    The header carries the recipe, the caller's `notes`, and the sums from which the mean and the
    standard deviation over many shards are put together.

    Raises:
        ValueError: if a mel hasn't the recipe's number of bands
    """
    for clip in clips:
        if clip.mel.shape[0] != recipe.n_mels:
            raise ValueError(f"{clip.id}: {clip.mel.shape[0]} mel bands, not {recipe.n_mels}")
    header = {
        "format": SHARD_FORMAT,
        "version": VERSION,
        "recipe": recipe.to_dict(),
        "sums": _sums(clips),
        "n_clips": len(clips),
        "n_frames": sum(clip.mel.shape[1] for clip in clips),
        "fingerprints": [_fingerprint(clip) for clip in clips],
        "notes": notes or {},
    }
    schema = _SCHEMA.with_metadata({_HEADER: json.dumps(header, sort_keys=True).encode()})
    with atomic(path) as draft, pa.OSFile(str(draft), "wb") as file:  # noqa: SIM117
        with pa.ipc.new_stream(file, schema) as writer:
            for start in range(0, len(clips), ROWS_PER_BATCH):
                rows = [_row(clip) for clip in clips[start : start + ROWS_PER_BATCH]]
                writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=schema))


def read_header(path: Path) -> dict[str, Any]:
    """What a shard says about itself, without reading its clips.

    Raises:
        UserError: if the file is missing, cut short or not a shard of this version
    """
    try:
        with pa.memory_map(str(path)) as file:
            metadata = pa.ipc.open_stream(file).schema.metadata or {}
        header = json.loads(metadata[_HEADER])
    except FileNotFoundError as error:
        raise UserError("a feature file is missing", where=path, fix=AGAIN) from error
    except (pa.ArrowInvalid, OSError, KeyError, json.JSONDecodeError) as error:
        raise UserError("broken feature file", where=path, fix=AGAIN) from error
    if (header.get("format"), header.get("version")) != (SHARD_FORMAT, VERSION):
        raise UserError("not a feature file of this version", where=path, fix=AGAIN)
    return header


def open_shard(path: Path) -> Dataset:
    """A shard, mapped into memory, with columns named as the fields of `Features`.

    Raises:
        UserError: if the file is missing, cut short or not a shard of this version
    """
    n_clips = read_header(path)["n_clips"]
    try:
        table = Dataset.from_file(str(path))
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError("broken feature file", where=path, fix=AGAIN) from error
    if len(table) != n_clips:
        raise UserError(f"{len(table)} clips instead of {n_clips}", where=path, fix=AGAIN)
    return table


def read_shard(path: Path, start: int = 0, end: int | None = None) -> list[Features]:
    """The clips [start, end) of one shard."""
    n_mels = read_header(path)["recipe"]["n_mels"]
    rows = open_shard(path).select_columns([f.name for f in fields(Features)])[start:end]
    return [
        Features(**{**row, "mel": _mel_of(row["mel"], n_mels)})
        for row in (
            dict(zip(rows, values, strict=True)) for values in zip(*rows.values(), strict=True)
        )
    ]


def describe(shards: Sequence[Path], config: dict[str, Any]) -> dict[str, Any]:
    """The contents of `features.json` for a set of shards.

    Raises:
        UserError: if a shard is broken, or of another mel recipe than the first
    """
    headers = [read_header(path) for path in shards]
    recipe = headers[0]["recipe"]
    for path, header in zip(shards, headers, strict=True):
        if header["recipe"] != recipe:
            raise UserError("feature files of different mel recipes", where=path)
    count, total, squares = np.sum([header["sums"] for header in headers], axis=0)
    mean = total / max(count, 1)
    n_frames = sum(header["n_frames"] for header in headers)
    tables = [open_shard(path) for path in shards]
    return {
        "format": FEATURES_FORMAT,
        "version": VERSION,
        "recipe": recipe,
        "mel_clamp": LOG_MEL_FLOOR,
        "mel_mean": float(mean),
        "mel_std": float(np.sqrt(max(squares / max(count, 1) - mean**2, 1e-12))),
        "n_clips": sum(header["n_clips"] for header in headers),
        "n_frames": n_frames,
        "seconds": round(n_frames / MelRecipe(**recipe).frame_rate, 3),
        "speakers": sorted({name for table in tables for name in table.unique("speaker")}),
        "languages": sorted({name for table in tables for name in table.unique("language")}),
        "shards": [path.name for path in shards],
        "fingerprint": _digest(*(one for header in headers for one in header["fingerprints"])),
        "config": config,
    }


class FeatureStore:
    """All clips of a prepared folder (or of several, one speaker each), one at a time.

    Lists and arrays have one entry a clip, in the order of the index. Can be sent to another
    process, which maps the files anew.

    Attributes:
        recipe: what the mels were computed with
        mel_clamp: the value to which lower log-mels are raised before normalising
        mel_mean, mel_std: over all clamped values
        fingerprint: changes with any mel or text
    """

    def __init__(self, folder: Path, *others: Path):
        self.folders = (folder, *others)
        infos = [_read_features_file(path) for path in self.folders]
        self.recipe = MelRecipe(**infos[0]["recipe"])
        self.mel_clamp: float = infos[0]["mel_clamp"]
        for path, info in zip(self.folders, infos, strict=True):
            if MelRecipe(**info["recipe"]) != self.recipe or info["mel_clamp"] != self.mel_clamp:
                raise UserError(f"another mel recipe than in {folder}", where=path)
        self.fingerprint = _digest(*(info["fingerprint"] for info in infos))
        self._paths = [
            path / name
            for path, info in zip(self.folders, infos, strict=True)
            for name in info["shards"]
        ]
        weights = np.array([info["n_frames"] for info in infos], dtype=np.float64)
        weights /= weights.sum()
        means = np.array([info["mel_mean"] for info in infos])
        squares = np.array([info["mel_std"] for info in infos]) ** 2 + means**2
        self.mel_mean = float(weights @ means)
        self.mel_std = float(np.sqrt(weights @ squares - self.mel_mean**2))
        self._open()

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: int) -> Features:
        if not -len(self) <= index < len(self):
            raise IndexError(f"clip {index} of {len(self)}")
        row = int(index) % len(self)
        return Features(
            id=self.ids[row],
            mel=self._mel(row),
            text=self.texts[row],
            speaker=self.speakers[row],
            language=self.languages[row],
            recording=self.recordings[row],
        )

    @functools.cached_property
    def n_frames(self) -> NDArray[np.int64]:
        """(N,) mel frames."""
        return self._column("n_frames").to_numpy().astype(np.int64)

    @functools.cached_property
    def n_bytes(self) -> NDArray[np.int64]:
        """(N,) length of the text in UTF-8 bytes."""
        return pc.call_function("binary_length", [self._column("text")]).to_numpy().astype(np.int64)

    @functools.cached_property
    def ids(self) -> list[str]:
        return self._column("id").to_pylist()

    @functools.cached_property
    def texts(self) -> list[str]:
        return self._column("text").to_pylist()

    @functools.cached_property
    def recordings(self) -> list[str]:
        return self._column("recording").to_pylist()

    @functools.cached_property
    def speakers(self) -> list[str]:
        return self._column("speaker").to_pylist()

    @functools.cached_property
    def languages(self) -> list[str]:
        return self._column("language").to_pylist()

    def __getstate__(self) -> dict[str, Any]:
        names = ("folders", "recipe", "mel_clamp", "mel_mean", "mel_std", "fingerprint", "_paths")
        return {name: self.__dict__[name] for name in names}  # the rest is read from the files

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def _open(self) -> None:
        self._table = concatenate_datasets([open_shard(path) for path in self._paths])
        # Mels come from maps of our own, whose pages can be given back: a pass over all clips would
        # otherwise leave every one of them resident.
        self._maps = [_map(path) for path in self._paths]
        tables = [pa.ipc.open_stream(pa.py_buffer(each)).read_all() for each in self._maps]
        self._mels = [chunk for table in tables for chunk in table.column("mel").chunks]
        self._n_bytes_read = 0
        self._first_rows = np.cumsum([0, *(len(chunk) for chunk in self._mels)])

    def _mel(self, row: int) -> NDArray[np.float16]:
        """A view of the mapped file; `Dataset.__getitem__` would copy, at a fourth of the speed."""
        chunk = int(np.searchsorted(self._first_rows, row, side="right")) - 1
        cell = self._mels[chunk][row - int(self._first_rows[chunk])]
        buffer = cell.as_buffer()
        self._n_bytes_read += buffer.size
        if self._n_bytes_read > RESIDENT_BYTES:
            self._n_bytes_read = 0
            for each in self._maps:
                each.madvise(mmap.MADV_DONTNEED)  # a view still in use is read again from the file
        return _mel_of(buffer, self.recipe.n_mels)

    def _column(self, name: str) -> pa.ChunkedArray:
        return self._table.data.column(name)


def _map(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _read_features_file(folder: Path) -> dict[str, Any]:
    if not (folder / FEATURES_FILE).is_file():
        raise UserError(
            "no features here",
            where=folder,
            fix="prepare them: python tools/lewm_preprocess.py --speaker NAME",
        )
    info = read_json(folder / FEATURES_FILE, format=FEATURES_FORMAT)
    if info["version"] != VERSION:
        raise UserError(f"features of version {info['version']}, not {VERSION}", where=folder)
    return info


def _row(clip: Features) -> dict[str, Any]:
    frames = _frames(clip)
    row = {name: getattr(clip, name) for name in ("id", "text", "speaker", "language", "recording")}
    return {**row, "mel": frames.tobytes(), "n_frames": len(frames)}


def _frames(clip: Features) -> NDArray[np.float16]:
    return np.ascontiguousarray(clip.mel.T, dtype="<f2")  # (T, M)


def _mel_of(cell: pa.Buffer | bytes, n_mels: int) -> NDArray[np.float16]:
    return np.frombuffer(cell, dtype="<f2").reshape(-1, n_mels).T  # (M, T)


def _sums(clips: Sequence[Features]) -> list[float]:
    """Number, sum and sum of squares of the clamped values."""
    sums = np.zeros(3)
    for clip in clips:
        values = np.maximum(clip.mel.astype(np.float64), LOG_MEL_FLOOR)
        sums += (values.size, values.sum(), np.square(values).sum())
    return sums.tolist()


def _fingerprint(clip: Features) -> str:
    """12 hexadecimal digits that change with the clip's mel, text or origin."""
    names = repr((clip.id, clip.text, clip.speaker, clip.language, clip.recording))
    return hashlib.sha256(names.encode() + _frames(clip).tobytes()).hexdigest()[:12]


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
