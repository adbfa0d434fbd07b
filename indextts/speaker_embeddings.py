"""A voice kept in a file, so that speaking with it needs no recording and no speech encoders."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from indextts.stored_voice import (
    FORMAT,
    METADATA,
    SpeakerEmbeddings,
    Voice,
    from_tensors,
    read_voice,
)
from indextts.tensors import read_tensors
from ttscommon.audio import duration
from ttscommon.errors import UserError
from ttscommon.files import atomic, atomic_folder, read_json, recover_folder, write_json
from ttscommon.workspace import Speaker

if TYPE_CHECKING:
    from indextts.infer_v2 import IndexTTS2
    from indextts.references import ReferenceReader

log = logging.getLogger(__name__)

Seconds = float
METADATA_FILE = "metadata.json"
GOOD_PROMPT: Seconds = 3.0  # shorter clips prompt only where there are no others


class SpeakerEmbeddingStore:
    """Extracts voices, stores them and brings them back.

    Args:
        tts_model: what new voices are read by, a whole model or its reader of recordings; not
            needed for stored ones
        storage_dir: where `save` puts voices by name; made when the first one is saved
    """

    def __init__(
        self,
        tts_model: IndexTTS2 | ReferenceReader | None = None,
        storage_dir: Path | str = "./speaker_embeddings",
    ):
        self.tts_model, self.storage_dir = tts_model, Path(storage_dir)

    def extract_embeddings(
        self,
        audio_path: Path | str,
        tts: IndexTTS2 | ReferenceReader | None = None,
        max_audio_length: Seconds = 15.0,
    ) -> dict[str, Any]:
        """The voice in the first seconds of a recording, 15 at most."""
        return self.voice([audio_path], tts, prompt_seconds=None, longest=max_audio_length).stored()

    def extract_averaged_embeddings(
        self,
        audio_paths: Sequence[Path | str],
        verbose: bool = False,
        *,
        prompt_seconds: Seconds | None = None,
    ) -> dict[str, Any]:
        """The voice in the most typical one of several recordings, with the style of all.

        Args:
            verbose: log how alike the recordings are
            prompt_seconds: length of what is kept of that recording; by default all, up to 15
        """
        return self.voice(audio_paths, prompt_seconds=prompt_seconds, verbose=verbose).stored()

    def voice(
        self,
        audio_paths: Sequence[Path | str],
        tts: IndexTTS2 | ReferenceReader | None = None,
        *,
        prompt_seconds: Seconds | None = None,
        longest: Seconds = 15.0,
        verbose: bool = False,
    ) -> Voice:
        """As `extract_averaged_embeddings`.

        Every tensor but the style is that of one recording: frames of different utterances put
        together or averaged would be those of no speech at all. Recordings that can't be read, are
        silent or too short are left out, with a warning; "left_out" of the origin names them.

        Raises:
            UserError: if no recording is of any use, or none is as long as `prompt_seconds`
        """
        reader = self._reader(tts)
        paths = [Path(path) for path in audio_paths]
        if not paths:
            raise UserError("no recordings to read a voice from")
        if prompt_seconds is not None and not 0.5 <= prompt_seconds <= 15:
            raise UserError(f"--prompt-seconds {prompt_seconds:g} isn't from 0.5 to 15")
        encoders = reader.fingerprints()  # loads them: their faults are no recording's
        heard, left_out = _hear(paths, reader)
        candidates = _candidates(heard, prompt_seconds)
        styles = torch.stack([one.style for one in heard])
        likeness = _likeness(styles)
        chosen = max(candidates, key=lambda number: float(likeness[number]))
        source = heard[chosen].path
        if verbose:
            for one, like in zip(heard, likeness.tolist(), strict=True):
                log.info(
                    "%.3f %s%s", like, one.path.name, " (chosen)" if one.path == source else ""
                )
        read = reader.voice(source, longest=min(longest, prompt_seconds or longest))
        style = averaged_style(styles)[None] if len(heard) > 1 else read.features.style
        origin = {
            "source": source.name,
            "source_sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
            "n_recordings": len(heard),
            "left_out": left_out,
            "likeness": round(float(likeness[chosen]), 4),
            "encoders": encoders,
        }
        reader.release()
        return Voice(dataclasses.replace(read.features, style=style), read.emo_cond_emb, origin)

    def save_embeddings(self, embeddings: SpeakerEmbeddings, path: Path | str) -> None:
        """Write a voice to one file."""
        held = read_voice(embeddings).stored()
        with atomic(Path(path)) as draft:
            torch.save(held, draft)

    def load_embeddings(self, path: Path | str) -> dict[str, Any]:
        """What `save_embeddings` wrote.

        Raises:
            UserError: if there is no such file, or it holds no voice
        """
        return read_voice(path).stored()

    def save(self, name: str, embeddings: SpeakerEmbeddings) -> Path:
        """Write a voice to a folder of its own below `storage_dir`: a file for each tensor."""
        held = read_voice(embeddings).stored()
        folder = self._folder(name)
        with atomic_folder(folder) as draft:
            write_json(draft / METADATA_FILE, held.pop(METADATA))
            for key, tensor in held.items():
                torch.save(tensor, draft / f"{key}.pt")
        return folder

    def load(self, name: str) -> dict[str, Any]:
        """What `save` wrote.

        Raises:
            UserError: if there is no such voice, or it isn't whole
        """
        folder = self._folder(name)
        recover_folder(folder)
        if not folder.is_dir():
            known = ", ".join(self.list_speakers()) or "none"
            raise UserError(f"no stored speaker '{name}'", where=self.storage_dir,
                            fix=f"there are: {known}")  # fmt: skip
        about = read_json(folder / METADATA_FILE, format=FORMAT)
        held = {path.stem: read_tensors(path, mmap=False)[""] for path in folder.glob("*.pt")}
        return from_tensors({**held, METADATA: about}, where=folder).stored()

    def list_speakers(self) -> list[str]:
        """Names that `load` knows."""
        if not self.storage_dir.is_dir():
            return []
        return sorted(path.parent.name for path in self.storage_dir.glob(f"[!.]*/{METADATA_FILE}"))

    def delete(self, name: str) -> bool:
        """Whether there was such a voice."""
        folder = self._folder(name)
        is_there = (folder / METADATA_FILE).is_file()
        if is_there:
            shutil.rmtree(folder)
        return is_there

    def _folder(self, name: str) -> Path:
        return Speaker(name, self.storage_dir).folder

    def _reader(self, tts: IndexTTS2 | ReferenceReader | None) -> ReferenceReader:
        tts = tts or self.tts_model
        if tts is None:
            raise ValueError("give the store an IndexTTS2 to extract voices with")
        reader: Any = getattr(tts, "references", tts)
        return reader


def averaged_style(styles: Tensor) -> Tensor:
    """The mean of speaker vectors, as long as they are on average: (N, E) -> (E,)

    The encoder's vectors aren't of unit length and the model was trained on them as they are; a
    plain mean would be shorter than any voice's.
    """
    mean = styles.mean(dim=0)
    return mean * (styles.norm(dim=1).mean() / mean.norm().clamp(min=1e-12))


def _likeness(styles: Tensor) -> Tensor:
    """Mean cosine similarity of each vector to the others: (N, E) -> (N,); 1 for a single one"""
    if len(styles) == 1:
        return torch.ones(1)
    units = torch.nn.functional.normalize(styles, dim=1)
    return ((units @ units.T).sum(dim=1) - 1) / (len(styles) - 1)


@dataclasses.dataclass(frozen=True)
class _Heard:
    """A recording that can be used; style: (E,)"""

    path: Path
    seconds: Seconds
    style: Tensor


def _hear(paths: Sequence[Path], reader: ReferenceReader) -> tuple[list[_Heard], dict[str, str]]:
    """The recordings that can be used, and why the others can't.

    Raises:
        UserError: if none can
    """
    heard: list[_Heard] = []
    troubles: dict[str, UserError] = {}
    for path in paths:
        try:
            heard.append(_Heard(path, duration(path), reader.style(path)))
        except UserError as error:
            troubles[path.name] = error
    first = next(iter(troubles.values()), None)
    if first is not None and not heard:
        if len(paths) == 1:
            raise first
        what = f"none of the {len(paths)} recordings can be used; the first: {first.what}"
        raise UserError(what, where=paths[0], fix=first.fix) from first
    for name, error in troubles.items():
        log.warning("left out %s: %s", name, error.what)
    return heard, {name: error.what for name, error in troubles.items()}


def _candidates(heard: Sequence[_Heard], prompt_seconds: Seconds | None) -> list[int]:
    """Numbers of the recordings that are long enough to prompt with."""
    longest = max(heard, key=lambda one: one.seconds)
    if prompt_seconds is not None and longest.seconds < prompt_seconds:
        raise UserError(
            f"a prompt of {prompt_seconds:g} s, but the longest recording has "
            f"{longest.seconds:.1f} s",
            where=longest.path,
            fix=f"--prompt-seconds {int(10 * longest.seconds) / 10:g}, or give longer recordings: "
            "parts of several are never put together",
        )
    wanted = min(longest.seconds, GOOD_PROMPT) if prompt_seconds is None else prompt_seconds
    return [number for number, one in enumerate(heard) if one.seconds >= wanted]
