"""Prepared clips: the lines of `train_manifest.jsonl` and `val_manifest.jsonl`, and their files."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from indextts.config import GptConfig
from indextts.strangers import INFO_FILE as INFO_FILE
from indextts.strangers import INFO_FORMAT as INFO_FORMAT
from ttscommon.errors import UserError
from ttscommon.files import read_json
from ttscommon.manifest import read_records
from ttscommon.workspace import TRAIN_MANIFEST as TRAIN_MANIFEST
from ttscommon.workspace import VALIDATION_MANIFEST as VALIDATION_MANIFEST

log = logging.getLogger(__name__)

PREPARE = "python tools/prepare_lora_dataset.py"
NEEDED = ("id", "text_ids_path", "codes_path", "text_len", "code_len")
MAX_PROMPT_FRAMES = 750  # 15 s at 50 a second, as long as references are when speaking
MOST_NAMES = 5  # in a complaint


@dataclass(frozen=True, kw_only=True)
class TrainingClip:
    """One line of a manifest.

    Attributes:
        text_ids_path: int32 (L,) without start and stop
        codes_path: int32 (T,)
        condition_path: float32 (N, D); emo_vec_path: float32 (D,)
        features_path: float16 (F, C), the normalised w2v-bert features
        condition_len: N
        recording: what the clip was cut from
        speaker: clips of one speaker may be each other's prompts
        sha256: of what it was made from
    """

    id: str
    text: str
    text_ids_path: Path
    codes_path: Path
    text_len: int
    code_len: int
    condition_path: Path | None = None
    emo_vec_path: Path | None = None
    features_path: Path | None = None
    audio_path: Path | None = None
    condition_len: int = 32
    duration: float = 0.0
    recording: str = ""
    speaker: str = ""
    language: str = ""
    sha256: str = ""

    @property
    def n_tokens(self) -> int:
        """Columns in the transformer: speaker and speed, text and codes with start and stop."""
        return self.condition_len + 2 + self.text_len + 2 + self.code_len + 2


def read_clips(manifests: Sequence[Path]) -> list[TrainingClip]:
    """The clips of several manifests, one after the other, paths absolute.

    Manifests of the original's `prepare_lora_dataset` are read too: their clips have no cached
    features, and those in one folder count as one speaker's.

    Raises:
        UserError: if a manifest is missing, broken or empty, or files that it names are gone
    """
    clips = [clip for manifest in manifests for clip in _clips_of(Path(manifest))]
    if not clips:
        raise UserError("no clips in the manifest", where=manifests[0] if manifests else None)
    return clips


def require_base(manifests: Sequence[Path], gpt_fingerprint: str) -> None:
    """Refuse features that were computed with another base checkpoint.

    Args:
        gpt_fingerprint: `indextts.weights.fingerprint` of the language model to be trained

    Raises:
        UserError: naming the manifest
    """
    for manifest in manifests:
        path = Path(manifest).parent / INFO_FILE
        if not path.is_file():
            log.warning("%s doesn't say which base its features are of", manifest)
            continue
        base = str(read_json(path, format=INFO_FORMAT).get("base"))
        if base != gpt_fingerprint:
            raise UserError(
                f"these features were computed with another base checkpoint ({base[:12]}, loaded "
                f"is {gpt_fingerprint[:12]})",
                where=manifest,
                fix=f"{PREPARE} again, with the --model-dir that is trained",
            )


def require_fit(clips: Sequence[TrainingClip], config: GptConfig) -> None:
    """Refuse clips that the language model has no room for, or that aren't of its kind.

    Nothing is ever cut to fit: codes would then be spoken that no text stands for.

    Raises:
        UserError: listing the clips
    """
    too_long = [
        f"{clip.id} ({clip.text_len} text tokens, {clip.code_len} codes)"
        for clip in clips
        if clip.text_len > config.max_text_tokens or clip.code_len > config.max_mel_tokens
    ]
    if too_long:
        raise UserError(
            f"{len(too_long)} clips are longer than the model's tables of {config.max_text_tokens} "
            f"text tokens and {config.max_mel_tokens} codes: {_first(too_long)}",
            fix=f"cut the recordings into shorter clips, then {PREPARE}",
        )
    most_text, most_codes = config.number_text_tokens, config.start_mel_token - 1
    for clip in clips:
        _require_range(text_ids(clip), most_text, clip.text_ids_path)
        _require_range(codes(clip), most_codes, clip.codes_path)
        shape = (config.condition_num_latent, config.model_dim)
        if clip.condition_path and (found := read_array(clip.condition_path).shape) != shape:
            raise UserError(
                f"a speaker condition of {found}, the model's is {shape}",
                where=clip.condition_path,
                fix=f"{PREPARE} again",
            )


def text_ids(clip: TrainingClip) -> np.ndarray:
    """(L,) ids, as many as the manifest says."""
    return _of_length(clip.text_ids_path, clip.text_len, clip)


def codes(clip: TrainingClip) -> np.ndarray:
    """(T,) codes, as many as the manifest says."""
    return _of_length(clip.codes_path, clip.code_len, clip)


def read_array(path: Path) -> np.ndarray:
    """A `.npy` file of numbers.

    Raises:
        UserError: if it is missing, broken or holds Python objects
    """
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        fix = f"delete it and run {PREPARE} again"
        raise UserError("missing or no array of numbers", where=path, fix=fix) from error


def _of_length(path: Path, length: int, clip: TrainingClip) -> np.ndarray:
    found = read_array(path)
    if found.shape != (length,):
        raise UserError(
            f"{found.shape} numbers for {clip.id}, the manifest says {length}",
            where=path,
            fix=f"{PREPARE} again",
        )
    return found


def _clips_of(manifest: Path) -> list[TrainingClip]:
    folder = manifest.parent.resolve()
    try:
        records = read_records(manifest)
    except UserError as error:
        raise UserError(error.what, where=manifest, fix=error.fix or PREPARE) from error
    clips = [_clip(record, folder, manifest) for record in records]
    gone = [
        path.name
        for clip in clips
        for path in (getattr(clip, name) for name in _PATHS if name != "audio_path")
        if path is not None and not path.is_file()
    ]
    if gone:
        raise UserError(
            f"{len(gone)} files of this manifest are gone: {_first(gone)}",
            where=manifest,
            fix=f"{PREPARE} again",
        )
    return clips


_PATHS = (
    *("text_ids_path", "codes_path", "condition_path", "emo_vec_path"),
    *("features_path", "audio_path"),
)


def _clip(record: Mapping[str, Any], folder: Path, manifest: Path) -> TrainingClip:
    lacking = [name for name in NEEDED if record.get(name) in (None, "")]
    lacking += ["text"] if not isinstance(record.get("text"), str) else []
    if lacking:
        raise UserError(
            f"a line lacks {', '.join(lacking)}; it has {', '.join(record)[:120]}", where=manifest
        )
    known = TrainingClip.__dataclass_fields__
    fields = {n: v for n, v in record.items() if n in known and v is not None}
    for name in _PATHS:
        fields[name] = folder / fields[name] if fields.get(name) else None
    try:
        for name in ("text_len", "code_len", "condition_len"):
            fields[name] = int(fields.get(name, 32))
    except (TypeError, ValueError) as error:
        raise UserError(f"{record['id']}: a length is no number", where=manifest) from error
    fields.setdefault("recording", str(record.get("audio_path") or record["id"]))
    fields.setdefault("speaker", str(folder))
    if not fields.get("sha256"):
        fields["sha256"] = _digest(fields["text_ids_path"], fields["codes_path"])
    return TrainingClip(**fields)


def _digest(*paths: Path) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes() if path.is_file() else b"")
    return digest.hexdigest()


def _require_range(ids: np.ndarray, highest: int, where: Path) -> None:
    if len(ids) and (ids.min() < 0 or ids.max() > highest):
        raise UserError(
            f"ids from {ids.min()} to {ids.max()}, the model knows 0 to {highest}",
            where=where,
            fix=f"{PREPARE} again, with this model's files",
        )


def _first(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more
