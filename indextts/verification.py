"""Is a checkpoint folder whole, and is it IndexTTS2 2.0? Tensor by tensor, without loading it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from indextts import weights
from indextts.checkpoint import CheckpointFolder
from indextts.config import GptConfig
from indextts.gpt.model import UnifiedVoice
from indextts.tensors import read_tensors
from ttscommon.errors import UserError

OFFICIAL = Path(__file__).parent / "keys" / "acoustic.json"
NOWHERE = torch.device("meta")  # shapes without numbers
Shapes = dict[str, list[int]]


@dataclass(frozen=True)
class Finding:
    """What was found out about one file, in words."""

    name: str
    is_right: bool
    what: str


def verify_folder(root: Path, *, accepts_miniature: bool = False) -> Iterator[Finding]:
    """Compare the tensors of every network with its configuration and with the official release.

    Tensors must have the official names and shapes, but for the text tables, which fine-tuning with
    another tokenizer changes. A miniature is said to be one, and compared with its config.yaml.

    Args:
        accepts_miniature: it isn't wrong to be one
    """
    try:
        folder = CheckpointFolder.open(root)
    except UserError as error:
        yield Finding(str(root), False, str(error))
        return
    official = json.loads(OFFICIAL.read_text(encoding="utf-8"))
    published = {
        name: {key: shape for key, (shape, _) in keys.items()} for name, keys in official.items()
    }
    config = folder.config
    networks: list[tuple[Path, Shapes, Callable[[], nn.Module]]] = [
        (
            folder.gpt,
            _official_gpt(),
            lambda: weights.load_gpt(folder.gpt, config.gpt, device=NOWHERE),
        ),
        (
            folder.s2mel,
            published["s2mel.pth"],
            lambda: weights.load_s2mel(folder.s2mel, config.s2mel, device=NOWHERE),
        ),
        (
            folder.semantic_codec,
            published["semantic_codec/model.safetensors"],
            lambda: weights.load_codec(folder.semantic_codec, config.codec, device=NOWHERE),
        ),
        (
            folder.campplus,
            published["campplus_cn_common.bin"],
            lambda: weights.load_campplus(folder.campplus, device=NOWHERE),
        ),
        (
            folder.bigvgan / "bigvgan_generator.pt",
            published["bigvgan_generator.pt"],
            lambda: weights.load_bigvgan(folder.bigvgan, device=NOWHERE),
        ),
    ]
    if config.is_miniature:
        what = "this is the miniature, random weights that speak noise, and not IndexTTS2"
        yield Finding("config.yaml", accepts_miniature, what)
    for path, expected, load in networks:
        name = str(path.relative_to(root)) if path.is_relative_to(root) else path.name
        yield _network(name, expected, load, may_differ=config.is_miniature)
    yield _matrices(folder)
    yield _statistics(folder)


def _official_gpt() -> Shapes:
    with NOWHERE:
        return _shapes(UnifiedVoice(GptConfig()))


def _shapes(module: nn.Module) -> Shapes:
    return {key: list(value.shape) for key, value in module.state_dict().items()}


def _network(
    name: str, expected: Shapes, load: Callable[[], nn.Module], *, may_differ: bool
) -> Finding:
    try:
        found = _shapes(load())
    except UserError as error:
        return Finding(name, False, error.what)
    other = {key for key in expected.keys() | found if found.get(key) != expected.get(key)}
    if not other:
        what = f"{len(found)} tensors with the official names and shapes"
    elif other <= set(weights.TEXT_TABLES):
        what = f"{len(found)} tensors; the text tables have another tokenizer's length"
    else:
        what = (
            f"{len(found)} tensors that fit config.yaml; {len(other)} aren't of the official shape"
        )
        return Finding(name, may_differ, what)
    return Finding(name, True, what)


def _matrices(folder: CheckpointFolder) -> Finding:
    name = f"{folder.spk_matrix.name}, {folder.emo_matrix.name}"
    try:
        speakers, emotions = weights.load_matrices(folder)
    except UserError as error:
        return Finding(name, False, error.what)
    return Finding(name, True, f"matrices of {list(speakers.shape)} and {list(emotions.shape)}")


def _statistics(folder: CheckpointFolder) -> Finding:
    n_features = folder.config.gpt.cond_input_dim
    expected = {"mean": [n_features], "var": [n_features]}
    try:
        tensors = read_tensors(folder.w2v_stat)
    except UserError as error:
        return Finding(folder.w2v_stat.name, False, error.what)
    found = {key: list(value.shape) for key, value in tensors.items()}
    what = f"mean and variance of {n_features} features"
    if found != expected:
        return Finding(folder.w2v_stat.name, False, f"expected {expected}, found {found}")
    return Finding(folder.w2v_stat.name, True, what)
