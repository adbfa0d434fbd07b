"""Files of one JSON object a line that grow while a program runs, and survive its end."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ttscommon.files import atomic

log = logging.getLogger(__name__)


def read_kept(path: Path) -> list[dict[str, Any]]:
    """The records of a file of ours; a last line cut short by a kill is left out.

    `ttscommon.manifest.read_records` refuses such a line: what people write has to be whole.
    """
    if not path.exists():
        return []
    records = []
    for line in path.read_bytes().split(b"\n"):
        if not line:
            continue
        try:
            records.append(json.loads(line))
        except (json.JSONDecodeError, UnicodeDecodeError):
            log.warning("%s: left out a broken line", path)
    return records


def append_record(path: Path, record: Mapping[str, Any]) -> None:
    """Add a line; a number that isn't finite, which JSON doesn't know, becomes null."""
    plain = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in record.items()
    }
    with path.open("ab", buffering=0) as file:  # in one piece, or a kill leaves two halves
        file.write(json.dumps(plain).encode() + b"\n")


def write_records(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Replace what the file holds."""
    with atomic(path) as draft:
        draft.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")


def keep_until(path: Path, step: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Let a file go on from `step`: what was recorded later will be done again.

    Returns:
        the records that stay, and those that were dropped
    """
    records = read_kept(path)
    kept = [record for record in records if record["step"] <= step]
    write_records(path, kept)
    return kept, [record for record in records if record["step"] > step]
