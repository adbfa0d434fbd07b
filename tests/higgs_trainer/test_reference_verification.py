"""Training sees what inference sees: what is right passes with its numbers, what is wrong fails."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from higgs_trainer.checkpoint import HiggsCheckpoint
from higgs_trainer.clips import read_prepared
from higgs_trainer.codec import load_codec
from higgs_trainer.collator import Collator
from higgs_trainer.config import PrepareConfig
from higgs_trainer.dataset import SamplePlan
from higgs_trainer.preprocess import prepare_samples
from higgs_trainer.prompt import PromptWriter
from higgs_trainer.reference_verification import AlignmentReport, require, verify
from higgs_trainer.sample_data import create_sample_data
from higgs_trainer.tasks import HiggsStage, LossWeights
from higgs_trainer.weights import load_model
from ttscommon.batching import BatchKey
from ttscommon.errors import UserError
from ttscommon.probe import Check


@pytest.fixture(scope="module")
def plan(miniature, tmp_path_factory) -> SamplePlan:
    folder = tmp_path_factory.mktemp("aligned")
    samples = create_sample_data(folder / "samples.json", n_samples=5)
    codec = load_codec(miniature[1])
    report = prepare_samples(samples, folder / "processed", codec, PrepareConfig())
    checkpoint = HiggsCheckpoint.open(miniature[0])
    collator = Collator(checkpoint.streams, checkpoint.network["pad_token_id"])
    writer = PromptWriter.of(checkpoint)
    return SamplePlan(read_prepared(report.train), writer, collator, batch_size=2)


@pytest.fixture(scope="module")
def learned(miniature, plan) -> Any:
    """A model that knows a little, so that it can be told what it predicts."""
    model = load_model(HiggsCheckpoint.open(miniature[0]), text_head=True)
    torch.set_num_threads(1)
    stage = HiggsStage(model.requires_grad_(True), LossWeights())
    batch = plan.load(BatchKey(0, 0, (0, 1)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(25):
        loss = stage(batch).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.requires_grad_(False).eval()


def verdicts(report: AlignmentReport) -> dict[str, bool | None]:
    return {check.name: check.passed for check in report.checks}


def test_a_model_without_training_is_aligned_as_far_as_can_be_told(miniature, plan):
    model = load_model(HiggsCheckpoint.open(miniature[0]), text_head=True)
    report = verify(model, plan, load_codec(miniature[1]))
    found = verdicts(report)
    assert found.pop("next token") is None  # the base predicts nothing better than chance
    assert found == dict.fromkeys(found, True)
    assert report.score == "10 of 10 checks passed, 1 can't tell"
    assert report.is_aligned
    assert all(check.numbers for check in report.checks)
    require(report)


def test_a_trained_model_predicts_the_next_code_best(learned, plan):
    report = verify(learned, plan)
    found = verdicts(report)
    assert found.pop("codec") is None
    assert found == dict.fromkeys(found, True)
    assert report.to_dict()["score"] == report.score


def test_outputs_in_the_wrong_place_are_found(learned, plan):
    def early(module, args, output):
        output.last_hidden_state = output.last_hidden_state.roll(-1, dims=1)
        return output

    hook = learned.model.register_forward_hook(early)
    found = verdicts(verify(learned, plan))
    hook.remove()
    assert found["next token"] is False
    assert found["causality"] is False
    assert found["step by step"] is False


def test_a_prompt_that_differs_is_found(learned, plan, monkeypatch):
    prompt = PromptWriter.prompt

    def other(writer, conversation, codes=()):
        written = prompt(writer, conversation, codes)
        return dataclasses.replace(written, ids=torch.cat([written.ids[:1], written.ids]))

    monkeypatch.setattr(PromptWriter, "prompt", other)
    assert verdicts(verify(learned, plan))["prompt"] is False


def test_labels_without_their_ends_are_found(learned, plan, monkeypatch):
    sample = PromptWriter.sample

    def endless(writer, conversation, codes):
        written = sample(writer, conversation, codes)
        labels = written.audio_labels
        ends = labels == writer.streams.end_id
        return dataclasses.replace(written, audio_labels=labels.masked_fill(ends, -100))

    monkeypatch.setattr(PromptWriter, "sample", endless)
    assert verdicts(verify(learned, plan))["labels"] is False


def test_codes_of_another_codec_are_found(learned, plan, miniature):
    other = dataclasses.replace(load_codec(miniature[1]), name="other")
    assert verdicts(verify(learned, plan, other))["codec"] is False


def test_whoever_fails_does_not_train():
    report = AlignmentReport((Check("prompt", False, {"different": 3.0}), Check("a", None, {})))
    assert report.score == "0 of 1 checks passed, 1 can't tell"
    assert not report.is_aligned
    with pytest.raises(UserError, match="prompt: FAILED different 3"):
        require(report)


def test_texts_in_another_form_than_they_are_asked_for_are_found(learned, plan, monkeypatch):
    clip = plan.clips[0]
    turns = [(role, ("no mark at the end",) if role == "user" else p) for role, p in clip.turns]
    unread = dataclasses.replace(clip, turns=tuple(turns))
    monkeypatch.setattr(plan, "clips", [unread, *plan.clips[1:]])
    assert verdicts(verify(learned, plan))["prompt"] is False
