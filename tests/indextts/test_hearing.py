"""A model is heard while it is trained, and what spoke best is kept."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import signal
from itertools import count

import numpy as np
import pytest
import torch

from indextts import hearing
from indextts.clips import read_clips
from indextts.hearing import Heard, Listener, extent, summed_up
from indextts.lora import attach
from indextts.tasks import VoiceTask, sounds_better
from indextts.train_config import LoraTrainConfig
from tests.indextts.gpt_training import prepared, train
from tests.indextts.prepared_clips import write_noise
from tests.indextts.speakers import language_model
from ttscommon.errors import UserError
from ttscommon.files import read_json
from ttscommon.metrics import Errors
from ttscommon.progress import Monitor
from ttscommon.segment import Span

WORDS = "the cat sat on the mat"


class Ear:
    """Understands every word of a few sounds, and nothing of the others."""

    def __init__(self, *understood: int):
        self.understood, self.heard = understood, []

    def text(self, audio, sample_rate, language):
        assert sample_rate > 0
        if language != "en":
            raise UserError("this model reads English only")
        if not np.any(audio):
            return ""
        self.heard.append(hashlib.sha256(np.ascontiguousarray(audio).tobytes()).hexdigest())
        return WORDS if len(self.heard) in self.understood else "nothing of the kind"


class Voices:
    """All sound alike."""

    name = "alike"

    def embed(self, speech):
        return np.array([1.0, 0.0], dtype=np.float32)


@pytest.fixture
def job(tmp_path, miniature, monkeypatch):
    job = prepared(tmp_path, miniature)
    for manifest in (*job.train, *job.validation):
        text = manifest.read_text(encoding="utf-8")
        for number in range(10):
            text = text.replace(f'"text {number}"', f'"{WORDS}"')
        manifest.write_text(text, encoding="utf-8")
        seeds = count(len(text))
        for clip in read_clips([manifest]):
            write_noise(clip.audio_path, next(seeds))
    monkeypatch.setattr(hearing, "load_ge2e", Voices)
    return job


def listening(monkeypatch, ear):
    monkeypatch.setattr("indextts.train.load_transcriber", lambda *_: ear)
    return LoraTrainConfig.tiny(max_steps=3, learning_rate=0.05, val_interval=1, sample_interval=1,
                                n_samples=1, whisper_model="fake")  # fmt: skip


def test_the_best_by_ear_is_what_spoke_the_sound_that_was_understood(job, miniature, monkeypatch):
    monkeypatch.setattr("indextts.tasks.LIKE_LOSS", 10.0)
    ear = Ear(2)
    report = train(job, listening(monkeypatch, ear))
    assert report.best_audio == job.output.best_audio
    told = read_json(report.best_audio / "training_metadata.json")
    assert told["step"] == 2
    assert len(set(ear.heard)) == 3
    gpt, again = language_model(miniature), Ear()
    attach(gpt, report.best_audio)
    clips, others = read_clips(job.validation)[:1], read_clips(job.train)
    listener = Listener(job.folder, clips, others, torch.device("cpu"), transcriber=again)
    monitor = Monitor(job.output.logs, start=0, total=1, active=False, title="test")
    assert listener(gpt, monitor, 1) > 1
    assert again.heard == [ear.heard[1]]


def test_a_run_that_begins_anew_forgets_what_an_earlier_one_said(job, monkeypatch):
    train(job, dataclasses.replace(listening(monkeypatch, Ear(1)), max_steps=1))
    anew = dataclasses.replace(listening(monkeypatch, Ear()), max_steps=1, learning_rate=0.01)
    report = train(dataclasses.replace(job, overwrite=True), anew)
    assert report.best_audio is not None
    metrics = read_json(report.best_audio / "training_metadata.json")
    assert metrics["metrics"]["audio_score"] >= 1
    assert metrics["config"]["learning_rate"] == 0.01


def test_a_recogniser_of_another_language_is_refused_before_training(job, monkeypatch):
    for manifest in (*job.train, *job.validation):
        text = manifest.read_text(encoding="utf-8")
        manifest.write_text(text.replace('"language": "en"', '"language": "de"'), "utf-8")
    with pytest.raises(UserError, match="English only"):
        train(job, listening(monkeypatch, Ear()))
    assert not job.output.folder.exists()


def test_a_text_in_which_nothing_can_be_said_is_refused_before_training(job, monkeypatch):
    for manifest in job.validation:
        text = manifest.read_text(encoding="utf-8").replace(WORDS, "[pause:0.5]")
        manifest.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="no text"):
        train(job, listening(monkeypatch, Ear()))
    assert not job.output.folder.exists()


def test_a_sample_that_fails_costs_no_training(job, monkeypatch, caplog):
    class Fails(Ear):
        def text(self, audio, sample_rate, language):
            if len(self.heard) == 1:
                self.heard.append("")
                raise UserError("the vocoder computes NaN")
            return super().text(audio, sample_rate, language)

    report = train(job, listening(monkeypatch, Fails(3)))
    assert report.final.exists()
    assert "sample 0 at step 2: the vocoder computes NaN" in caplog.text


def test_a_run_that_goes_on_hears_no_interval_twice(job, monkeypatch):
    ear, evaluate = Ear(), VoiceTask.evaluate

    def interrupted(task, module, monitor, step):
        if step == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return evaluate(task, module, monitor, step)

    config = dataclasses.replace(listening(monkeypatch, ear), max_steps=4, sample_interval=2)
    monkeypatch.setattr(VoiceTask, "evaluate", interrupted)
    with pytest.raises(KeyboardInterrupt, match="saved at step 2"):
        train(job, config)
    monkeypatch.setattr(VoiceTask, "evaluate", evaluate)
    train(job, config)
    records = (job.output.logs / "progress.jsonl").read_text(encoding="utf-8").splitlines()
    told = [json.loads(line) for line in records]
    assert [one["step"] for one in told if one["group"] == "heard"] == [1, 2, 4]
    assert len(ear.heard) == 3


def test_a_few_sentences_decide_among_checkpoints_of_like_loss_only():
    kept = {"loss": 2.0, "audio_score": 0.5}
    assert sounds_better({"loss": 2.02, "audio_score": 0.4}, kept)
    assert not sounds_better({"loss": 2.02, "audio_score": 0.6}, kept)
    assert not sounds_better({"loss": 2.2, "audio_score": 0.1}, kept)
    assert sounds_better({"loss": 1.8, "audio_score": 0.9}, kept)
    assert sounds_better({"loss": 9.0, "audio_score": 9.0}, {})


def test_word_errors_are_counted_over_all_samples():
    found = [
        Heard(-20.0, 1.0, 1.0, ["cut short"], Errors(0, 18), 0.5),
        Heard(-30.0, 3.0, 2.0, [], Errors(2, 2), 0.7),
    ]
    scores, facts = summed_up(found)
    assert scores == {"faults": 0.5, "fluent_wer": 0.1}
    assert facts["similarity"] == pytest.approx(0.6)
    assert set(facts) == {"level_db", "seconds", "duration_ratio", "similarity"}


def test_rest_around_speech_is_no_part_of_its_length():
    assert extent([Span(0.5, 1.0), Span(1.2, 2.0)]) == 1.5
    assert extent([]) == 0.0


def test_without_a_recogniser_samples_are_kept_and_nothing_is_chosen(job):
    config = LoraTrainConfig.tiny(max_steps=1, sample_interval=1)
    report = train(job, config)
    assert report.best_audio is None
    assert not job.output.best_audio.exists()
    found = {path.name for path in job.output.logs.rglob("*.flac")}
    assert len(found) == 2


def test_samples_without_any_recording_are_refused_before_training(tmp_path, miniature):
    job = prepared(tmp_path, miniature)
    with pytest.raises(UserError, match="no recording to take a voice from"):
        train(job, LoraTrainConfig.tiny(sample_interval=1))
    assert not job.output.best_checkpoint.exists()
