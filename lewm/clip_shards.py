"""Shards that remember which part of which recording their clips came from.

That memory is what lets a run that was killed go on, and a changed data set keep what is unchanged.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lewm.features import (
    FEATURES_FILE,
    MANIFEST_FILE,
    Features,
    describe,
    open_shard,
    read_header,
    read_shard,
    write_shard,
)
from ttscommon.errors import UserError
from ttscommon.files import write_json
from ttscommon.manifest import Clip, write_manifest
from ttscommon.mel import MelRecipe

log = logging.getLogger(__name__)

Skip = tuple[str, str]  # (what, why)
SHARDS = "shard-*.arrow"


@dataclass(frozen=True)
class PartClips:
    """The clips of one part of a recording.

    Attributes:
        key: changes with anything the clips depend on
        features, clips: one for one, what the network sees and the manifest's line
        skipped: what was left out of the part, and why
    """

    key: str
    features: list[Features]
    clips: list[Clip]
    skipped: list[Skip]


def write_parts(path: Path, parts: Sequence[PartClips], recipe: MelRecipe) -> None:
    """One shard with the clips of all `parts`, in their order; atomic."""
    notes = {
        "parts": [
            {"key": part.key, "n_clips": len(part.clips), "skipped": part.skipped} for part in parts
        ],
        "clips": [asdict(clip) for part in parts for clip in part.clips],
    }
    write_shard(path, [features for part in parts for features in part.features], recipe, notes)


def outcome(shards: Sequence[Path]) -> tuple[int, list[Skip]]:
    """The number of clips in the shards and what was left out while they were made."""
    n_clips, skipped = 0, []
    for path in shards:
        header = read_header(path)
        n_clips += header["n_clips"]
        skipped += [tuple(skip) for part in header["notes"]["parts"] for skip in part["skipped"]]
    return n_clips, skipped


def finished_parts(folder: Path) -> dict[str, Callable[[], PartClips]]:
    """For the key of each part in any shard of the folder: a function that reads its clips."""
    finished: dict[str, Callable[[], PartClips]] = {}
    for path in sorted(folder.glob(SHARDS)):
        try:
            open_shard(path)
        except UserError as error:
            log.warning("%s %s: its clips are made again", error.what, path)
            path.unlink(missing_ok=True)
            continue
        parts = read_header(path)["notes"].get("parts", [])
        start = 0
        for part in parts:
            finished[part["key"]] = _Reader(path, start, part)
            start += part["n_clips"]
    return finished


def publish(shards: Sequence[Path], folder: Path, speaker: str, config: dict[str, Any]) -> None:
    """Write what makes the shards a data set, then drop shards that don't belong to it."""
    filled = [path for path in shards if read_header(path)["n_clips"]]
    clips = (Clip(**clip) for path in filled for clip in read_header(path)["notes"]["clips"])
    write_manifest(folder / MANIFEST_FILE, clips, speaker=speaker)
    write_json(folder / FEATURES_FILE, describe(filled, config))
    for path in folder.glob(SHARDS):
        if path not in shards:
            path.unlink()


@dataclass(frozen=True)
class _Reader:
    path: Path
    start: int
    part: dict[str, Any]

    def __call__(self) -> PartClips:
        end = self.start + self.part["n_clips"]
        clips = read_header(self.path)["notes"]["clips"][self.start : end]
        return PartClips(
            key=self.part["key"],
            features=read_shard(self.path, self.start, end),
            clips=[Clip(**clip) for clip in clips],
            skipped=[tuple(skip) for skip in self.part["skipped"]],
        )
