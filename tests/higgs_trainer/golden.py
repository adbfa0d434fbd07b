"""Reads tests/golden/higgs: a small random model with the original program's inputs and outputs."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from higgs_trainer.config import Streams

FOLDER = Path(__file__).resolve().parents[1] / "golden" / "higgs"
STREAMS = Streams(n_codebooks=8, n_codes=64, begin_id=64, end_id=65)
CLOSE = {"atol": 1e-5, "rtol": 0}


@functools.cache
def described(name: str) -> Any:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


@functools.cache
def tensors(name: str) -> dict[str, Tensor]:
    """Shared by tests, which leave them unchanged."""
    return load_file(FOLDER / f"{name}.safetensors")


def part(name: str, prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors(name).items() if k.startswith(prefix)}
