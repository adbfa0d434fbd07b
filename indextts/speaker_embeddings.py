"""A voice kept in a file, so that speaking with it needs no recording and no speech encoders."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from indextts.gpt.model import UnifiedVoice
from indextts.s2mel.model import S2Mel
from indextts.s2mel.speaker import SpeakerFeatures
from indextts.tensors import read_tensors
from ttscommon.audio import AUDIO_SUFFIXES
from ttscommon.errors import UserError
from ttscommon.files import atomic

if TYPE_CHECKING:
    from indextts.infer_v2 import IndexTTS2

MADE_BY = "python tools/infer.py --reference-audio RECORDING.wav --save-speaker FILE"


@dataclass(frozen=True)
class Voice:
    """Everything the model is told about who speaks and in which mood by default.

    Attributes:
        features: what the acoustic model and the language model know the speaker by
        emo_cond_emb: (1, L, C) normalised w2v-bert features that the mood is read from. The
            original loads the recording a second time for them, at another rate, so they differ a
            little from `features.spk_cond_emb`.
    """

    features: SpeakerFeatures
    emo_cond_emb: Tensor

    def to(self, device: torch.device) -> Voice:
        """The same on another device, in float32."""
        return from_tensors({k: v.to(device, torch.float32) for k, v in self.tensors().items()})

    def tensors(self) -> dict[str, Tensor]:
        """As they are named in files."""
        named = {f.name: getattr(self.features, f.name) for f in dataclasses.fields(self.features)}
        return {**named, "emo_cond_emb": self.emo_cond_emb}


# What stands for a voice: one in memory, tensors by name, or a file of them.
SpeakerEmbeddings: TypeAlias = Voice | SpeakerFeatures | Mapping[str, Tensor] | Path | str


class SpeakerEmbeddingStore:
    """Stores voices and brings them back.

    Args:
        tts_model: what new voices are extracted with; not needed for reading
    """

    def __init__(self, tts_model: IndexTTS2 | None = None):
        self.tts_model = tts_model

    def extract_embeddings(
        self, audio_path: Path | str, tts: IndexTTS2 | None = None
    ) -> dict[str, Tensor]:
        """The voice in the first 15 seconds of a recording."""
        tts = tts or self.tts_model
        if tts is None:
            raise ValueError("give the store an IndexTTS2 to extract voices with")
        return tts.voice(audio_path).to(torch.device("cpu")).tensors()

    def save_embeddings(self, embeddings: SpeakerEmbeddings, path: Path | str) -> None:
        """Write a voice to one file."""
        tensors = read_voice(embeddings).to(torch.device("cpu")).tensors()
        with atomic(Path(path)) as draft:
            torch.save({name: tensor.contiguous() for name, tensor in tensors.items()}, draft)

    def load_embeddings(self, path: Path | str) -> dict[str, Tensor]:
        """The tensors of a file.

        Raises:
            UserError: if there is no such file, or it holds no voice
        """
        return read_voice(path).tensors()


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
        return from_tensors(_stored_tensors(path), where=path)
    raise UserError(
        f"a {type(source).__name__} is no stored speaker", fix="give a file, or what it holds"
    )


def _stored_tensors(path: Path) -> dict[str, Tensor]:
    if path.suffix.lower() in AUDIO_SUFFIXES:
        raise UserError(
            "this is a recording, not a stored speaker", where=path, fix="--reference-audio"
        )
    try:
        return read_tensors(path, mmap=False)
    except UserError as error:  # its advice is for weights that can be fetched
        raise UserError(f"no stored speaker: {error.what}", where=path, fix=MADE_BY) from error


def from_tensors(tensors: Mapping[str, Tensor], *, where: Path | None = None) -> Voice:
    """Tensors by name as a voice; names that begin with "_" are passed over."""
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
        return Voice(SpeakerFeatures(**chosen), mood)
    except ValueError as error:
        raise UserError(
            f"the stored speaker disagrees with itself: {error}", where=where
        ) from error


def require_fit(voice: Voice, gpt: UnifiedVoice, s2mel: S2Mel) -> None:
    """Refuse a voice that was made with a model of other sizes.

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
