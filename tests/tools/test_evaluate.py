"""The tool stops a pipeline when the tuned voice got worse, and says each mistake in one line."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from tests.fakes import faster_whisper as fake_whisper
from tests.fresh import FRESH
from tools import evaluate
from ttscommon.audio import load, save
from ttscommon.errors import UserError
from ttscommon.workspace import Speaker

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "sample_speaker"
RATE = 16_000


@pytest.fixture
def folders(tmp_path) -> list[str]:
    """Two readings of six texts: recordings, and the same under noise."""
    noise = np.random.default_rng(0).normal(0, 0.05, 60 * RATE).astype(np.float32)
    for number in range(1, 7):
        audio = load(EXAMPLE / "audio" / f"spk_{number:03d}.flac", RATE)[: 3 * RATE]
        save(tmp_path / "base" / f"{number}.wav", audio, RATE)
        save(tmp_path / "tuned" / f"{number}.wav", audio + noise[: len(audio)], RATE)
    return [f"{name}={tmp_path / name}" for name in ("base", "tuned")]


def test_noise_breaks_the_guard_rail_of_quality_and_the_exit_code_says_so(
    folders, tmp_path, capsys
):
    pytest.importorskip("speechmos")
    words = [*folders, "--whisper-model", "none", "--output-dir", str(tmp_path / "out")]
    assert evaluate.main(words) == 3
    shown = capsys.readouterr().out
    assert "guard rail failed: tuned dnsmos -" in shown
    assert "not measured: wer: no recogniser was given" in shown
    data = json.loads((tmp_path / "out" / "evaluation.json").read_text(encoding="utf-8"))
    assert data["differences"]["tuned"]["dnsmos"]["high"] < 0
    assert (tmp_path / "out" / "evaluation.csv").is_file()
    assert (tmp_path / "out" / "evaluation.html").is_file()
    assert "tuned broke" in shown
    with pytest.raises(UserError, match="exists already"):
        evaluate.main(words)
    same = [folders[0], folders[0].replace("base=", "tuned=")]  # all of it was measured before
    assert evaluate.main([*same, *words[2:], "--overwrite"]) == 0


def test_a_speakers_outputs_are_conditions(tmp_path, monkeypatch):
    speaker = tmp_path / "ozzy"
    shutil.copytree(EXAMPLE, speaker / "dataset")
    for name in ("base", "tuned"):
        (speaker / "outputs" / name).mkdir(parents=True)
    words = ["--speaker", "ozzy", "--training-root", str(tmp_path), "--whisper-model", "none"]
    with pytest.raises(UserError, match="no recordings in the folder") as caught:
        evaluate.main(words)
    assert str(speaker / "outputs" / "base") in str(caught.value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "give conditions"),
        (["base"], "'base' isn't NAME=FOLDER"),
        (["base=a", "base=b"], "'base' is there twice"),
        (["base=a", "--speaker", "ozzy"], "give conditions"),
    ],
)
def test_wrong_usage_exits_with_two(words, said, capsys):
    with pytest.raises(SystemExit) as caught:
        evaluate.main(words)
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


def test_one_condition_compares_with_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="one condition alone"):
        evaluate.main(["base=a"])
    with pytest.raises(UserError, match="no such folder"):
        evaluate.main(["base=a", "tuned=b", "--whisper-model", "none"])
    assert list(tmp_path.iterdir()) == []


def reading(folder: Path, rate: int = RATE, n: int = 1) -> Path:
    """Recordings of real speech, at any rate."""
    for number in range(1, n + 1):
        audio = load(EXAMPLE / "audio" / f"spk_{number:03d}.flac", rate)[: 2 * rate]
        save(folder / f"{number}.wav", audio, rate)
    return folder


def words_for(tmp_path: Path, *more: str) -> list[str]:
    folders = [f"{name}={tmp_path / name}" for name in ("base", "tuned")]
    return [*folders, "--whisper-model", "none", "--output-dir", str(tmp_path / "out"), *more]


def test_a_folder_without_audio_is_named(tmp_path):
    reading(tmp_path / "base")
    (tmp_path / "tuned").mkdir()
    with pytest.raises(UserError, match="no recordings in the folder") as caught:
        evaluate.main(words_for(tmp_path))
    assert caught.value.where == tmp_path / "tuned"
    assert not (tmp_path / "out").exists()


def test_texts_that_match_no_file_are_refused_with_the_first_of_them(tmp_path):
    reading(tmp_path / "base")
    reading(tmp_path / "tuned")
    texts = tmp_path / "texts.csv"
    texts.write_text("audio_path,text\nother.wav,Hello.\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"none of 1 texts names one of 1 files.*'other\.wav'"):
        evaluate.main(words_for(tmp_path, "--texts", str(texts)))


def test_different_sampling_rates_are_compared_and_written_as_a_page(tmp_path):
    reading(tmp_path / "base", 16_000)
    reading(tmp_path / "tuned", 22_050)
    assert evaluate.main(words_for(tmp_path)) == 0
    data = json.loads((tmp_path / "out" / "evaluation.json").read_text(encoding="utf-8"))
    level = data["differences"]["tuned"]["level"]["value"]
    assert abs(level) < 0.5  # dB; the same sound
    assert "<audio" in (tmp_path / "out" / "evaluation.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("content", ["empty", "nan"])
def test_files_without_sound_in_them_are_named(tmp_path, content):
    reading(tmp_path / "base")
    path = tmp_path / "tuned" / "1.wav"
    path.parent.mkdir()
    if content == "empty":
        path.write_bytes(b"")
    else:
        soundfile.write(path, np.full(RATE, np.nan, np.float32), RATE, subtype="FLOAT")
    said = {"empty": "zero bytes", "nan": "NaN"}[content]
    with pytest.raises(UserError, match=said) as caught:
        evaluate.main(words_for(tmp_path))
    assert str(path) in str(caught.value)
    assert not (tmp_path / "out" / "evaluation.json").exists()


def test_a_model_file_that_is_none_is_one_line(tmp_path):
    reading(tmp_path / "base")
    reading(tmp_path / "tuned")
    model = tmp_path / "model.pt"
    model.write_bytes(b"not a model")
    words = [*words_for(tmp_path)[:2], "--output-dir", str(tmp_path / "out")]
    with pytest.raises(UserError, match="cannot load Whisper") as caught:
        evaluate.main([*words, "--whisper-model", str(model)])
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"not a speaker encoder: no config\.json"):
        evaluate.main([*words_for(tmp_path), "--speaker-encoder", str(tmp_path / "base")])
    assert not (tmp_path / "out").exists()


def test_a_missing_optional_library_names_its_extra(tmp_path, monkeypatch):
    reading(tmp_path / "base")
    reading(tmp_path / "tuned")
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    words = [*words_for(tmp_path)[:2], "--output-dir", str(tmp_path / "out")]
    with pytest.raises(UserError, match="--extra faster-whisper"):
        evaluate.main([*words, "--whisper-model", str(tmp_path / "base")])


class DyingWhisper(fake_whisper.WhisperModel):
    """Kills its process, as a machine that loses power does, at the second clip it hears."""

    n_heard = 0

    def transcribe(self, audio, **options):
        DyingWhisper.n_heard += 1
        if DyingWhisper.n_heard == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().transcribe(audio, **options)


def evaluate_and_die(words: list[str]) -> None:
    """For a process of its own."""
    sys.modules["faster_whisper"] = SimpleNamespace(WhisperModel=DyingWhisper)  # type: ignore
    evaluate.main(words)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_evaluation_goes_on_and_finds_what_one_without_a_stop_finds(
    tmp_path, monkeypatch, caplog
):
    reading(tmp_path / "base", n=2)
    for path in (tmp_path / "base").iterdir():
        save(tmp_path / "tuned" / path.name, 0.5 * load(path, RATE), RATE)
    model = fake_whisper.write_model(tmp_path / "model", "please hold")
    folders, out = words_for(tmp_path)[:2], tmp_path / "out"
    words = [*folders, "--whisper-model", str(model), "--output-dir", str(out)]
    doomed = FRESH.Process(target=evaluate_and_die, args=(words,))
    doomed.start()
    doomed.join()
    assert doomed.exitcode == -signal.SIGKILL
    assert len((out / "measured.jsonl").read_text(encoding="utf-8").splitlines()) == 1
    assert not (out / "evaluation.json").exists()

    monkeypatch.setitem(sys.modules, "faster_whisper", fake_whisper)
    heard = tmp_path / "heard"
    monkeypatch.setenv(fake_whisper.LISTENING, str(heard))
    with caplog.at_level(logging.INFO):
        assert evaluate.main(words) == 0
    assert "1 of 4 files were measured before" in caplog.text
    assert len(heard.read_text(encoding="utf-8").splitlines()) == 3
    assert evaluate.main([*words[:-1], str(tmp_path / "straight")]) == 0
    found, straight = (
        json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
        for folder in (out, tmp_path / "straight")
    )
    assert found == straight


def test_the_numbered_files_of_compare_models_are_conditions(tmp_path, capsys):
    speaker = Speaker("ozzy", tmp_path)
    speaker.audio.mkdir(parents=True)
    shutil.copy(EXAMPLE / "audio" / "spk_003.flac", speaker.audio)
    reading(tmp_path / "source")
    speaker.comparison.mkdir(parents=True)
    for name in ("1_base", "2_lora", "3_finetuned"):
        copy = speaker.comparison / f"20260102_0304_{name}_hello.wav"
        shutil.copy(tmp_path / "source" / "1.wav", copy)
    words = ["--speaker", "ozzy", "--training-root", str(tmp_path), "--whisper-model", "none"]
    assert evaluate.main(words) == 0
    data = json.loads((speaker.evaluation / "evaluation.json").read_text(encoding="utf-8"))
    assert data["base"] == "base"
    assert {"lora", "finetuned"} <= set(data["differences"])
    assert (speaker.evaluation / "evaluation.html").is_file()
