"""Speaking from the command line: what is written, what is refused."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tools import infer
from ttscommon.errors import UserError
from ttscommon.workspace import Speaker

QUICK = ["--diffusion-steps", "1", "--num-beams", "1", "--seed", "5"]


@pytest.fixture
def start(miniature, tmp_path, monkeypatch):
    """Runs the tool in an empty folder with a recording in it."""
    monkeypatch.chdir(tmp_path)
    sound = 0.1 * np.random.default_rng(0).standard_normal(22_050)
    soundfile.write(tmp_path / "me.wav", sound, 22_050)
    quick = ["--device", "cpu", *QUICK]

    def run(*words: str, folder: Path = miniature) -> None:
        infer.main([*words, "--model-dir", str(folder), *quick])

    return run


def files(folder) -> list[str]:
    found = (str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in found if path != "me.wav")


def test_a_text_becomes_a_file_and_a_report(start, tmp_path, capsys):
    (tmp_path / "me.wav").rename(tmp_path / "my voice.wav")
    start("-r", "my voice.wav", "-t", "The cat sat.", "--json", "report.json")
    assert files(tmp_path) == ["indextts2_the-cat-sat.wav", "my voice.wav", "report.json"]
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    (result,) = report["results"]
    content = (tmp_path / "indextts2_the-cat-sat.wav").read_bytes()
    assert result["sha256"] == hashlib.sha256(content).hexdigest()
    assert result["seed"] == 5
    assert set(result["seconds"]) >= {"reference", "codes", "latents", "mel", "sound"}
    info = soundfile.info(tmp_path / "indextts2_the-cat-sat.wav")
    assert result["duration"] == pytest.approx(info.duration)
    assert report["model"]["is_miniature"]
    assert len(report["model"]["fingerprint"]) == 64
    out = capsys.readouterr().out
    assert "indextts2_the-cat-sat.wav" in out
    assert "Next: python tools/infer.py --reference-audio 'my voice.wav'" in out


def test_a_file_of_texts_becomes_a_folder_of_speech(start, tmp_path):
    (tmp_path / "texts.txt").write_text("The cat sat.\n\nIt slept.\n", encoding="utf-8")
    start("-r", "me.wav", "--text-file", "texts.txt", "--output-dir", "out")
    names = ["out/indextts2_1_the-cat-sat.wav", "out/indextts2_2_it-slept.wav"]
    assert files(tmp_path) == [*names, "texts.txt"]


def test_a_stored_speaker_says_what_the_recording_said(start, tmp_path):
    voice = Speaker("ozzy").speaker_embeddings
    start("-r", "me.wav", "-t", "The cat sat.", "-o", "one.wav", "--save-speaker", str(voice))
    start("-s", "ozzy", "-t", "The cat sat.", "-o", "two.wav")
    start("--speaker-embeddings", str(voice), "-t", "The cat sat.", "-o", "three.wav")
    one, two, three = ((tmp_path / f"{name}.wav").read_bytes() for name in ("one", "two", "three"))
    assert one == two == three
    start("-s", "ozzy", "-t", "It slept.")
    assert "training/ozzy/outputs/indextts2_it-slept.wav" in files(tmp_path)


def test_speakers_may_live_under_another_root(start, tmp_path):
    voice = Speaker("ozzy", tmp_path / "else").speaker_embeddings
    start("-r", "me.wav", "--save-speaker", str(voice))
    start("-s", "ozzy", "--training-root", "else", "-t", "It slept.")
    assert "else/ozzy/outputs/indextts2_it-slept.wav" in files(tmp_path)


def test_a_voice_can_be_stored_without_a_word_and_knows_where_it_is_from(start, tmp_path):
    start("-r", "me.wav", "--save-speaker", "me.pt")
    assert files(tmp_path) == ["me.pt"]
    about = torch.load(tmp_path / "me.pt", weights_only=True)["_metadata"]
    assert about["source"] == "me.wav"
    sound = (tmp_path / "me.wav").read_bytes()
    assert about["source_sha256"] == hashlib.sha256(sound).hexdigest()
    assert set(about["encoders"]) >= {"length_regulator", "campplus", "w2v_bert"}


def test_what_exists_is_kept_unless_told_otherwise(start, tmp_path):
    (tmp_path / "out.wav").write_bytes(b"old")
    with pytest.raises(UserError, match=r"exists already.*out\.wav"):
        start("-r", "me.wav", "-t", "The cat sat.", "-o", "out.wav")
    assert (tmp_path / "out.wav").read_bytes() == b"old"
    start("-r", "me.wav", "-t", "The cat sat.", "-o", "out.wav", "--overwrite")
    assert soundfile.info(tmp_path / "out.wav").frames > 0


def test_a_bad_line_is_refused_before_the_first_is_spoken(start, tmp_path):
    (tmp_path / "texts.txt").write_text("The cat sat.\n☃\n", encoding="utf-8")
    with pytest.raises(UserError, match="knows none of these characters"):
        start(*["-r", "me.wav", "--text-file", "texts.txt", "--output-dir", "out"],
              *["--save-speaker", "me.pt"])  # fmt: skip
    assert files(tmp_path) == ["texts.txt"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-s", "ozzy", "-t", "Hi."], r"no stored speaker here.*ozzy/embeddings"),
        (["-r", "me.wav", "-t", "Hi.", "-o", "out.mp3"], "written as WAV"),
        (["-r", "me.wav", "-t", "Hi.", "--emo-vector", "1", "2"], "8 values, got 2"),
        (["-r", "none.wav", "-t", "Hi."], "no such audio file"),
        (["-r", "me.wav", "--text-file", "none.txt"], "no such text file"),
        (["-r", "me.wav", "-t", "Hi.", "--lora-path", "none"], "no LoRA adapter"),
    ],
)
def test_bad_input_is_one_line_and_nothing_written(start, tmp_path, words, message):
    with pytest.raises(UserError, match=message):
        start(*words)
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-r", "me.wav", "-t", " "], "there is no text to speak"),
        (["-r", "me.wav", "-t", "Hi. [pause:x]"], r"\[pause:x\] is not a number"),
        (["-r", "none.wav", "-t", "Hi."], "no such audio file.*none.wav"),
        (["-r", "me.wav", "-t", "Hi.", "--emotion-audio", "none.wav"], "none.wav"),
        (["-r", "me.wav", "-t", "Hi.", "--emo-vector", "1", "2"], "8 values, got 2"),
        (["-r", "me.wav", "-t", "Hi.", "--emo-text", "Glad."], "no model to read moods"),
        (["-r", "me.wav", "-t", "Hi.", "--max-mel-tokens", "9999"], "max_mel_tokens 9999"),
        (["-r", "me.wav", "-t", "Hi.", "--emotion-alpha", "nan"], "emo_alpha"),
    ],
)
def test_bad_input_is_found_before_the_weights_are_read(start, miniature, tmp_path, words, message):
    folder = tmp_path / "checkpoint"
    shutil.copytree(miniature, folder)
    (folder / "gpt.pth").write_bytes(b"")  # reading it would be complained about instead
    with pytest.raises(UserError, match=message):
        start(*words, folder=folder)


@pytest.mark.parametrize(
    "words",
    [
        ["-r", "me.wav", "-t", "Hi.", "-o", "k.wav", "--save-speaker", "k.wav"],
        ["-r", "me.wav", "-t", "Hi.", "-o", "k.wav", "--json", "./k.wav"],
        ["-r", "me.wav", "-t", "Hi.", "--save-speaker", "me.wav", "--overwrite"],
        ["-r", "me.wav", "-t", "Hi.", "--json", "report"],
        [],
        ["-t", "Hi."],
        ["-r", "me.wav"],
        ["-r", "me.wav", "-t", "Hi.", "--text-file", "texts.txt"],
        ["-r", "me.wav", "--speaker-embeddings", "me.pt", "-t", "Hi."],
        ["-s", "ozzy", "-t", "Hi.", "--save-speaker", "me.pt"],
        ["-r", "me.wav", "-t", "Hi.", "--use-random"],
    ],
)
def test_contradictory_flags_are_wrong_usage(start, words):
    with pytest.raises(SystemExit, match="2"):
        start(*words)
