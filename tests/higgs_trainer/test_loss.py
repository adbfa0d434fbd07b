"""Logits and losses are those of the original and of the native program, and are shifted by one."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F

from higgs_trainer.delay import IGNORED
from higgs_trainer.loss import (
    accuracies,
    audio_places,
    codebook_losses,
    hidden_states,
    higgs_loss,
    predictions,
)
from tests.higgs_trainer.golden import BATCHES, CLOSE, collated, described, model, part


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", BATCHES)
def test_losses_are_the_originals_and_the_native_ones(name, side):
    golden, native = described("losses")[name], described("native_losses")[f"{name}.{side}"]
    found = higgs_loss(predictions(model(), collated(name, side)), text_weight=0.5)
    each = [float(found.parts[f"codebook_{row}"]) for row in range(8)]
    assert each == pytest.approx(golden["audio_loss_per_codebook"], abs=1e-5)
    assert float(found.parts["audio"]) == pytest.approx(golden["audio_loss_mean"], abs=1e-5)
    assert float(found.parts["text"]) == pytest.approx(golden["text_loss"], abs=1e-5)
    assert float(found.parts["text"]) == pytest.approx(native["loss_text"], abs=1e-5)
    sum_of_all = native["loss_audio_sum_over_codebooks"]
    assert float(found.parts["audio"]) * 8 == pytest.approx(sum_of_all, abs=1e-4)
    expected = golden["audio_loss_mean"] + 0.5 * golden["text_loss"]
    assert float(found.total) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", BATCHES)
@torch.no_grad()
def test_logits_of_speech_are_the_originals(name):
    golden, batch = part("forward", f"{name}.out."), collated(name)
    logits = model().audio_lm_head(hidden_states(model(), batch)).unflatten(-1, (8, 66))
    ours = logits[audio_places(batch, model().config)]
    expected = golden["audio_logits"]  # of frames that are spoken; references in scenes have none
    if len(ours) != len(expected):
        is_spoken = torch.cat([is_said(row, frames) for row, frames in rows_of(batch)])
        ours = ours[is_spoken]
    torch.testing.assert_close(ours, expected, **CLOSE)


def rows_of(batch):
    return zip(batch.input_ids, batch.frame_mask.sum(1).tolist(), strict=True)


def is_said(ids, n_frames: int) -> torch.Tensor:
    """(n_frames,) whether each frame stands behind the mark that speech begins."""
    said, inside = [], False
    for number in ids.tolist():
        inside = {408: True, 406: False}.get(number, inside)
        if number in (409, 411):
            said.append(inside)
    assert len(said) == n_frames
    return torch.tensor(said)


@pytest.mark.parametrize("name", ["b2", "b_mixed"])
@torch.no_grad()
def test_logits_of_text_are_the_originals(name):
    golden, batch = part("forward", f"{name}.out."), collated(name)
    ours = model().text_lm_head(hidden_states(model(), batch))[batch.mask]
    theirs = golden["logits"][golden["attention_mask"].bool()]
    torch.testing.assert_close(ours, theirs, **CLOSE)


def test_each_label_is_predicted_one_place_before_its_own():
    batch = collated("b2")
    said = predictions(model(), batch)
    logits = model().audio_lm_head(hidden_states(model(), batch)).unflatten(-1, (8, 66))
    row = batch.audio_labels[0]
    first = int((row[:, 0] != IGNORED).nonzero()[0])
    place = int(audio_places(batch, model().config)[0].nonzero()[first])
    assert int(said.audio_targets[0, 0]) == int(row[first, 0])
    torch.testing.assert_close(said.audio_logits[0], logits[0, place - 1], **CLOSE)
    with_shift = float(codebook_losses(said).mean())
    unshifted = F.cross_entropy(logits[0, place].float(), row[first].clamp(min=0))
    assert abs(with_shift - float(unshifted)) > 1e-3


def test_codebooks_can_be_weighted():
    said = predictions(model(), collated("b2"))
    each = codebook_losses(said)
    only_first = higgs_loss(said, codebook_weights=(8.0, *[0.0] * 7))
    assert float(only_first.total) == pytest.approx(float(each[0]), abs=1e-6)
    assert float(higgs_loss(said, audio_weight=0.25).total) == pytest.approx(float(each.mean()) / 4)


def test_without_text_there_is_no_loss_of_it():
    found = higgs_loss(predictions(model(), collated("b2"), with_text=False))
    assert "text" not in found.parts


def test_a_model_that_is_sure_has_no_loss_and_every_hit():
    said = predictions(model(), collated("b1_clone"))
    targets = said.audio_targets
    sure = F.one_hot(targets.clamp(min=0), 66).float() * 50
    certain = dataclasses.replace(said, audio_logits=sure)
    assert float(codebook_losses(certain).max()) < 1e-6
    assert accuracies(certain).tolist() == [1.0] * 8
    even = dataclasses.replace(said, audio_logits=torch.zeros_like(sure))
    assert codebook_losses(even).tolist() == pytest.approx([math.log(66)] * 8)


def test_padding_changes_neither_loss_nor_gradient():
    found = {}
    for side in ("left", "right"):
        network = model()
        head = network.audio_lm_head.weight
        head.requires_grad_(True)
        loss = higgs_loss(predictions(network, collated("b2", side))).total
        found[side] = (loss.item(), torch.autograd.grad(loss, head)[0])
        head.requires_grad_(False)
    assert found["left"][0] == pytest.approx(found["right"][0], abs=1e-6)
    torch.testing.assert_close(found["left"][1], found["right"][1], atol=1e-6, rtol=0)
