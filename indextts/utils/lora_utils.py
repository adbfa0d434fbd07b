"""Adapters under the names that the guides use; see `indextts.lora` for the work itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from indextts.gpt.model import UnifiedVoice
from indextts.lora import attach, merge, write_base
from indextts.train_config import ATTENTION, CONDITIONING, EMBEDDINGS, HEADS, MLP
from indextts.tuned import METADATA_FILE, METADATA_FORMAT
from indextts.weights import fingerprint, save_gpt
from ttscommon import lora
from ttscommon.errors import UserError
from ttscommon.files import write_json
from ttscommon.workspace import ADAPTER_FILE


def get_lora_target_modules(
    include_embeddings: bool = False,
    include_heads: bool = True,
    include_conditioning: bool = False,
    include_gpt: bool = True,
) -> list[str]:
    """Patterns of layers, as `apply_lora_to_model` and --lora-target-modules take them."""
    groups = [(include_gpt, ATTENTION + MLP), (include_heads, HEADS)]
    groups += [(include_embeddings, EMBEDDINGS), (include_conditioning, CONDITIONING)]
    return [pattern for wanted, patterns in groups if wanted for pattern in patterns]


def apply_lora_to_model(
    model: UnifiedVoice,
    lora_rank: int = 8,
    lora_alpha: float = 16,
    lora_dropout: float = 0.05,
    target_modules: Sequence[str] | None = None,
    include_embeddings: bool = False,
    include_heads: bool = True,
    include_conditioning: bool = False,
    include_gpt: bool = True,
    bias: str = "none",
) -> UnifiedVoice:
    """The same model with a new adapter in it, which is all that is trained.

    Args:
        target_modules: patterns instead of what is included
        include_conditioning: needs conditions computed in every step, or these learn nothing
        bias: only "none"; trained biases would make the adapter more than a LoRA

    Raises:
        UserError: if a pattern means no layer
    """
    if bias != "none":
        raise UserError(f"bias '{bias}': only LoRA without biases is supported", fix='bias="none"')
    patterns = target_modules or get_lora_target_modules(
        include_embeddings, include_heads, include_conditioning, include_gpt
    )
    targets = lora.find_targets(model, patterns)
    lora.inject(model, targets, rank=lora_rank, alpha=lora_alpha, dropout=lora_dropout)
    return model


def save_lora_checkpoint(
    model: UnifiedVoice, path: Path | str, metadata: Mapping[str, Any] | None = None
) -> Path:
    """Write the adapter in peft's format, with its base's fingerprint and the metadata."""

    def beside(draft: Path) -> None:
        write_base(draft, fingerprint(model))
        about = {"format": METADATA_FORMAT, "version": 1, **(metadata or {})}
        write_json(draft / METADATA_FILE, about)

    lora.save_adapter(model, Path(path), beside=beside)
    return Path(path)


def load_lora_checkpoint(
    base: UnifiedVoice,
    path: Path | str,
    merge_weights: bool = False,
    device: torch.device | str | None = None,
    scale: float = 1.0,
) -> UnifiedVoice:
    """The base with this adapter in it.

    Raises:
        UserError: if there is none, or it was trained on another base
    """
    attach(base, Path(path), scale)
    if merge_weights:
        merge(base)
    return base if device is None else base.to(device)


def merge_lora_weights(
    model: UnifiedVoice, output_path: Path | str | None = None, overwrite: bool = False
) -> UnifiedVoice:
    """The same model with the adapter added to its weights, also written if there is a path.

    `tools/merge_lora.py` does the same with files, and proves it.

    Raises:
        UserError: if something is at the path already, unless it may be replaced
    """
    if output_path is not None and Path(output_path).exists() and not overwrite:
        fix = "overwrite=True, or another path"
        raise UserError("exists already", where=Path(output_path), fix=fix)
    merge(model)
    if output_path is not None:
        save_gpt(Path(output_path), model)
    return model


def list_lora_checkpoints(folder: Path | str) -> list[Path]:
    """Folders with an adapter at or below `folder`, by name."""
    return sorted(path.parent for path in Path(folder).rglob(ADAPTER_FILE))


def get_trainable_parameters(model: torch.nn.Module) -> tuple[int, int]:
    """How many numbers are trained, and how many there are."""
    counts = [(p.numel() if p.requires_grad else 0, p.numel()) for p in model.parameters()]
    return sum(trained for trained, _ in counts), sum(total for _, total in counts)
