"""Batches: packed clips learn what padded ones learn, and none sees another."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from kani.dataset import GAP, IGNORED, KaniPlan, LearnedClip, collate
from kani.tasks import KaniStage
from kani.weights import load_language_model
from tests.kani.golden import FOLDER, SPACE
from tests.kani.made_up import prepared
from ttscommon.errors import UserError

TOKENIZER = FOLDER / "tiny_tokenizer"


def clips(*lengths: int) -> list[LearnedClip]:
    chance = torch.Generator().manual_seed(1)
    return [
        LearnedClip(str(n), torch.randint(8, SPACE.vocab_size, (length,), generator=chance), 0)
        for n, length in enumerate(lengths)
    ]


def batch_of(some: list[LearnedClip], *, packed: bool, gap: int = GAP):
    return collate(some, SPACE.pad_token, packed=packed, gap=gap)


@pytest.fixture(scope="module")
def stage(miniature):
    model = load_language_model(miniature[0])
    return KaniStage(model.requires_grad_(True), SPACE)


def learned(stage, batch):
    stage.zero_grad()
    loss = stage(batch).total
    loss.backward()
    gradients = [p.grad.flatten() for p in stage.parameters() if p.grad is not None]
    return float(loss.detach()), torch.cat(gradients)


def test_packed_clips_learn_what_padded_ones_learn(stage):
    some = clips(23, 9, 40, 3)
    padded, packed = (batch_of(some, packed=packed) for packed in (False, True))
    assert padded.n_targets == packed.n_targets == 22 + 8 + 39 + 2
    (loss, gradient), (other, others) = learned(stage, padded), learned(stage, packed)
    assert other == pytest.approx(loss, abs=1e-6)
    assert float((gradient - others).norm() / gradient.norm()) < 1e-5


@pytest.mark.parametrize("gap", [0, 1])
def test_with_less_room_between_packed_clips_one_leaks_into_the_next(stage, gap):
    some = clips(23, 9, 40, 3)
    _, gradient = learned(stage, batch_of(some, packed=False))
    _, others = learned(stage, batch_of(some, packed=True, gap=gap))
    assert float((gradient - others).norm() / gradient.norm()) > 1e-4


def test_packed_clips_that_see_each_other_are_caught(stage):
    packed = batch_of(clips(23, 9, 40, 3), packed=True)
    blind = replace(packed, segments=packed.segments.clamp(max=1))
    _, gradient = learned(stage, packed)
    _, others = learned(stage, blind)
    assert float((gradient - others).norm() / gradient.norm()) > 1e-3


@torch.no_grad()
def test_a_packed_clip_is_unmoved_by_another_clip_before_it(stage):
    first, second = clips(12, 15)
    changed = replace(first, ids=first.ids.flip(0))
    hidden = [
        stage.hidden(batch_of([one, second], packed=True))[0, 12 + GAP :]
        for one in (first, changed)
    ]
    assert torch.equal(*hidden)


@torch.no_grad()
def test_padding_moves_nothing(stage):
    some = clips(7, 30)
    alone = stage.hidden(batch_of(some[:1], packed=False))
    together = stage.hidden(batch_of(some, packed=False))[:1, :7]
    assert torch.allclose(alone, together, atol=1e-6)


def test_places_and_labels_are_where_they_belong():
    some = [replace(clip, learned_from=2) for clip in clips(4, 3)]
    packed = batch_of(some, packed=True)
    first, second = (clip.ids.tolist() for clip in some)
    pad = SPACE.pad_token
    assert packed.input_ids.tolist() == [[*first, pad, pad, *second]]
    assert packed.labels.tolist() == [[IGNORED] * 2 + first[2:] + [IGNORED] * 4 + second[2:]]
    assert packed.segments.tolist() == [[1, 1, 1, 1, 0, 0, 2, 2, 2]]
    assert packed.positions.tolist() == [[0, 1, 2, 3, 0, 0, 0, 1, 2]]
    assert packed.n_targets == 3


def test_the_loss_on_audio_begins_with_the_answer(tmp_path):
    found = prepared(tmp_path, TOKENIZER, 4)
    plan = KaniPlan(found.rows, SPACE, batch_size=4, loss_on="audio")
    batch = plan.batch([0])
    label = batch.labels[0][batch.labels[0] != IGNORED].tolist()
    assert label[:2] == [SPACE.start_of_ai, SPACE.start_of_speech]
    assert label[-2:] == [SPACE.end_of_speech, SPACE.end_of_ai]
    assert len(label) == 4 + 4 * 6
    whole = KaniPlan(found.rows, SPACE, batch_size=4).batch([0])
    assert whole.n_targets == whole.input_ids.shape[1] - 1


@pytest.mark.parametrize("packing", [False, True])
def test_every_clip_is_in_an_epoch_once_and_orders_have_names(tmp_path, packing):
    rows = prepared(tmp_path, TOKENIZER, 9).rows
    plan = KaniPlan(rows, SPACE, batch_size=4, packing=packing, seed=3)
    keys = [plan.epoch(epoch) for epoch in (0, 1, 0)]
    assert keys[0] == keys[2] != keys[1]
    assert sorted(item for key in keys[0] for item in key.items) == list(range(9))
    assert all(len(key.items) <= 4 for key in keys[0])


@pytest.mark.parametrize("packing", [False, True])
def test_no_batch_is_over_the_budget(tmp_path, packing):
    rows = prepared(tmp_path, TOKENIZER, 9).rows
    plan = KaniPlan(rows, SPACE, batch_size=9, token_budget=200, packing=packing)
    sizes = [plan.load(key).input_ids.numel() for key in plan.epoch(0)]
    assert max(sizes) <= 200
    assert len(sizes) > 2
    with pytest.raises(UserError, match="a batch may have 10"):
        KaniPlan(rows, SPACE, batch_size=1, token_budget=10)
