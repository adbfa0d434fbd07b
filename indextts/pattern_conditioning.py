"""A speaker as the language model knows them from several clips, for speaking without a prompt."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from indextts.clip_encoder import Arrays, ClipEncoder
from indextts.tensors import read_tensors
from ttscommon.errors import UserError
from ttscommon.files import atomic

log = logging.getLogger(__name__)

FORMAT, VERSION = "indextts.pattern_conditioning", 1
METADATA = "_metadata"
MADE_BY = "python tools/extract_pattern_conditioning.py --speaker NAME"
LONGEST = 15.0  # seconds of a clip that are read, as when speaking
Method = Literal["average", "longest", "medoid"]
METHODS: tuple[Method, ...] = get_args(Method)
TENSORS = ("spk_cond_emb", "gpt_conditioning", "emo_vec")


def extract_conditioning(
    paths: Sequence[Path], encoder: ClipEncoder, method: Method = "average"
) -> dict[str, Any]:
    """What `pattern_conditioning.pt` holds.

    The 32 latents and the mood are the average of all clips or those of one: of the longest, or of
    the medoid, which is nearest to all others. Frames of speech are never averaged: `spk_cond_emb`
    is one clip's, with "average" the medoid's.

    Raises:
        UserError: if no clip can be read
    """
    read, used, seconds = [], [], []
    for path in paths:
        try:
            sound = encoder.load(path)[: round(LONGEST * encoder.sample_rate)]
            read.append(encoder.read_sound(sound))
        except UserError as error:
            if error.fix:  # the machine's fault, not the clip's
                raise
            log.warning("left out %s: %s", path.name, error.what)
            continue
        used.append(path)
        seconds.append(len(sound) / encoder.sample_rate)
    if not read:
        raise UserError("no clip can be read", where=paths[0].parent if paths else None)
    chosen = _chosen(read, seconds, method)
    return {
        "spk_cond_emb": torch.from_numpy(read[chosen]["w2v"].astype(np.float32))[None],
        "gpt_conditioning": _of(read, "condition", None if method == "average" else chosen),
        "emo_vec": _of(read, "emo_vec", None if method == "average" else chosen),
        METADATA: {
            "format": FORMAT,
            "version": VERSION,
            "method": method,
            "num_samples": len(read) if method == "average" else 1,
            "num_clips": len(read),
            "source": used[chosen].name,
            "audio_paths": [path.name for path in used],
            "total_duration": round(sum(seconds), 3),
            "base": encoder.fingerprint,
        },
    }


def save_conditioning(held: dict[str, Any], path: Path) -> None:
    with atomic(path) as draft:
        torch.save(held, draft)


def read_conditioning(path: Path, base: str | None = None) -> dict[str, Tensor]:
    """The tensors of a file.

    Args:
        base: fingerprint of the language model that they must be of

    Raises:
        UserError: if the file is missing or broken, or of another base
    """
    if not path.is_file():
        raise UserError("no such file", where=path, fix=MADE_BY)
    tensors = read_tensors(path, mmap=False, fix=MADE_BY)
    lacking = [name for name in TENSORS if name not in tensors]
    if lacking:
        raise UserError(f"no conditioning: {', '.join(lacking)} missing", where=path, fix=MADE_BY)
    if not all(tensors[name].isfinite().all() for name in TENSORS):
        raise UserError("the conditioning holds NaN or infinity", where=path, fix=MADE_BY)
    whole = torch.load(path, map_location="cpu", weights_only=True)
    about = whole.get(METADATA)
    theirs = about.get("base") if isinstance(about, dict) else None
    if theirs is None:
        log.warning("%s doesn't say which base it is of", path)
    elif base is not None and theirs != base:
        raise UserError(
            f"conditioning of another base checkpoint ({theirs[:12]}, loaded is {base[:12]})",
            where=path,
            fix=f"{MADE_BY} --overwrite",
        )
    return {name: tensors[name] for name in TENSORS}


def _chosen(read: Sequence[Arrays], seconds: Sequence[float], method: Method) -> int:
    if method == "longest":
        return int(np.argmax(seconds))
    flat = np.stack([arrays["condition"].ravel() for arrays in read]).astype(np.float64)
    units = flat / np.linalg.norm(flat, axis=1, keepdims=True).clip(min=1e-12)
    return int(np.argmax((units @ units.T).sum(axis=1)))


def _of(read: Sequence[Arrays], name: str, chosen: int | None) -> Tensor:
    """(1, ...) of one clip, or the mean of all."""
    stacked = np.stack([arrays[name] for arrays in read])
    one = stacked.mean(axis=0) if chosen is None else stacked[chosen]
    return torch.from_numpy(one.astype(np.float32))[None]
