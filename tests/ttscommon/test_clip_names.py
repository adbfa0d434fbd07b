"""Clips of different recordings never get one name."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from ttscommon.clip_names import clip_name, is_piece, recording_ids

HERE = Path("audio")


def ids(*names: str) -> list[str]:
    return list(recording_ids([HERE / name for name in names], HERE).values())


def test_a_recording_keeps_its_name():
    assert ids("Tag 1.wav", "Tag 2.wav", "später/हिन्दी.flac") == [
        "Tag_1",
        "Tag_2",
        "später_हिन्दी",
    ]


def test_of_two_files_with_the_same_stem_both_say_what_they_are():
    assert ids("a.wav", "a.mp3", "b.wav") == ["a_wav", "a_mp3", "b"]
    assert ids("A.wav", "a.mp3") == ["A_wav", "a_mp3"]


def test_folders_and_signs_that_become_the_same_are_told_apart():
    found = ids("x/a.wav", "x_a.wav", "x a.wav")
    assert len(set(found)) == 3
    assert all(name.startswith("x_a_wav_") for name in found)


def test_pieces_are_told_from_whole_recordings_whatever_those_are_called():
    (whole,) = ids("talk@000000-000200.wav")
    assert not is_piece(clip_name(whole, None, 0))
    assert clip_name("talk", 1.0, 12.345) == "talk@000100-001234"
    assert is_piece(clip_name("talk", 0.0, 2.0))


names = st.text(st.sampled_from("aA._@ é-/"), min_size=1, max_size=5).map(
    lambda stem: stem.strip("/.").replace("//", "/").replace("/.", "/") or "x"
)


@given(st.sets(st.tuples(names, st.sampled_from([".wav", ".mp3", ".WAV"])), max_size=6))
def test_names_are_unique_even_where_case_does_not_count(files):
    found = ids(*sorted({f"{stem}{suffix}" for stem, suffix in files}))
    assert len({name.casefold() for name in found}) == len(found)
    assert not any("/" in name or is_piece(name) for name in found)
