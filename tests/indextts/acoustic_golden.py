"""What the original program computed with small random weights, and the official key list."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from indextts.s2mel.campplus import Campplus
from indextts.s2mel.codec import SemanticCodec
from indextts.s2mel.config import CampplusConfig, CodecConfig, S2MelConfig
from indextts.s2mel.model import S2Mel
from indextts.vocoder.bigvgan import BigVGAN
from indextts.vocoder.config import BigVGANConfig

FOLDER = Path(__file__).parents[1] / "golden" / "indextts2"
KEYS = Path(__file__).parents[2] / "indextts" / "keys" / "acoustic.json"


@dataclass(frozen=True)
class Golden:
    """Inputs and results by name, the settings, and weights by prefix."""

    tensors: dict[str, Tensor]
    settings: dict[str, Any]

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def weights(self, prefix: str = "sd.") -> dict[str, Tensor]:
        return {
            key.removeprefix(prefix): value.clone()
            for key, value in self.tensors.items()
            if key.startswith(prefix)
        }


def folded(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Each pair of `weight_g` and `weight_v` as the `weight` that they stand for."""
    found = {}
    for key, value in state.items():
        if key.endswith("weight_v"):
            sides = tuple(range(1, value.dim()))
            length = torch.linalg.vector_norm(value, dim=sides, keepdim=True)
            found[key[:-2]] = value * (state[key[:-1] + "g"] / length)
        elif not key.endswith("weight_g"):
            found[key] = value
    return found


@functools.cache
def golden(name: str) -> Golden:
    settings = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return Golden(load_file(FOLDER / f"{name}.safetensors"), settings)


@dataclass(frozen=True)
class Parts:
    """The networks of `s2mel_pipeline`, with its weights."""

    s2mel: S2Mel
    codec: SemanticCodec
    campplus: Campplus
    bigvgan: BigVGAN


@functools.cache
def pipeline_parts() -> Parts:
    """Shared by tests, which leave them unchanged."""
    data = golden("s2mel_pipeline")
    sizes = data.settings["config"]
    encoder = {key: sizes["campplus"][key] for key in ("embedding_size", "growth_rate")}
    encoder |= {"init_channels": sizes["campplus"]["init_channels"]}
    encoder |= {"bottleneck_size": sizes["campplus"]["bn_size"]}
    s2mel = S2MelConfig.from_official(sizes["s2mel"], tuple(sizes["gpt_layer"]))
    made = Parts(
        s2mel=S2Mel(s2mel),
        codec=SemanticCodec(CodecConfig.from_official(sizes["semantic_codec"])),
        campplus=Campplus(CampplusConfig(**encoder)),
        bigvgan=BigVGAN(BigVGANConfig.from_official(sizes["bigvgan"])),
    )
    stored = {"codec": "semantic_codec"}
    for name, module in vars(made).items():
        module.load_state_dict(data.weights(f"sd.{stored.get(name, name)}."))
        module.eval().requires_grad_(False)
    return made


def official_keys(file: str) -> dict[str, tuple[list[int], str]]:
    """Shape and dtype of every tensor in a file of the official checkpoint."""
    keys = json.loads(KEYS.read_text(encoding="utf-8"))[file]
    return {key: (shape, dtype) for key, (shape, dtype) in keys.items()}


def keys_of(module: nn.Module) -> dict[str, tuple[list[int], str]]:
    """Shape and dtype of every tensor that `module` would write."""
    return {
        key: (list(value.shape), str(value.dtype).removeprefix("torch."))
        for key, value in module.state_dict().items()
    }


def furthest(one: Tensor, other: Tensor) -> float:
    """Largest absolute difference of two tensors of one shape."""
    assert one.shape == other.shape
    return float((one - other).abs().max())
