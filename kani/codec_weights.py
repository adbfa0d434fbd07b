"""Reads NanoCodec from NeMo's `.nemo` archive or a safetensors file; nothing in them is run.

A `.nemo` file is a tar of a YAML and a torch checkpoint, which also holds what only its training
needs. The shape of the network is read off the tensors.
"""

from __future__ import annotations

import logging
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import torch
import yaml
from torch import Tensor

from kani.codec import NanoCodec, NanoCodecConfig
from kani.codec_layers import DILATIONS, SIZES
from ttscommon.errors import UserError
from ttscommon.files import require_free_disk
from ttscommon.ledger import weights_key
from ttscommon.tensors import build, read_tensors, require_equal

log = logging.getLogger(__name__)

SUFFIXES = (".nemo", ".safetensors")
SETTINGS_FILE, WEIGHTS_FILE = "model_config.yaml", "model_weights.ckpt"
MOST_SETTINGS = 2**20  # bytes
PARTS = ("audio_encoder.", "vector_quantizer.", "audio_decoder.")
FOLDED, SIZE, DIRECTION = (
    ".weight",
    ".parametrizations.weight.original0",
    ".parametrizations.weight.original1",
)
OLDER = {".weight_g": SIZE, ".weight_v": DIRECTION}  # torch's first weight norm
FETCH = "fetch nvidia/nemo-nano-codec-22khz-0.6kbps-12.5fps"
# What these layers compute; a YAML that says something else is another codec's.
COMPUTED: dict[tuple[str, str], Any] = {
    ("audio_encoder", "activation"): "lrelu",
    ("audio_encoder", "pad_mode"): "replicate",
    ("audio_decoder", "activation"): "half_snake",
    ("audio_decoder", "output_activation"): "clamp",
    ("audio_decoder", "pad_mode"): "zeros",
    **{(part, "resblock_kernel_sizes"): list(SIZES) for part in ("audio_encoder", "audio_decoder")},
    **{
        (part, "resblock_dilation_sizes"): list(DILATIONS)
        for part in ("audio_encoder", "audio_decoder")
    },
}
CLASSES = {
    "audio_encoder": "HiFiGANEncoder",
    "audio_decoder": "CausalHiFiGANDecoder",
    "vector_quantizer": "GroupFiniteScalarQuantizer",
}


def load_codec(path: Path, device: torch.device | str = "cpu") -> NanoCodec:
    """A codec in eval mode, without gradients.

    Args:
        path: a `.nemo` or safetensors file, or a folder with one

    Raises:
        UserError: if there is none, it is broken, unsafe, or another codec
    """
    file = codec_file(path)
    with _opened(file) as (tensors, settings):
        kept = {_renamed(k): v for k, v in tensors.items() if k.startswith(PARTS)}
        config = _config_of(kept, settings, file)
        shapes = official_shapes(config)
        plain = {k: v for k, v in kept.items() if not k.endswith(FOLDED)}
        if len(plain) < len(kept):  # weight norm is folded already
            shapes = folded_shapes(config)
        require_equal(kept, shapes, where=file, fix=FETCH)
        state = fold(kept)
    _require_sound(state, config, file)
    codec = build(lambda: NanoCodec(config), state, where=file, device=device, fix=FETCH)
    codec.name = weights_key(file)[:12]
    return codec


def codec_file(path: Path) -> Path:
    """The file that holds the codec.

    Raises:
        UserError: if a folder holds none, or several
    """
    if not path.is_dir():
        if not path.is_file():
            raise UserError("no such codec", where=path, fix=FETCH)
        return path
    for suffix in SUFFIXES:
        found = sorted(path.glob(f"*{suffix}"))
        if len(found) > 1:
            names = ", ".join(file.name for file in found)
            raise UserError(f"several codecs: {names}", where=path, fix="name one of them")
        if found:
            return found[0]
    raise UserError(f"no codec ({' or '.join(SUFFIXES)}) in this folder", where=path, fix=FETCH)


def folded_shapes(config: NanoCodecConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of `NanoCodec`, without memory for them."""
    with torch.device("meta"):
        state = NanoCodec(config).state_dict()
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def official_shapes(config: NanoCodecConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the generator in NeMo's file."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape in folded_shapes(config).items():
        if not name.endswith(FOLDED):
            shapes[name] = shape
            continue
        stem = name.removesuffix(FOLDED)
        shapes |= {stem + SIZE: (shape[0], 1, 1), stem + DIRECTION: shape}
    return shapes


def fold(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """With each pair of weight norm (Salimans and Kingma 2016) as one weight, all in new memory."""
    state: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.endswith(DIRECTION):
            stem = name.removesuffix(DIRECTION)
            direction, size = tensor.float(), tensors[stem + SIZE].float()
            norm = torch.linalg.vector_norm(direction, dim=(1, 2), keepdim=True)
            state[stem + FOLDED] = direction * (size / norm)
        elif not name.endswith(SIZE):
            state[name] = tensor.clone()
    return state


def unfold(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The other way round: as NeMo's file has them."""
    tensors: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name.endswith(FOLDED):
            stem = name.removesuffix(FOLDED)
            norm = torch.linalg.vector_norm(tensor, dim=(1, 2), keepdim=True)
            tensors |= {stem + SIZE: norm, stem + DIRECTION: tensor.clone()}
        else:
            tensors[name] = tensor.clone()
    return tensors


@contextmanager
def _opened(file: Path) -> Iterator[tuple[dict[str, Tensor], Mapping[str, Any]]]:
    """All tensors of a file and its settings, usable until the end of the block."""
    if not tarfile.is_tarfile(file):
        yield read_tensors(file), {}
        return
    with tempfile.TemporaryDirectory() as folder:
        settings = _unpack(file, Path(folder) / WEIGHTS_FILE)
        tensors = read_tensors(Path(folder) / WEIGHTS_FILE)
        yield tensors, settings
        tensors.clear()  # the file can't be deleted everywhere while it is mapped


def _unpack(file: Path, weights: Path) -> Mapping[str, Any]:
    """Copy an archive's checkpoint to `weights`, whatever path the archive gives it.

    Returns:
        its settings
    """
    settings: Any = None
    has_weights = False
    try:
        with tarfile.open(file) as archive:
            for member in archive:
                name = PurePosixPath(member.name).name
                data = archive.extractfile(member) if member.isreg() else None
                if data is None:
                    continue
                if name == WEIGHTS_FILE:
                    require_free_disk(weights.parent, member.size)
                    with weights.open("wb") as copy:
                        shutil.copyfileobj(data, copy, 2**20)
                    has_weights = True
                elif name == SETTINGS_FILE and member.size <= MOST_SETTINGS:
                    settings = yaml.safe_load(data.read())
    except (tarfile.TarError, EOFError, yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        reason = " ".join(str(error).split())[:100]
        raise UserError(f"truncated, or no .nemo archive: {reason}", where=file) from error
    if not has_weights or not isinstance(settings, Mapping):
        lacking = WEIGHTS_FILE if not has_weights else SETTINGS_FILE
        raise UserError(f"no {lacking} in this archive", where=file, fix=FETCH)
    return settings


def _renamed(name: str) -> str:
    for old, new in OLDER.items():
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


def _config_of(
    tensors: Mapping[str, Tensor], settings: Mapping[str, Any], file: Path
) -> NanoCodecConfig:
    """The shape that the tensors have."""
    _require_computable(settings, file)
    try:
        levels = tensors["vector_quantizer.fsqs.0.num_levels"].flatten().tolist()
        config = NanoCodecConfig(
            sample_rate=int(settings.get("sample_rate", NanoCodecConfig.sample_rate)),
            encoder_channels=len(tensors["audio_encoder.pre_conv.conv.bias"]),
            decoder_channels=len(tensors["audio_decoder.pre_conv.conv.bias"]),
            down_rates=_rates(tensors, "audio_encoder.down_sample_conv_layers"),
            up_rates=_rates(tensors, "audio_decoder.up_sample_conv_layers"),
            n_codebooks=sum(name.endswith(".num_levels") for name in tensors),
            levels=tuple(int(level) for level in levels),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"no NanoCodec: {error} is missing", where=file, fix=FETCH) from error
    claimed = settings.get("samples_per_frame", config.samples_per_frame)
    if claimed != config.samples_per_frame:
        raise UserError(
            f"the settings say {claimed} samples a frame, the tensors {config.samples_per_frame}",
            where=file,
            fix=FETCH,
        )
    return config


def _rates(tensors: Mapping[str, Tensor], layers: str) -> tuple[int, ...]:
    """Of a stack of convolutions, each of which is twice as long as its stride."""
    rates: list[int] = []
    while f"{layers}.{len(rates)}.conv.bias" in tensors:
        stem = f"{layers}.{len(rates)}.conv"
        weight = tensors.get(stem + DIRECTION, tensors.get(stem + FOLDED))
        if weight is None:
            raise KeyError(stem + FOLDED)
        rates.append(weight.shape[-1] // 2)
    return tuple(rates)


def _require_computable(settings: Mapping[str, Any], file: Path) -> None:
    for (part, key), ours in COMPUTED.items():
        found = (settings.get(part) or {}).get(key, ours)
        found = list(found) if isinstance(found, (list, tuple)) else found
        if found != ours:
            raise UserError(f"another codec: its {part}.{key} is {found}", where=file, fix=FETCH)
    for part, ours in CLASSES.items():
        found = str((settings.get(part) or {}).get("_target_", ours)).rpartition(".")[2]
        if found != ours:
            raise UserError(f"another codec: its {part} is a {found}", where=file, fix=FETCH)


def _require_sound(state: Mapping[str, Tensor], config: NanoCodecConfig, file: Path) -> None:
    for name, tensor in state.items():
        if not tensor.isfinite().all():
            raise UserError(f"{name} holds NaN or infinity", where=file, fix=FETCH)
    bases = [1]
    for level in config.levels[:-1]:
        bases.append(bases[-1] * level)
    for group in range(config.n_codebooks):
        stem = f"vector_quantizer.fsqs.{group}"
        found = state[f"{stem}.dim_base_index"].flatten().tolist()
        levels = tuple(state[f"{stem}.num_levels"].flatten().tolist())
        if found != bases or levels != config.levels:
            raise UserError(f"the codes of {stem} are counted in another way", where=file)
