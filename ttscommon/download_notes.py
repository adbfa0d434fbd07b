"""What was noted of each downloaded file: where it came from, how long it is, its checksum."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from ttscommon.files import read_json, write_json

RECORD, RECORD_FORMAT = "downloads.json", "ttscommon.downloads"
BLOCK = 1 << 22


def digest_of(path: Path, kind: str) -> str:
    """ "sha256:..." of a file, or "sha1:..." as git counts it."""
    state = hashlib.new(kind)
    if kind == "sha1":
        state.update(f"blob {path.stat().st_size}\0".encode())
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            state.update(block)
    return f"{kind}:{state.hexdigest()}"


def read_notes(folder: Path) -> dict[str, dict[str, Any]]:
    """The notes of a system's folder, by file name; none where nothing was downloaded.

    Raises:
        UserError: if they are broken
    """
    if not (folder / RECORD).is_file():
        return {}
    return read_json(folder / RECORD, format=RECORD_FORMAT)["files"]


def write_note(folder: Path, name: str, entry: dict[str, Any]) -> None:
    """Add the note of one file, or replace it."""
    files = {**read_notes(folder), name: entry}
    write_json(folder / RECORD, {"format": RECORD_FORMAT, "version": 1, "files": files})
