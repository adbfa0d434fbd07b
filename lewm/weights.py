"""LeWM checkpoints: writing, reading, refusing, and starting a new voice from one.

A checkpoint is a folder of two files: `config.json` (what the network is and how it came about) and
`model.safetensors` (its weights and statistics).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from lewm.config import ModelConfig, speaks
from lewm.model import LeWMTTS
from ttscommon.checkpoints import read_tensors
from ttscommon.config import differences, from_dict, to_dict
from ttscommon.errors import UserError
from ttscommon.files import (
    atomic_folder,
    read_json,
    recover_folder,
    require_free_disk,
    write_json,
)
from ttscommon.mel import MelRecipe

FORMAT, VERSION = "voxtune.lewm", 1
CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
# What may differ between a checkpoint and the model that starts from it.
_FREE_SETTINGS = ("preset", "speakers", "languages", "dropout", "regularizer")
_TABLES = ("speakers", "languages")


@dataclass(frozen=True, kw_only=True)
class CheckpointInfo:
    """What inference and people need to know besides the weights.

    Attributes:
        step: optimizer steps behind it
        frames_per_byte: latent frames per byte of text, median over the training set
        max_text_bytes: what may be fed at once; nine in ten rows of the training were shorter
        metrics: what was measured when it was saved
        training: the training configuration
        base: the checkpoint it was fine-tuned from
    """

    step: int = 0
    frames_per_byte: float = 1.0
    max_text_bytes: int = 256
    metrics: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    base: str | None = None

    @property
    def speaks(self) -> bool:
        """Whether its predictor was trained: one step of it comes with a mere autoencoder."""
        return speaks(self.training, self.step)

    @property
    def is_guided(self) -> bool:
        """Whether the first heads of its layers were trained to follow the text."""
        return self.training.get("config", {}).get("guide_weight", 0) > 0


def save(folder: Path, model: LeWMTTS, info: CheckpointInfo) -> None:
    """Write a checkpoint folder; an older one there stays whole until the new one is.

    Raises:
        UserError: if the disk hasn't room for it
    """
    tensors = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    require_free_disk(folder, sum(t.numel() * t.element_size() for t in tensors.values()))
    config = {
        "format": FORMAT,
        "version": VERSION,
        "model": to_dict(model.config),
        "mel": {**model.recipe.to_dict(), "hash": model.recipe.hash},
        "info": to_dict(info),
    }
    with atomic_folder(folder) as draft:
        save_file(tensors, draft / WEIGHTS_FILE, metadata={"format": FORMAT})
        write_json(draft / CONFIG_FILE, config)


def describe(folder: Path) -> tuple[ModelConfig, CheckpointInfo]:
    """What a checkpoint says of itself, without its weights.

    Raises:
        UserError: as `load`, for its `config.json`
    """
    config, _, info = _read_config(folder)
    return config, info


def load(folder: Path, device: torch.device | str = "cpu") -> tuple[LeWMTTS, CheckpointInfo]:
    """Read a checkpoint: the model in eval mode and what is known about it.

    Raises:
        UserError: if a file is missing or truncated, of another format or version, or if the
            weights aren't those of the model that `config.json` describes
    """
    config, recipe, info = _read_config(folder)
    tensors = read_tensors(folder / WEIGHTS_FILE)
    with torch.random.fork_rng(devices=[]):  # reading a file must not move anyone's randomness
        model = LeWMTTS(config, recipe)
    _require_equal_shapes(tensors, model.state_dict(), folder)
    model.load_state_dict(tensors)
    return model.to(device).eval(), info


def init_from(model: LeWMTTS, folder: Path) -> list[str]:
    """Fill `model` with another checkpoint's weights, to fine-tune from.

    The sizes must be the same, except that the tables of speakers and languages may differ: rows
    are matched by name, and a new name starts from the mean of the known ones. A model without a
    table takes the mean of the checkpoint's rows into the text encoder's last bias, where a row
    would have been added.

    Returns:
        one line for each thing a person may want to know

    Raises:
        UserError: as `load`, and for another size, text form or mel recipe
    """
    config, recipe, info = _read_config(folder)
    old, new = (_compared(to_dict(c)) for c in (config, model.config))
    if old != new:
        raise UserError(
            f"the checkpoint has other sizes: {'; '.join(differences(old, new))}",
            where=folder,
            fix=f"use its own: --preset {config.preset}, and the same head and text form",
        )
    if recipe.hash != model.recipe.hash:
        raise UserError(
            f"the checkpoint's mels were made differently: "
            f"{'; '.join(differences(recipe.to_dict(), model.recipe.to_dict()))}",
            where=folder,
            fix="preprocess the recordings again with the checkpoint's recipe",
        )
    tensors = read_tensors(folder / WEIGHTS_FILE)
    lines = [f"starting from {folder} (step {info.step})"]
    for table in _TABLES:
        names = getattr(config, table), getattr(model.config, table)
        lines += _match_rows(tensors, table, *names, model.config.width)
    _require_equal_shapes(tensors, model.state_dict(), folder)
    model.load_state_dict(tensors)
    return lines


def _match_rows(
    tensors: dict[str, Tensor], table: str, old: Sequence[str], new: Sequence[str], width: int
) -> list[str]:
    """Replace a table of `old` names by one of `new` names, in place; say what happened."""
    key, bias = f"text_encoder.{table}.weight", "text_encoder.norm.bias"
    old, new = (names if len(names) > 1 else () for names in (old, new))  # one name: no table
    rows = tensors.pop(key, torch.zeros(0, width))
    if len(rows) != len(old):
        raise UserError(f"{len(rows)} rows for {len(old)} {table}", fix="take another checkpoint")
    mean = rows.mean(0) if len(rows) else torch.zeros(width)
    if not new:
        tensors[bias] = tensors[bias] + mean
        return [f"{table}: the mean of {', '.join(old)} is built in"] if old else []
    known = dict(zip(old, rows, strict=True))
    tensors[key] = torch.stack([known.get(name, mean) for name in new])
    added = [name for name in new if name not in known]
    dropped = [name for name in old if name not in new]
    lines = []
    if added:
        source = f"the mean of {', '.join(old)}" if old else "the base's own voice"
        lines.append(f"{table}: {', '.join(added)} starts from {source}")
    if dropped:
        lines.append(f"{table}: {', '.join(dropped)} left out")
    return lines


def _read_config(folder: Path) -> tuple[ModelConfig, MelRecipe, CheckpointInfo]:
    recover_folder(folder)
    path = folder / CONFIG_FILE
    data = read_json(path, format=FORMAT)
    if data.get("version") != VERSION:
        raise UserError(
            f"checkpoint version {data.get('version')}, this program reads {VERSION}",
            where=path,
            fix="update VoxTune, or train it again",
        )
    missing = [key for key in ("model", "mel", "info") if not isinstance(data.get(key), Mapping)]
    if missing:
        raise UserError(f"no {' and no '.join(missing)} in the checkpoint", where=path)
    config = from_dict(ModelConfig, data["model"], where=path)
    mel = dict(data["mel"])
    stated = mel.pop("hash", None)
    recipe = from_dict(MelRecipe, mel, where=path)
    if recipe.hash != stated or recipe.n_mels != config.n_mels:
        raise UserError(
            "the mel settings were changed after training", where=path, fix="restore the file"
        )
    return config, recipe, from_dict(CheckpointInfo, data["info"], where=path)


def _require_equal_shapes(
    found: Mapping[str, Tensor], expected: Mapping[str, Tensor], folder: Path
) -> None:
    wrong = [
        f"{name}: {_shape(found, name)}, expected {_shape(expected, name)}"
        for name in sorted({*found, *expected})
        if _shape(found, name) != _shape(expected, name)
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise UserError(
            f"the weights are those of another preset: {'; '.join(wrong[:3])}{more}",
            where=folder,
            fix=f"{WEIGHTS_FILE} and {CONFIG_FILE} must come from the same checkpoint",
        )


def _shape(tensors: Mapping[str, Tensor], name: str) -> list[int] | str:
    return list(tensors[name].shape) if name in tensors else "none"


def _compared(settings: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in _FREE_SETTINGS}
