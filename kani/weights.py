"""Checkpoints of KaniTTS: the language model, its tokenizer, the codec."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kani.codec_weights import load_codec
from kani.positions import FACTOR, stretch, stretches
from kani.projection import PROJECTION, add_projection
from kani.tokens import TokenSpace
from ttscommon.errors import UserError
from ttscommon.files import read_json
from ttscommon.transformers_bars import without_bars

__all__ = ["load_codec", "load_language_model", "load_tokenizer", "shapes_of"]

log = logging.getLogger(__name__)

CONFIG_FILE, TOKENIZER_FILE, WEIGHTS_FILE = "config.json", "tokenizer.json", "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
KIND = "lfm2"
FETCH = "give a folder of nineninesix/kani-tts-370m, or of a model trained here"


def load_language_model(
    folder: Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    *,
    space: TokenSpace | None = None,
) -> Any:
    """`Lfm2ForCausalLM` of a checkpoint, in eval mode and without gradients.

    Rows of the vocabulary, and whether the head is the embedding, are as the checkpoint says.

    Raises:
        UserError: if a file is missing or broken, tensors are missing, or there are fewer rows than
            ids in `space`
    """
    config = read_config(folder)
    require_rows(config, space or TokenSpace(), folder)
    if not any((folder / name).is_file() for name in (WEIGHTS_FILE, INDEX_FILE)):
        raise UserError(f"no weights ({WEIGHTS_FILE}) in this folder", where=folder, fix=FETCH)
    from safetensors import SafetensorError
    from transformers import Lfm2ForCausalLM

    try:
        with without_bars(), _without_report():
            loaded: Any = Lfm2ForCausalLM.from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                dtype=dtype,
                output_loading_info=True,
            )
    except (SafetensorError, OSError, ValueError, RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"no usable checkpoint: {reason}", where=folder, fix=FETCH) from error
    model, found = loaded
    wrong = sorted(found["missing_keys"]) + sorted(map(str, found["mismatched_keys"]))
    if wrong:
        raise UserError(f"{len(wrong)} tensors are missing, {wrong[0]} first", where=folder)
    others = sorted(map(str, found["unexpected_keys"]))
    used = [name for name in others if name == PROJECTION]
    if stretches(config):
        used += [name for name in others if FACTOR.fullmatch(name)]
    extra = _tensors(folder, used)
    if PROJECTION in extra:
        add_projection(model, extra.pop(PROJECTION), folder)
    if stretches(config):
        stretch(model, extra, config, folder)
    unused = [name for name in others if name not in used]
    if unused:
        log.warning("%d tensors aren't used: %s", len(unused), ", ".join(unused[:3]))
    return model.to(device).eval().requires_grad_(False)


@contextmanager
def _without_report() -> Iterator[None]:
    """Keep transformers from telling of tensors that it doesn't know; we do know some."""
    chatter = logging.getLogger("transformers.modeling_utils")
    before = chatter.level
    chatter.setLevel(logging.ERROR)
    try:
        yield
    finally:
        chatter.setLevel(before)


def _tensors(folder: Path, names: Sequence[str]) -> dict[str, Tensor]:
    from safetensors import safe_open

    found: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as weights:
            found |= {name: weights.get_tensor(name) for name in weights.keys() if name in names}  # noqa: SIM118
    return found


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer beside a model.

    Raises:
        UserError: if the folder holds none
    """
    if not (folder / TOKENIZER_FILE).is_file():
        raise UserError(
            f"no {TOKENIZER_FILE} in this folder", where=folder, fix="copy it from the base model"
        )
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"no usable tokenizer: {reason}", where=folder) from error


def read_config(folder: Path) -> dict[str, Any]:
    """A checkpoint's `config.json`.

    Raises:
        UserError: if it is missing, or another model's
    """
    if not folder.is_dir():
        raise UserError("no such folder of a model", where=folder, fix=FETCH)
    config = read_json(folder / CONFIG_FILE)
    kind = config.get("model_type") if isinstance(config, Mapping) else None
    if kind != KIND:
        raise UserError(
            f"no KaniTTS model: its model_type is {kind}", where=folder / CONFIG_FILE, fix=FETCH
        )
    return dict(config)


def require_rows(config: Mapping[str, Any], space: TokenSpace, folder: Path) -> None:
    """Refuse a model that hasn't got a row for each id.

    Raises:
        UserError: with both numbers
    """
    rows = config.get("vocab_size")
    if not isinstance(rows, int) or rows < space.vocab_size:
        raise UserError(
            f"this model has {rows} rows in its vocabulary, speech needs {space.vocab_size}",
            where=folder / CONFIG_FILE,
            fix=f"a plain LFM2 doesn't know the codes of sounds; {FETCH}",
        )


def shapes_of(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors in a checkpoint's file, without memory for them."""
    from transformers import Lfm2Config, Lfm2ForCausalLM

    arguments = {k: v for k, v in config.items() if k not in ("model_type", "architectures")}
    with torch.device("meta"):
        model: Any = Lfm2ForCausalLM(Lfm2Config(**arguments))
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
