"""The folder of prepared clips: files of their own for each, and manifests of those that are done.

A clip's note is written last and says what its files were made from, by content. Manifests name
finished clips only; they are gone while clips that they name change.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from indextts.clips import INFO_FILE, INFO_FORMAT, TRAIN_MANIFEST, VALIDATION_MANIFEST
from indextts.utterances import Utterance
from ttscommon.errors import UserError
from ttscommon.files import atomic, read_json, write_json

NOTE_FORMAT = "indextts.prepared_clip"
FEATURES = "features"
SOUND_KINDS = ("codes", "condition", "emo_vec", "w2v")
KINDS = ("text_ids", *SOUND_KINDS)  # files of a clip: <id>_<kind>.npy


@dataclass(frozen=True, kw_only=True)
class Note:
    """What a clip's files were made from.

    Attributes:
        sound: names all that `SOUND_KINDS` depend on; sha256: all that `KINDS` do
        unknown: pieces of the text that the tokenizer doesn't know, with their number
        why: the clip is of no use and has no files
    """

    sound: str
    sha256: str
    text_len: int = 0
    code_len: int = 0
    condition_len: int = 0
    unknown: dict[str, int] = field(default_factory=dict)
    why: str | None = None


class ClipStore:
    """Files below an output folder.

    Attributes:
        suffixes: of the files of a clip; its id comes before
    """

    suffixes: tuple[str, ...] = (*(f"_{kind}.npy" for kind in KINDS), ".json")

    def __init__(self, folder: Path):
        self.folder = folder
        self.features = folder / FEATURES

    def require_own(self, speaker: str) -> None:
        """Refuse to replace the prepared clips of somebody else, or of another program.

        Raises:
            UserError: naming the speaker whose they are
        """
        described = self.folder / INFO_FILE
        owner = read_json(described).get("speaker") if described.is_file() else speaker
        manifests = (self.folder / TRAIN_MANIFEST, self.folder / VALIDATION_MANIFEST)
        if owner != speaker:
            what = f"the clips in this folder are {owner}'s, not {speaker}'s"
        elif not described.is_file() and any(path.exists() for path in manifests):
            what = "the clips in this folder were prepared by another program"
        else:
            return
        raise UserError(
            what, where=self.folder, fix="give another --output-dir, or move this folder away"
        )

    def note(self, utterance: Utterance) -> Note | None:
        """None if there is none that can be used."""
        try:
            data = read_json(self._note_path(utterance), format=NOTE_FORMAT)
            return Note(**{name: data[name] for name in Note.__dataclass_fields__})
        except (UserError, KeyError):
            return None

    def is_whole(self, utterance: Utterance, kinds: Sequence[str] = KINDS) -> bool:
        """Whether the files are there."""
        return all(self._array_path(utterance, kind).is_file() for kind in kinds)

    def write(self, utterance: Utterance, arrays: Mapping[str, np.ndarray], note: Note) -> None:
        """Replace files of a clip and, when they are whole, its note."""
        path = self._note_path(utterance)
        if path.exists() or any(self._array_path(utterance, kind).exists() for kind in KINDS):
            self.remove_manifests()
            path.unlink(missing_ok=True)
        for kind, array in arrays.items():
            held = io.BytesIO()  # numpy wouldn't say that the disk is full
            np.save(held, array, allow_pickle=False)
            with atomic(self._array_path(utterance, kind)) as draft:
                draft.write_bytes(held.getbuffer())
        write_json(path, {"format": NOTE_FORMAT, "version": 1, **asdict(note)})

    def publish(self, lines: Mapping[str, str], info: Mapping[str, Any]) -> None:
        """Write the description, and the manifests unless they are there already.

        Args:
            lines: the text of each manifest
        """
        is_same = all(_is_text(self.folder / name, text) for name, text in lines.items())
        if not is_same:
            self.remove_manifests()  # a kill leaves none, not two that don't belong together
        write_json(self.folder / INFO_FILE, {"format": INFO_FORMAT, "version": 1, **info})
        if is_same:
            return
        for name in (VALIDATION_MANIFEST, TRAIN_MANIFEST):
            with atomic(self.folder / name) as draft:
                draft.write_text(lines[name], encoding="utf-8", newline="\n")

    def line(self, utterance: Utterance, note: Note, speaker: str) -> str:
        """A manifest's line; its first twelve keys are the original's."""
        files = {kind: f"{FEATURES}/{utterance.id}_{kind}.npy" for kind in KINDS}
        record: dict[str, Any] = {
            "id": utterance.id,
            "text": utterance.text,
            "audio_path": Path(os.path.relpath(utterance.path, self.folder)).as_posix(),
            "text_ids_path": files["text_ids"],
            "codes_path": files["codes"],
            "condition_path": files["condition"],
            "emo_vec_path": files["emo_vec"],
            "text_len": note.text_len,
            "code_len": note.code_len,
            "condition_len": note.condition_len,
            "duration": utterance.duration,
            "sample_type": "single",
            "features_path": files["w2v"],
            "recording": utterance.recording,
            "speaker": speaker,
            "language": utterance.language,
            "sha256": note.sha256,
        }
        return json.dumps(record, ensure_ascii=False) + "\n"

    def remove_drafts(self) -> None:
        """Delete what a killed process was writing."""
        for folder in (self.folder, self.features):
            for path in folder.glob(".*.part"):
                path.unlink(missing_ok=True)

    def remove_others(self, utterances: Sequence[Utterance]) -> None:
        """Delete the files of clips that are no longer there; only those that a note is of."""
        kept = self.files(utterances)
        for note in self.features.glob("*.json"):
            if note in kept or not _is_note(note):
                continue
            for suffix in self.suffixes:  # the note is the last of them
                path = self.features / (note.stem + suffix)
                if path not in kept:
                    path.unlink(missing_ok=True)

    def files(self, utterances: Sequence[Utterance]) -> set[Path]:
        """What clips have below `features`."""
        notes = {self._note_path(utterance) for utterance in utterances}
        return notes | {self._array_path(one, kind) for one in utterances for kind in KINDS}

    def remove_manifests(self) -> None:
        """Before a clip that they name changes."""
        for name in (TRAIN_MANIFEST, VALIDATION_MANIFEST):
            (self.folder / name).unlink(missing_ok=True)

    def _note_path(self, utterance: Utterance) -> Path:
        return self.features / f"{utterance.id}.json"

    def _array_path(self, utterance: Utterance, kind: str) -> Path:
        return self.features / f"{utterance.id}_{kind}.npy"


def _is_note(path: Path) -> bool:
    try:
        return read_json(path, format=NOTE_FORMAT) is not None
    except UserError:
        return False


def _is_text(path: Path, text: str) -> bool:
    return path.is_file() and path.read_bytes() == text.encode()
