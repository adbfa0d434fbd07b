"""Recordings are read as the original reads them, remembered by content, refused in one line."""

import os
from types import SimpleNamespace
from typing import cast

import librosa
import numpy as np
import pytest
import soundfile
import torch

from indextts.checkpoint import CheckpointFolder
from indextts.references import ReferenceModels, ReferenceReader, load_reference
from tests.indextts.acoustic_golden import pipeline_parts
from ttscommon.errors import UserError


def noise(seconds: float, rate: int, n_channels: int = 1, seed: int = 0) -> np.ndarray:
    shape = (int(seconds * rate), n_channels)
    return 0.1 * np.random.default_rng(seed).standard_normal(shape)


@pytest.fixture
def reader():
    """With a stand-in for w2v-bert that counts how often it is asked."""
    parts = pipeline_parts()
    calls = []

    def features(audio):
        calls.append(audio.shape)
        n = audio.shape[1] // 320
        return audio[:, : 320 * n].view(1, n, 320)[..., :28] * 10

    made = ReferenceReader(cast(CheckpointFolder, None), parts.s2mel, torch.device("cpu"))
    made.models = ReferenceModels(features, parts.codec, parts.campplus)
    return SimpleNamespace(read=made, calls=calls)


@pytest.mark.parametrize(
    ("file_rate", "rate"), [(22_050, 22_050), (48_000, 22_050), (44_100, 16_000)]
)
def test_a_recording_sounds_as_librosa_loads_it(tmp_path, file_rate, rate):
    path = tmp_path / "voice.wav"
    soundfile.write(path, noise(1.2345, file_rate, 2), file_rate, subtype="PCM_24")
    wanted, _ = librosa.load(path, sr=rate)
    found = load_reference(path, rate)
    assert abs(len(found) - len(wanted)) <= 1
    n = min(len(found), len(wanted))
    assert np.abs(found[:n] - wanted[:n]).max() < 1e-6


def test_a_long_recording_is_cut_at_fifteen_seconds_as_if_all_had_been_read(tmp_path):
    path = tmp_path / "voice.wav"
    soundfile.write(path, noise(20, 32_000), 32_000)
    wanted, _ = librosa.load(path, sr=22_050)
    found = load_reference(path, 22_050)
    assert len(found) == 15 * 22_050
    assert np.abs(found - wanted[: len(found)]).max() < 1e-6


def test_eight_channels_at_96_khz_are_a_voice_too(tmp_path, reader):
    path = tmp_path / "studio.wav"
    soundfile.write(path, noise(1, 96_000, 8), 96_000)
    voice = reader.read.voice(path)
    assert voice.features.ref_mel.shape == (1, 12, 86)
    assert all(tensor.isfinite().all() for tensor in voice.tensors().values())


def write(path, kind: str) -> None:
    rate = 16_000
    if kind == "silent":
        soundfile.write(path, np.zeros(rate), rate)
    elif kind == "short":
        soundfile.write(path, noise(0.1, rate), rate)
    elif kind == "nan":
        soundfile.write(path, np.full(rate, np.nan), rate, subtype="FLOAT")
    elif kind == "text":
        path.write_text("I am no sound.\n" * 100, encoding="utf-8")
    elif kind == "empty":
        path.touch()
    elif kind == "folder":
        path.mkdir()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("silent", "the reference is silent"),
        ("short", r"a reference of 0\.10 s is too short"),
        ("nan", "holds NaN"),
        ("text", "cannot decode the audio"),
        ("empty", "zero bytes"),
        ("folder", "no such audio file"),
        ("missing", "no such audio file"),
    ],
)
def test_a_recording_of_no_use_is_refused_in_one_line(tmp_path, reader, kind, message):
    path = tmp_path / "reference.wav"
    write(path, kind)
    for read in (reader.read.voice, reader.read.mood):
        with pytest.raises(UserError, match=message) as caught:
            read(path)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)


def test_a_recording_is_read_once_and_again_when_it_has_changed(tmp_path, reader):
    path = tmp_path / "voice.wav"
    soundfile.write(path, noise(1, 22_050, seed=1), 22_050)
    first = reader.read.voice(path)
    assert len(reader.calls) == 2  # for the voice and for its mood
    assert reader.read.voice(str(path)) is first
    assert reader.read.mood(path) is first.emo_cond_emb
    assert len(reader.calls) == 2
    soundfile.write(path, noise(1, 22_050, seed=2), 22_050)
    os.utime(path, ns=(0, 1))  # clocks of file systems may be coarse
    assert not torch.equal(reader.read.voice(path).features.style, first.features.style)


def test_readings_stay_when_the_models_go(tmp_path, reader):
    path = tmp_path / "voice.wav"
    soundfile.write(path, noise(1, 22_050), 22_050)
    voice = reader.read.voice(path)
    reader.read.release()
    assert reader.read.models is not None  # they may stay
    reader.read.releases = True
    reader.read.release()
    assert reader.read.models is None
    assert reader.read.voice(path) is voice


def test_a_reference_of_absurd_samples_is_refused(tmp_path):
    sound = noise(1.0, 22_050)
    sound[100] = 1e30
    soundfile.write(tmp_path / "loud.wav", sound, 22_050, subtype="FLOAT")
    with pytest.raises(UserError, match=r"samples of 1e\+30, full scale is 1.*loud\.wav"):
        load_reference(tmp_path / "loud.wav", 22_050)
