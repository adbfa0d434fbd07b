"""Names of clips: unique, safe as file names on every system, the same in every run."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

PIECE = "@"  # stands in the id of a clip that is only a part of its recording


def recording_ids(paths: Sequence[Path], folder: Path) -> dict[Path, str]:
    """A name for each recording below `folder`: its own, unless another has the same.

    Of `a.wav` and `a.mp3` neither is "a"; names that differ in case only would be one file on some
    disks.
    """
    ids = {path: _safe(path.relative_to(folder).with_suffix("")) for path in paths}
    ids = _where_shared(ids, lambda path: "_" + path.suffix.lstrip(".").lower())
    return _where_shared(ids, lambda path: "_" + _digest(path.relative_to(folder)))


def clip_name(recording: str, start: float | None, end: float) -> str:
    """The id of a clip: the recording's if it is all of it (`start` None), else with its place.

    Hundredths of a second, so that a clip cut elsewhere has another name.
    """
    if start is None:
        return recording
    return f"{recording}{PIECE}{round(start * 100):06d}-{round(end * 100):06d}"


def is_piece(identity: str) -> bool:
    """Whether a clip is only a part of its recording."""
    return PIECE in identity


def recording_of(identity: str) -> str:
    """The id of the recording that a clip is of."""
    return identity.partition(PIECE)[0]


def _where_shared(ids: dict[Path, str], suffix: Callable[[Path], str]) -> dict[Path, str]:
    shared = Counter(name.casefold() for name in ids.values())
    return {
        path: name + suffix(path) if shared[name.casefold()] > 1 else name
        for path, name in ids.items()
    }


def _safe(path: Path) -> str:
    """Letters, marks and digits of any script, `_`, `-` and dots."""
    name = "".join(
        c if c in "_-." or unicodedata.category(c)[0] in "LMN" else "_" for c in path.as_posix()
    )
    return name.strip(".") or "_"


def _digest(path: Path) -> str:
    return hashlib.sha256(path.as_posix().encode()).hexdigest()[:8]
