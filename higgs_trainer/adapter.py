"""LoRA adapters of Higgs Audio, which belong to one base and no other."""

from __future__ import annotations

import hashlib
import json
import logging
import zlib
from pathlib import Path
from typing import Any

import torch
from torch import nn

from higgs_trainer.config import TEXT_HEAD
from ttscommon import lora
from ttscommon.errors import UserError
from ttscommon.files import read_json, write_json
from ttscommon.workspace import ADAPTER_FILE

log = logging.getLogger(__name__)

BASE_FILE, BASE_FORMAT = "base.json", "higgs_trainer.adapter_base"
METADATA_FILE, METADATA_FORMAT = "training_metadata.json", "higgs_trainer.training"
N_LOOKED_AT = 4096  # numbers of each tensor; training changes every one of them


def inject(
    model: nn.Module, targets: tuple[str, ...], *, rank: int, alpha: float, dropout: float
) -> int:
    """Put a new adapter on the layers that patterns mean; all else is frozen.

    Returns:
        how many layers they are

    Raises:
        UserError: if a pattern means none
    """
    layers = lora.find_targets(model, targets)
    lora.inject(model, layers, rank=rank, alpha=alpha, dropout=dropout)
    for parameter in model.parameters():
        if parameter.requires_grad:  # peft makes them as coarse as a base in bf16
            parameter.data = parameter.data.float()
    return len(layers)


def attach(model: nn.Module, folder: Path, scale: float = 1.0) -> lora.Adapter:
    """Speak with this adapter, instead of the present one; the weights stay as they are.

    Raises:
        UserError: if there is no adapter in the folder, it can't be read, or it was trained on
            another base; `model` keeps the adapter it has then
    """
    found = lora.read_adapter(model, folder)
    path = folder / BASE_FILE
    if path.is_file():
        wanted = str(read_json(path, format=BASE_FORMAT).get("fingerprint"))
        _require_base(wanted, fingerprint(model), folder)
    adapter = lora.attach(model, found, scale)
    if adapter.mean_change == 0:
        log.warning("the adapter changes nothing, it was never trained: %s", folder)
    return adapter


def needs_text_head(folder: Path) -> bool:
    """Whether an adapter has a part on the text head, which speech doesn't need otherwise.

    Raises:
        UserError: if there is no adapter in the folder
    """
    targets = read_json(folder / ADAPTER_FILE).get("target_modules") or []
    return any(name.rpartition(".")[2] == TEXT_HEAD for name in targets)


def write_base(folder: Path, base: str) -> None:
    """Write into an adapter's folder which base it is trained on."""
    write_json(folder / BASE_FILE, {"format": BASE_FORMAT, "version": 1, "fingerprint": base})


@torch.no_grad()
def fingerprint(model: Any) -> str:
    """Names a base by its weights, whatever format and precision they were read in.

    The text head isn't looked at: it is read only where a loss needs it.
    """
    found = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if ".lora_" in name or name.startswith("text_lm_head"):
            continue
        numbers = tensor.flatten()
        step = max(1, len(numbers) // N_LOOKED_AT)
        few = numbers[::step].to(torch.bfloat16).cpu().view(torch.int16).numpy()
        entry = [name.replace(".base_layer", ""), list(tensor.shape), zlib.crc32(few.tobytes())]
        found.update(json.dumps(entry).encode())
    return found.hexdigest()


def _require_base(wanted: str, found: str, folder: Path) -> None:
    if wanted != found:
        raise UserError(
            f"this adapter was trained on another base ({wanted[:12]}, loaded is {found[:12]})",
            where=folder,
            fix="load the checkpoint it was trained on, or train it again",
        )
