"""Every condition by one command: what is refused before hours of speech, and what is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.indextts.speakers import Trained, write_recording
from tools.speak_conditions import main
from ttscommon.errors import UserError
from ttscommon.workspace import TRAIN_MANIFEST, VALIDATION_MANIFEST, Speaker


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Trained:
    from indextts.miniature import write_miniature

    folder = tmp_path_factory.mktemp("checkpoint") / "miniature"
    write_miniature(folder)
    return Trained(folder, tmp_path_factory.mktemp("trained"))


@pytest.fixture
def ozzy(trained, tmp_path) -> Speaker:
    """With a pattern and one held-out recording."""
    speaker = trained.speaker("ozzy", tmp_path / "training", "pattern")
    write_recording(speaker.processed_v3 / "a.wav", 2.0)
    (speaker.processed_v3 / "a.npy").touch()
    files = {"text_ids_path": "a.npy", "codes_path": "a.npy", "audio_path": "a.wav"}
    clip = {"id": "a", "text": "The um, the cat sat.", "text_len": 1, "code_len": 1, **files}
    for name in (TRAIN_MANIFEST, VALIDATION_MANIFEST):
        said = {"verbatim": "We, um, had... time."} if name == TRAIN_MANIFEST else {}
        line = json.dumps(clip | said) + "\n"
        (speaker.processed_v3 / name).write_text(line, encoding="utf-8")
    return speaker


def speak(speaker: Speaker, checkpoint: Path, *more: str) -> None:
    whose = ["--speaker", speaker.name, "--training-root", str(speaker.root)]
    quick = ["--num-beams", "1", "--diffusion-steps", "1", "--max-mel-tokens", "30"]
    where = ["--model-dir", str(checkpoint), "--device", "cpu"]
    main([*whose, *where, *quick, "--seeds", "1", *more])


def test_every_condition_gets_its_folder_and_the_next_line_names_them(ozzy, trained, capsys):
    speak(ozzy, trained.checkpoint, "--n-texts", "1")
    out = capsys.readouterr().out
    names = ["B0", "B1", "P", "P0", "Pr", "P@0.5", "R"]
    assert sorted(path.name for path in ozzy.pattern_speech.iterdir()) == sorted(names)
    assert "B0: 1 files, 1 of them spoken now" in out
    assert "R: 1 held-out recordings" in out
    named = " ".join(f"{name}={ozzy.pattern_speech / name}" for name in names)
    assert f"Next: python tools/evaluate_patterns.py {named}" in out


def test_hesitations_that_somebody_wrote_are_what_is_read(ozzy, trained, tmp_path, caplog):
    plain, written = tmp_path / "texts.txt", tmp_path / "hesitant.txt"
    plain.write_text("We had time.\nHe slept.\n", encoding="utf-8")
    written.write_text("We, uh, we had time.\n", encoding="utf-8")
    given = ["--text-file", str(plain), "--hesitant-file", str(written)]
    with pytest.raises(UserError, match=r"1 lines, but 2 in texts.txt"):
        speak(ozzy, trained.checkpoint, *given)
    with pytest.raises(UserError, match="give --text-file as well"):
        speak(ozzy, trained.checkpoint, *given[2:])
    plain.write_text("We had time.\n", encoding="utf-8")
    speak(ozzy, trained.checkpoint, *given, "--strengths", "1")
    table = (ozzy.pattern_speech / "B1" / "transcripts.csv").read_text(encoding="utf-8")
    assert '"We, uh, we had time."' in table
    assert "other words" not in caplog.text


@pytest.mark.parametrize("gone", ["voice", "recording"])
def test_what_is_missing_is_told_with_the_speaker_s_own_command(ozzy, trained, gone):
    missing = {"voice": ozzy.speaker_embeddings, "recording": ozzy.processed_v3 / "a.wav"}
    tool = {"voice": "extract_embeddings", "recording": "prepare_pattern_dataset_v3"}[gone]
    missing[gone].unlink()
    with pytest.raises(UserError) as refused:
        speak(ozzy, trained.checkpoint)
    whose = f"--speaker ozzy --training-root {ozzy.root}"
    assert refused.value.fix == f"python tools/{tool}.py {whose}"


def test_recordings_of_people_s_own_are_refused_before_hours_of_speech(ozzy, trained):
    mine = write_recording(ozzy.pattern_speech / "R" / "mine.wav")
    with pytest.raises(UserError, match=r"'mine.wav' isn't one of our copies"):
        speak(ozzy, trained.checkpoint, "--n-texts", "1")
    assert mine.is_file()
    assert [path.name for path in ozzy.pattern_speech.iterdir()] == ["R"]
