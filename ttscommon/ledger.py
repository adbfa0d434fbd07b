"""Results that were paid for, kept line by line: a run killed at any moment goes on from there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ttscommon.files import atomic
from ttscommon.records import read_kept

READ_WHOLE = 256 * 2**20  # bytes, half a second
N_BLOCKS, BLOCK = 257, 2**16  # 16 MB


class Ledger:
    """A JSONL file of {"key", "value"}, to which each result is appended as soon as it is there.

    A last line cut short by a kill is left out when the file is read, and its rest never runs into
    the next line.
    """

    def __init__(self, path: Path):
        self.path = path
        records = (record for record in read_kept(path) if isinstance(record, dict))
        self._values = {r["key"]: r["value"] for r in records if {"key", "value"} <= set(r)}

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def values(self) -> list[Any]:
        return list(self._values.values())

    def items(self) -> list[tuple[str, Any]]:
        return list(self._values.items())

    def append(self, key: str, value: Any) -> None:
        """Keep `value`, plain data, from now on."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = _line(key, value)
        with self.path.open("ab+") as file:
            if file.tell():
                file.seek(-1, 2)
                if file.read(1) != b"\n":
                    line = "\n" + line
            file.write(line.encode())
        self._values[key] = value

    def replace(self, values: Mapping[str, Any]) -> None:
        """Forget everything but `values`."""
        with atomic(self.path) as draft:
            lines = "".join(_line(key, value) for key, value in values.items())
            draft.write_text(lines, encoding="utf-8")
        self._values = dict(values)


def content_key(path: Path) -> str:
    """Changes with the bytes of the file, not with its name or date."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:24]


def weights_key(path: Path) -> str:
    """Changes with any training or repair of a file of weights, in a moment for gigabytes too.

    A file of more than `READ_WHOLE` bytes is known by its size, its ends and blocks spread evenly
    over it: training changes every one of them.
    """
    size = path.stat().st_size
    if size <= READ_WHOLE:
        return content_key(path)
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for i in range(N_BLOCKS):
            file.seek((size - BLOCK) * i // (N_BLOCKS - 1))
            digest.update(file.read(BLOCK))
    return digest.hexdigest()[:24]


def _line(key: str, value: Any) -> str:
    return json.dumps({"key": key, "value": value}, ensure_ascii=False, allow_nan=False) + "\n"
