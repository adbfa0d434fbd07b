"""A small codec in the original format, of numbers that its tensors' names say."""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.higgs_trainer.golden import FOLDER

LENGTHS = (9600, 10001, 12345)  # samples of `sound`


def described() -> dict[str, Any]:
    """Names and shapes of the released codec and of the small one, and the small one's config."""
    return json.loads((FOLDER / "codec_original.json").read_text(encoding="utf-8"))


def expected() -> dict[str, Tensor]:
    """codes.N (K, T) and sound.N (S,) as the original program computes them of `sound(N)`."""
    return load_file(FOLDER / "codec_original.safetensors")


def sound(n_samples: int) -> np.ndarray:
    return np.random.default_rng(n_samples).normal(0, 0.2, n_samples).astype(np.float32)


def numbers(name: str, shape: list[int]) -> Tensor:
    """Made-up numbers of a size with which signals go through."""
    drawn = np.random.default_rng(zlib.crc32(name.encode())).normal(size=shape).astype(np.float32)
    kind = name.rpartition(".")[2]
    if kind == "inited":
        return torch.ones(shape)
    if kind in ("alpha", "original0") or "layer_norm.weight" in name:
        return torch.from_numpy(np.abs(1 + 0.2 * drawn))
    if kind == "weight_g":
        return torch.from_numpy(np.abs(0.5 + 0.1 * drawn))
    if kind == "bias" or len(shape) < 2:
        return torch.from_numpy(0.1 * drawn)
    if kind == "embed":
        return torch.from_numpy(0.3 * drawn)
    return torch.from_numpy(drawn / math.sqrt(math.prod(shape[1:])))


def write_original_codec(folder: Path, **changes: Any) -> Path:
    small = described()["small"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**small["config"], **changes}))
    tensors = {name: numbers(name, shape) for name, shape in small["shapes"].items()}
    torch.save(tensors, folder / "model.pth")
    return folder
