"""A merged checkpoint is the adapter and its base, in transformers' format."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from higgs_trainer import adapter as adapters
from higgs_trainer import merging
from higgs_trainer.checkpoint import HiggsCheckpoint
from higgs_trainer.collator import Collator
from higgs_trainer.conversation import request
from higgs_trainer.generation import Sampling, forced, generated
from higgs_trainer.merging import merge_checkpoint
from higgs_trainer.prompt import PromptWriter
from higgs_trainer.weights import load_model, stored
from tools import higgs_merge
from ttscommon import lora
from ttscommon.errors import UserError

TARGETS = ("re:model\\.layers\\.\\d+\\.(self_attn\\.q_proj|audio_mlp\\.up_proj)", "text_lm_head")


@pytest.fixture(scope="module")
def base(miniature) -> Path:
    return miniature[0]


@pytest.fixture(scope="module")
def adapter(base, tmp_path_factory) -> Path:
    return write_adapter(base, tmp_path_factory.mktemp("adapter") / "best")


def write_adapter(base: Path, folder: Path, strength: float = 0.3) -> Path:
    torch.manual_seed(3)
    model = load_model(HiggsCheckpoint.open(base), text_head=True)
    mark = adapters.fingerprint(model)
    adapters.inject(model, TARGETS, rank=4, alpha=8.0, dropout=0.0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=strength)
    lora.save_adapter(model, folder, beside=lambda draft: adapters.write_base(draft, mark))
    (folder / "statistics.json").write_text('{"of": "the adapter"}')
    return folder


def said(model: Any, checkpoint: HiggsCheckpoint) -> tuple[torch.Tensor, torch.Tensor]:
    """All logits behind some codes, and greedy frames, for a text the proof doesn't ask."""
    writer = PromptWriter.of(checkpoint)
    collator = Collator(writer.streams, checkpoint.network["pad_token_id"], "left")
    prompt = writer.prompt(request("Something else entirely."))
    frames = torch.randint(0, 64, (20, 8), generator=torch.Generator().manual_seed(5))
    greedy = generated(model, [prompt], collator, Sampling.greedy(max_steps=12))
    return forced(model, prompt, frames, collator), greedy.frames


def test_what_the_tool_merges_says_what_the_adapter_says(base, adapter, tmp_path, capsys):
    from transformers import HiggsAudioV2ForConditionalGeneration

    torch.set_num_threads(1)
    output = tmp_path / "merged"
    words = ["--model-path", str(base), "--lora-path", str(adapter), "--lora-scale", "0.5"]
    higgs_merge.main([*words, "--output-dir", str(output), "--device", "cpu"])
    printed = capsys.readouterr().out
    assert "Proven: logits of adapter and merged model differ by" in printed
    assert f"--model-path {output}" in printed.splitlines()[-1]
    opened = HiggsCheckpoint.open(base)
    adapted = load_model(opened, text_head=True)
    with_base, _ = said(adapted, opened)
    adapters.attach(adapted, adapter, 0.5)
    logits, frames = said(adapted, opened)
    theirs = HiggsAudioV2ForConditionalGeneration.from_pretrained(output, use_text_head=True)
    for model in (theirs.eval(), load_model(HiggsCheckpoint.open(output), text_head=True)):
        found, said_frames = said(model, opened)
        assert float((found - logits).abs().max()) < 1e-4
        assert torch.equal(said_frames, frames)
    assert float((with_base - logits).abs().max()) > 0.1
    assert (output / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()
    assert "the adapter" in (output / "statistics.json").read_text()


def test_an_original_base_becomes_a_native_checkpoint(original, tmp_path):
    found = write_adapter(original, tmp_path / "adapter")
    merged = merge_checkpoint(original, found, tmp_path / "merged", precision="bf16")
    checkpoint = HiggsCheckpoint.open(merged.folder)
    assert (HiggsCheckpoint.open(original).format, checkpoint.format) == ("original", "native")
    assert stored(checkpoint).dtype == merged.dtype == torch.bfloat16
    assert stored(checkpoint).has_text_head
    assert merged.difference is not None
    assert merged.rounding is not None
    assert merged.difference < 1e-4 < merged.rounding < merged.effect
    settings = json.loads((merged.folder / "generation_config.json").read_text())
    assert (settings["ras_win_len"], settings["ras_win_max_num_repeat"]) == (7, 2)
    told = json.loads((merged.folder / "merged.json").read_text())
    assert told["adapter_sha256"] == merged.adapter.sha256
    assert told["fingerprint"] == merged.fingerprint


def test_a_merge_that_went_wrong_is_not_written(base, adapter, tmp_path, monkeypatch):
    monkeypatch.setattr(lora, "merge", lora.detach)
    with pytest.raises(UserError, match="isn't the adapted one"):
        merge_checkpoint(base, adapter, tmp_path / "merged")
    assert list(tmp_path.iterdir()) == []


def test_rounding_that_swallows_the_adapter_is_refused(base, tmp_path):
    faint = write_adapter(base, tmp_path / "faint", strength=1e-5)
    with pytest.raises(UserError, match="--precision float32"):
        merge_checkpoint(base, faint, tmp_path / "merged", precision="bf16")
    assert not (tmp_path / "merged").exists()


def test_a_full_disk_is_told_before_writing(base, adapter, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match="disk almost full"):
        merge_checkpoint(base, adapter, tmp_path / "merged", verify=False)
    assert list(tmp_path.iterdir()) == []


def test_places_that_hold_something_else_are_left_alone(base, adapter, tmp_path):
    copy = shutil.copytree(base, tmp_path / "base")
    for output, overwrite, reason in (
        (copy, False, "exists already"),
        (copy, True, "the base itself"),
        (adapter, True, "something else"),
    ):
        with pytest.raises(UserError, match=reason):
            merge_checkpoint(copy, adapter, output, overwrite=overwrite)


def test_adapters_that_change_nothing_or_belong_elsewhere_are_refused(base, adapter, tmp_path):
    with pytest.raises(UserError, match="changes nothing"):
        merge_checkpoint(base, adapter, tmp_path / "merged", scale=0.0)
    other = shutil.copytree(base, tmp_path / "other")
    tensors = load_file(other / "model.safetensors")
    tensors["model.norm.weight"] += 0.5
    save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="another base"):
        merge_checkpoint(other, adapter, tmp_path / "merged")
    with pytest.raises(UserError, match="which adapter"):
        higgs_merge.main(["--model-path", str(base), "--output-dir", str(tmp_path / "merged")])
    assert merging.MERGED_FILE not in {path.name for path in tmp_path.rglob("*")}
