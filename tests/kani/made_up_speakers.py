"""Models that take a speaker's embedding, and an encoder that makes some."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from kani.projection import PROJECTION
from ttscommon.files import read_json, write_json

DIM = 16
WAVLM: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "conv_dim": [8, 8],
    "conv_stride": [20, 16],
    "conv_kernel": [20, 16],
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "do_stable_layer_norm": True,
    "feat_extract_norm": "layer",
    "top_interm_size": 12,
    "embd_size": DIM,
}


def embeddings(n: int, seed: int = 0) -> torch.Tensor:
    """(N, E) of length 1."""
    chance = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(n, DIM, generator=chance))


def with_projection(base: Path, folder: Path) -> Path:
    """The same model, which takes embeddings and counts frames."""
    shutil.copytree(base, folder)
    settings = {"speaker_emb_dim": DIM, "audio_step": 1.0}
    write_json(folder / "config.json", read_json(folder / "config.json") | settings)
    tensors = load_file(folder / "model.safetensors")
    width = tensors["model.embed_tokens.weight"].shape[1]
    chance = torch.Generator().manual_seed(7)
    tensors[PROJECTION] = torch.randn(width, DIM, generator=chance) * 0.2
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def write_encoder(folder: Path, *, older: bool = False) -> Path:
    """Random weights under the names of the released encoder.

    Args:
        older: with weight norm named as torch did before
    """
    from transformers import WavLMConfig, WavLMModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        state = {
            f"wavlm.{name}": tensor
            for name, tensor in WavLMModel(WavLMConfig(**WAVLM)).state_dict().items()
        }
        sizes = {"affine1": (12, 32), "affine2": (DIM, 12)}
        for number, (name, (n_out, n_in)) in enumerate(sizes.items(), 1):
            state[f"top_layers.{name}.weight"] = torch.randn(n_out, n_in, 1)
            state[f"top_layers.{name}.bias"] = torch.randn(n_out)
            norm = f"top_layers.batchnorm{number}"
            state[f"{norm}.running_mean"] = 0.1 * torch.randn(n_out)
            state[f"{norm}.running_var"] = 0.5 + torch.rand(n_out)
            state[f"{norm}.num_batches_tracked"] = torch.tensor(9)
    if older:
        for ending, place in (("weight_g", "original0"), ("weight_v", "original1")):
            name = f"parametrizations.weight.{place}"
            state = {key.replace(name, ending): tensor for key, tensor in state.items()}
    folder.mkdir(parents=True)
    kept = {name: tensor.contiguous() for name, tensor in state.items()}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    write_json(folder / "config.json", {"model_type": "wavlm", **WAVLM})
    return folder
