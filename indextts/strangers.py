"""Other people's clips as prompts: a manner is learned apart from them only where they differ."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from ttscommon.errors import UserError
from ttscommon.files import read_json, write_json
from ttscommon.manifest import read_records
from ttscommon.workspace import TRAIN_MANIFEST, Speaker, find_speakers, speaker_flags

INFO_FILE, INFO_FORMAT = "dataset_info.json", "indextts.lora_dataset"
KEPT, FORMAT, VERSION = "prompts.json", "indextts.prompts", 1


def prompts_of(speakers: Sequence[Speaker]) -> list[Path]:
    """The manifest of each speaker's prepared clips.

    Raises:
        UserError: naming who was never prepared
    """
    found = []
    for speaker in speakers:
        manifests = _manifests(speaker)
        if not manifests:
            fix = f"python tools/prepare_lora_dataset.py {shlex.join(speaker_flags([speaker]))}"
            raise UserError(
                f"'{speaker.name}' has no prepared clips", where=speaker.dataset, fix=fix
            )
        found.append(manifests[0])
    return found


def find_strangers(root: Path, own: Speaker | None, learned: Sequence[Path]) -> list[Path]:
    """Clips of everybody else that were prepared with the same base, by name.

    Who can't be read is none, nor is who shares a clip with the speaker.

    Args:
        root: of the speakers' folders
        own: who is learned, if they have a name
        learned: manifests of theirs, those to validate with as well

    Returns:
        one manifest for each
    """
    bases = {_base(manifest) for manifest in learned} - {None}
    sounds = set().union(*(_sounds(manifest) for manifest in learned))
    found = []
    for speaker in find_speakers(root):
        if speaker == own:
            continue
        fitting = [path for path in _manifests(speaker) if _base(path) in bases]
        if fitting and (theirs := _sounds(fitting[0])) and not theirs & sounds:
            found.append(fitting[0])
    return found


def keep_prompts(run: Path, manifests: Sequence[Path]) -> None:
    """Write into a run's folder who prompts in it, so that it goes on with the same.

    Args:
        manifests: in the folders of speakers
    """
    told = [path.relative_to(path.parents[3]).as_posix() for path in manifests]
    write_json(run / KEPT, {"format": FORMAT, "version": VERSION, "manifests": told})


def kept_prompts(run: Path, root: Path) -> list[Path] | None:
    """Who prompts in a run that has begun; None if it hasn't.

    Args:
        root: of the speakers' folders

    Raises:
        UserError: if the file isn't ours, or some of them are gone
    """
    path = run / KEPT
    if not path.is_file():
        return None
    told = read_json(path, format=FORMAT)
    fix = "--prompt-speakers NAMES, or --overwrite to begin anew"
    if told.get("version") != VERSION or not isinstance(told.get("manifests"), list):
        raise UserError(f"expected version {VERSION} of {FORMAT}", where=path, fix=fix)
    found = [root / str(manifest) for manifest in told["manifests"]]
    if gone := [manifest for manifest in found if not manifest.is_file()]:
        raise UserError("clips that prompted in this run are gone", where=gone[0], fix=fix)
    return found


def bundled_command(speaker: Speaker, sample: Path, model_dir: Path | None) -> str:
    """How the recordings that come with VoxTune become a stranger's."""
    words = ["python", "tools/prepare_lora_dataset.py", *speaker_flags([speaker])]
    words += ["--audio-dir", str(sample / "audio")]
    words += ["--transcripts", str(sample / "transcripts.csv")]
    return shlex.join([*words, *(["--model-dir", str(model_dir)] if model_dir else [])])


def _manifests(speaker: Speaker) -> list[Path]:
    places = [folder / TRAIN_MANIFEST for folder in (speaker.processed_v3, speaker.processed)]
    return [path for path in places if path.is_file()]


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
