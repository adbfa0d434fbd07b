"""An adapter and its base as one checkpoint in the official layout, with the proof of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from indextts import weights
from indextts.config import DecodingConfig, GptConfig
from indextts.gpt.decoding import generate
from indextts.gpt.model import UnifiedVoice
from indextts.lora import Adapter, adapter_effect, attach, first_logits, made_up, merge
from ttscommon.errors import UserError

MOST_DIFFERENCE = 1e-3  # of logits, between the adapter and what it was merged into
N_INPUTS, N_CODES = 4, 48


@dataclass(frozen=True)
class Merged:
    """What was written.

    Attributes:
        effect: how far the adapter moves the base's logits
        difference: between the logits of the adapted and of the merged model, at most; None where
            it wasn't looked at
        n_codes: greedy codes that were compared, and are the same
        fingerprint: of the merged weights
    """

    path: Path
    adapter: Adapter
    effect: float
    difference: float | None
    n_codes: int
    fingerprint: str


def merge_checkpoint(
    base: Path,
    config: GptConfig,
    folder: Path,
    output: Path,
    *,
    scale: float = 1.0,
    verify: bool = True,
    overwrite: bool = False,
) -> Merged:
    """Merge in float32 and write the language model under its official names.

    Args:
        verify: show first that the merged model says what the adapted one says

    Raises:
        UserError: if the output exists, the adapter belongs to another base or changes nothing, or
            the two models differ; nothing is written then
    """
    if output.exists() and not overwrite:
        raise UserError("exists already", where=output, fix="--overwrite, or another --output")
    if output.exists() and output.samefile(base):
        raise UserError("this would replace the base itself", where=output, fix="another --output")
    gpt = weights.load_gpt(base, config)
    adapter = attach(gpt, folder, scale)
    effect = adapter_effect(gpt)
    said = said_by(gpt) if verify else None
    merge(gpt)
    difference, n_codes = None, 0
    if said is not None:
        difference, n_codes = _compared(said, said_by(gpt), folder)
    mark = weights.fingerprint(gpt)
    draft = output.with_name(f".{output.stem}.new{output.suffix}")
    try:
        weights.save_gpt(draft, gpt)
        if verify and weights.load_gpt(draft, config).file_fingerprint != mark:
            what = "what was written isn't what is read"
            raise UserError(what, where=output, fix="check the disk")
        draft.replace(output)
    finally:
        draft.unlink(missing_ok=True)
    return Merged(output, adapter, effect, difference, n_codes, mark)


@torch.no_grad()
def said_by(gpt: UnifiedVoice) -> list[tuple[Tensor, list[int]]]:
    """First logits and greedy codes for a few made-up inputs."""
    most = min(N_CODES, gpt.config.max_mel_tokens - 1)
    greedy = DecodingConfig.greedy(max_mel_tokens=most)
    found = []
    for number in range(N_INPUTS):
        written = generate(gpt, made_up(gpt, number), greedy, [0])
        found.append((first_logits(gpt, number), written[0].codes.tolist()))
    return found


def _compared(
    adapted: list[tuple[Tensor, list[int]]], merged: list[tuple[Tensor, list[int]]], folder: Path
) -> tuple[float, int]:
    pairs = list(zip(adapted, merged, strict=True))
    difference = max(float((a - b).abs().max()) for (a, _), (b, _) in pairs)
    same = all(a == b for (_, a), (_, b) in pairs)
    if not difference < MOST_DIFFERENCE or not same:
        codes = "the same" if same else "other"
        raise UserError(
            f"the merged model isn't the adapted one: logits differ by {difference:.1e} "
            f"(less than {MOST_DIFFERENCE:g} is allowed), greedy codes are {codes}",
            where=folder,
            fix="please report it; the adapter itself can still be used with --lora-path",
        )
    return difference, sum(len(codes) for _, codes in adapted)
