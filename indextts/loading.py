"""The language model as it is asked for: fine-tuned or not, with an adapter, in which precision."""

from __future__ import annotations

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
from indextts.lora import Adapter, merge_adapter
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
    adapter: the LoRA that is merged in, if any
    fingerprint: of the weights that speak, the LoRA included, before they were rounded
    """

    gpt: UnifiedVoice
    adapter: Adapter | None
    fingerprint: str


def load_language_model(
    path: Path,
    config: GptConfig,
    lora_path: Path | None,
    *,
    dtype: torch.dtype,
    device: torch.device,
) -> LanguageModel:
    """Read the language model and merge an adapter into it, before anything is rounded.

    Raises:
        UserError: if a file is missing or broken, or they belong to different models
    """
    if lora_path is None:
        gpt = weights.load_gpt(path, config, dtype=dtype, device=device)
        return LanguageModel(gpt, None, gpt.file_fingerprint or weights.fingerprint(gpt))
    gpt = weights.load_gpt(path, config)
    adapter = merge_adapter(gpt, lora_path)
    gpt.file_fingerprint = weights.fingerprint(gpt)
    return LanguageModel(gpt.to(device, dtype), adapter, gpt.file_fingerprint)


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
