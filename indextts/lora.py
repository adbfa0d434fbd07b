"""LoRA adapters (Hu et al. 2022) of the language model, which belong to one base and no other."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import Tensor

from indextts.gpt.model import Prefix, UnifiedVoice
from indextts.tensors import read_tensors
from indextts.weights import fingerprint
from ttscommon import lora
from ttscommon.errors import UserError
from ttscommon.files import read_json, write_json
from ttscommon.lora import Adapter, detach, set_scale
from ttscommon.seeds import seed_for

__all__ = [
    "Adapter",
    "adapter_effect",
    "attach",
    "detach",
    "first_logits",
    "made_up",
    "merge",
    "record_base",
    "set_scale",
    "write_base",
]

log = logging.getLogger(__name__)

BASE_FILE = "base.json"
BASE_FORMAT = "indextts.adapter_base"


def attach(gpt: UnifiedVoice, folder: Path, scale: float = 1.0) -> Adapter:
    """Speak with this adapter, instead of the present one; the weights stay as they are.

    Args:
        scale: 1 as it was trained, 0 without effect

    Raises:
        UserError: if there is no adapter in the folder, it can't be read, or it was trained on
            another base; `gpt` keeps the adapter it has then
    """
    found = lora.read_adapter(gpt, folder, read=read_tensors)
    _require_base(gpt, folder)
    adapter = lora.attach(gpt, found, scale)
    if adapter.mean_change == 0:
        log.warning("the adapter changes nothing, it was never trained: %s", folder)
    else:
        log.info(
            "adapter %s: rank %d, %d matrices, mean change %.2e, scale %g, sha256 %.12s",
            *(folder, adapter.rank, adapter.n_layers, adapter.mean_change, scale, adapter.sha256),
        )
    return adapter


def merge(gpt: UnifiedVoice) -> None:
    """Add the adapter to the weights, which are no file's from then on.

    Raises:
        UserError: if an update holds NaN or infinity; nothing is changed then
    """
    lora.merge(gpt)
    gpt.file_fingerprint = None


@torch.no_grad()
def adapter_effect(gpt: UnifiedVoice) -> float:
    """How far the adapter moves the logits of the first codes at most, for a fixed input.

    Raises:
        UserError: if it moves none
    """
    on = first_logits(gpt)
    with lora.switched_off(gpt):
        off = first_logits(gpt)
    effect = float((on - off).abs().max())
    if effect == 0:
        raise UserError(
            "the adapter changes nothing: with and without it the model says the same",
            fix="take another checkpoint, or train it again; a scale of 0 is no adapter at all",
        )
    return effect


@torch.no_grad()
def first_logits(gpt: UnifiedVoice, number: int = 0, n_codes: int = 4) -> Tensor:
    """(n_codes + 1, V) for a made-up input and codes, the same for the same number."""
    chance = torch.Generator().manual_seed(seed_for("first codes", number))
    codes = torch.randint(0, gpt.config.start_mel_token, (n_codes,), generator=chance)
    logits, state = gpt.start(made_up(gpt, number))
    rows = [logits] + [gpt.step(code[None], state) for code in codes.to(logits.device)]
    return torch.cat(rows).float()


@torch.no_grad()
def made_up(gpt: UnifiedVoice, number: int) -> Prefix:
    """A speaker, mood and text drawn by chance, the same for the same number."""
    config, weight = gpt.config, gpt.mel_head.weight
    chance = torch.Generator().manual_seed(seed_for("made up", number))
    shape = (1, config.condition_num_latent, config.model_dim)
    speaker = torch.randn(shape, generator=chance).to(weight.device, weight.dtype)
    n_text = min(8, config.max_text_tokens)
    text = torch.randint(2, config.number_text_tokens, (n_text,), generator=chance).tolist()
    return gpt.prefix(speaker, speaker[:, 0], [text])


def record_base(folder: Path, gpt: UnifiedVoice) -> None:
    """Write into an adapter's folder which base it is trained on."""
    write_base(folder, fingerprint(gpt))


def write_base(folder: Path, base: str) -> None:
    """As `record_base`, with the fingerprint at hand."""
    write_json(folder / BASE_FILE, {"format": BASE_FORMAT, "version": 1, "fingerprint": base})


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
