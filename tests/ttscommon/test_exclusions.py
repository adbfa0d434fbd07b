"""excluded.txt: which clips a line means, and that nobody makes anything of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ttscommon.errors import UserError
from ttscommon.exclusions import read_exclusions, usable_clips
from ttscommon.manifest import Clip, write_manifest
from ttscommon.transcripts import clip_texts, text_sources, unmatched_texts
from ttscommon.workspace import Speaker


@pytest.fixture
def speaker(tmp_path) -> Speaker:
    """Four recordings with texts, not cut."""
    speaker = Speaker("ozzy", tmp_path)
    speaker.audio.mkdir(parents=True)
    for name in ("a.wav", "b.wav", "c 2.flac", "d.mp3"):
        (speaker.audio / name).touch()
    rows = "audio_path,text\na,one\nb,two\nc 2,three\nd,four\n"
    speaker.transcripts.write_text(rows, encoding="utf-8")
    return speaker


def cut(speaker: Speaker) -> None:
    """Recording a in two clips, d as a whole."""
    speaker.clips.mkdir()
    clips = []
    for name, recording in {"a@1": "a.wav", "a@2": "a.wav", "d": "d.mp3"}.items():
        (speaker.clips / f"{name}.wav").touch()
        clips.append(Clip(name, f"dataset/clips/{name}.wav", "", 3.0, "ozzy", "en", recording))
    write_manifest(speaker.clips_manifest, clips)


def exclude(speaker: Speaker, text: str) -> frozenset[str]:
    speaker.excluded.write_text(text, encoding="utf-8")
    return read_exclusions(speaker.clips_folder).clips


@pytest.mark.parametrize("line", ["b.wav", "b", "audio/b.wav", "b.wav  # a cough", "# of b\n\nb\n"])
def test_a_clip_may_be_named_as_in_a_table_of_texts(speaker, line):
    assert exclude(speaker, line) == {"b.wav"}


@pytest.mark.parametrize(
    ("line", "excluded"),
    [
        ("take #3.wav", "take #3.wav"),
        ("take #3", "take #3.wav"),
        ("audio/take #3.wav  # a cough", "take #3.wav"),
        ("take #3 # like take #3", "take #3.wav"),
        ("take # number 4", "take.wav"),
        ("take # as audio/b.wav", "take.wav"),
        ("take # as audio/take #3.wav", "take.wav"),
        ("day #1/x.wav", "day #1/x.wav"),
        ("#1.wav", "#1.wav"),
        ("# audio/b.wav", None),
    ],
)
def test_a_name_may_hold_what_else_begins_a_reason(speaker, line, excluded):
    (speaker.audio / "day #1").mkdir()
    for name in ("take.wav", "take #3.wav", "#1.wav", "day #1/x.wav"):
        (speaker.audio / name).touch()
    assert exclude(speaker, line) == ({excluded} if excluded else set())
    assert read_exclusions(speaker.audio).unknown == ()


def test_a_recording_s_name_may_hold_what_else_begins_a_reason(speaker):
    speaker.clips.mkdir()
    clip = Clip("t", "dataset/clips/t #3@1.wav", "", 3.0, "ozzy", "en", "t #3.wav")
    write_manifest(speaker.clips_manifest, [clip])
    assert exclude(speaker, "t #3.wav  # all of it") == {"t #3@1.wav"}


def test_excluded_clips_have_no_text_and_are_not_used(speaker):
    assert len(usable_clips(speaker)) == 4
    exclude(speaker, "b.wav\nc 2.flac\n")
    assert clip_texts(speaker) == {"a.wav": "one", "d.mp3": "four"}
    assert unmatched_texts(speaker) == []
    assert [path.name for path in usable_clips(speaker)] == ["a.wav", "d.mp3"]
    assert speaker.excluded in text_sources(speaker)


def test_a_line_that_fits_no_clip_is_told(speaker, caplog):
    assert exclude(speaker, "b.wav\ngone.wav\n") == {"b.wav"}
    clip_texts(speaker)
    assert "excluded.txt: 1 lines fit no clip, for example gone.wav" in caplog.text
    assert read_exclusions(speaker.audio).notes() == [
        "1 clips are named in excluded.txt",
        "excluded.txt: 1 lines fit no clip, for example gone.wav",
    ]


def test_a_recording_stands_for_all_that_was_cut_from_it(speaker):
    cut(speaker)
    assert exclude(speaker, "a.wav") == {"a@1.wav", "a@2.wav"}
    assert exclude(speaker, "a@2") == {"a@2.wav"}
    assert exclude(speaker, "audio/d.mp3") == {"d.wav"}


def test_a_clip_that_was_deleted_besides_is_known(speaker, caplog):
    cut(speaker)
    (speaker.clips / "a@2.wav").unlink()
    assert exclude(speaker, "a@2.wav") == {"a@2.wav"}
    assert [path.name for path in usable_clips(speaker)] == ["a@1.wav", "d.wav"]
    assert caplog.text == ""


def test_a_data_set_of_no_speaker_has_its_own(speaker, monkeypatch):
    cut(speaker)
    exclude(speaker, "a@1")
    monkeypatch.chdir(speaker.clips)
    assert read_exclusions(Path()).clips == {"a@1.wav"}
    monkeypatch.chdir(speaker.dataset)
    assert read_exclusions(Path("clips")).clips == {"a@1.wav"}
    other = speaker.root / "others"
    other.mkdir()
    (other / "x.wav").touch()
    (other / "excluded.txt").write_text("x")
    assert read_exclusions(other).clips == {"x.wav"}


@pytest.mark.parametrize("is_cut", [False, True])
def test_a_folder_of_clips_may_be_a_link(speaker, is_cut):
    if is_cut:
        cut(speaker)
    real = speaker.root / "recs"
    speaker.clips_folder.rename(real)
    folder = speaker.clips if is_cut else speaker.audio
    folder.symlink_to(real)
    exclude(speaker, "a.wav")
    expected = {"a@1.wav", "a@2.wav"} if is_cut else {"a.wav"}
    assert read_exclusions(folder).clips == expected
    assert {path.name for path in usable_clips(speaker)}.isdisjoint(expected)


def test_a_link_to_the_clips_of_a_data_set_has_its_exclusions(speaker):
    cut(speaker)
    exclude(speaker, "a@1")
    (speaker.root / "mine").symlink_to(speaker.clips)
    assert read_exclusions(speaker.root / "mine").clips == {"a@1.wav"}


def test_a_line_that_fits_two_clips_and_a_file_of_other_letters_are_refused(speaker):
    (speaker.audio / "b.flac").touch()
    with pytest.raises(UserError, match=r"'b' fits 2 files.*excluded\.txt"):
        exclude(speaker, "b")
    speaker.excluded.write_bytes("b\nü".encode("latin-1"))
    with pytest.raises(UserError, match=r"line 2 isn't UTF-8.*excluded\.txt"):
        read_exclusions(speaker.audio)
