"""Whisper is found, or the word says what is missing. Real weights: VOXTUNE_WEIGHTS."""

from __future__ import annotations

import importlib.util
import os
import pickle
from pathlib import Path

import pytest

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
