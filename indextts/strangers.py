"""Other people's clips as prompts: a manner is learned apart from them only where they differ."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from ttscommon.errors import UserError
from ttscommon.files import read_json
from ttscommon.manifest import read_records
from ttscommon.workspace import TRAIN_MANIFEST, Speaker, find_speakers, speaker_flags

INFO_FILE, INFO_FORMAT = "dataset_info.json", "indextts.lora_dataset"


def prompts_of(speakers: Sequence[Speaker]) -> list[Path]:
    """The manifest of each speaker's prepared clips.

    Raises:
        UserError: naming who was never prepared
    """
    found = []
    for speaker in speakers:
        manifest = _manifest(speaker)
        if manifest is None:
            fix = f"python tools/prepare_lora_dataset.py {shlex.join(speaker_flags([speaker]))}"
            raise UserError(
                f"'{speaker.name}' has no prepared clips", where=speaker.dataset, fix=fix
            )
        found.append(manifest)
    return found


def find_strangers(root: Path, trained_on: Sequence[Path]) -> list[Speaker]:
    """Everybody else whose clips were prepared with the same base, by name.

    Who can't be read is none, nor is a copy of the speaker.

    Args:
        root: of the speakers' folders
        trained_on: manifests of the speaker who is learned
    """
    bases = {_base(manifest) for manifest in trained_on} - {None}
    own = set().union(*(_sounds(manifest) for manifest in trained_on))
    found = []
    for speaker in find_speakers(root):
        manifest = _manifest(speaker)
        if manifest is None or _base(manifest) not in bases:
            continue
        sounds = _sounds(manifest)
        if sounds and not sounds & own:
            found.append(speaker)
    return found


def _manifest(speaker: Speaker) -> Path | None:
    places = [folder / TRAIN_MANIFEST for folder in (speaker.processed_v3, speaker.processed)]
    return next((path for path in places if path.is_file()), None)


def _base(manifest: Path) -> str | None:
    """Which base these clips were prepared with; None if that can't be told."""
    try:
        return read_json(manifest.parent / INFO_FILE, format=INFO_FORMAT).get("base")
    except UserError:
        return None


def _sounds(manifest: Path) -> set[str]:
    """The clips' hashes; none if they can't be read."""
    try:
        return {str(line.get("sha256")) for line in read_records(manifest)}
    except UserError:
        return set()
