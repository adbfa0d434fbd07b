"""words.json says what it is, and what isn't ours is refused."""

from __future__ import annotations

import pytest

from ttscommon.clip_words import ClipWords
from ttscommon.errors import UserError
from ttscommon.files import read_json, write_json

ENTRIES = {"a.wav": {"source": "heard", "text": "One.", "words": []}}


@pytest.fixture
def words(tmp_path) -> ClipWords:
    return ClipWords(tmp_path / "words.json")


def test_what_is_written_comes_back_and_the_file_says_what_it_is(words):
    assert words.read() == {}
    words.write(ENTRIES)
    assert words.read() == ENTRIES
    plain = read_json(words.path)
    assert (plain["format"], plain["version"], plain["clips"]) == ("ttscommon.words", 1, ENTRIES)


def test_an_older_file_is_read_and_told_in_one_line(words, caplog):
    write_json(words.path, ENTRIES)
    assert words.read() == ENTRIES
    (record,) = caplog.records
    assert "is of an older version; the next transcription writes it anew" in record.message


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([1, 2], "no words of clips"),
        ({"a.wav": {"text": "One."}}, "nothing that we wrote of 'a.wav'"),
        ({"a.wav": 3}, "nothing that we wrote of 'a.wav'"),
        ({"format": "ttscommon.words", "version": 2, "clips": {}}, "found ttscommon.words of 2"),
        ({"format": "others.words", "version": 1}, "found others.words of 1"),
        ({"format": "ttscommon.words", "version": 1}, "no words of clips"),
    ],
)
def test_a_file_that_is_not_ours_is_refused(words, data, message):
    write_json(words.path, data)
    with pytest.raises(UserError, match=rf"{message}.*words\.json.*Fix: move it away"):
        words.read()
