"""An adapter and its base as one checkpoint in transformers' format, with the proof of it."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from higgs_trainer.adapter import attach, fingerprint
from higgs_trainer.checkpoint import CONFIG_FILE, INDEX_FILE, HiggsCheckpoint
from higgs_trainer.collator import Collator
from higgs_trainer.conversation import request
from higgs_trainer.generation import Sampling, forced, generated
from higgs_trainer.prompt import PromptWriter, Written
from higgs_trainer.statistics import FILE as STATISTICS_FILE
from higgs_trainer.weights import load_model, stored
from ttscommon import lora
from ttscommon.errors import UserError
from ttscommon.files import atomic_folder, require_free_disk, write_json
from ttscommon.transformers_bars import without_bars

log = logging.getLogger(__name__)

Precision = Literal["base", "float32", "bf16"]
MERGED_FILE, MERGED_FORMAT = "merged.json", "higgs_trainer.merged"
GENERATION_FILE = "generation_config.json"
BESIDE = (".json", ".jinja", ".txt", ".model")  # tokenizer, processor and their like
SHARD = "5GB"
MOST_DIFFERENCE = 1e-3  # of logits, between the adapter and what it was merged into
TEXTS = ("Good morning, how are you today?", "Nine ships sailed at dawn.")
N_STEPS = 16
# What the published converter writes for sampling where the original has no such file.
REPETITIONS = {"ras_win_len": 7, "ras_win_max_num_repeat": 2}


@dataclass(frozen=True)
class Merged:
    """What was written.

    Attributes:
        effect: how far the adapter moves the base's logits
        difference: between the logits of the adapted and of the merged model, at most; None where
            it wasn't looked at
        n_frames: greedy frames that were compared, and are the same
        rounding: how far the precision of the files moves the logits; None as `difference`
        dtype: of the files
        fingerprint: of the merged weights
    """

    folder: Path
    adapter: lora.Adapter
    effect: float
    difference: float | None
    n_frames: int
    rounding: float | None
    dtype: torch.dtype
    fingerprint: str


def merge_checkpoint(
    base: Path,
    adapter: Path,
    output: Path,
    *,
    scale: float = 1.0,
    precision: Precision = "base",
    verify: bool = True,
    overwrite: bool = False,
    device: torch.device | str = "cpu",
) -> Merged:
    """Merge in float32 and write a folder that transformers and this program load as a base.

    Args:
        base: checkpoint in either format
        precision: of the files
        verify: show first that the merged model says what the adapted one says, and then that the
            files do

    Raises:
        UserError: if the output exists, the adapter belongs to another base or changes nothing, or
            the models differ; nothing is written then
    """
    _refuse_place(output, base, overwrite)
    checkpoint = HiggsCheckpoint.open(base)
    found = stored(checkpoint)
    dtype = {"base": found.dtype, "float32": torch.float32, "bf16": torch.bfloat16}[precision]
    model = load_model(checkpoint, text_head=found.has_text_head, device=device)
    proof = _Proof(checkpoint)
    put_in = attach(model, adapter, scale)
    said = proof.said_by(model) if verify else []
    logits = proof.logits(model)
    with lora.switched_off(model):
        effect = _furthest(proof.logits(model), logits)
    if effect == 0:
        raise UserError(
            "the adapter changes nothing", where=adapter, fix="train it, or --lora-scale"
        )
    lora.merge(model)
    difference = _compared(said, proof.said_by(model), adapter) if verify else None
    model = model.to(dtype)
    mark, rounding = fingerprint(model), None
    require_free_disk(output, sum(tensor.nbytes for tensor in model.state_dict().values()))
    with atomic_folder(output) as draft:
        _write(model, checkpoint, adapter, draft)
        del model
        if verify:
            written = load_model(
                HiggsCheckpoint.open(draft), text_head=found.has_text_head, device=device
            )
            rounding = _furthest(proof.logits(written), logits)
            _require_same(fingerprint(written) == mark, rounding < effect, output)
        origin = {"adapter_sha256": put_in.sha256, "scale": scale, "effect": effect}
        told = {"difference": difference, "rounding": rounding, "fingerprint": mark}
        write_json(draft / MERGED_FILE, {"format": MERGED_FORMAT, "version": 1, **origin, **told})
    n_frames = sum(len(frames) for frames, _ in said)
    return Merged(output, put_in, effect, difference, n_frames, rounding, dtype, mark)


class _Proof:
    """What a model is asked, before and after."""

    def __init__(self, checkpoint: HiggsCheckpoint):
        writer = PromptWriter.of(checkpoint)
        self.collator = Collator(writer.streams, checkpoint.network["pad_token_id"], "left")
        self.prompts: list[Written] = [writer.prompt(request(text)) for text in TEXTS]
        steps = torch.arange(N_STEPS)[:, None] * 7 + torch.arange(writer.streams.n_codebooks)
        self.frames = steps % writer.streams.n_codes  # (F, K) arbitrary codes

    def said_by(self, model: nn.Module) -> list[tuple[Tensor, Tensor]]:
        """Greedy frames (F, K) behind each prompt, and the logits (F, K, V) of each."""
        greedy = Sampling.greedy(max_steps=N_STEPS)
        found = [generated(model, [prompt], self.collator, greedy) for prompt in self.prompts]
        return [(one.frames[0], one.logits[0]) for one in found]

    def logits(self, model: nn.Module) -> Tensor:
        """(F, K, V) behind fixed codes."""
        return forced(model, self.prompts[0], self.frames, self.collator)


def _furthest(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())


def _compared(
    adapted: list[tuple[Tensor, Tensor]], merged: list[tuple[Tensor, Tensor]], folder: Path
) -> float:
    pairs = list(zip(adapted, merged, strict=True))
    same = all(a.shape == b.shape and bool((a == b).all()) for (a, _), (b, _) in pairs)
    difference = max(_furthest(a, b) for (_, a), (_, b) in pairs) if same else float("inf")
    if not difference < MOST_DIFFERENCE:
        differ = f"logits differ by {difference:.1e}" if same else "greedy frames are others"
        raise UserError(
            f"the merged model isn't the adapted one: {differ} (less than {MOST_DIFFERENCE:g} is "
            "allowed)",
            where=folder,
            fix="please report it; the adapter itself can still be used with --lora-path",
        )
    return difference


def _write(model: Any, checkpoint: HiggsCheckpoint, adapter: Path, folder: Path) -> None:
    """The network, and what stands beside it in a folder of transformers."""
    own = {CONFIG_FILE, INDEX_FILE, MERGED_FILE, STATISTICS_FILE}
    if checkpoint.format == "original":
        own.add(GENERATION_FILE)
    with without_bars():
        model.save_pretrained(str(folder), max_shard_size=SHARD)
    settings = model.generation_config
    if checkpoint.format == "original":
        tokens = ("bos_token_id", "eos_token_id", "pad_token_id")
        known = {name: checkpoint.network[name] for name in tokens}
        for name, value in (known | REPETITIONS).items():
            setattr(settings, name, value)
        settings.save_pretrained(str(folder))
    for path in sorted(checkpoint.folder.iterdir()):
        if path.is_file() and path.suffix in BESIDE and path.name not in own:
            shutil.copyfile(path, folder / path.name)
    statistics = next((p / STATISTICS_FILE for p in (adapter, checkpoint.folder)
                       if (p / STATISTICS_FILE).is_file()), None)  # fmt: skip
    if statistics is not None:
        shutil.copyfile(statistics, folder / STATISTICS_FILE)


def _require_same(is_read: bool, is_fine: bool, output: Path) -> None:
    if not is_read:
        what = "what was written isn't what is read"
        raise UserError(what, where=output, fix="check the disk")
    if not is_fine:
        raise UserError(
            "rounding the merged weights moves the logits as far as the adapter does",
            where=output,
            fix="--precision float32",
        )


def _refuse_place(output: Path, base: Path, overwrite: bool) -> None:
    if output.exists() and not overwrite:
        raise UserError("exists already", where=output, fix="--overwrite, or another --output-dir")
    if output.exists() and base.exists() and output.samefile(base):
        what = "this would replace the base itself"
        raise UserError(what, where=output, fix="another --output-dir")
    if output.exists() and not (output / MERGED_FILE).is_file():
        what = "a folder that holds something else than a merged model"
        raise UserError(what, where=output, fix="another --output-dir")
