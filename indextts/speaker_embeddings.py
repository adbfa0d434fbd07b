"""A voice kept in a file, so that speaking with it needs no recording and no speech encoders."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from indextts.gpt.model import UnifiedVoice
from indextts.s2mel.model import S2Mel
from indextts.s2mel.speaker import SpeakerFeatures
from indextts.tensors import digest, read_tensors
from ttscommon.audio import AUDIO_SUFFIXES, duration
from ttscommon.errors import UserError
from ttscommon.files import atomic, atomic_folder, read_json, recover_folder, write_json
from ttscommon.workspace import Speaker

if TYPE_CHECKING:
    from indextts.infer_v2 import IndexTTS2
    from indextts.references import ReferenceReader

log = logging.getLogger(__name__)

Seconds = float
MADE_BY = "python tools/extract_embeddings.py --speaker NAME"
FORMAT, VERSION = "indextts.speaker_embeddings", 1
METADATA = "_metadata"  # of a file; loaders of others pass over names that begin with "_"
METADATA_FILE = "metadata.json"
GOOD_PROMPT: Seconds = 3.0  # shorter clips prompt only where there are no others


@dataclass(frozen=True)
class Voice:
    """Everything the model is told about who speaks and in which mood by default.

    Attributes:
        features: what the acoustic model and the language model know the speaker by
        emo_cond_emb: (1, L, C) normalised w2v-bert features that the mood is read from. The
            original loads the recording a second time for them, at another rate, so they differ a
            little from `features.spk_cond_emb`.
        origin: plain values: the recording and the networks it was read by, where known
    """

    features: SpeakerFeatures
    emo_cond_emb: Tensor
    origin: Mapping[str, Any] = field(default_factory=dict)

    def to(self, device: torch.device) -> Voice:
        """The same on another device, in float32."""
        moved = {k: v.to(device, torch.float32) for k, v in self.tensors().items()}
        return dataclasses.replace(from_tensors(moved), origin=self.origin)

    def tensors(self) -> dict[str, Tensor]:
        """As they are named in files."""
        named = {f.name: getattr(self.features, f.name) for f in dataclasses.fields(self.features)}
        return {**named, "emo_cond_emb": self.emo_cond_emb}

    def stored(self) -> dict[str, Any]:
        """What a file holds: the tensors, and the origin under "_metadata"."""
        about = {"format": FORMAT, "version": VERSION, **self.origin}
        held = {k: v.detach().cpu().contiguous() for k, v in self.tensors().items()}
        return {**held, METADATA: about}


# What stands for a voice: one in memory, tensors by name, or a file of them.
SpeakerEmbeddings: TypeAlias = Voice | SpeakerFeatures | Mapping[str, Any] | Path | str


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
        together or averaged would be those of no speech at all.

        Raises:
            UserError: if a recording is of no use, or none is as long as `prompt_seconds`
        """
        reader = self._reader(tts)
        paths = [Path(path) for path in audio_paths]
        if not paths:
            raise UserError("no recordings to read a voice from")
        candidates = _candidates(paths, prompt_seconds)
        styles = torch.stack([reader.style(path) for path in paths])
        likeness = _likeness(styles)
        chosen = max(candidates, key=lambda number: float(likeness[number]))
        source = paths[chosen]
        if verbose:
            for path, one in zip(paths, likeness.tolist(), strict=True):
                log.info("%.3f %s%s", one, path.name, " (chosen)" if path == source else "")
        read = reader.voice(source, longest=min(longest, prompt_seconds or longest))
        style = averaged_style(styles)[None] if len(paths) > 1 else read.features.style
        origin = {
            "source": source.name,
            "source_sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
            "n_recordings": len(paths),
            "likeness": round(float(likeness[chosen]), 4),
            "encoders": reader.fingerprints(),
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


def _candidates(paths: Sequence[Path], prompt_seconds: Seconds | None) -> list[int]:
    """Numbers of the recordings that are long enough to prompt with."""
    if prompt_seconds is not None and not 0.5 <= prompt_seconds <= 15:
        raise UserError(f"--prompt-seconds {prompt_seconds:g} isn't from 0.5 to 15")
    seconds = [duration(path) for path in paths]
    longest = max(seconds)
    if prompt_seconds is not None and longest < prompt_seconds:
        raise UserError(
            f"a prompt of {prompt_seconds:g} s, but the longest recording has {longest:.1f} s",
            where=paths[seconds.index(longest)],
            fix=f"--prompt-seconds {int(10 * longest) / 10:g}, or give longer recordings: parts of "
            "several are never put together",
        )
    wanted = min(longest, GOOD_PROMPT) if prompt_seconds is None else prompt_seconds
    return [number for number, one in enumerate(seconds) if one >= wanted]


def read_voice(source: SpeakerEmbeddings) -> Voice:
    """A voice in any form.

    Raises:
        UserError: if there is no such file, a tensor is missing or has the wrong number of
            dimensions
    """
    if isinstance(source, Voice):
        return source
    if isinstance(source, SpeakerFeatures):
        return Voice(source, source.spk_cond_emb)
    if isinstance(source, Mapping):
        return from_tensors(source)
    if isinstance(source, str | Path):
        path = Path(source)
        if not path.is_file():
            raise UserError("no stored speaker here", where=path, fix=MADE_BY)
        return from_tensors(_stored(path), where=path)
    raise UserError(
        f"a {type(source).__name__} is no stored speaker", fix="give a file, or what it holds"
    )


def _stored(path: Path) -> dict[str, Any]:
    if path.suffix.lower() in AUDIO_SUFFIXES:
        raise UserError(
            "this is a recording, not a stored speaker", where=path, fix="--reference-audio"
        )
    try:
        tensors = read_tensors(path, mmap=False)
    except UserError as error:  # its advice is for weights that can be fetched
        raise UserError(f"no stored speaker: {error.what}", where=path, fix=MADE_BY) from error
    if path.suffix == ".safetensors":
        return dict(tensors)
    whole = torch.load(path, map_location="cpu", weights_only=True)
    about = whole.get(METADATA) if isinstance(whole, Mapping) else None
    return {**tensors, METADATA: about} if isinstance(about, Mapping) else dict(tensors)


def from_tensors(tensors: Mapping[str, Any], *, where: Path | None = None) -> Voice:
    """Tensors by name as a voice; of names that begin with "_" only "_metadata" is looked at."""
    names = [f.name for f in dataclasses.fields(SpeakerFeatures)]
    missing = [name for name in names if not isinstance(tensors.get(name), Tensor)]
    if missing:
        raise UserError(f"the stored speaker lacks {', '.join(missing)}", where=where, fix=MADE_BY)
    # Files written before moods were stored apart have the speaker's features only.
    chosen = {name: tensors[name] for name in names}
    mood = tensors.get("emo_cond_emb", chosen["spk_cond_emb"])
    for name, tensor in {**chosen, "emo_cond_emb": mood}.items():
        n_dims = 2 if name == "style" else 3
        if tensor.dim() != n_dims or tensor.shape[0] != 1 or not tensor.numel():
            raise UserError(
                f"{name} of the stored speaker has shape {list(tensor.shape)}", where=where
            )
        if not tensor.isfinite().all():
            raise UserError(f"{name} of the stored speaker holds NaN or infinity", where=where)
    try:
        return Voice(SpeakerFeatures(**chosen), mood, _origin(tensors.get(METADATA), where))
    except ValueError as error:
        raise UserError(
            f"the stored speaker disagrees with itself: {error}", where=where
        ) from error


def _origin(about: object, where: Path | None) -> dict[str, Any]:
    """What stands under "_metadata", if we wrote it."""
    if not isinstance(about, Mapping) or about.get("format") != FORMAT:
        return {}
    if about.get("version") != VERSION:
        what = f"a stored speaker of version {about.get('version')}, this program knows {VERSION}"
        raise UserError(what, where=where, fix=MADE_BY)
    return {key: value for key, value in about.items() if key not in ("format", "version")}


def require_fit(voice: Voice, gpt: UnifiedVoice, s2mel: S2Mel) -> None:
    """Refuse a voice that was made with a model of other sizes, or by another acoustic model.

    The language model may be another, as a fine-tuned one is: no tensor depends on it.

    Raises:
        UserError: naming the tensor, its width and the width needed
    """
    sizes = s2mel.config
    wanted = {
        "spk_cond_emb": (2, gpt.config.cond_input_dim),
        "style": (1, sizes.dit.style_dim),
        "prompt_condition": (2, sizes.length_regulator.channels),
        "ref_mel": (1, sizes.mel.n_mels),
        "emo_cond_emb": (2, gpt.config.cond_input_dim),
    }
    tensors = voice.tensors()
    for name, (axis, width) in wanted.items():
        if tensors[name].shape[axis] != width:
            raise UserError(
                f"{name} of the stored speaker is {tensors[name].shape[axis]} wide, this model's "
                f"is {width}",
                fix="extract the speaker again with this model",
            )
    made_by = voice.origin.get("encoders", {}).get("length_regulator")
    if made_by and made_by != digest(s2mel.length_regulator.state_dict()):
        raise UserError(
            f"the stored speaker ({voice.origin.get('source')}) was extracted with another "
            "acoustic model than this one",
            fix=f"extract the speaker again with this model: {MADE_BY} --overwrite",
        )
