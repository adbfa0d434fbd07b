"""Reads tests/golden/kani: what the public programs make of synthetic clips."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from kani.tokens import TokenSpace

FOLDER = Path(__file__).resolve().parents[1] / "golden" / "kani"
SPACE = TokenSpace()


@functools.cache
def described(name: str) -> Any:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


@functools.cache
def tensors(name: str) -> dict[str, Tensor]:
    """Shared by tests, which leave them unchanged."""
    return load_file(FOLDER / f"{name}.safetensors")


@functools.cache
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(FOLDER / "tiny_tokenizer")


def layers(case: dict[str, Any]) -> list[list[int]]:
    """The four layers of a golden clip."""
    return [case[f"nano_layer_{number}"] for number in range(1, 5)]


def named(name: str, *, of: str = "cases") -> list[Any]:
    """The cases of a golden file, for `parametrize`."""
    return described(name)[of]
