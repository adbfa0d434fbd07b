"""What is compared: folders of utterances, and which of one belongs to which of another."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from ttscommon.audio import find_audio
from ttscommon.errors import UserError
from ttscommon.evaluation.wording import plain_words
from ttscommon.manifest import match_transcripts, read_transcripts

log = logging.getLogger(__name__)

_SEED = re.compile(r"[-_. ]?seed[-_= ]?(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Utterance:
    """One sound file and what it should say.

    Attributes:
        seed: which of several tries at the text it is
        id: the file's name without suffix and seed, with its folders
        speaker: whose voice it should be, where there are several
    """

    path: Path
    text: str | None = None
    seed: int | None = None
    id: str = ""
    speaker: str = ""

    @property
    def group(self) -> str:
        """The same for all that say the same."""
        return plain_words(self.text or "") or self.id


class Grouped(Protocol):
    """What can be paired."""

    @property
    def group(self) -> str: ...

    @property
    def seed(self) -> int | None: ...


G = TypeVar("G", bound=Grouped)


def find_utterances(folder: Path, texts: Path | None = None) -> list[Utterance]:
    """Every recording below `folder` with its text; a "seed7" in its path is its seed.

    Args:
        texts: a table of texts; by default what the folder itself holds

    Raises:
        UserError: if the folder has no recordings, or texts that fit none of them
    """
    if not folder.is_dir():
        raise UserError("no such folder", where=folder)
    paths = find_audio(folder)
    if not paths:
        raise UserError("no recordings in the folder", where=folder)
    known = read_transcripts(texts or folder)
    found = _by_id(known, paths, folder) if texts else match_transcripts(known, paths)[0]
    if known and not found:
        example = next(iter(known))
        what = (
            f"none of {len(known)} texts names one of {len(paths)} files; the first is '{example}'"
        )
        named = f"call the files as they are called, such as '{paths[0].relative_to(folder)}'"
        raise UserError(what, where=texts or folder, fix=named)
    if 0 < len(found) < len(paths):
        log.warning("%s: %d of %d files have no text", folder, len(paths) - len(found), len(paths))
    return [_utterance(path, folder, found.get(path)) for path in paths]


def pair(a: Sequence[G], b: Sequence[G]) -> list[tuple[G, G]]:
    """What says the same in a and b with the same seed, each once.

    Where one side has no seeds (a real recording), any seed of the other goes with it.
    """
    waiting: dict[str, list[G]] = {}
    for one in b:
        waiting.setdefault(one.group, []).append(one)
    pairs = []
    for one in a:
        others = waiting.get(one.group, [])
        fitting = [o for o in others if o.seed == one.seed]
        if not fitting and (one.seed is None or all(o.seed is None for o in others)):
            fitting = others
        if fitting:
            pairs.append((one, fitting[0]))
            others.remove(fitting[0])
    return pairs


def partners(items: Sequence[G], real: Sequence[G]) -> dict[int, G]:
    """{index into items: the real recording of the same text}; one recording may serve many."""
    by_group = {one.group: one for one in reversed(real)}
    return {i: by_group[one.group] for i, one in enumerate(items) if one.group in by_group}


def _by_id(known: Mapping[str, str], paths: Sequence[Path], folder: Path) -> dict[Path, str]:
    """Texts given once for all seeds: "a" is the text of a_seed0.wav and of seed3/a.wav."""
    by_path: dict[Path, str] = {}
    stems = {Path(key.replace("\\", "/")).stem: text for key, text in known.items()}
    for path in paths:
        name = Path(_without_seed(path.relative_to(folder).with_suffix("").as_posix())).name
        if (text := stems.get(path.stem, stems.get(name))) is not None:
            by_path[path] = text
    return by_path


def _utterance(path: Path, folder: Path, text: str | None) -> Utterance:
    name = path.relative_to(folder).with_suffix("").as_posix()
    found = _SEED.search(name)
    return Utterance(path, text, int(found[1]) if found else None, _without_seed(name))


def _without_seed(name: str) -> str:
    return _SEED.sub("", name, count=1).strip("/") or name
