"""Batches are those of the golden files, whichever side is padded."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from higgs_trainer.collator import Collator
from tests.higgs_trainer.golden import BATCHES, STREAMS, codes, collated, conversation, part, writer
from ttscommon.errors import UserError


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", BATCHES)
def test_batches_are_those_of_a_correct_collator(name, side):
    golden, batch = part("native_batches", f"{name}.{side}."), collated(name, side)
    ours = {
        "input_ids": batch.input_ids,
        "attention_mask": batch.mask.long(),
        "audio_input_ids": batch.frames,
        "audio_input_ids_mask": batch.frame_mask,
        "labels": batch.labels,
        "audio_labels": batch.audio_labels,
    }
    assert set(golden) == set(ours)
    assert {key: torch.equal(ours[key], golden[key]) for key in ours} == dict.fromkeys(ours, True)
    assert batch.n_targets == int((golden["audio_labels"] >= 0).sum())


def test_a_batch_without_anything_to_learn_is_refused_by_name():
    prompt = writer().prompt(conversation("zero_shot_clone").prompt, codes("zero_shot_clone")[:1])
    with pytest.raises(UserError, match="nothing to learn in clip_7: all labels are masked"):
        Collator(STREAMS, 401)([prompt], ["clip_7"])
    learned = writer().sample(conversation("plain_tts"), codes("plain_tts"))
    unlearned = dataclasses.replace(
        learned, audio_labels=torch.full_like(learned.audio_labels, -100)
    )
    with pytest.raises(UserError, match="nothing to learn"):
        Collator(STREAMS, 401)([unlearned], ["clip_7"])
    assert Collator(STREAMS, 401)([unlearned, learned], ["a", "b"]).n_targets == 64
