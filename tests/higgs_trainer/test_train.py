"""Adapters are what is trained, all of them; a stopped run ends in the same bits."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import signal
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file

from higgs_trainer import adapter
from higgs_trainer.checkpoint import HiggsCheckpoint
from higgs_trainer.config import HiggsTrainConfig
from higgs_trainer.tasks import HiggsStage
from higgs_trainer.train import Job
from higgs_trainer.weights import empty_model, load_model
from tests.higgs_trainer.higgs_training import elsewhere, job_of, made_up, trained
from tests.two_processes import launch_two
from ttscommon import lora
from ttscommon.errors import UserError

ALL = {"lora_text_mlp": True, "lora_heads": True}
TOGETHER = {"batch_size": 1, "max_steps": 3, "lora_dropout": 0.1, "learning_rate": 1e-3}


@pytest.fixture
def job(tmp_path, miniature) -> Job:
    return job_of(tmp_path, miniature[0])


def weights_of(job: Job) -> dict[str, torch.Tensor]:
    return load_file(job.output.final_checkpoint / "adapter_model.safetensors")


@pytest.mark.parametrize(
    ("changes", "n_layers", "n_parameters"),
    [
        ({}, 196, 24_313_856),
        ({"lora_audio_mlp": False}, 112, 9_175_040),
        ({"lora_text_mlp": True}, 280, 39_452_672),
    ],
)
def test_adapters_of_the_released_model_have_the_size_that_is_told(changes, n_layers, n_parameters):
    config = HiggsTrainConfig(**changes)
    model = empty_model({"codebook_size": 1026}, text_head=True)
    targets = lora.find_targets(model, config.targets)
    assert len(targets) == n_layers
    with torch.device("meta"):
        adapter.inject(model, config.targets, rank=16, alpha=32.0, dropout=0.0)
    counts = lora.trainable_counts(model)
    assert sum(counts.values()) == n_parameters
    text_mlp = [name for name in counts if ".mlp." in name]
    assert bool(text_mlp) == config.lora_text_mlp


def test_a_bare_name_means_layers_of_text_and_of_audio(miniature):
    model = empty_model(HiggsCheckpoint.open(miniature[0]).network, text_head=False)
    both = lora.find_targets(model, ["gate_proj"])
    assert {".audio_mlp." in name for name in both} == {True, False}


@pytest.mark.parametrize("changes", [{}, ALL])
def test_every_adapter_is_trained_and_nothing_else(job, miniature, changes):
    report = trained(job, **changes, learning_rate=1e-3)
    tensors = weights_of(job)
    moved = [name for name, tensor in tensors.items() if "lora_B" in name and tensor.any()]
    assert len(moved) == len(tensors) / 2
    assert report.best.is_dir()
    assert report.metrics.keys() == {"loss", "audio", "accuracy", "text", "text_to_audio"}
    metadata = json.loads((report.final / "training_metadata.json").read_text())
    assert metadata["codec"] == "c0dec"
    assert metadata["step"] == 4
    base = load_model(job.checkpoint, text_head=True)
    loaded = peft.PeftModel.from_pretrained(base, str(report.final))  # as any user of peft would
    assert sum("lora_B" in name for name, _ in loaded.named_parameters()) == len(moved)


def test_a_stopped_run_ends_in_the_same_bits(job, monkeypatch):
    whole = elsewhere(job, "whole")
    trained(whole, lora_dropout=0.2)
    forward, n_calls = HiggsStage.forward, [0]

    def stopping(stage, batch, progress=0.0):
        n_calls[0] += 1
        if n_calls[0] == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return forward(stage, batch, progress)

    monkeypatch.setattr(HiggsStage, "forward", stopping)
    with pytest.raises(KeyboardInterrupt, match="saved at step"):
        trained(job, lora_dropout=0.2)
    monkeypatch.setattr(HiggsStage, "forward", forward)
    assert not job.output.final_checkpoint.exists()
    trained(job, lora_dropout=0.2)
    ours, theirs = weights_of(job), weights_of(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def train_elsewhere(job: Job, folder: Path) -> None:
    trained(elsewhere(job, folder.name), **TOGETHER, grad_accumulation=1)


@pytest.mark.slow  # two processes, each of which imports everything
def test_two_processes_give_the_weights_of_one_that_accumulates(job):
    out = job.output.folder.parent
    launch_two(functools.partial(train_elsewhere, job), out / "two")
    assert [(out / f"two/rank{rank}").read_text() for rank in (0, 1)] == ["2", "2"]
    one = elsewhere(job, "one")
    trained(one, **TOGETHER, grad_accumulation=2)
    ours, theirs = weights_of(one), weights_of(elsewhere(job, "two"))
    moved = max(float(tensor.abs().max()) for name, tensor in ours.items() if "lora_B" in name)
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-4, atol=1e-2 * moved, msg=name)


def test_batches_and_accumulation_give_the_same_weights(job):
    same = {"lora_dropout": 0.0, "reference_share": 0.0, "max_steps": 2, "grad_clip": 0.0}
    one, two = elsewhere(job, "one"), elsewhere(job, "two")
    trained(one, batch_size=3, grad_accumulation=1, gradient_checkpointing=False, **same)
    trained(two, batch_size=1, grad_accumulation=3, **same)
    ours, theirs = weights_of(one), weights_of(two)
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, atol=2e-5, rtol=0)


def test_other_settings_and_other_data_do_not_go_on(job, tmp_path):
    trained(job)
    with pytest.raises(UserError, match="lora_rank: 4 -> 8"):
        trained(job, lora_rank=8)
    made_up(tmp_path / "processed", (9, 14, 12, 7))
    with pytest.raises(UserError, match="the data set"):
        trained(job)
    trained(dataclasses.replace(job, overwrite=True))


def test_a_finished_adapter_is_not_replaced_unasked(job):
    job.output.best_checkpoint.mkdir(parents=True)
    with pytest.raises(UserError, match="a finished adapter is here"):
        trained(job)


def test_lists_of_two_codecs_are_refused(job):
    lines = job.validation.read_text().replace("c0dec", "other")
    job.validation.write_text(lines)
    with pytest.raises(UserError, match="two codecs"):
        trained(job)


def test_an_adapter_belongs_to_its_base(job, tmp_path, miniature):
    report = trained(job)
    model = load_model(job.checkpoint, text_head=False)
    found = adapter.attach(model, report.final)
    assert (found.rank, found.n_layers) == (4, 14)
    other = load_model(job.checkpoint, text_head=False)
    with torch.no_grad():
        other.model.norm.weight += 0.1
    with pytest.raises(UserError, match="another base"):
        adapter.attach(other, report.final)
    assert not lora.layers(other)


def test_a_base_has_the_same_name_in_both_formats_and_precisions(original, native):
    found = [HiggsCheckpoint.open(folder) for folder in (original, native)]
    names = {
        adapter.fingerprint(load_model(one, text_head=head, dtype=dtype))
        for one in found
        for head in (True, False)
        for dtype in (torch.float32, torch.bfloat16)
    }
    assert len(names) == 1


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"lora_rank": 0}, "lora_rank must be 1"),
        ({"reference_share": 1.5}, "reference_share"),
        ({"lora_attention": False, "lora_audio_mlp": False}, "no layer is adapted"),
        ({"codebook_weights": (1.0, 0.0)}, "codebook_weights"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong, reason):
    with pytest.raises(UserError, match=reason):
        HiggsTrainConfig(**wrong)
