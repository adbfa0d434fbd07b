"""Whisper is found, or the word says what is missing. Real weights: VOXTUNE_WEIGHTS."""

from __future__ import annotations

import importlib.util
import os
import pickle
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ttscommon.audio import load
from ttscommon.errors import UserError
from ttscommon.metrics import word_error_rate
from ttscommon.transcribe import load_transcriber

SAMPLE = Path(__file__).resolve().parents[2] / "examples" / "sample_speaker"
needs_faster_whisper = pytest.mark.skipif(
    importlib.util.find_spec("faster_whisper") is None, reason="an optional package"
)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(UserError, match="no Whisper model 'bas'") as caught:
        load_transcriber("bas")
    assert "base" in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="no such Whisper model") as caught:
        load_transcriber(str(tmp_path / "base.pt"))
    assert "base.pt" in str(caught.value)


def test_a_name_means_the_downloaded_file_where_there_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoints" / "whisper").mkdir(parents=True)
    (tmp_path / "checkpoints" / "whisper" / "base.pt").write_bytes(b"not a model")
    with pytest.raises(UserError, match=r"cannot load Whisper 'checkpoints/whisper/base\.pt'"):
        load_transcriber("base", "cpu")


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x80\x02broken"])
def test_a_broken_file_is_one_line(tmp_path, content):
    path = tmp_path / "base.pt"
    path.write_bytes(content)
    with pytest.raises(UserError, match="cannot load Whisper") as caught:
        load_transcriber(str(path))
    assert "\n" not in str(caught.value)


@needs_faster_whisper
def test_a_folder_without_a_model_says_what_is_missing(tmp_path):
    with pytest.raises(UserError, match=r"no model\.bin and no config\.json"):
        load_transcriber(str(tmp_path))


def test_a_folder_without_the_optional_package_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "faster_whisper", None)
    with pytest.raises(UserError, match="needs faster-whisper") as caught:
        load_transcriber(str(tmp_path))
    assert "--extra faster-whisper" in str(caught.value)


@pytest.mark.weights
@needs_faster_whisper
def test_real_speech_is_read_also_after_a_journey_to_another_process():
    model = Path(os.environ["VOXTUNE_WEIGHTS"]) / "whisper-base-ct2"
    if not model.is_dir():
        pytest.skip("no whisper-base-ct2 there")
    transcriber = pickle.loads(pickle.dumps(load_transcriber(str(model))))
    heard = transcriber.text(load(SAMPLE / "audio" / "spk_003.flac", 24_000), 24_000, "en-us")
    assert (
        word_error_rate(["Please enter the channel number followed by the pound key."], [heard])
        == 0
    )
    with pytest.raises(UserError, match="doesn't know the language 'xx'"):
        transcriber.text(load(SAMPLE / "audio" / "spk_003.flac", 24_000), 24_000, "xx")


@pytest.mark.parametrize(
    ("texts", "said"), [([" Hello", " there."], "Hello there."), (["你好", "世界"], "你好世界")]
)
def test_segments_are_joined_as_their_language_is_written(tmp_path, monkeypatch, texts, said):
    class Fake:
        model = SimpleNamespace(is_multilingual=True)

        def __init__(self, *_, **__):
            pass

        def transcribe(self, *_, **__):
            return [SimpleNamespace(text=text) for text in texts], None

    monkeypatch.setitem(sys.modules, "faster_whisper", SimpleNamespace(WhisperModel=Fake))
    for name in ("model.bin", "config.json"):
        (tmp_path / name).touch()
    heard = load_transcriber(str(tmp_path)).text(np.zeros(16_000, np.float32), 16_000, "zh")
    assert heard == said


@pytest.mark.slow
def test_times_of_words_leave_the_number_of_threads_alone(tmp_path):
    from whisper.model import ModelDimensions, Whisper

    n_threads = torch.get_num_threads()
    sizes = {"n_audio_state": 64, "n_audio_head": 1, "n_audio_layer": 1}
    text = {"n_text_state": 64, "n_text_head": 1, "n_text_layer": 2}
    dims = {
        "n_mels": 80,
        "n_vocab": 51_864,
        "n_audio_ctx": 1500,
        "n_text_ctx": 448,
        **sizes,
        **text,
    }
    state = Whisper(ModelDimensions(**dims)).state_dict()
    torch.save({"dims": dims, "model_state_dict": state}, tmp_path / "tiny.pt")
    sound = np.random.default_rng(0).normal(0, 0.1, 32_000).astype(np.float32)
    load_transcriber(str(tmp_path / "tiny.pt"), "cpu").words(sound, 16_000, "en")
    assert torch.get_num_threads() == n_threads
