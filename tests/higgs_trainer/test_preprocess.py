"""Audio is encoded once, recordings stay on one side, and what is of no use is left out by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from higgs_trainer.checkpoint import HiggsCheckpoint
from higgs_trainer.clips import read_prepared
from higgs_trainer.codec import Codec, load_codec
from higgs_trainer.collator import Collator
from higgs_trainer.config import PrepareConfig
from higgs_trainer.dataset import SamplePlan
from higgs_trainer.delay import IGNORED
from higgs_trainer.dialogue import Line, Said, asked
from higgs_trainer.inference import HiggsVoice, Reference
from higgs_trainer.preprocess import prepare_samples, prepare_speaker, split
from higgs_trainer.prompt import PromptWriter
from higgs_trainer.sample_data import create_sample_data
from higgs_trainer.speaking import Narrator
from higgs_trainer.speaking_config import Sampling, SpeakingConfig
from higgs_trainer.text import TextConfig
from ttscommon import audio
from ttscommon.batching import BatchKey
from ttscommon.errors import UserError
from ttscommon.workspace import Speaker

CONFIG = PrepareConfig()


@pytest.fixture(scope="module")
def codec(miniature) -> Codec:
    return load_codec(miniature[1])


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> Path:
    return create_sample_data(tmp_path_factory.mktemp("samples") / "samples.json", n_samples=6)


@pytest.fixture(scope="module")
def speaker(tmp_path_factory) -> Speaker:
    """Six clips of six recordings, one without a text and one too short."""
    found = Speaker("anna", tmp_path_factory.mktemp("training"))
    found.audio.mkdir(parents=True)
    random, lines = np.random.default_rng(0), ["audio_path,text"]
    for number, seconds in enumerate([1.0, 1.4, 0.9, 1.2, 0.8, 1.1, 0.2]):
        sound = random.normal(0, 0.1, int(24000 * seconds)).astype(np.float32)
        audio.save(found.audio / f"clip_{number}.wav", sound, 24000)
        lines += [f"clip_{number}.wav,This is number {number}."] if number != 5 else []
    found.transcripts.write_text("\n".join(lines) + "\n")
    return found


def plan_of(prepared, miniature, **options) -> SamplePlan:
    checkpoint = HiggsCheckpoint.open(miniature[0])
    collator = Collator(checkpoint.streams, checkpoint.network["pad_token_id"])
    return SamplePlan(
        prepared, PromptWriter.of(checkpoint), collator, **{"batch_size": 2, **options}
    )


def test_samples_are_encoded_once(samples, codec, tmp_path):
    first = prepare_samples(samples, tmp_path, codec, CONFIG)
    assert (first.n_train, first.n_validation, first.n_encoded) == (5, 1, 12)
    again = prepare_samples(samples, tmp_path, codec, CONFIG)
    assert again.n_encoded == 0
    prepared = read_prepared(first.train)
    target = prepared.clips[0].target
    sound = audio.load(samples.parent / "samples_audio" / target.audio, codec.sample_rate)
    assert torch.equal(prepared.store.codes(target), codec.encode(sound))
    (prepared.store.path(target.key)).write_bytes(b"cut")
    assert prepare_samples(samples, tmp_path, codec, CONFIG).n_encoded == 1


def test_a_list_of_its_own_is_measured_with(samples, codec, tmp_path):
    report = prepare_samples(samples, tmp_path, codec, CONFIG, validation=samples)
    assert (report.n_train, report.n_validation) == (6, 6)


def test_bad_samples_are_left_out_with_the_reason(samples, codec, tmp_path):
    folder = shutil.copytree(samples.parent, tmp_path / "data")
    records = json.loads((folder / "samples.json").read_text())
    records[0]["messages"].pop()
    first = folder / "samples_audio" / "bruno_01_target.wav"
    first.write_bytes(b"")
    audio.save(folder / "samples_audio" / "chadi_02_target.wav", np.zeros(99, np.float32), 24000)
    (folder / "samples.json").write_text(json.dumps(records))
    report = prepare_samples(folder / "samples.json", tmp_path / "out", codec, CONFIG)
    reasons = dict(report.skipped)
    assert len(reasons) == 3
    assert "no target" in reasons["samples_1"]
    assert "bruno_01_target.wav" in reasons["samples_2"]
    assert "shorter than --min-duration" in reasons["samples_3"]
    assert report.n_train + report.n_validation == 3


def test_mostly_bad_samples_are_refused(samples, codec, tmp_path):
    with pytest.raises(UserError, match=r"6 of 6 are of no use.*longer than"):
        prepare_samples(samples, tmp_path, codec, PrepareConfig(max_duration=0.7))
    assert not (tmp_path / "train.jsonl").exists()


def test_a_reference_that_is_the_target_under_another_name_is_left_out(samples, codec, tmp_path):
    folder = shutil.copytree(samples.parent, tmp_path / "data")
    sounds = folder / "samples_audio"
    shutil.copy(sounds / "anna_00_target.wav", sounds / "anna_00_reference.wav")
    report = prepare_samples(folder / "samples.json", tmp_path / "out", codec, CONFIG)
    assert "under another name" in dict(report.skipped)["samples_1"]


def test_clips_of_a_speaker_are_prepared_with_their_texts(speaker, codec, tmp_path):
    report = prepare_speaker(speaker, tmp_path, codec, CONFIG)
    assert (report.n_train, report.n_validation) == (4, 1)
    assert dict(report.skipped).keys() == {"clip_6.wav"}
    clips = [*read_prepared(report.train).clips, *read_prepared(report.validation).clips]
    assert {clip.text for clip in clips} == {f"This is number {n}." for n in range(5)}
    assert {clip.speaker for clip in clips} == {"anna"}


def test_a_speaker_without_texts_is_refused(tmp_path, codec):
    speaker = Speaker("anna", tmp_path)
    speaker.audio.mkdir(parents=True)
    audio.save(speaker.audio / "a.wav", np.zeros(24000, np.float32), 24000)
    speaker.excluded.write_text("a.wav")
    with pytest.raises(UserError, match=r"no clip has a text \(1 are named in excluded"):
        prepare_speaker(speaker, tmp_path / "out", codec, CONFIG)


def test_a_clip_never_has_itself_as_its_reference(speaker, codec, miniature, tmp_path):
    report = prepare_speaker(speaker, tmp_path, codec, CONFIG)
    plan = plan_of(read_prepared(report.train), miniature)
    drawn = [[plan.reference_of(item, epoch) for item in range(4)] for epoch in range(40)]
    for epoch in drawn:
        assert all(one is None or one.id != plan.clips[item].id for item, one in enumerate(epoch))
    without = sum(one is None for epoch in drawn for one in epoch) / 160
    assert 0.2 < without < 0.4
    assert len({one.id for epoch in drawn for one in epoch if one}) == 4
    always = plan_of(read_prepared(report.train), miniature, reference_share=1.0)
    assert all(always.reference_of(item, 0) for item in range(4))


def test_what_is_learned_is_the_target_and_never_the_reference(speaker, codec, miniature, tmp_path):
    report = prepare_speaker(speaker, tmp_path, codec, CONFIG)
    plan = plan_of(read_prepared(report.train), miniature, reference_share=1.0)
    for item, clip in enumerate(plan.clips):
        sample = plan.sample(item, 3)
        n_steps = clip.target.n_steps
        reference = plan.reference_of(item, 3)
        assert reference is not None
        assert len(sample.frames) == n_steps + reference.target.n_steps + 2 * 9
        assert sample.n_targets == 8 * (n_steps + 1)
        assert (sample.audio_labels[: reference.target.n_steps + 9] == IGNORED).all()
        assert plan.n_places(item, 3) >= len(sample.ids)


def test_batches_follow_from_seed_and_epoch(speaker, codec, miniature, tmp_path):
    prepared = read_prepared(prepare_speaker(speaker, tmp_path, codec, CONFIG).train)
    plan, same = plan_of(prepared, miniature), plan_of(prepared, miniature)
    keys = [key for epoch in range(3) for key in plan.epoch(epoch)]
    assert keys == [key for epoch in range(3) for key in same.epoch(epoch)]
    assert plan.fingerprint == same.fingerprint
    one, other = plan.load(keys[0]), same.load(keys[0])
    assert torch.equal(one.input_ids, other.input_ids)
    assert torch.equal(one.audio_labels, other.audio_labels)
    still = plan_of(prepared, miniature, shuffle=False)
    assert still.load(BatchKey(0, 0, (0, 1))).ids == still.load(BatchKey(7, 0, (0, 1))).ids
    assert still.asked(0, 0) == still.asked(0, 5)
    assert sorted(i for key in keys[:2] for i in key.items) == [0, 1, 2, 3]


def test_fixed_samples_are_learned_as_they_stand(samples, codec, miniature, tmp_path):
    prepared = read_prepared(prepare_samples(samples, tmp_path, codec, CONFIG).train)
    plan = plan_of(prepared, miniature)
    conversation, sounds = plan.asked(0, 9)
    assert [turn.role for turn in conversation.turns][-2:] == ["user", "assistant"]
    assert sounds == list(prepared.clips[0].sounds)
    assert plan.load(BatchKey(0, 0, (0,))).n_targets == 8 * (sounds[-1].n_steps + 1)


def test_a_sample_over_the_budget_is_refused(samples, codec, miniature, tmp_path):
    prepared = read_prepared(prepare_samples(samples, tmp_path, codec, CONFIG).train)
    with pytest.raises(UserError, match="--token-budget"):
        plan_of(prepared, miniature, token_budget=40)


def test_codes_that_are_gone_are_named(samples, codec, miniature, tmp_path):
    prepared = read_prepared(prepare_samples(samples, tmp_path, codec, CONFIG).train)
    prepared.store.path(prepared.clips[0].target.key).unlink()
    with pytest.raises(UserError, match="missing or others"):
        plan_of(prepared, miniature).load(BatchKey(0, 0, (0,)))


def test_lists_that_are_cut_or_others_are_refused(samples, codec, tmp_path):
    path = prepare_samples(samples, tmp_path, codec, CONFIG).train
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-1]))
    with pytest.raises(UserError, match="cut short: 4 of 5"):
        read_prepared(path)
    path.write_text('{"format": "other"}\n')
    with pytest.raises(UserError, match="expected a"):
        read_prepared(path)


def test_recordings_stay_on_one_side(samples, codec, tmp_path):
    clips = read_prepared(prepare_samples(samples, tmp_path, codec, CONFIG).train).clips
    with pytest.raises(UserError, match="one clip is too little"):
        split(clips[:1], CONFIG)
    tapes = [dict(vars(clip), recording=f"tape {number // 2}") for number, clip in enumerate(clips)]
    parted = split([type(clips[0])(**tape) for tape in tapes], CONFIG)
    assert parted[0]
    assert parted[1]
    assert not {c.recording for c in parted[0]} & {c.recording for c in parted[1]}


def test_training_and_speaking_read_equal_tokens(codec, miniature, tmp_path):
    """Arabic with everything that can be written otherwise, from a sample and from a request."""
    source = create_sample_data(tmp_path / "samples.json", n_samples=4)
    records = json.loads(source.read_text(encoding="utf-8"))
    said, wanted = "مرحبـــا (يا) صديقي", "عُمري ٣٥ سنة، “نعم”"
    for record in records:
        record["messages"][1]["content"], record["messages"][3]["content"] = said, wanted
    source.write_text(json.dumps(records), encoding="utf-8")
    text = TextConfig(arabic_diacritics="strip")
    report = prepare_samples(source, tmp_path / "out", codec, PrepareConfig(text=text))
    prepared = read_prepared(report.train)
    assert prepared.statistics.text == text
    assert prepared.statistics.n_clips == 3
    assert prepared.clips[0].text == 'عمري 35 سنة، "نعم"'
    plan = plan_of(prepared, miniature)
    learned = plan.sample(0, 0)
    voice = HiggsVoice.open(*miniature, device="cpu")
    voice.statistics = prepared.statistics
    asked_of = records[int(prepared.clips[0].id.rpartition("_")[2]) - 1]["messages"]
    reference = Reference(tmp_path / asked_of[2]["content"]["audio_url"], said)
    narrator = Narrator(voice, SpeakingConfig(), Sampling(), [voice.heard(reference)])
    (line,) = narrator.lines(wanted)
    heard = [Said(Line(one), codes) for one, codes in narrator.heard]
    conversation, codes = asked(
        line, [], heard, n_before=1, system=asked_of[0]["content"], scene=""
    )
    prompt = voice.writer.prompt(conversation, codes)
    assert torch.equal(learned.ids[: len(prompt.ids)], prompt.ids)
    assert torch.equal(learned.frames[: len(prompt.frames)], prompt.frames)


def test_samples_without_a_word_are_left_out(samples, codec, tmp_path):
    folder = shutil.copytree(samples.parent, tmp_path / "data")
    records = json.loads((folder / "samples.json").read_text(encoding="utf-8"))
    records[2]["messages"][3]["content"] = "...!"
    (folder / "samples.json").write_text(json.dumps(records), encoding="utf-8")
    report = prepare_samples(folder / "samples.json", tmp_path / "out", codec, CONFIG)
    assert "turn 3 of the user has nothing to say: '...!'" in dict(report.skipped)["samples_3"]


def test_audio_of_no_frames_is_left_out_however_short_is_allowed(samples, codec, tmp_path):
    folder = shutil.copytree(samples.parent, tmp_path / "data")
    click = np.full(300, 0.1, np.float32)
    audio.save(folder / "samples_audio" / "bruno_01_target.wav", click, 24000)
    config = PrepareConfig(min_duration=0.0)
    report = prepare_samples(folder / "samples.json", tmp_path / "out", codec, config)
    assert "bruno_01_target.wav: no sound: 0 frames" in dict(report.skipped)["samples_2"]


def test_stored_codes_that_the_model_has_not_are_refused_by_name(
    samples, codec, miniature, tmp_path
):
    prepared = read_prepared(prepare_samples(samples, tmp_path, codec, CONFIG).train)
    target = prepared.clips[0].target
    prepared.store.write(target.key, prepared.store.codes(target) + 64)
    with pytest.raises(UserError, match="the model's are below 64"):
        plan_of(prepared, miniature).load(BatchKey(0, 0, (0,)))
