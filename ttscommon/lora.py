"""Low-rank adapters (LoRA, Hu et al. 2022) on any network, in peft's format.

Adapters live inside the network and are never merged unless asked: a voice is switched by taking
one out and putting another in, and its strength is a number.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ttscommon.checkpoints import read_tensors
from ttscommon.errors import UserError
from ttscommon.files import atomic_folder, read_json, recover_folder, require_free_disk
from ttscommon.workspace import ADAPTER_FILE

NAME = "default"  # of the one adapter that a network has at a time
WEIGHT_FILES = ("adapter_model.safetensors", "adapter_model.bin")
PREFIX = "base_model.model."
REGEX = "re:"  # begins a pattern that is a regular expression
FACTOR = re.compile(r"\.lora_(embedding_)?(?P<side>[AB])(\.weight)?$")
ADAPTABLE = (nn.Linear, nn.Embedding, nn.Conv1d, nn.Conv2d)


@dataclass(frozen=True)
class Adapter:
    """What was put into a network.

    Attributes:
        rank: of the update, the highest
        n_layers: matrices that it changes
        mean_change: of all their numbers, absolute, at scale 1
        sha256: of the file of weights
    """

    folder: Path
    rank: int
    n_layers: int
    mean_change: float
    sha256: str


@dataclass(frozen=True)
class AdapterFile:
    """A folder in peft's format that was read and found to fit a network."""

    folder: Path
    config: Any
    tensors: dict[str, Tensor]
    sha256: str


def find_targets(module: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Full names of the layers that patterns mean, in the order of the network.

    A pattern is a name or the end of one, `*` standing for anything between two dots:
    "gpt.h.*.attn.c_attn", "attn.c_attn", "mel_head"; or a regular expression for whole names behind
    "re:".

    Raises:
        UserError: if a pattern means no layer that can be adapted
    """
    names = [name for name, layer in module.named_modules() if isinstance(layer, ADAPTABLE)]
    chosen: set[str] = set()
    for pattern in patterns:
        meant = _compiled(pattern)
        found = {name for name in names if meant.fullmatch(name)}
        if not found:
            raise UserError(
                f"no layer of this network is called '{pattern}'",
                fix=f"its layers: {', '.join(sorted({grouped(name) for name in names})[:40])}",
            )
        chosen |= found
    return [name for name in names if name in chosen]


def inject(
    module: nn.Module,
    targets: Sequence[str],
    *,
    rank: int,
    alpha: float,
    dropout: float = 0.0,
    use_rslora: bool = False,
) -> None:
    """Put a new adapter on these layers; all else of the network is frozen.

    Its update is zero at first. Names of layers get ".base_layer" behind them.

    Args:
        use_rslora: scale the update by alpha / sqrt(rank) (Kalajdzievski 2023), not alpha / rank
    """
    import peft  # brings transformers, which takes seconds

    config = peft.LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type]
        lora_dropout=dropout,
        target_modules=list(targets),
        bias="none",
        use_rslora=use_rslora,
    )
    module.requires_grad_(False)
    peft.inject_adapter_in_model(config, module, NAME)
    for layer in layers(module).values():
        layer.train(module.training)


def read_adapter(
    module: nn.Module, folder: Path, *, read: Callable[[Path], dict[str, Tensor]] = read_tensors
) -> AdapterFile:
    """Read an adapter and see that it fits `module`, which isn't changed.

    Args:
        module: without an adapter, or with another one
        read: reads a file of weights

    Raises:
        UserError: if the folder holds no adapter, a broken one, or one without a place in `module`
    """
    recover_folder(folder)
    weights = next((folder / name for name in WEIGHT_FILES if (folder / name).is_file()), None)
    if weights is None or not (folder / ADAPTER_FILE).is_file():
        raise UserError(
            "no LoRA adapter here", where=folder, fix=f"it holds {ADAPTER_FILE}, {WEIGHT_FILES[0]}"
        )
    settings = read_json(folder / ADAPTER_FILE)  # of a broken one peft tells in a traceback
    from peft import LoraConfig, PeftConfig

    try:
        config = PeftConfig.from_pretrained(str(folder))
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"no settings of an adapter: {error}", where=folder / ADAPTER_FILE
        ) from error
    if not isinstance(config, LoraConfig):
        raise UserError(f"a {settings.get('peft_type')} adapter, not LoRA", where=folder)
    if config.modules_to_save or config.bias != "none":
        raise UserError(
            "this adapter replaces whole layers or biases besides its LoRA",
            where=folder,
            fix='train it with bias "none" and without modules_to_save',
        )
    tensors = read(weights)
    _require_fit(module, tensors, weights)
    return AdapterFile(folder, config, tensors, hashlib.sha256(weights.read_bytes()).hexdigest())


def attach(module: nn.Module, adapter: AdapterFile, scale: float = 1.0) -> Adapter:
    """Put an adapter that was read into `module`, in place of the present one, unmerged.

    Raises:
        UserError: if peft can't; `module` keeps the adapter it has then
    """
    import peft

    present = layers(module), getattr(module, "peft_config", None)
    detach(module)
    try:
        with warnings.catch_warnings():
            # Adapters of GPT-2's Conv1D layers say fan_in_fan_out; where ours are nn.Linear, peft
            # puts that right and says so.
            warnings.filterwarnings("ignore", message=".*fan_in_fan_out.*")
            peft.inject_adapter_in_model(adapter.config, module, NAME)
            result: Any = peft.set_peft_model_state_dict(module, adapter.tensors, NAME)
        missing = [key for key in result.missing_keys if ".lora_" in key]
        if missing:
            raise ValueError(f"missing adapter keys, {missing[0]} first")
    except (RuntimeError, ValueError, TypeError, KeyError) as error:
        detach(module)
        _put_back(module, *present)
        reason = " ".join(str(error).split())[:200]
        what = f"this LoRA doesn't fit the loaded base: {reason}"
        raise UserError(what, where=adapter.folder) from error
    for layer in layers(module).values():
        layer.requires_grad_(False)
        layer.train(module.training)  # a new dropout is in training mode
    rank, n_layers, mean_change = describe(module)
    set_scale(module, scale)
    return Adapter(adapter.folder, rank, n_layers, mean_change, adapter.sha256)


def layers(module: nn.Module) -> dict[str, Any]:
    """The adapted layers by their names."""
    if not hasattr(module, "peft_config"):
        return {}  # saves the import
    from peft.tuners.lora import LoraLayer

    return {name: part for name, part in module.named_modules() if isinstance(part, LoraLayer)}


@torch.no_grad()
def describe(module: nn.Module) -> tuple[int, int, float]:
    """Rank, number of layers and mean absolute change of the adapter in `module`."""
    change, n_numbers, rank = 0.0, 0, 0
    adapted = layers(module)
    for layer in adapted.values():
        update = layer.get_delta_weight(NAME)
        change, n_numbers = change + float(update.abs().sum()), n_numbers + update.numel()
        rank = max(rank, int(layer.r[NAME]))
    return rank, len(adapted), change / max(n_numbers, 1)


def set_scale(module: nn.Module, scale: float) -> None:
    """How strong the adapter is: 1 as it was trained, 0 without effect."""
    for layer in layers(module).values():
        layer.set_scale(NAME, scale)


@contextmanager
def switched_off(module: nn.Module) -> Iterator[None]:
    """Let the network be its base for the block."""
    adapted = list(layers(module).values())
    scales = [layer.scaling[NAME] for layer in adapted]
    for layer in adapted:
        layer.scaling[NAME] = 0.0
    try:
        yield
    finally:
        for layer, scale in zip(adapted, scales, strict=True):
            layer.scaling[NAME] = scale


def detach(module: nn.Module) -> None:
    """Take the adapter out; what is left is the base, bit for bit."""
    for name, layer in layers(module).items():
        parent, _, own = name.rpartition(".")
        setattr(module.get_submodule(parent), own, layer.get_base_layer())
    if hasattr(module, "peft_config"):
        del module.peft_config


@torch.no_grad()
def merge(module: nn.Module) -> None:
    """Add the update, at its present scale, to the weights, and take the adapter out.

    The sum is rounded to the weights' precision, so the network should be in float32.

    Raises:
        UserError: if an update holds NaN or infinity; nothing is changed then
    """
    adapted = layers(module)
    for name, layer in adapted.items():
        if not layer.get_delta_weight(NAME).isfinite().all():
            raise UserError(f"the adapter computes NaN or infinity in {name}")
    for layer in adapted.values():
        layer.merge()
    detach(module)


def adapter_tensors(module: nn.Module) -> dict[str, Tensor]:
    """The adapter's tensors under the names that peft gives them in files."""
    return {
        PREFIX + name.replace(f".{NAME}", ""): parameter.detach().cpu().contiguous().clone()
        for name, parameter in module.named_parameters()
        if ".lora_" in name
    }


def save_adapter(
    module: nn.Module, folder: Path, *, beside: Callable[[Path], None] | None = None
) -> None:
    """Write the adapter as peft does; `peft.PeftModel.from_pretrained(base, folder)` reads it.

    Args:
        folder: replaced as a whole, or not at all
        beside: writes further files into the folder

    Raises:
        UserError: if the disk can't take it
    """
    tensors = adapter_tensors(module)
    if not tensors:
        raise ValueError("this network has no adapter")
    config: Any = module.peft_config
    require_free_disk(folder, sum(tensor.nbytes for tensor in tensors.values()))
    with atomic_folder(folder) as draft:
        save_file(tensors, draft / WEIGHT_FILES[0], metadata={"format": "pt"})
        training, config[NAME].inference_mode = config[NAME].inference_mode, True
        config[NAME].save_pretrained(str(draft))
        config[NAME].inference_mode = training
        if beside is not None:
            beside(draft)


def trainable_counts(module: nn.Module) -> dict[str, int]:
    """Numbers that are trained, by group of modules: {"gpt.h.*.attn.c_attn": 3932160, ...}"""
    counts: Counter[str] = Counter()
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            owner = re.sub(r"\.(base_layer|lora_.*)$", "", name.rpartition(".")[0])
            counts[grouped(owner)] += parameter.numel()
    return dict(counts)


def grouped(name: str) -> str:
    """A name with its numbers as `*`, the same for all layers of a stack."""
    return ".".join("*" if part.isdigit() else part for part in name.split("."))


def _put_back(module: nn.Module, adapted: Mapping[str, Any], config: Any) -> None:
    for name, layer in adapted.items():
        parent, _, own = name.rpartition(".")
        setattr(module.get_submodule(parent), own, layer)
    if config is not None:
        module.peft_config = config


def _compiled(pattern: str) -> re.Pattern[str]:
    if pattern.startswith(REGEX):
        try:
            return re.compile(pattern.removeprefix(REGEX))
        except re.error as error:
            raise UserError(f"'{pattern}' is no regular expression: {error}") from error
    whole = re.escape(pattern).replace(r"\*", "[^.]*")
    return re.compile(rf"(?:.*\.)?{whole}")


def _require_fit(module: nn.Module, tensors: Mapping[str, Tensor], where: Path) -> None:
    """Refuse an adapter with layers or widths that `module` hasn't got."""
    present = dict(module.named_modules())
    factors = [(key, FACTOR.search(key)) for key in tensors]
    factors = [(key, found) for key, found in factors if found]
    wrong = []
    for key, found in factors:
        layer = present.get(key[: found.start()].removeprefix(PREFIX))
        layer = getattr(layer, "base_layer", layer)
        width = _width(layer, found["side"]) if layer is not None else None
        axis = 1 if found["side"] == "A" else 0
        if layer is None or (width is not None and tensors[key].shape[axis] != width):
            wrong.append(key.removeprefix(PREFIX))
    if not factors:
        raise UserError("no LoRA weights in this file", where=where)
    if wrong:
        raise UserError(
            f"this LoRA was trained on another base: {len(wrong)} of {len(factors)} tensors have "
            f"no place in this one, {wrong[0]} first",
            where=where,
            fix="load the model it was trained on",
        )


def _width(layer: nn.Module, side: str) -> int | None:
    """Numbers that a layer takes (A) or gives (B); None for a kind of layer that peft must know."""
    if isinstance(layer, nn.Linear):
        return layer.in_features if side == "A" else layer.out_features
    if isinstance(layer, nn.Embedding):
        return layer.num_embeddings if side == "A" else layer.embedding_dim
    return None
