"""Names of files of speech, and what is refused before any work."""

from pathlib import Path

import pytest

from ttscommon.errors import UserError
from ttscommon.outputs import read_texts, require_new, require_writable, speech_paths


def test_texts_are_the_lines_that_say_something(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("\ufeffOne.\n\n  Two. \n", encoding="utf-8")
    assert read_texts(path) == ["One.", "Two."]


@pytest.mark.parametrize(
    ("content", "message"), [(None, "no such text file"), (b"\xff", "UTF-8"), (b" \n", "no text")]
)
def test_a_file_without_texts_is_refused(tmp_path, content, message):
    path = tmp_path / "texts.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_texts(path)


def test_files_are_named_after_their_texts():
    assert speech_paths(["Hello, you!"], Path("out"), "tts") == [Path("out/tts_hello-you.wav")]
    names = [path.name for path in speech_paths(["你好。", "???"] * 5, Path(), "tts")]
    assert names[:2] == ["tts_01_你好.wav", "tts_02_speech.wav"]


def test_what_exists_is_replaced_only_on_request(tmp_path):
    old, new = tmp_path / "old.wav", tmp_path / "new.wav"
    old.touch()
    require_new([new], overwrite=False)
    require_new([old], overwrite=True)
    with pytest.raises(UserError, match=r"exists already.*old\.wav"):
        require_new([new, old], overwrite=False)


def test_a_place_that_cannot_be_written_is_refused_and_nothing_made(tmp_path):
    require_writable(tmp_path / "a" / "b" / "speech.wav")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="a folder stands"):
        require_writable(tmp_path)
    with pytest.raises(UserError, match="cannot write there"):
        require_writable(tmp_path / "file" / "speech.wav")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
