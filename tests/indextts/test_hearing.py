"""A model is heard while it is trained, and what spoke best is kept."""

from __future__ import annotations

import dataclasses
import hashlib
from itertools import count

import numpy as np
import pytest
import torch

from indextts import hearing
from indextts.clips import read_clips
from indextts.hearing import Listener
from indextts.lora import attach
from indextts.train_config import LoraTrainConfig
from tests.indextts.gpt_training import prepared, train
from tests.indextts.prepared_clips import write_noise
from tests.indextts.speakers import language_model
from ttscommon.errors import UserError
from ttscommon.files import read_json
from ttscommon.progress import Monitor

WORDS = "the cat sat on the mat"


class Ear:
    """Understands every word of a few sounds, and nothing of the others."""

    def __init__(self, *understood: int):
        self.understood, self.heard = understood, []

    def text(self, audio, sample_rate, language):
        assert sample_rate > 0
        assert language == "en"
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
