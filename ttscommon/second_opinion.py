"""What a recogniser hears in clips, set against the texts that came from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ttscommon.hearing import Ear, listen
from ttscommon.transcribe import sentence
from ttscommon.verbatim import KEPT, heard_by


@dataclass(frozen=True)
class SecondOpinion:
    """What was heard.

    Attributes:
        heard: {clip: text}; None if nobody listened
        notes: what to know about that
    """

    heard: dict[str, str] | None = None
    language: str = "en"
    notes: list[str] = field(default_factory=list)


def ask(
    ear: Ear,
    clips: Mapping[str, Path],
    texts: Mapping[str, str],
    language: str | None,
    *,
    told_in: Path,
    output: Path,
) -> SecondOpinion:
    """Hear every clip but those whose text this very recogniser wrote: it would agree.

    Args:
        told_in: the folder with what a recogniser wrote about the clips
        output: where what is heard now is kept
    """
    own = {name for name, text in heard_by(told_in, ear.name).items() if texts.get(name) == text}
    hearing = listen(clips, ear, language, output / KEPT)
    heard = {n: sentence(found.words) for n, found in hearing.heard.items() if n not in own}
    notes = []
    if n_own := len(own & clips.keys()):
        what = f"{n_own} texts are what this very model heard, so it wasn't asked about them; "
        notes.append(what + "another --whisper-model would be a second opinion")
    return SecondOpinion(heard, hearing.language, notes)
