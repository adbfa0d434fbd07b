"""words.json: what is known of each clip that was heard, above all when each word is said."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ttscommon.errors import UserError
from ttscommon.files import read_json, write_json

log = logging.getLogger(__name__)

FORMAT, VERSION = "ttscommon.words", 1
NEEDED = {"source", "text"}  # of a clip
ANEW = "move it away and run tools/transcribe_dataset.py: texts in its table stay as they are"

Entries = dict[str, dict[str, Any]]  # by the clip's name


@dataclass(frozen=True)
class ClipWords:
    """The file at `path`, there or not."""

    path: Path

    def read(self) -> Entries:
        """What it says of each clip; nothing if there is no file.

        Raises:
            UserError: if it is broken, of a later version or not ours
        """
        if not self.path.is_file():
            return {}
        data = read_json(self.path)
        if isinstance(data, dict) and "format" in data:
            return self._clips(data)
        entries = self._require(data)
        log.warning("%s is of an older version; the next transcription writes it anew", self.path)
        return entries

    def write(self, entries: Mapping[str, Mapping[str, Any]]) -> None:
        write_json(self.path, {"format": FORMAT, "version": VERSION, "clips": dict(entries)})

    def _clips(self, data: Mapping[str, Any]) -> Entries:
        found = data["format"], data.get("version")
        if found != (FORMAT, VERSION):
            what = f"expected {FORMAT} of version {VERSION}, found {found[0]} of {found[1]}"
            raise UserError(what, where=self.path, fix=ANEW)
        return self._require(data.get("clips"))

    def _require(self, entries: Any) -> Entries:
        if not isinstance(entries, dict):
            raise UserError("no words of clips", where=self.path, fix=ANEW)
        for name, entry in entries.items():
            if not isinstance(entry, dict) or not entry.keys() >= NEEDED:
                raise UserError(f"nothing that we wrote of '{name}'", where=self.path, fix=ANEW)
        return entries
