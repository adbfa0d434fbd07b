"""From text to sound; an adapter that learned two clips by heart says them, and only with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from higgs_trainer.clips import read_prepared
from higgs_trainer.generation import Sampling
from higgs_trainer.inference import HiggsVoice, Reference
from tests.higgs_trainer.higgs_training import job_of, trained
from ttscommon import audio
from ttscommon.errors import UserError

GREEDY = Sampling.greedy(max_steps=20)


@pytest.fixture(scope="module")
def voice(miniature) -> HiggsVoice:
    torch.set_num_threads(1)
    return HiggsVoice.open(*miniature, device="cpu")


@pytest.fixture
def reference(tmp_path) -> Reference:
    sound = np.random.default_rng(0).normal(0, 0.1, 24000).astype(np.float32)
    audio.save(tmp_path / "voice.wav", sound, 24000)
    return Reference(tmp_path / "voice.wav", "This is my voice.")


def test_sound_is_as_long_as_its_codes(voice, reference):
    found = voice.speak(["Hello.", "Good morning."], references=[reference], sampling=GREEDY)
    assert len(found) == 2
    for speech in found:
        assert len(speech.audio) == 960 * speech.cut.codes.shape[1]
        assert np.isfinite(speech.audio).all()
        assert speech.sample_rate == 24000


def test_what_cannot_be_said_is_refused(voice, tmp_path):
    with pytest.raises(UserError, match="nothing to say"):
        voice.speak([" "])
    with pytest.raises(UserError, match="no such"):
        voice.speak(["Hello."], references=[Reference(tmp_path / "gone.wav", "x")])


@pytest.mark.slow
def test_an_adapter_that_learned_by_heart_says_its_clips(tmp_path, miniature):
    """From lists on disk through the shared loop to free speech, as a person would do it."""
    job = job_of(tmp_path, miniature[0])
    settings = {"reference_share": 0.0, "lora_dropout": 0.0, "lora_heads": True, "lora_rank": 32}
    settings |= {"lora_alpha": 64.0, "learning_rate": 0.01, "max_steps": 60, "epochs": 1000}
    settings |= {"batch_size": 3, "log_interval": 20, "val_interval": 1000, "save_interval": 1000}
    report = trained(job, **settings, gradient_checkpointing=False)
    voice = HiggsVoice.open(*miniature, adapter=report.final, device="cpu")
    prepared = read_prepared(job.train)
    said = voice.speak([clip.text for clip in prepared.clips], sampling=GREEDY)
    for clip, speech in zip(prepared.clips, said, strict=True):
        assert speech.cut.is_sound
        assert torch.equal(speech.cut.codes, prepared.store.codes(clip.target))
    base = HiggsVoice.open(*miniature, device="cpu")
    asked = base.speak([prepared.clips[0].text], sampling=GREEDY)[0]
    assert not torch.equal(asked.cut.codes, prepared.store.codes(prepared.clips[0].target))
