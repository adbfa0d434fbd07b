"""What a trained experiment leaves: the merged model, its adapter, and what they follow from."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kani.tokens import TokenSpace
from kani.weights import load_language_model
from ttscommon import lora
from ttscommon.checkpoints import fingerprint
from ttscommon.errors import UserError
from ttscommon.files import (
    atomic_folder,
    read_json,
    recover_folder,
    require_free_disk,
    write_json,
)
from ttscommon.ledger import weights_key
from ttscommon.machine import pick_device
from ttscommon.transformers_bars import without_bars

log = logging.getLogger(__name__)

EXPERIMENT_FILE, FORMAT = "experiment.json", "kani.experiment"
ADAPTER = "adapter"  # folder of the adapter, inside that of the merged model
# The largest difference of logits between adapter and merged model, of their size: both are
# computed in float32, and the products are only added in another order.
TOLERANCE = 1e-3
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".index.json")


def base_fingerprint(base: Path) -> str:
    """Names a base model by its weights.

    Raises:
        UserError: if there are none
    """
    files = sorted(base.glob("*.safetensors"))
    if not files:
        raise UserError("no weights here (*.safetensors)", where=base)
    return fingerprint([weights_key(file) for file in files])


def read_finished(folder: Path) -> dict[str, Any] | None:
    """What the model in a folder follows from; None if there is no finished model of ours."""
    recover_folder(folder)
    path = folder / EXPERIMENT_FILE
    return read_json(path, format=FORMAT) if path.is_file() else None


def trained_speakers(model: Path, adapter: Path | None = None) -> list[str]:
    """The names before the texts that a model was trained on; none if it wasn't trained here."""
    sources = _sources(model, adapter)
    names = {one.get("speaker_id") or one.get("language_tag") for one in sources}
    return sorted(name for name in names if name)


def learned_voices(model: Path, adapter: Path | None = None) -> bool:
    """Whether a model was trained here with embeddings of speakers."""
    return any(one.get("speaker_emb") for one in _sources(model, adapter))


def _sources(model: Path, adapter: Path | None) -> list[dict[str, Any]]:
    known = read_finished(adapter.resolve().parent if adapter else model) or {}
    return known.get("dataset", {}).get("hf_datasets", [])


def require_replaceable(folder: Path) -> None:
    """Refuse a folder of something else.

    Raises:
        UserError: if it is there and isn't a finished model of ours
    """
    if folder.exists() and read_finished(folder) is None:
        raise UserError(
            "this folder isn't a model that was trained here",
            where=folder,
            fix="move it away, or choose another model_id",
        )


def write_model(
    folder: Path,
    base: Path,
    adapter: Path,
    description: Mapping[str, Any],
    *,
    sample: Tensor,
    space: TokenSpace,
    device: str = "auto",
) -> None:
    """Write base and adapter as one model, which transformers loads, with the adapter beside it.

    Args:
        folder: replaced as a whole, or not at all
        sample: (L,) ids of a clip, on which both must say the same

    Raises:
        UserError: if the merged model says something else, or the disk can't take it
    """
    require_replaceable(folder)
    place = pick_device(device)
    model: Any = load_language_model(base, place, torch.float32, space=space)
    model.eval()
    lora.attach(model, lora.read_adapter(model, adapter))
    ids = sample[None].to(place)
    with torch.no_grad():
        before = model(input_ids=ids, use_cache=False).logits
        lora.merge(model)
        after = model(input_ids=ids, use_cache=False).logits
    difference = float((before - after).abs().max() / before.abs().max())
    same = bool((before.argmax(dim=-1) == after.argmax(dim=-1)).all())
    if not difference <= TOLERANCE:
        raise UserError(
            f"the merged model differs from base and adapter by {difference:.2g} of its logits",
            where=adapter,
            fix="this is a bug; please report it",
        )
    proof = {"largest_difference": difference, "same_first_choices": same}
    log.info("merged; logits differ by %.1e of their size", difference)
    require_free_disk(folder, sum(p.numel() for p in model.parameters()) * 4)
    with atomic_folder(folder) as draft:
        with without_bars():
            model.to(_precision(base)).save_pretrained(str(draft))
        for file in sorted(base.iterdir()):
            is_ours = file.name.endswith(WEIGHTS) or file.name == EXPERIMENT_FILE
            if file.is_file() and not is_ours and not (draft / file.name).exists():
                shutil.copyfile(file, draft / file.name)
        shutil.copytree(adapter, draft / ADAPTER)
        header = {"format": FORMAT, "version": 1, "merge": proof}
        write_json(draft / EXPERIMENT_FILE, {**header, **description})


def _precision(base: Path) -> torch.dtype:
    """That of the base's weights."""
    from safetensors import safe_open

    for file in sorted(base.glob("*.safetensors")):
        with safe_open(file, framework="pt") as weights:
            for name in weights.keys():  # noqa: SIM118  # it isn't a mapping
                return weights.get_tensor(name).dtype
    return torch.float32
