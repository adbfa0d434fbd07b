"""Names of tensors in both formats, and a network that consists of a checkpoint's tensors."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from higgs_trainer.checkpoint import HiggsCheckpoint
from ttscommon.errors import UserError
from ttscommon.tensors import read_tensors, require_equal
from ttscommon.transformers_bars import without_bars

TEXT_HEAD = "text_lm_head.weight"
DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
CODE_EMBEDDINGS = ("audio_codebook_embeddings.", "model.embed_audio_tokens.embed_audio_tokens.")
HEADS = "audio_decoder_proj."
OF_MODEL = re.compile(r"^(embed_tokens|layers|norm)\.")
# Computed, or of no use outside of the original's training.
COMPUTED = re.compile(r"(^|\.)(audio_codebook_weights|rotary_emb\.(original_)?inv_freq)$")
# Some originals keep the part of a table that was trained apart from the part that wasn't.
HALVES = re.compile(r"\.(embedding|linear)_(frozen|trainable)\.weight$")


def native_name(name: str) -> str:
    """The native name of an original tensor."""
    ours, theirs = CODE_EMBEDDINGS
    if name.startswith(ours):
        return theirs + name.removeprefix(ours)
    if name.startswith(HEADS):
        return name.removeprefix(HEADS)
    return OF_MODEL.sub(r"model.\1.", name)


def original_name(name: str) -> str:
    """The other way round: what a native tensor is called in the original format."""
    ours, theirs = CODE_EMBEDDINGS
    if name.startswith(theirs):
        return ours + name.removeprefix(theirs)
    if name.endswith("_lm_head.weight"):
        return HEADS + name
    return name.removeprefix("model.")


def native_tensors(tensors: Mapping[str, Tensor], where: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint in either format under their native names.

    Raises:
        UserError: if a table lacks a half
    """
    whole = _joined({k: v for k, v in tensors.items() if not COMPUTED.search(k)}, where)
    # Native checkpoints hold their heads twice, the second time under the original's names.
    doubled = [k for k in whole if k.startswith(HEADS) and k.removeprefix(HEADS) in whole]
    return {native_name(k): v for k, v in whole.items() if k not in doubled}


@dataclass(frozen=True)
class Stored:
    """What the headers of a checkpoint's files tell.

    Attributes:
        dtype: of most tensors
    """

    has_text_head: bool
    dtype: torch.dtype


def stored(checkpoint: HiggsCheckpoint) -> Stored:
    """Look into a checkpoint's files without reading tensors.

    Raises:
        UserError: if a file is missing, truncated, or of numbers of another kind
    """
    dtypes: dict[str, str] = {}
    for path in checkpoint.weight_files:
        try:
            with safe_open(path, framework="pt") as file:
                dtypes |= {key: file.get_slice(key).get_dtype() for key in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            what = "truncated, or no file of weights"
            raise UserError(what, where=path, fix="fetch the checkpoint again") from error
    usual = Counter(dtypes.values()).most_common(1)[0][0]
    if usual not in DTYPES:
        raise UserError(f"weights in {usual} can't be computed with", where=checkpoint.folder)
    return Stored(TEXT_HEAD in {native_name(key) for key in dtypes}, DTYPES[usual])


def load_model(
    checkpoint: HiggsCheckpoint,
    *,
    text_head: bool,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Any:
    """`HiggsAudioV2ForConditionalGeneration` of a checkpoint, in eval mode and without gradients.

    Args:
        text_head: with the head that the text's loss needs and speech doesn't

    Raises:
        UserError: if a file is missing or broken, or tensors don't fit the configuration
    """
    tensors: dict[str, Tensor] = {}
    for path in checkpoint.weight_files:
        tensors |= read_tensors(path)
    where = checkpoint.folder
    tensors = native_tensors(tensors, where)
    if text_head and TEXT_HEAD not in tensors:
        raise UserError(
            "this checkpoint has no text head, so there is no loss of the text",
            where=where,
            fix="--text-loss-weight 0",
        )
    if not text_head:
        tensors.pop(TEXT_HEAD, None)
    shapes = shapes_of(checkpoint.network, text_head=text_head)
    fix = "the weights and config.json must come from the same release"
    require_equal(tensors, shapes, where=where, fix=fix)
    return _filled(checkpoint, tensors, text_head, dtype).to(device).eval().requires_grad_(False)


def shapes_of(network: Mapping[str, Any], *, text_head: bool) -> dict[str, tuple[int, ...]]:
    """Native names and shapes of all tensors, without memory for them."""
    state = empty_model(network, text_head=text_head).state_dict()
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def empty_model(network: Mapping[str, Any], *, text_head: bool) -> Any:
    """The network on the meta device: names and shapes only."""
    from transformers import HiggsAudioV2Config, HiggsAudioV2ForConditionalGeneration

    with torch.device("meta"):
        return HiggsAudioV2ForConditionalGeneration(
            HiggsAudioV2Config(**network), use_text_head=text_head
        )


def _filled(
    checkpoint: HiggsCheckpoint, tensors: dict[str, Tensor], text_head: bool, dtype: torch.dtype
) -> Any:
    from transformers import HiggsAudioV2Config, HiggsAudioV2ForConditionalGeneration

    with without_bars():
        return HiggsAudioV2ForConditionalGeneration.from_pretrained(
            None,
            config=HiggsAudioV2Config(**checkpoint.network),
            state_dict=tensors,
            use_text_head=text_head,
            dtype=dtype,
        )


def _joined(tensors: dict[str, Tensor], where: Path) -> dict[str, Tensor]:
    """With tables that are kept in two parts put together, the frozen part first."""
    tables: dict[str, dict[str, Tensor]] = {}
    for name in [name for name in tensors if HALVES.search(name)]:
        half = HALVES.search(name)
        assert half is not None
        tables.setdefault(name[: half.start()], {})[half[2]] = tensors.pop(name)
    for name, halves in tables.items():
        if set(halves) != {"frozen", "trainable"}:
            raise UserError(f"{name} has only its {next(iter(halves))} part", where=where)
        tensors[f"{name}.weight"] = torch.cat([halves["frozen"], halves["trainable"]])
    return tensors
