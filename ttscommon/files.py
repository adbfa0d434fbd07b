"""Writing files so that a killed program leaves the old one whole."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ttscommon.errors import UserError

WEIGHTS = ".safetensors"
# Who may read a new file. It can only be asked for by setting it.
_UMASK = os.umask(0o077)
os.umask(_UMASK)


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a neighbour to write to; it takes `path`'s place only if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield draft
        if path.suffix == WEIGHTS:
            _let_others_read(draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a neighbouring folder to fill; it takes `path`'s place only if the block succeeds.

    A folder that already stands at `path` is moved aside first and deleted last, so that at every
    moment either the old or the new one is whole on disk.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    aside = path.with_name(f".{path.name}.old")
    _remove_left_drafts(path)
    draft.mkdir()
    try:
        yield draft
        for file in draft.rglob(f"*{WEIGHTS}"):
            if not file.is_symlink():
                _let_others_read(file)
        if path.exists():
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
        draft.rename(path)
        shutil.rmtree(aside, ignore_errors=True)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _let_others_read(file: Path) -> None:
    """As a file is that was opened for writing; safetensors writes for its owner alone."""
    file.chmod(0o666 & ~_UMASK)


def _remove_left_drafts(path: Path) -> None:
    """Drafts of `path` whose writer was killed; of a large model two would fill a disk."""
    import psutil  # not at the top: the doctor comes this far without any package

    for draft in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        writer = draft.name.rsplit(".", 2)[1]
        if (
            not writer.isdecimal()
            or int(writer) == os.getpid()
            or not psutil.pid_exists(int(writer))
        ):
            shutil.rmtree(draft, ignore_errors=True)


def recover_folder(path: Path) -> None:
    """Put back the old folder if a kill fell between the two renames of `atomic_folder`."""
    aside = path.with_name(f".{path.name}.old")
    if aside.is_dir() and not path.exists():
        with contextlib.suppress(FileNotFoundError):  # another process was first
            aside.rename(path)


def write_json(path: Path, data: Any) -> None:
    """Write `data` as JSON: indent 2, sorted keys, UTF-8, atomically."""
    with atomic(path) as draft:
        text = json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
        draft.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path, *, format: str | None = None) -> Any:
    """Read JSON; with `format`, refuse a file whose "format" field says something else.

    Raises:
        UserError: if the file is missing, broken or of another format
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError("no such file", where=path) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"broken JSON: {error}", where=path) from error
    if format is not None and not (isinstance(data, Mapping) and data.get("format") == format):
        found = data.get("format") if isinstance(data, Mapping) else type(data).__name__
        raise UserError(f"expected a {format} file, found {found}", where=path)
    return data


def require_free_disk(folder: Path, n_bytes: int) -> None:
    """Refuse before writing when `folder`'s disk can't take `n_bytes` (and 50 MB to spare).

    Raises:
        UserError: with the size needed and the size free
    """
    existing = next(p for p in (folder, *folder.parents) if p.exists())
    free = shutil.disk_usage(existing).free
    needed = n_bytes + 50_000_000
    if free < needed:
        what = f"disk almost full: {needed / 1e6:.0f} MB needed, {free / 1e6:.0f} MB free"
        raise UserError(what, where=folder, fix="free some space and run the same command again")
