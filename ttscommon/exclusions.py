"""Clips that somebody doesn't want: `excluded.txt` names them, and nothing is made of them.

It lies in the data set, beside the folder of clips. A line names a clip, or a recording and so all
that was cut from it, as a table of texts does: with or without folder and ending. Behind " #" there
is room for the reason; what is the name of a clip up to a later " #" ("take #3.wav") is that name.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ttscommon.audio import find_audio
from ttscommon.errors import UserError
from ttscommon.manifest import match_transcripts, read_manifest, read_text
from ttscommon.workspace import DatasetFolder, Speaker

log = logging.getLogger(__name__)

EXCLUDED = "named in excluded.txt"
N_NAMED = 3
_REASON = re.compile(r"(?:^|\s)#")


@dataclass(frozen=True)
class Exclusions:
    """What a file of exclusions says.

    Attributes:
        file: it
        clips: names in the folder of clips, also of those that somebody deleted besides
        unknown: lines that fit neither a clip nor a recording
    """

    file: Path
    clips: frozenset[str] = frozenset()
    unknown: tuple[str, ...] = ()

    def tell(self) -> None:
        """Warn of lines that have no effect."""
        if self.unknown:
            log.warning("%s: %s", self.file, self._on_unknown())

    def notes(self) -> list[str]:
        """What to say of it in a report."""
        counted = [f"{len(self.clips)} clips are {EXCLUDED}"] if self.clips else []
        return counted + ([f"{self.file.name}: {self._on_unknown()}"] if self.unknown else [])

    def remark(self) -> str:
        """To put behind "no clips": that it isn't for want of files."""
        return f" ({len(self.clips)} are {EXCLUDED})" if self.clips else ""

    def _on_unknown(self) -> str:
        named = ", ".join(self.unknown[:N_NAMED])
        return f"{len(self.unknown)} lines fit no clip, for example {named}"


def read_exclusions(folder: Path) -> Exclusions:
    """Which clips in `folder` are excluded; none if there is no file that says so.

    Raises:
        UserError: if a line fits several clips equally well, or the file isn't UTF-8
    """
    data = DatasetFolder.of_sounds(folder)
    if not data.excluded.is_file():
        return Exclusions(data.excluded)
    names = {path.relative_to(folder) for path in _sounds(folder)}
    by_recording: dict[Path, list[Path]] = {}
    if folder.resolve() == data.clips.resolve() and data.clips_manifest.is_file():
        for clip in read_manifest(data.clips_manifest):
            name = Path(PurePosixPath(clip.audio).name)
            by_recording.setdefault(Path(clip.recording), []).append(name)
    names |= {name for cut in by_recording.values() for name in cut}
    known = _known([*names, *by_recording])
    lines = [_name(line, known) for line in read_text(data.excluded).splitlines()]
    wanted = {line: line for line in lines if line}
    try:
        named, rest = match_transcripts(wanted, sorted(names))
        wholes, unknown = match_transcripts({line: line for line in rest}, sorted(by_recording))
    except UserError as error:
        raise UserError(error.what, where=data.excluded, fix=error.fix) from error
    excluded = {*named, *(name for recording in wholes for name in by_recording[recording])}
    return Exclusions(data.excluded, frozenset(n.as_posix() for n in excluded), tuple(unknown))


def usable_clips(speaker: Speaker) -> list[Path]:
    """The files in `speaker.clips_folder` that aren't excluded.

    Raises:
        UserError: as `read_exclusions`
    """
    return usable_sounds(speaker.clips_folder)


def usable_sounds(folder: Path) -> list[Path]:
    """The same of a folder of clips or recordings, whose file lies beside it or in it."""
    excluded = read_exclusions(folder)
    excluded.tell()
    return [p for p in _sounds(folder) if p.relative_to(folder).as_posix() not in excluded.clips]


def _known(names: Iterable[Path]) -> set[str]:
    """How a line may name files, folders that lead to them aside."""
    known = set()
    for name in names:
        known |= {name.as_posix(), name.with_suffix("").as_posix(), name.name, name.stem}
    return known


def _name(line: str, known: Collection[str]) -> str:
    """What a line names: all up to the last " #" that leaves a known name, else up to the first."""
    ends = [len(line), *(found.start() for found in reversed([*_REASON.finditer(line)]))]
    for end in ends[:-1]:
        name = line[:end].strip()
        parts = name.replace("\\", "/").split("/")
        for i in range(len(parts)):
            if "/".join(parts[i:]) in known and not _REASON.search("/".join(parts[:i])):
                return name
    return line[: ends[-1]].strip()


def _sounds(folder: Path) -> list[Path]:
    return find_audio(folder) if folder.is_dir() else []
