"""Data sets of codes, from a local folder or the hub, all with the same columns."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import (
    Dataset,
    DatasetDict,
    are_progress_bars_disabled,
    concatenate_datasets,
    disable_progress_bars,
    enable_progress_bars,
    load_dataset,
    load_dataset_builder,
    load_from_disk,
)
from datasets.exceptions import DatasetNotFoundError

from kani.config import LAYERS, SourceConfig
from ttscommon.checkpoints import fingerprint
from ttscommon.errors import UserError
from ttscommon.ledger import weights_key

log = logging.getLogger(__name__)

TABLES = (".arrow", ".parquet", ".jsonl", ".jsonl.gz", ".json")
SAVED = ("state.json", "dataset_dict.json")  # what `Dataset.save_to_disk` leaves
PREPARE = "python tools/kani_prepare.py --speaker NAME"


class Source:
    """A data set; its rows are read when they are asked for.

    Attributes:
        name: for people
        digest: changes with its content

    Raises:
        UserError: if it isn't there
    """

    def __init__(self, config: SourceConfig):
        self.config, self.name = config, config.reponame
        self._files: list[Path] = []
        if is_local(config):
            self._files = _local_files(config)
        else:
            self._hub = _from_hub(config)
            self._files = [Path(file["filename"]) for file in self._hub.cache_files]
        self.digest = fingerprint([weights_key(file) for file in self._files])

    @cached_property
    def rows(self) -> Dataset:
        """Those that its filter keeps: text, nano_layer_1 to 4, encoded_len, recording, speaker,
        and speaker_emb if the settings name its column.

        Raises:
            UserError: if they can't be read, or lack columns
        """
        rows = _local_rows(self.config, self._files) if is_local(self.config) else self._hub
        require_columns(self.config, rows.column_names)
        rows = _filtered(rows, self.config)
        table = rows.with_format("arrow")[:] if len(rows) else rows.data.table.slice(0, 0)
        assert isinstance(table, pa.Table)
        return _renamed(table, self.config)


def save(rows: Dataset, folder: Path) -> None:
    """Write rows as `datasets` does, without its bars, which fill a log."""
    was_off = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        rows.save_to_disk(str(folder))
    finally:
        if not was_off:
            enable_progress_bars()


def is_local(config: SourceConfig) -> bool:
    """Whether it is a path; a name on the hub is `owner/name`, or a bare name."""
    name = config.reponame
    return Path(name).exists() or name.startswith((".", "/", "~")) or name.count("/") > 1


def columns_of(config: SourceConfig) -> list[str]:
    """The columns of a data set, without its rows where it is on the hub.

    Raises:
        UserError: if it isn't there or can't be read
    """
    if is_local(config):
        return _local_rows(config, _local_files(config)).column_names
    try:
        features = load_dataset_builder(config.reponame, config.name).info.features
    except (OSError, ValueError) as error:
        raise _unreachable(config, error) from error
    return list(features or {})


def require_columns(config: SourceConfig, found: Sequence[str]) -> None:
    """Refuse a data set without the columns it should have, naming all of them.

    Raises:
        UserError: if one is missing, or two of ours are one of theirs
    """
    wanted = [config.text_col_name, *config.layers]
    wanted += [name for name in (config.encoded_len, config.speaker_emb) if name]
    if config.categorical_filter:
        wanted.append(config.categorical_filter.column_name)
    missing = sorted({name for name in wanted if name not in found})
    if missing:
        raise UserError(
            f"no column {', '.join(missing)}; there are {', '.join(found)}",
            where=config.reponame,
            fix="name its columns in dataset_config.yaml: text_col_name, nano_layer_1 ...",
        )
    if len(set(config.layers)) < len(config.layers):
        raise UserError("two layers are one column", where=config.reponame)


def _local_files(config: SourceConfig) -> list[Path]:
    path = Path(config.reponame).expanduser()
    if not path.exists():
        raise UserError("no such data set", where=path, fix=PREPARE)
    files = _tables(path, config.split)
    if not files:
        kinds = ", ".join(TABLES)
        raise UserError(f"no table of rows here ({kinds})", where=path, fix=PREPARE)
    return files


def _local_rows(config: SourceConfig, files: list[Path]) -> Dataset:
    path = Path(config.reponame).expanduser()
    try:
        if path.is_dir() and any((path / name).is_file() for name in SAVED):
            rows = load_from_disk(str(path))
            if isinstance(rows, DatasetDict):
                if config.split not in rows:
                    what = f"no split '{config.split}'; there are {', '.join(map(str, rows))}"
                    raise UserError(what, where=path)
                rows = rows[config.split]
        else:
            rows = concatenate_datasets([_table(file) for file in files])
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        what = f"can't be read: {_first_line(error)}"
        raise UserError(what, where=path, fix="prepare or fetch it again") from error
    return rows


def _tables(path: Path, split: str) -> list[Path]:
    """The files with rows; those of the split, where names tell."""
    if path.is_file():
        return [path]
    found = sorted(
        file
        for file in path.rglob("*")
        if file.name.endswith(TABLES)
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
    )
    if any((path / name).is_file() for name in SAVED):
        return [file for file in found if file.suffix == ".arrow"]
    if any(not file.name.endswith(".json") for file in found):  # those tell of the others
        found = [file for file in found if not file.name.endswith(".json")]
    mine = [file for file in found if split in file.relative_to(path).parts]
    return mine or [file for file in found if file.name.startswith(split)] or found


def _table(path: Path) -> Dataset:
    if path.suffix == ".arrow":
        return Dataset.from_file(str(path))
    if path.suffix == ".parquet":
        import pyarrow.parquet

        return Dataset(pyarrow.parquet.read_table(path))
    import pyarrow.json

    with pa.input_stream(str(path), compression="detect") as stream:
        return Dataset(pyarrow.json.read_json(stream))


def _from_hub(config: SourceConfig) -> Dataset:
    try:
        rows = load_dataset(config.reponame, config.name, split=config.split)
    except (OSError, ValueError) as error:
        raise _unreachable(config, error) from error
    assert isinstance(rows, Dataset)
    return rows


def _unreachable(config: SourceConfig, error: Exception) -> UserError:
    if isinstance(error, ValueError):
        return UserError(_first_line(error), where=config.reponame)
    if isinstance(error, DatasetNotFoundError):
        return UserError(
            f"no such folder, and the hub shows no such data set: {_first_line(error)}",
            where=config.reponame,
            fix="make login, if it is private; or name a local folder",
        )
    return UserError(
        f"the hub can't be reached: {_first_line(error)}",
        where=config.reponame,
        fix="name a local folder, or try again with a network",
    )


def _filtered(rows: Dataset, config: SourceConfig) -> Dataset:
    wanted = config.categorical_filter
    if wanted is None:
        return rows
    values = rows.with_format("arrow")[:][wanted.column_name].to_pylist() if len(rows) else []
    kept = [index for index, value in enumerate(values) if value == wanted.value]
    if not kept:
        known = sorted({str(value) for value in values})[:8]
        raise UserError(
            f"no row has '{wanted.value}' in column {wanted.column_name}; "
            f"there are {', '.join(known)}",
            where=config.reponame,
        )
    return rows.select(kept)


def _renamed(table: pa.Table, config: SourceConfig) -> Dataset:
    columns: dict[str, Any] = {"text": table[config.text_col_name]}
    for ours, theirs in zip(LAYERS, config.layers, strict=True):
        columns[ours] = table[theirs]
    lengths = table[config.encoded_len] if config.encoded_len else None
    if lengths is None:
        lengths = pc.call_function("list_value_length", [table[config.nano_layer_1]])
    columns["encoded_len"] = lengths
    if config.speaker_emb:
        columns["speaker_emb"] = table[config.speaker_emb]
    n = len(table)
    for ours, theirs in (("recording", config.recording_col_name), ("speaker", "speaker")):
        if theirs in table.column_names:
            columns[ours] = table[theirs].cast(pa.string())
        else:
            names = [str(i) for i in range(n)] if ours == "recording" else [""] * n
            columns[ours] = pa.array(names, pa.string())
    return Dataset(pa.table(columns))


def lengths_of(rows: Dataset) -> np.ndarray:
    """(N,) frames of each row; 0 where nobody wrote how many."""
    column = rows.data.table["encoded_len"].to_numpy()
    return np.nan_to_num(np.asarray(column, dtype=np.float64)).astype(np.int64)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
