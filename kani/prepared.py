"""What is trained on: every clip as ids, made once for all experiments."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import pyarrow as pa
from datasets import Dataset, load_from_disk
from joblib import Parallel, delayed

from kani.config import LAYERS, DatasetConfig, ModelConfig
from kani.projection import dim_in
from kani.sources import Source, lengths_of, save
from kani.tokens import TextTokenizer, TokenSpace, interleave, stacked, training_sequence
from kani.weights import load_tokenizer
from ttscommon.checkpoints import fingerprint
from ttscommon.errors import UserError
from ttscommon.files import atomic_folder, read_json, recover_folder, write_json
from ttscommon.holdout import hold_out
from ttscommon.ledger import content_key
from ttscommon.seeds import seed_for

log = logging.getLogger(__name__)

FORMAT, VERSION = "kani.prepared", 1
RULES = 1  # raised when the same rows would give other ids
INFO = "prepared.json"
ROWS_A_PROCESS = 2000  # below, a process takes longer to start than to help
NONE = np.zeros(0, dtype=np.float32)  # in the place of an embedding
MOST_BAD = 0.1  # of a data set's rows; more can't be chance
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("recording", pa.string()),
        ("ids", pa.list_(pa.int32())),
        ("audio_start", pa.int32()),
        ("n_frames", pa.int32()),
        ("held_out", pa.bool_()),
        ("speaker_emb", pa.list_(pa.float32())),
    ]
)


@dataclass(frozen=True)
class SourceReport:
    """What became of a data set.

    Attributes:
        n_rows: that its filter keeps
        too_long: left out for their duration
        not_drawn: left out by max_len
        bad: left out, by reason
        duplicate_share: of the sound, frames that equal the one before
        removed_share: how much of it was left out
    """

    name: str
    n_rows: int
    too_long: int
    not_drawn: int
    bad: dict[str, int]
    n_kept: int
    seconds: float
    duplicate_share: float
    removed_share: float

    def __str__(self) -> str:
        left = {"too long": self.too_long, "not drawn": self.not_drawn, **self.bad}
        out = "".join(f", {n} {why}" for why, n in left.items() if n)
        kept = "left out" if self.removed_share else "kept"
        return (
            f"{self.name}: {self.n_kept} of {self.n_rows} clips, {self.seconds / 60:.1f} minutes"
            f"{out}; {100 * self.duplicate_share:.1f} % of it frames that repeat the one before, "
            f"{kept}"
        )


@dataclass(frozen=True)
class Prepared:
    """Clips as ids, those to train on and those to measure with.

    Attributes:
        rows: columns id, recording, ids, audio_start, n_frames, held_out, speaker_emb; the last is
            empty where there is none, and `ids` have a place for it where there is one
        fingerprint: of all that they were made from
    """

    rows: Dataset
    space: TokenSpace
    fingerprint: str
    reports: tuple[SourceReport, ...]
    notes: tuple[str, ...]
    folder: Path


def prepare(config: DatasetConfig, model: ModelConfig, tokenizer: Path, folder: Path) -> Prepared:
    """Make `folder`, or read it if it was made from the same.

    Args:
        tokenizer: the folder with the base model's

    Raises:
        UserError: if a data set can't be used, or nothing is left to train on
    """
    dim = required_dim(config, tokenizer)
    sources = [Source(one) for one in config.hf_datasets]
    digests = [source.digest for source in sources]
    files = [content_key(file) for file in sorted(tokenizer.glob("tokenizer*"))]
    own = {k: v for k, v in asdict(config).items() if k != "n_shards_per_dataset"}
    mark = fingerprint(RULES, own, asdict(model.space), model.codec.fps, digests, files, dim)
    recover_folder(folder)
    if (folder / INFO).is_file() and read_json(folder / INFO).get("fingerprint") == mark:
        log.info("the data are prepared already: %s", folder)
        return read_prepared(folder, model.space)
    require_speakers(sources)
    parts, reports, notes = [], [], []
    for number, source in enumerate(sources):
        rows, report, more = _rows_of(number, source, config, model, tokenizer, dim)
        parts.append(rows)
        reports.append(report)
        notes += more
    table = pa.concat_tables(parts)
    n_held_out = int(np.count_nonzero(table["held_out"].to_numpy(zero_copy_only=False)))
    if n_held_out in (0, len(table)):
        raise UserError("one clip is too little: one must be held out to measure with")
    with atomic_folder(folder) as draft:
        save(Dataset(table), draft)
        kept = [asdict(report) for report in reports]
        info = {"format": FORMAT, "version": VERSION, "fingerprint": mark}
        write_json(draft / INFO, {**info, "reports": kept, "notes": notes, "n": len(table)})
    return read_prepared(folder, model.space)


def read_prepared(folder: Path, space: TokenSpace) -> Prepared:
    """What `prepare` made.

    Raises:
        UserError: if it isn't there, or broken
    """
    info = read_json(folder / INFO, format=FORMAT)
    try:
        rows = load_from_disk(str(folder))
        assert isinstance(rows, Dataset)
        reports = tuple(SourceReport(**report) for report in info["reports"])
    except (OSError, ValueError, TypeError, KeyError, pa.ArrowException) as error:
        raise UserError(f"broken: {error}", where=folder, fix="delete this folder") from error
    return Prepared(rows, space, info["fingerprint"], reports, tuple(info["notes"]), folder)


def required_dim(config: DatasetConfig, base: Path) -> int:
    """Numbers of an embedding for this base; 0 if no data set has any.

    Raises:
        UserError: if there are some, and the base takes none
    """
    return dim_in(base) if any(one.speaker_emb for one in config.hf_datasets) else 0


def too_long(lengths: np.ndarray, config: DatasetConfig, model: ModelConfig) -> np.ndarray:
    """(N,) bool of clips with so many frames; counted before any is left out."""
    if config.max_duration_sec is None:
        return np.zeros(len(lengths), dtype=bool)
    return lengths / model.codec.fps > config.max_duration_sec


def _rows_of(
    number: int,
    source: Source,
    config: DatasetConfig,
    model: ModelConfig,
    tokenizer: Path,
    dim: int,
) -> tuple[pa.Table, SourceReport, list[str]]:
    one = source.config
    lengths = lengths_of(source.rows)
    fit = np.flatnonzero(~too_long(lengths, config, model))
    chosen = fit
    if one.max_len is not None:
        random = np.random.default_rng(seed_for(config.seed, "max_len", number))
        chosen = np.sort(random.permutation(fit)[: one.max_len])  # clamped: there may be fewer
    if not len(chosen):
        raise UserError(
            f"none of {len(lengths)} clips is left",
            where=one.reponame,
            fix=f"max_duration_sec is {config.max_duration_sec}",
        )
    dim = dim if one.speaker_emb else 0
    task = _Task(one.prefix, model.space, config.remove_duplicate_frames, tokenizer, dim)
    clips: list[_Clip] = []
    bad: Counter[str] = Counter()
    for found, reasons in _in_shards(source.rows, chosen, task, config.n_shards_per_dataset):
        clips += found
        bad += reasons
    if sum(bad.values()) > MOST_BAD * len(chosen):
        why, n = bad.most_common(1)[0]
        raise UserError(
            f"{sum(bad.values())} of {len(chosen)} rows are of no use, {n} of them: {why}",
            where=one.reponame,
            fix="encode the recordings again: " + "python tools/kani_prepare.py --speaker NAME",
        )
    held_out, notes = _held_out(clips, config)
    frames = np.array([clip.n_all for clip in clips], dtype=np.float64)
    weights = frames / frames.sum()
    report = SourceReport(
        one.reponame,
        len(lengths),
        len(lengths) - len(fit),
        len(fit) - len(chosen),
        dict(bad),
        len(clips),
        float(frames.sum() / model.codec.fps),
        float(weights @ [clip.duplicate_share for clip in clips]),
        float(weights @ [clip.removed_share for clip in clips]),
    )
    columns = {
        "id": [f"{one.reponame}#{clip.row}" for clip in clips],
        "recording": [clip.recording for clip in clips],
        "ids": [clip.ids for clip in clips],
        "audio_start": [clip.audio_start for clip in clips],
        "n_frames": [clip.n_frames for clip in clips],
        "held_out": [clip.row in held_out for clip in clips],
        "speaker_emb": [clip.speaker_emb for clip in clips],
    }
    notes = [f"{one.reponame}: {note}" for note in notes]
    return pa.table(columns, schema=SCHEMA), report, notes


class _Clip(NamedTuple):
    """A row as ids; `n_all` frames before any was left out."""

    row: int
    recording: str
    ids: np.ndarray
    audio_start: int
    n_frames: int
    n_all: int
    duplicate_share: float
    removed_share: float
    speaker_emb: np.ndarray


@dataclass(frozen=True)
class _Task:
    speaker: str | None
    space: TokenSpace
    removes_duplicates: bool
    tokenizer: Path
    embedding_dim: int


def _in_shards(
    rows: Dataset, chosen: np.ndarray, task: _Task, n_shards: int | None
) -> Iterator[tuple[list[_Clip], Counter[str]]]:
    """The chosen rows in order, a shard at a time; none of the shards is empty."""
    n_processes = max(1, min(os.cpu_count() or 1, len(chosen) // ROWS_A_PROCESS))
    shards = np.array_split(chosen, min(n_shards or n_processes, len(chosen)))
    calls = [delayed(_shard)(rows.select(shard), shard, task) for shard in shards]
    with Parallel(n_jobs=min(n_processes, len(shards)), return_as="generator") as parallel:
        yield from cast("Iterator[Any]", parallel(calls))


def _shard(rows: Dataset, numbers: np.ndarray, task: _Task) -> tuple[list[_Clip], Counter[str]]:
    tokenizer = load_tokenizer(task.tokenizer)
    clips, bad = [], Counter()
    for number, row in zip(numbers.tolist(), rows, strict=True):
        try:
            clips.append(_clip(number, cast("dict[str, Any]", row), task, tokenizer))
        except UserError as error:
            bad[_kind(error)] += 1
    return clips, bad


def _clip(number: int, row: dict[str, Any], task: _Task, tokenizer: TextTokenizer) -> _Clip:
    text = row["text"]
    if not isinstance(text, str) or not text.strip():
        raise UserError("no text")
    layers = [row[name] for name in LAYERS]
    if any(layer is None for layer in layers):
        raise UserError("no codes")
    codes = stacked(layers, task.space)  # (K, T)
    if row["encoded_len"]:
        codes = codes[:, : int(row["encoded_len"])]
    found = interleave(codes, task.space, task.removes_duplicates)
    embedding = _embedding(row["speaker_emb"], task.embedding_dim) if task.embedding_dim else NONE
    said = training_sequence(
        text.strip(), task.speaker, found.ids, tokenizer, task.space, has_place=len(embedding) > 0
    )
    return _Clip(
        number,
        str(row["recording"]),
        np.array(said.ids, dtype=np.int32),
        said.audio_start,
        len(found.ids) // task.space.num_codebooks,
        codes.shape[1],
        found.duplicate_share,
        found.removed_share,
        embedding,
    )


def _embedding(found: Any, dim: int) -> np.ndarray:
    """(E,) as the data set has it."""
    if found is None:
        raise UserError("no speaker embedding")
    try:
        embedding = np.asarray(found, dtype=np.float32)
    except (ValueError, TypeError) as error:
        raise UserError("the speaker embedding is no list of numbers") from error
    if embedding.shape != (dim,):
        raise UserError(f"the speaker embedding hasn't got {dim} numbers: {embedding.shape}")
    if not np.isfinite(embedding).all() or not embedding.any():
        raise UserError("the speaker embedding is zero, or not of finite numbers")
    return embedding


def _kind(error: UserError) -> str:
    """The reason without the numbers of the row."""
    return error.what.partition(":")[0].lstrip("0123456789 ")


def _held_out(clips: Sequence[_Clip], config: DatasetConfig) -> tuple[set[int], list[str]]:
    """Numbers of the rows to measure with; none of a single one."""
    if len(clips) < 2:
        return set(), []
    share = config.validation_share
    parted = hold_out(clips, share, seed=config.seed, size=lambda clip: float(clip.n_all))
    return {clip.row for clip in parted.held_out}, parted.notes


def require_speakers(sources: Sequence[Source]) -> None:
    """Without their names before the texts, a model can't tell speakers from each other."""
    nameless: set[str] = set()
    for source in sources:
        found = {str(name) for name in source.rows.unique("speaker") if name}
        if source.config.speaker_emb is not None:
            continue  # that tells them apart
        if source.config.speaker_id is not None and len(found) > 1:
            named = ", ".join(sorted(found)[:4])
            mine = source.config.speaker_id
            log.warning("%s: clips of %s are all taught as '%s'", source.name, named, mine)
        if source.config.speaker_id is None:
            nameless |= found
    if len(nameless) > 1:
        raise UserError(
            f"{len(nameless)} speakers ({', '.join(sorted(nameless)[:4])}) and no speaker_id to "
            "tell them from each other",
            where="dataset_config.yaml",
            fix="name the data set once for each, with a categorical_filter and a speaker_id",
        )
