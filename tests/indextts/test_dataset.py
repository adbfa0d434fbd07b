"""Clips come into batches whole, with another clip as the prompt, the same for the same seed."""

from __future__ import annotations

import dataclasses
import json
import logging

import numpy as np
import pytest
import torch

from indextts.config import GptConfig
from indextts.dataset import PairedPlan, read_clips, require_base, require_fit
from tests.indextts.prepared_clips import write_clips
from ttscommon.batching import BatchKey
from ttscommon.errors import UserError
from ttscommon.seeds import seed_for

SIZES = [(5, 12), (9, 30), (3, 8), (7, 20), (4, 11), (12, 33)]


@pytest.fixture
def manifest(tmp_path):
    return write_clips(tmp_path / "processed", SIZES)


@pytest.fixture
def clips(manifest):
    return read_clips([manifest])


def rewrite(manifest, change) -> None:
    lines = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        change(line)
    manifest.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")


def test_a_batch_holds_each_clip_whole_and_counts_its_targets(clips):
    plan = PairedPlan(clips, batch_size=3)
    batch = plan.load(BatchKey(0, 0, (0, 1)))
    assert batch.ids == ("clip_000", "clip_001")
    assert batch.n_targets == 13 + 31
    assert batch.text.shape == (2, 9)
    assert batch.codes.shape == (2, 30)
    assert batch.text_lengths.tolist() == [5, 9]
    assert batch.code_lengths.tolist() == [12, 30]
    for row, clip in enumerate(clips[:2]):
        assert batch.codes[row, : clip.code_len].tolist() == np.load(clip.codes_path).tolist()
        assert batch.text[row, : clip.text_len].tolist() == np.load(clip.text_ids_path).tolist()
    assert batch.codes.dtype == batch.text.dtype == torch.long


def test_an_epoch_has_every_clip_once_within_the_budget(clips):
    plan = PairedPlan(clips, batch_size=4, token_budget=130)
    keys = plan.epoch(3)
    assert sorted(item for key in keys for item in key.items) == list(range(len(clips)))
    assert all(len(k.items) * max(plan.n_tokens[i] for i in k.items) <= 130 for k in keys)
    assert keys == PairedPlan(clips, batch_size=4, token_budget=130).epoch(3)
    assert keys != plan.epoch(4)


def test_prompts_are_other_clips_of_the_speaker_and_change_with_the_epoch(tmp_path):
    manifests = [
        write_clips(tmp_path / name, SIZES, speaker=name, prefix=name) for name in ("ada", "bob")
    ]
    plan = PairedPlan(read_clips(manifests), batch_size=2)
    drawn = [[plan.prompt_of(i, epoch) for i in range(12)] for epoch in range(5)]
    for prompts in drawn:
        assert all(p.id != c.id for p, c in zip(prompts, plan.clips, strict=True))
        assert all(p.speaker == c.speaker for p, c in zip(prompts, plan.clips, strict=True))
    assert len({p[0].id for p in drawn}) > 1
    again = PairedPlan(read_clips(manifests), batch_size=5)
    assert drawn[4] == [again.prompt_of(i, 4) for i in range(12)]


def test_a_prompt_is_drawn_evenly_from_the_clips_of_another_sound(clips):
    twin = dataclasses.replace(clips[1], id="twin")  # the same sound a second time
    clips = [*clips, twin]
    plan = PairedPlan(clips, batch_size=2, seed=5)
    for item, clip in enumerate(clips):
        others = [one for one in clips if one.sha256 != clip.sha256]
        for epoch in range(20):
            drawn = others[seed_for(5, "prompt", epoch, item) % len(others)]
            assert plan.prompt_of(item, epoch) == drawn


def test_conditions_are_those_of_the_prompt(clips):
    plan = PairedPlan(clips, batch_size=3)
    batch = plan.load(BatchKey(2, 0, (4, 5)))
    prompts = [plan.prompt_of(item, 2) for item in (4, 5)]
    assert batch.prompt_ids == tuple(clip.id for clip in prompts)
    assert batch.speaker is not None
    assert batch.emotion is not None
    assert batch.prompt is None
    for row, clip in enumerate(prompts):
        assert np.array_equal(batch.speaker[row].numpy(), np.load(clip.condition_path))
        assert np.array_equal(batch.emotion[row].numpy(), np.load(clip.emo_vec_path))


def test_on_the_fly_the_features_of_the_prompt_come_with_their_lengths(clips):
    plan = PairedPlan(clips, batch_size=3, on_the_fly=True)
    batch = plan.load(BatchKey(2, 0, (0, 3, 5)))
    assert batch.speaker is None
    assert batch.emotion is None
    assert batch.prompt is not None
    assert batch.prompt_lengths is not None
    prompts = [plan.prompt_of(item, 2) for item in (0, 3, 5)]
    assert batch.prompt_lengths.tolist() == [clip.code_len + 1 for clip in prompts]
    assert batch.prompt.dtype == torch.float32
    for row, clip in enumerate(prompts):
        features = np.load(clip.features_path).astype(np.float32)
        assert np.array_equal(batch.prompt[row, : len(features)].numpy(), features)
    assert batch.prompt_mask.sum(1).tolist() == batch.prompt_lengths.tolist()


def test_cropped_prompts_are_stretches_that_the_epoch_names(tmp_path):
    clips = read_clips([write_clips(tmp_path, [(4, 400), (5, 500)])])
    plan = PairedPlan(clips, batch_size=2, on_the_fly=True, crop_prompts=True)
    lengths = [plan.load(BatchKey(e, 0, (0,))).prompt_lengths for e in (0, 1, 0)]
    assert lengths[0] == lengths[2] != lengths[1]
    assert all(100 <= int(length) <= 501 for length in lengths if length is not None)


def test_validation_has_one_order_and_draws_prompts_from_the_training_clips(clips, tmp_path):
    held_out = read_clips([write_clips(tmp_path / "val", [(4, 9), (6, 14)], prefix="val")])
    plan = PairedPlan(held_out, batch_size=1, shuffle=False, prompts=clips)
    assert plan.epoch(0) == plan.epoch(7)
    batch = plan.load(plan.epoch(7)[0])
    assert batch.prompt_ids[0].startswith("clip_")


def test_a_lone_clip_prompts_itself_and_says_so(tmp_path, caplog):
    clips = read_clips([write_clips(tmp_path, [(5, 12)])])
    with caplog.at_level(logging.WARNING):
        plan = PairedPlan(clips, batch_size=1)
        plan.load(BatchKey(0, 0, (0,)))
    assert plan.prompt_of(0, 0) == clips[0]
    assert [r.message for r in caplog.records] == [
        "1 clips prompt themselves, their speaker has no other: clip_000"
    ]


def test_the_fingerprint_follows_the_clips(clips):
    plan = PairedPlan(clips, batch_size=2)
    assert plan.fingerprint == PairedPlan(clips, batch_size=3).fingerprint
    changed = [dataclasses.replace(clips[0], sha256="other"), *clips[1:]]
    assert plan.fingerprint != PairedPlan(changed, batch_size=2).fingerprint


def test_a_voiced_batch_is_what_the_language_model_reads(clips):
    from indextts.gpt.model import UnifiedVoice
    from indextts.loss import voice_loss

    batch = PairedPlan(clips, batch_size=3).load(BatchKey(0, 0, (0, 2)))
    gpt = UnifiedVoice(GptConfig.tiny()).eval()
    output = gpt(batch.voiced())
    assert int(output.mel_mask.sum()) == batch.n_targets
    assert voice_loss(output).total.isfinite()


def test_manifests_of_the_original_are_read(manifest, caplog):
    keys = ("recording", "speaker", "language", "features_path", "sha256")
    rewrite(manifest, lambda line: [line.pop(key) for key in keys])
    (manifest.parent / "dataset_info.json").unlink()
    clips = read_clips([manifest])
    require_base([manifest], "base")
    assert "doesn't say which base" in caplog.text
    assert len({clip.sha256 for clip in clips}) == len(clips)
    batch = PairedPlan(clips, batch_size=2).load(BatchKey(0, 0, (0, 1)))
    assert batch.prompt_ids[0] != batch.ids[0]
    with pytest.raises(UserError, match="no features_path"):
        PairedPlan(clips, batch_size=2, on_the_fly=True)


def test_features_of_another_base_are_refused(manifest):
    require_base([manifest], "base")
    with pytest.raises(UserError, match="another base checkpoint"):
        require_base([manifest], "finetuned")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codes_path": None}, "lacks codes_path"),
        ({"text": None}, "lacks text"),
        ({"code_len": "many"}, "no number"),
        ({"codes_path": "features/gone.npy"}, r"6 files .* gone: gone\.npy"),
    ],
)
def test_broken_manifests_are_refused(manifest, change, message):
    rewrite(manifest, lambda line: line.update(change))
    with pytest.raises(UserError, match=message):
        read_clips([manifest])


def test_no_manifest_and_an_empty_one_are_refused(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_clips([tmp_path / "none.jsonl"])
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(UserError, match="no clips"):
        read_clips([tmp_path / "empty.jsonl"])


def test_clips_beyond_the_tables_are_refused_not_cropped(clips):
    require_fit(clips, GptConfig.tiny())
    small = dataclasses.replace(GptConfig.tiny(), max_text_tokens=8, max_mel_tokens=32)
    with pytest.raises(UserError, match=r"2 clips .* clip_001 \(9 text tokens, 30 codes\)"):
        require_fit(clips, small)


def test_ids_that_the_model_does_not_know_are_refused(clips):
    np.save(clips[1].codes_path, np.full(30, 40, dtype=np.int32))  # the start token, no code
    with pytest.raises(UserError, match="the model knows 0 to 39"):
        require_fit(clips, GptConfig.tiny())


def test_arrays_that_disagree_with_the_manifest_are_refused(clips):
    np.save(clips[0].codes_path, np.zeros(11, dtype=np.int32))
    with pytest.raises(UserError, match="the manifest says 12"):
        PairedPlan(clips, batch_size=1).load(BatchKey(0, 0, (0,)))
    clips[0].codes_path.write_bytes(b"\x93NUMPY")
    with pytest.raises(UserError, match="no array of numbers"):
        PairedPlan(clips, batch_size=1).load(BatchKey(0, 0, (0,)))


def test_a_clip_over_the_budget_is_refused_with_the_flag_to_raise(clips):
    with pytest.raises(UserError, match="clip_005 takes 57 tokens") as caught:
        PairedPlan(clips, batch_size=4, token_budget=50)
    assert "--token-budget 57" in str(caught.value)
