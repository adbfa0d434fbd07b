"""kani-tts-2: frames share a position, and layers stretch them."""

from __future__ import annotations

import math
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from kani.dataset import LearnedClip, collate
from kani.positions import audio_step_of
from kani.tasks import KaniStage
from kani.tokens import frame_positions
from kani.train import train
from kani.weights import load_language_model
from tests.kani.golden import SPACE as RELEASED
from tests.kani.golden import described
from tests.kani.made_up_jobs import SPACE, data_of, experiment, job_of
from ttscommon.errors import UserError
from ttscommon.files import read_json, write_json

ALPHA = "model.learnable_rope_layers.{}.alpha_weight"  # as the public program saves it


def second(base, folder, weights, shape=()):
    """A model of kani-tts-2's kind, with these numbers."""
    shutil.copytree(base, folder)
    settings = {"use_learnable_rope": True, "alpha_min": 0.1, "alpha_max": 2.0, "audio_step": 1.0}
    write_json(folder / "config.json", read_json(folder / "config.json") | settings)
    found = {ALPHA.format(n): torch.full(shape, float(w)) for n, w in weights.items()}
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, **found}, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@torch.no_grad()
def logits(model, positions=None):
    ids = torch.arange(20)[None] + 5
    return model(input_ids=ids, position_ids=positions, attention_mask=torch.ones_like(ids)).logits


def test_each_layer_stretches_its_positions(base, tmp_path):
    plain = load_language_model(base, space=SPACE)
    found = load_language_model(second(base, tmp_path / "same", {1: 0.4, 3: 0.4}), space=SPACE)
    alpha = 0.1 + 1.9 / (1 + math.exp(-0.4))
    expected = logits(plain, torch.arange(20)[None] * alpha)
    torch.testing.assert_close(logits(found), expected, atol=1e-5, rtol=0)
    assert not torch.allclose(logits(plain), expected, atol=1e-3)
    other = load_language_model(second(base, tmp_path / "other", {1: 0.4, 3: -3}), space=SPACE)
    assert not torch.allclose(logits(other), expected, atol=1e-3)
    other.save_pretrained(tmp_path / "saved")
    names = set(load_file(tmp_path / "saved" / "model.safetensors"))
    assert {ALPHA.format(1), ALPHA.format(3)} <= names
    again = load_language_model(tmp_path / "saved", space=SPACE)
    torch.testing.assert_close(logits(again), logits(other), atol=0, rtol=0)
    listed = load_language_model(
        second(base, tmp_path / "listed", {1: 0.4, 3: -3}, (1,)), space=SPACE
    )
    torch.testing.assert_close(logits(listed), logits(other), atol=0, rtol=0)


@pytest.mark.parametrize(
    ("weights", "shape"), [({1: 0.4}, ()), ({1: 0.4, 2: 1}, ()), ({1: 0, 3: 0}, (2,))]
)
def test_numbers_that_fit_no_layer_are_refused(base, tmp_path, weights, shape):
    with pytest.raises(UserError, match="alpha_weight for each of the layers"):
        load_language_model(second(base, tmp_path / "few", weights, shape), space=SPACE)


def test_a_merged_model_keeps_its_numbers_by_name(base, tmp_path):
    folder = second(base, tmp_path / "second", {1: 0.4, 3: -3})
    job = job_of(tmp_path, folder, experiment(max_steps=1), data=data_of(base))
    merged = load_file(train(job).model / "model.safetensors")
    expected = {name: value for name, value in load_file(folder / "model.safetensors").items()}
    for name in (ALPHA.format(1), ALPHA.format(3)):
        assert torch.equal(merged[name].reshape(()), expected[name])
    assert {*merged} == {*expected}


def test_batches_count_frames_as_the_public_collator_does():
    assert audio_step_of({}) is None
    for case in described("kani2")["positions"]:
        step = audio_step_of({"audio_step": case["audio_step"]})
        ids = torch.tensor(case["ids"])

        def count(ids, step=step):
            return torch.from_numpy(frame_positions(ids.numpy(), RELEASED, step))

        clip = LearnedClip("clip", ids, 0)
        found = collate([clip], RELEASED.pad_token, packed=False, positions_of=count)
        assert found.positions[0].tolist() == case["position_ids"]
        assert found.attention_mask is not None


def test_packed_frames_are_learned_as_padded_ones(base):
    stage = KaniStage(load_language_model(base, space=SPACE), SPACE)
    chance = torch.Generator().manual_seed(1)
    clips = [
        LearnedClip(str(n), torch.randint(270, SPACE.vocab_size, (n,), generator=chance), 0)
        for n in (23, 9, 40)
    ]

    def count(ids):
        return torch.from_numpy(frame_positions(ids.numpy(), SPACE, 1.0))

    losses = []
    for packed in (False, True):
        batch = collate(clips, SPACE.pad_token, packed=packed, positions_of=count)
        with torch.no_grad():
            losses.append(float(stage(batch).total))
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    with torch.no_grad():
        plain = float(stage(collate(clips, SPACE.pad_token, packed=False)).total)
    assert abs(plain - losses[0]) > 1e-4
