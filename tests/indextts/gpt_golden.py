"""Reads tests/golden/indextts2/gpt_*: small random weights with the original program's outputs."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from indextts.config import GptConfig
from indextts.gpt.model import UnifiedVoice

FOLDER = Path(__file__).resolve().parents[1] / "golden" / "indextts2"
CLOSE = {"atol": 5e-5, "rtol": 0}


@dataclass
class Golden:
    """One golden file.

    Attributes:
        info: the JSON beside it
        tensors: inputs `in.*` and outputs `out.*`, integers as integers
        model: carries the file's weights, in eval mode
    """

    info: dict[str, Any]
    tensors: dict[str, Tensor]
    model: UnifiedVoice

    def __getitem__(self, key: str) -> Tensor:
        return self.tensors[key]


def config_of(info: dict[str, Any]) -> GptConfig:
    """The sizes a golden file was made with."""
    widths = {key: info[key] for key in ("cond_input_dim", "emo_latent_dim") if key in info}
    return GptConfig.from_official({**info["gpt"], **widths})


@functools.cache
def read(name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The JSON and the tensors of `<name>.json` and `<name>.safetensors`."""
    info = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    tensors = load_file(FOLDER / f"{name}.safetensors")
    for key in info["integer_tensors_stored_as_float"]:
        tensors[key] = tensors[key].long()
    return info, tensors


@functools.cache
def golden(name: str) -> Golden:
    """A golden file whose weights are stored in it; shared by tests, which leave it unchanged."""
    info, tensors = read(name)
    model = UnifiedVoice(config_of(info))
    weights = {k.removeprefix("sd."): v for k, v in tensors.items() if k.startswith("sd.")}
    missing = model.load_state_dict(weights, strict=False).missing_keys
    # A file without the language model holds the conditioning networks only.
    assert not missing or not any(key.startswith("gpt.") for key in weights)
    model.requires_grad_(False)
    return Golden(info, {k: v for k, v in tensors.items() if k[:3] != "sd."}, model.eval())
