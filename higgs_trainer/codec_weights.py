"""The codec in its original format (`model.pth`), as a network of transformers.

Names and structure are those of Boson AI's `HiggsAudioTokenizer` and of the descript-audio-codec in
it; which native tensor is which follows transformers' own
`convert_higgs_audio_v2_tokenizer_to_hf.py`. Widths that the original's program has in its code
rather than in config.json are read off the tensors.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ttscommon.errors import UserError

ORIGINAL_FILE = "model.pth"
NEEDED = ("D", "target_bandwidths", "ratios", "sample_rate", "bins", "n_q", "codebook_dim")
TEACHERS = ("hubert_base", "hubert_base_general")  # of the semantic branch: both a HuBERT base
HEAD_WIDTH = 64  # of HuBERT's attention
SEMANTIC_RATE, SEMANTIC_HOP = 16000, 320
RESIDUAL = ("snake1", "conv1", "snake2", "conv2")
ENCODER, DECODER = ["encoder", "block"], ["decoder_2", "model"]
# Inside of a block: units, the activation, and what changes the rate, by their places.
OF_ENCODER = ("res_unit1", "res_unit2", "res_unit3", "snake1", "conv1")
OF_DECODER = ("snake1", "conv_t1", "res_unit1", "res_unit2", "res_unit3")
LINEAR = {"fc_prior": "fc", "fc_post1": "fc1", "fc_post2": "fc2"}
WRAPPED = re.compile(r"\.(conv[12]?)\.conv\.")  # a convolution inside a module of its own
UNUSED = ("fc1.", "semantic_model.masked_spec_embed")


def network_of(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], where: Path
) -> dict[str, Any]:
    """Arguments of `transformers.HiggsAudioV2TokenizerConfig` for an original codec.

    Raises:
        UserError: if the configuration lacks something, or transformers has no such network
    """
    lacking = [name for name in NEEDED if config.get(name) is None]
    if lacking:
        raise UserError(f"incomplete: no {', '.join(lacking)}", where=where)
    teacher, bins = config.get("semantic_techer", TEACHERS[0]), config["bins"]
    if teacher not in TEACHERS or not isinstance(bins, int):
        what = f"transformers has no network for a codec of '{teacher}' and codebooks of {bins}"
        raise UserError(what, where=where)
    frame_rate = math.ceil(config["sample_rate"] / math.prod(config["ratios"]))
    used = config["n_q"] * frame_rate * (bins - 1).bit_length() / 1000  # kbit/s of all codebooks
    ratios = list(config["ratios"])
    try:
        return {
            "target_bandwidths": [t for t in config["target_bandwidths"] if t < used] + [used],
            "sample_rate": config["sample_rate"],
            "codebook_size": bins,
            "codebook_dim": config["codebook_dim"],
            "semantic_sample_rate": SEMANTIC_RATE,
            "downsample_factor": SEMANTIC_HOP,
            "acoustic_model_config": {
                "model_type": "dac",
                "encoder_hidden_size": len(tensors["encoder.block.0.bias"]),
                "downsampling_ratios": ratios,
                "decoder_hidden_size": len(tensors["decoder_2.model.0.bias"]),
                "upsampling_ratios": ratios,
                "hidden_size": config["D"],
            },
            "semantic_model_config": _hubert_of(tensors),
        }
    except KeyError as error:
        raise UserError(f"the codec's weights lack {error}", where=where.parent) from error


def native_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of an original codec under their native names, weight norm folded."""
    numbers = [name.split(".")[2] for name in tensors if name.startswith("encoder.block.")]
    # Behind the blocks an activation and a convolution.
    n_blocks = max((int(number) for number in numbers if number.isdigit()), default=0) - 2
    return {
        native_name(name, n_blocks): tensor
        for name, tensor in _folded(tensors).items()
        if not name.startswith(UNUSED)
    }


def native_name(name: str, n_blocks: int) -> str:
    """The native name of an original tensor, of a codec with so many blocks on each side.

    What has none keeps its own.
    """
    first, *rest = name.split(".")
    try:
        if [first, *rest[:1]] == ENCODER:
            return f"acoustic_encoder.{_acoustic(rest[1:], n_blocks, OF_ENCODER)}"
        if [first, *rest[:1]] == DECODER:
            return f"acoustic_decoder.{_acoustic(rest[1:], n_blocks, OF_DECODER)}"
    except (ValueError, IndexError):
        return name
    if first == "quantizer":
        name = name.replace("quantizer.vq.layers.", "quantizer.quantizers.")
        return name.replace("._codebook.", ".codebook.")
    if first in LINEAR:
        return ".".join([LINEAR[first], *rest])
    return WRAPPED.sub(r".\1.", name) if first.endswith("_semantic") else name


def _acoustic(parts: list[str], n_blocks: int, inside: tuple[str, ...]) -> str:
    """Of "3.block.1.block.0.alpha" the native counterpart."""
    number, *rest = parts
    ends = {0: "conv1", n_blocks + 1: "snake1", n_blocks + 2: "conv2"}
    if int(number) in ends:
        return ".".join([ends[int(number)], *rest])
    layer, *rest = rest[1:]  # behind "block"
    names = ["block", str(int(number) - 1), inside[int(layer)]]
    if rest[0] == "block":
        names.append(RESIDUAL[int(rest[1])])
        rest = rest[2:]
    return ".".join([*names, *rest])


def _folded(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """With direction and length of weights as one: w = g v / |v| (Salimans & Kingma 2016)."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        stem, _, kind = name.rpartition(".")
        if kind not in ("weight_g", "weight_v"):
            found[name] = tensor
        elif stem.startswith("semantic_model."):  # transformers' HuBERT keeps both apart
            number = 0 if kind == "weight_g" else 1
            found[f"{stem}.parametrizations.weight.original{number}"] = tensor
        elif kind == "weight_v":
            length = tensor.square().sum(dim=(1, 2), keepdim=True).sqrt()
            found[f"{stem}.weight"] = tensors[f"{stem}.weight_g"] * tensor / length
    return found


def _hubert_of(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The sizes of the semantic branch's HuBERT."""
    stem, places = "semantic_model.", "semantic_model.encoder.pos_conv_embed.conv."
    position = next(
        tensors[places + kind]
        for kind in ("parametrizations.weight.original1", "weight_v", "weight_g")
        if places + kind in tensors
    )
    convolutions = [
        tensor.shape
        for name, tensor in tensors.items()
        if name.startswith(f"{stem}feature_extractor.") and name.endswith(".conv.weight")
    ]
    layers = {name.split(".")[3] for name in tensors if name.startswith(f"{stem}encoder.layers.")}
    inner = tensors[f"{stem}encoder.layers.0.feed_forward.intermediate_dense.weight"]
    hidden_size = inner.shape[1]
    return {
        "model_type": "hubert",
        "hidden_size": hidden_size,
        "num_hidden_layers": len(layers),
        "num_attention_heads": max(1, hidden_size // HEAD_WIDTH),
        "intermediate_size": inner.shape[0],
        "conv_dim": [shape[0] for shape in convolutions],
        "conv_kernel": [shape[2] for shape in convolutions],
        "num_conv_pos_embeddings": position.shape[2],
        "num_conv_pos_embedding_groups": hidden_size // position.shape[1],
        "mask_time_prob": 0.0,
    }
