"""LoRA adapters (Hu et al. 2022) in peft's format, merged into their language model."""

from __future__ import annotations

import hashlib
import logging
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from indextts.gpt.model import UnifiedVoice
from indextts.tensors import read_tensors
from indextts.weights import fingerprint
from ttscommon.errors import UserError
from ttscommon.files import read_json, write_json

log = logging.getLogger(__name__)

CONFIG_FILE, BASE_FILE = "adapter_config.json", "base.json"
WEIGHT_FILES = ("adapter_model.safetensors", "adapter_model.bin")
BASE_FORMAT = "indextts.adapter_base"
PREFIX = "base_model.model."
FACTOR = re.compile(r"\.lora_(embedding_)?(?P<side>[AB])(\.weight)?$")


@dataclass(frozen=True)
class Adapter:
    """What was merged.

    Attributes:
        rank: of the update
        n_layers: matrices that were changed
        mean_change: of all their numbers, absolute
        sha256: of the file of weights
    """

    folder: Path
    rank: int
    n_layers: int
    mean_change: float
    sha256: str


def merge_adapter(gpt: UnifiedVoice, folder: Path) -> Adapter:
    """Add an adapter's update to the weights of `gpt`, which must be in float32.

    Raises:
        UserError: if there is no adapter in the folder, it can't be read, or it was trained on
            another base; `gpt` is no longer of use then
    """
    weights = next((folder / name for name in WEIGHT_FILES if (folder / name).is_file()), None)
    if weights is None or not (folder / CONFIG_FILE).is_file():
        raise UserError(
            "no LoRA adapter here", where=folder, fix=f"it holds {CONFIG_FILE}, {WEIGHT_FILES[0]}"
        )
    read_json(folder / CONFIG_FILE)  # peft's complaint about a broken one is a traceback
    _require_base(gpt, folder)
    _require_fit(gpt, read_tensors(weights), weights)
    adapter = _merge(gpt, folder, hashlib.sha256(weights.read_bytes()).hexdigest())
    if adapter.mean_change == 0:
        log.warning("the adapter changes nothing, it was never trained: %s", folder)
    else:
        log.info(
            "merged %s: rank %d, %d matrices, mean change %.2e, sha256 %.12s",
            *(folder, adapter.rank, adapter.n_layers, adapter.mean_change, adapter.sha256),
        )
    return adapter


def record_base(folder: Path, gpt: UnifiedVoice) -> None:
    """Write into an adapter's folder which base it is trained on."""
    mark = {"format": BASE_FORMAT, "version": 1, "fingerprint": fingerprint(gpt)}
    write_json(folder / BASE_FILE, mark)


def _require_base(gpt: UnifiedVoice, folder: Path) -> None:
    """Refuse an adapter whose recorded base is another; adapters of others record none."""
    path = folder / BASE_FILE
    if not path.is_file():
        return
    wanted, found = str(read_json(path, format=BASE_FORMAT).get("fingerprint")), fingerprint(gpt)
    if wanted != found:
        raise UserError(
            f"this LoRA was trained on another base ({wanted[:12]}, loaded is {found[:12]})",
            where=folder,
            fix="load the GPT it was trained on, or train it again",
        )


def _require_fit(gpt: UnifiedVoice, tensors: dict[str, Tensor], where: Path) -> None:
    """Refuse an adapter with layers or widths that `gpt` hasn't got."""
    layers = dict(gpt.named_modules())
    factors = [(key, FACTOR.search(key)) for key in tensors]
    factors = [(key, found) for key, found in factors if found]
    wrong = []
    for key, found in factors:
        layer = layers.get(key[: found.start()].removeprefix(PREFIX))
        width = _width(layer, found["side"]) if layer is not None else None
        axis = 1 if found["side"] == "A" else 0
        if layer is None or (width is not None and tensors[key].shape[axis] != width):
            wrong.append(key.removeprefix(PREFIX))
    if not factors:
        raise UserError("no LoRA weights in this file", where=where)
    if wrong:
        raise UserError(
            f"this LoRA was trained on another base: {len(wrong)} of {len(factors)} tensors have "
            f"no place in this one, {wrong[0]} first",
            where=where,
            fix="load the GPT it was trained on",
        )


def _width(layer: nn.Module, side: str) -> int | None:
    """Numbers that a layer takes (A) or gives (B); None for a kind of layer that peft must know."""
    if isinstance(layer, nn.Linear):
        return layer.in_features if side == "A" else layer.out_features
    if isinstance(layer, nn.Embedding):
        return layer.num_embeddings if side == "A" else layer.embedding_dim
    return None


def _merge(gpt: UnifiedVoice, folder: Path, sha256: str) -> Adapter:
    from peft import PeftModel  # brings transformers, which takes seconds
    from peft.tuners.lora import LoraLayer

    try:
        with warnings.catch_warnings():
            # Adapters of the original's Conv1D layers say fan_in_fan_out; ours are nn.Linear.
            warnings.filterwarnings("ignore", message=".*fan_in_fan_out.*")
            warnings.filterwarnings("error", message=".*missing adapter keys.*")
            adapted: Any = PeftModel.from_pretrained(gpt, str(folder))
    except (RuntimeError, ValueError, TypeError, KeyError, UserWarning) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"this LoRA doesn't fit the loaded base: {reason}", where=folder) from error
    changes, n_numbers, rank = 0.0, 0, 0
    layers: list[Any] = [module for module in adapted.modules() if isinstance(module, LoraLayer)]
    for layer in layers:
        with torch.no_grad():
            change = layer.get_delta_weight("default")
        changes, n_numbers = changes + float(change.abs().sum()), n_numbers + change.numel()
        rank = max(rank, int(layer.r["default"]))
    adapted.merge_and_unload()
    return Adapter(folder, rank, len(layers), changes / max(n_numbers, 1), sha256)
