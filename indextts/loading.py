"""The language model as it is asked for: fine-tuned or not, with an adapter, in which precision."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from indextts import weights
from indextts.config import GptConfig
from indextts.gpt.model import UnifiedVoice
from indextts.lora import Adapter, attach
from ttscommon.errors import UserError

LESS = "--batch-size 1 --amp fp16 --flow-dtype bf16 --offload, or a stored speaker"
log = logging.getLogger(__name__)

Amp = Literal["no", "bf16", "fp16"]
FlowDtype = Literal["fp32", "bf16"]
DTYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SMALL_CARD = 10e9  # bytes of GPU memory; below it models leave when they have done their part


@dataclass(frozen=True)
class LanguageModel:
    """Attributes:
    adapter: the LoRA that is attached, if any
    scale: how strong it is
    fingerprint: of the weights that speak, the LoRA included, before they were rounded
    """

    gpt: UnifiedVoice
    adapter: Adapter | None
    scale: float
    fingerprint: str


def load_language_model(
    path: Path,
    config: GptConfig,
    lora_path: Path | None,
    *,
    scale: float = 1.0,
    dtype: torch.dtype,
    device: torch.device,
) -> LanguageModel:
    """Read the language model and put an adapter into it.

    Raises:
        UserError: if a file is missing or broken, or they belong to different models
    """
    gpt = weights.load_gpt(path, config, dtype=dtype, device=device)
    base = LanguageModel(gpt, None, 1.0, gpt.file_fingerprint or weights.fingerprint(gpt))
    return base if lora_path is None else with_adapter(base, lora_path, scale)


def with_adapter(model: LanguageModel, folder: Path, scale: float = 1.0) -> LanguageModel:
    """The same weights with this adapter, instead of the present one.

    Raises:
        UserError: if there is none, or it belongs to another base; nothing is changed then
    """
    adapter = attach(model.gpt, folder, scale)
    base = model.gpt.file_fingerprint or weights.fingerprint(model.gpt)
    mark = hashlib.sha256(f"{base} {adapter.sha256} {scale}".encode()).hexdigest()
    return LanguageModel(model.gpt, adapter, scale, mark)


def gpt_dtype(amp: str, *, use_fp16: bool, device: torch.device) -> torch.dtype:
    """What the language model computes in.

    Args:
        use_fp16: the original's way of saying amp="fp16"; without effect on a CPU, as there

    Raises:
        UserError: if `amp` is none of no, bf16, fp16, or the two contradict each other
    """
    if amp not in DTYPES:
        raise UserError(f"amp is '{amp}'", fix=f"use one of {', '.join(DTYPES)}")
    if not use_fp16:
        return DTYPES[amp]
    if amp == "bf16":
        raise UserError("use_fp16 and amp='bf16' contradict each other", fix="give one of them")
    if device.type == "cpu" and amp == "no":
        log.info("use_fp16 has no effect on a CPU")
        return torch.float32
    return torch.float16


def flow_dtype(name: str) -> torch.dtype | None:
    """What the flow's estimator computes in; None: float32, as its weights are.

    Raises:
        UserError: for anything but fp32 and bf16
    """
    if name not in ("fp32", "bf16"):
        raise UserError(f"flow_dtype is '{name}'", fix="use fp32 or bf16")
    return torch.bfloat16 if name == "bf16" else None


@contextmanager
def within_memory(doing: str) -> Iterator[None]:
    """Tell of a GPU that is too small in one line.

    Args:
        doing: what went on, for the message

    Raises:
        UserError: if the memory doesn't suffice for the block
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise UserError(f"out of GPU memory {doing}", fix=LESS) from error


def is_small(device: torch.device) -> bool:
    """Whether it is a GPU that hasn't room for everything at once."""
    if device.type != "cuda":
        return False
    return torch.cuda.get_device_properties(device).total_memory < SMALL_CARD
