"""A voice in memory and in files: what it consists of, how it is read, what is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from indextts.gpt.model import UnifiedVoice
from indextts.s2mel.model import S2Mel
from indextts.s2mel.speaker import SpeakerFeatures
from indextts.tensors import digest, read_tensors
from ttscommon.audio import AUDIO_SUFFIXES
from ttscommon.errors import UserError

MADE_BY = "python tools/extract_embeddings.py --speaker NAME"
FORMAT, VERSION = "indextts.speaker_embeddings", 1
METADATA = "_metadata"  # of a file; loaders of others pass over names that begin with "_"


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
    """Tensors by name as a voice; of names that begin with "_" only "_metadata" is looked at.

    Raises:
        UserError: if one is missing, of another shape or not finite, or they disagree
    """
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
