"""Transcripts of every usual form are read; broken ones say what is broken."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttscommon.errors import UserError
from ttscommon.manifest import (
    Clip,
    match_transcripts,
    read_manifest,
    read_transcripts,
    write_manifest,
)

EXPECTED = {"a.wav": "Hello, you.", "b.wav": "Zwölf Boxkämpfer"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("transcripts.csv", 'audio_path,text\na.wav,"Hello, you."\nb.wav,Zwölf Boxkämpfer\n'),
        ("transcripts.csv", "audio_path,text\na.wav,Hello, you.\nb.wav,Zwölf Boxkämpfer\n"),
        ("metadata.csv", 'filename,text\r\na.wav,"Hello, you."\r\nb.wav,Zwölf Boxkämpfer\r\n'),
        ("metadata.csv", 'Audio,Transcription\na.wav,"Hello, you."\nb.wav,Zwölf Boxkämpfer'),
        ("metadata.csv", "text|speaker|audio_file\nHello, you.|x|a.wav\nZwölf Boxkämpfer|x|b.wav"),
        ("metadata.csv", "a.wav|hello|Hello, you.\nb.wav|Zwölf Boxkämpfer|\n"),
        ("metadata.txt", "a.wav|Hello, you.\nb.wav|Zwölf Boxkämpfer\n"),
        ("transcripts.tsv", "path\tsentence\na.wav\tHello, you.\nb.wav\tZwölf Boxkämpfer\n"),
        (
            "transcripts.jsonl",
            '{"audio": "a.wav", "text": "Hello, you."}\n\n{"audio": "b.wav", "text": "Zw\\u00f6lf '
            'Boxkämpfer"}\n',
        ),
    ],
)
def test_every_form_of_transcripts_reads_the_same(tmp_path, name, content):
    (tmp_path / name).write_bytes(content.encode())
    assert read_transcripts(tmp_path) == EXPECTED
    assert read_transcripts(tmp_path / name) == EXPECTED


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    (tmp_path / "transcripts.csv").write_bytes("audio_path,text\na,b\n".encode("utf-8-sig"))
    assert read_transcripts(tmp_path) == {"a": "b"}


def test_quotes_in_an_ljspeech_line_belong_to_the_text(tmp_path):
    (tmp_path / "metadata.csv").write_text('a|"No," he said.\nb|"open\n', encoding="utf-8")
    assert read_transcripts(tmp_path) == {"a": '"No," he said.', "b": '"open'}


def test_text_files_beside_recordings_count_and_the_table_goes_before_them(tmp_path):
    for name in ("a.wav", "b.wav", "sub/c.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a.txt").write_text("from the file a\n")
    (tmp_path / "sub" / "c.lab").write_text("from the label c")
    (tmp_path / "transcripts.csv").write_text("audio_path,text\na.wav,from the table\n")
    assert read_transcripts(tmp_path) == {
        "a.wav": "from the table",
        "sub/c.wav": "from the label c",
    }


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        (
            "transcripts.csv",
            "audio_path,text\na.wav,Zwölf\n".encode("latin-1"),
            "line 2 isn't UTF-8",
        ),
        ("transcripts.csv", "audio_path,text\na.wav,x\n".encode("utf-16"), "isn't UTF-8"),
        ("transcripts.csv", b"audio_path,speaker\na.wav,x\n", "missing column: one of text"),
        ("transcripts.csv", b"a.wav,hello\n", "missing column"),
        ("transcripts.csv", b"text,audio_path\nhello, you,a.wav\n", "3 columns instead of 2"),
        ("transcripts.csv", b"audio_path,text\n", "no transcripts in the file"),
        ("transcripts.csv", b"", "no transcripts in the file"),
        ("transcripts.jsonl", b'{"audio": "a.wav"}\n', 'record 1 lacks "audio_path" or "text"'),
        ("transcripts.jsonl", b'{"audio": "a.wav", "text": 5}\n', "record 1 lacks"),
        ("transcripts.jsonl", b'{"audio":\n', "line 1 isn't JSON"),
        ("transcripts.jsonl", b"[1]\n", "line 1 isn't a JSON object"),
    ],
)
def test_a_broken_table_is_refused_with_its_name_and_the_reason(tmp_path, name, content, what):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=what) as caught:
        read_transcripts(tmp_path)
    assert name in str(caught.value)


def test_a_folder_without_transcripts_has_none(tmp_path):
    assert read_transcripts(tmp_path) == {}


def test_texts_find_their_files_by_path_name_or_stem():
    files = [Path("d/audio/a.wav"), Path("d/audio/b.flac"), Path("d/audio/v1.2 take.wav")]
    transcripts = {"audio/a.wav": "A", "b": "B", "v1.2 take": "C", "gone.wav": "D"}
    texts, orphans = match_transcripts(transcripts, files)
    assert texts == dict(zip(files, "ABC", strict=True))
    assert orphans == ["gone.wav"]


def test_a_file_that_was_converted_keeps_its_text():
    texts, orphans = match_transcripts({r"C:\old\a.mp3": "A"}, [Path("audio/a.wav")])
    assert texts == {Path("audio/a.wav"): "A"}
    assert not orphans


def test_an_id_with_a_dot_does_not_match_the_part_before_it():
    assert match_transcripts({"a.1": "x"}, [Path("a.wav")]) == ({}, ["a.1"])


def test_files_of_one_name_are_told_apart_by_their_folders_or_refused():
    files = [Path("d/x/a.wav"), Path("d/y/a.wav")]
    texts, _ = match_transcripts({"x/a.wav": "X", "y/a": "Y"}, files)
    assert texts == dict(zip(files, "XY", strict=True))
    with pytest.raises(UserError, match="fits 2 files"):
        match_transcripts({"a": "?"}, files)


words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
clips = st.builds(
    Clip,
    *[words] * 3,
    duration=st.floats(0, 100),
    speaker=words,
    language=words,
    recording=words,
    start=st.floats(0, 1e5),
)


@given(st.lists(clips, max_size=5))
def test_a_manifest_reads_back_as_it_was_written(tmp_path_factory, written):
    path = tmp_path_factory.mktemp("manifest") / "manifest.jsonl"
    write_manifest(path, written, speaker="ozzy")
    assert read_manifest(path) == written


def test_a_manifest_serves_as_transcripts(tmp_path):
    clip = Clip("a", "audio/a.wav", "hello", 1.0, "ozzy", "en", "audio/a.wav")
    write_manifest(tmp_path / "m.jsonl", [clip])
    assert read_transcripts(tmp_path / "m.jsonl") == {"audio/a.wav": "hello"}


@pytest.mark.parametrize("first", ['{"format": "other", "version": 1}', '{"id": "a"}', ""])
def test_a_manifest_of_another_format_is_refused(tmp_path, first):
    (tmp_path / "m.jsonl").write_text(first + "\n")
    with pytest.raises(UserError, match=r"expected a ttscommon\.manifest file"):
        read_manifest(tmp_path / "m.jsonl")
