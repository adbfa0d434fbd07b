"""Which text belongs to which clip: by hand before by ear, whole recordings only."""

from __future__ import annotations

import pytest

from ttscommon.errors import UserError
from ttscommon.manifest import Clip, write_manifest
from ttscommon.transcripts import clip_texts, note_on_pieces, text_sources
from ttscommon.workspace import Speaker


@pytest.fixture
def speaker(tmp_path) -> Speaker:
    """Two recordings and nothing else."""
    speaker = Speaker("ozzy", tmp_path)
    speaker.audio.mkdir(parents=True)
    for name in ("long.wav", "short.mp3"):
        (speaker.audio / name).touch()
    return speaker


def cut(speaker: Speaker) -> None:
    """One recording in two pieces, the other as it is."""
    parts = {"long@0001": "long.wav", "long@0002": "long.wav", "short": "short.mp3"}
    speaker.clips.mkdir()
    clips = []
    for name, recording in parts.items():
        (speaker.clips / f"{name}.wav").touch()
        audio = f"dataset/clips/{name}.wav"
        clips.append(Clip(name, audio, "", 3.0, "ozzy", "en", recording))
    write_manifest(speaker.clips_manifest, clips)


def hear(speaker: Speaker, texts: dict[str, str]) -> None:
    rows = "".join(f"{name},{text},x [PAUSE],1.0,1,0\n" for name, text in texts.items())
    header = "filename,text,verbatim,duration,num_pauses,num_fillers\n"
    speaker.transcripts_verbatim.write_text(header + rows, encoding="utf-8")


def write(speaker: Speaker, texts: dict[str, str]) -> None:
    rows = "".join(f"{name},{text}\n" for name, text in texts.items())
    speaker.transcripts.write_text("audio_path,text\n" + rows, encoding="utf-8")


def test_a_speaker_without_texts_has_none(speaker):
    assert clip_texts(speaker) == {}


def test_recordings_that_were_not_cut_are_the_clips(speaker):
    hear(speaker, {"long.wav": "heard", "short.mp3": "heard too"})
    write(speaker, {"short.mp3": "written"})
    assert clip_texts(speaker) == {"long.wav": "heard", "short.mp3": "written"}


def test_the_text_of_a_recording_is_that_of_its_clip_only_where_it_stayed_whole(speaker):
    cut(speaker)
    hear(speaker, {"long@0001.wav": "one", "long@0002.wav": "two", "short.wav": "three"})
    write(speaker, {"long.wav": "one two", "short.mp3": "tree"})
    assert clip_texts(speaker) == {
        "long@0001.wav": "one",
        "long@0002.wav": "two",
        "short.wav": "tree",
    }


def test_a_text_by_hand_may_name_a_clip(speaker):
    cut(speaker)
    hear(speaker, {"long@0001.wav": "won", "long@0002.wav": "two"})
    write(speaker, {"clips/long@0001.wav": "one"})
    assert clip_texts(speaker) == {"long@0001.wav": "one", "long@0002.wav": "two"}


def test_text_files_beside_recordings_count_as_written_by_hand(speaker):
    cut(speaker)
    (speaker.audio / "short.txt").write_text("from the file")
    hear(speaker, {"short.wav": "from the ear"})
    assert clip_texts(speaker) == {"short.wav": "from the file"}


@pytest.mark.parametrize("key", ["short", "short.mp3", "audio/short.mp3"])
def test_a_table_wins_over_a_text_file_however_its_path_is_written(speaker, key, caplog):
    (speaker.audio / "short.txt").write_text("from the file")
    write(speaker, {key: "from the table"})
    assert clip_texts(speaker) == {"short.mp3": "from the table"}


def test_two_rows_for_one_clip_that_differ_are_told(speaker, caplog):
    write(speaker, {"short": "one", "short.mp3": "another"})
    assert clip_texts(speaker) == {"short.mp3": "one"}
    assert "'short.mp3' says otherwise" in caplog.text


def test_the_text_of_a_recording_in_pieces_is_told(speaker, caplog):
    assert note_on_pieces(speaker) is None
    cut(speaker)
    write(speaker, {"long.wav": "one two", "short.mp3": "tree"})
    assert clip_texts(speaker) == {"short.wav": "tree"}
    assert "1 texts by hand are of recordings" in caplog.text
    assert "can't be used: long.wav" in str(note_on_pieces(speaker))


def test_every_file_that_texts_by_hand_come_from_is_known(speaker):
    (speaker.audio / "short.lab").write_text("text")
    found = {path.relative_to(speaker.dataset).as_posix() for path in text_sources(speaker)}
    assert {"transcripts.csv", "metadata.csv", "transcripts.jsonl", "audio/short.lab"} <= found


def test_what_was_heard_in_clips_that_are_gone_is_left_out(speaker):
    hear(speaker, {"gone.wav": "heard"})
    assert clip_texts(speaker) == {}


def test_a_text_that_fits_nothing_is_warned_of(speaker, caplog):
    write(speaker, {"gone.wav": "text", "short.mp3": "text"})
    assert clip_texts(speaker) == {"short.mp3": "text"}
    assert "1 transcripts fit no recording, for example gone.wav" in caplog.text


def test_a_row_for_two_recordings_of_one_name_is_refused(speaker):
    (speaker.audio / "short.wav").touch()
    write(speaker, {"short": "whose?"})
    with pytest.raises(UserError, match="fits 2 files"):
        clip_texts(speaker)


def test_a_table_without_a_column_of_files_says_what_it_has(speaker):
    speaker.transcripts.write_text("speaker,text\nozzy,hello\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"missing column: one of audio_path.*found speaker, text"):
        clip_texts(speaker)
