"""The golden model as a checkpoint folder, written as either program writes it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from higgs_trainer.weights import native_tensors
from tests.higgs_trainer.golden import FOLDER, described, tensors


def write_json(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data), encoding="utf-8")


def write_original(folder: Path, **changes: Any) -> Path:
    """In two files of weights with an index, as the release."""
    config = described("config")
    settings = {**config["original_config"], "text_config": config["original_text_config"]}
    write_json(folder / "config.json", {"model_type": "higgs_audio", **settings, **changes})
    shutil.copy(FOLDER / "tokenizer.json", folder)
    names = sorted(tensors("model_original"))
    files = {"model-1.safetensors": names[:20], "model-2.safetensors": names[20:]}
    for file, held in files.items():
        save_file({name: tensors("model_original")[name] for name in held}, folder / file)
    weight_map = {name: file for file, held in files.items() for name in held}
    write_json(folder / "model.safetensors.index.json", {"weight_map": weight_map})
    return folder


def write_native(folder: Path, **changes: Any) -> Path:
    """With the heads twice, as the published converter leaves them."""
    settings = {"model_type": "higgs_audio_v2", **described("native_config"), **changes}
    write_json(folder / "config.json", settings)
    shutil.copy(FOLDER / "tokenizer.json", folder)
    held = native_tensors(tensors("model_original"), folder)
    for head in ("audio_lm_head.weight", "text_lm_head.weight"):
        held[f"audio_decoder_proj.{head}"] = held[head].clone()
    save_file(held, folder / "model.safetensors")
    return folder
