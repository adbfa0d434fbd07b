"""Clips are found with their texts, named apart, and held out by recording."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from indextts.prepare_config import PrepareConfig
from indextts.utterances import Source, Utterance, folder_source, speaker_source, split
from tests.indextts.prepared_clips import write_table
from ttscommon.clip_config import ClipConfig
from ttscommon.errors import UserError
from ttscommon.manifest import Clip, write_manifest
from ttscommon.validation import Limits
from ttscommon.workspace import Speaker

RATE = 8000
CONFIG = PrepareConfig()


def write_sound(path: Path, seconds: float = 1.5) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    times = np.arange(round(seconds * RATE)) / RATE
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * 220 * times), RATE)
    return path


def utterance(recording: str, number: int, seconds: float = 5.0) -> Utterance:
    name = f"{recording}@{number:03d}.wav"
    return Utterance(
        id=name[:-4],
        path=Path(name),
        name=name,
        text="words",
        duration=seconds,
        recording=recording,
        start=number * seconds,
    )


def test_what_has_no_text_no_sound_or_no_fitting_length_is_told(tmp_path):
    audio = tmp_path / "audio"
    for name, seconds in {"a": 1.5, "b": 2.0, "long": 4.0, "short": 0.4, "mute": 1.5}.items():
        write_sound(audio / f"{name}.wav", seconds)
    (audio / "empty.wav").touch()
    (audio / "phone.m4a").write_bytes(b"x")
    names = ("a.wav", "b", "long.wav", "short.wav", "gone.wav", "empty.wav")
    table = write_table(tmp_path / "t.csv", dict.fromkeys(names, "hello"))
    source = folder_source(audio, table, PrepareConfig(max_duration=3))
    assert [u.id for u in source.utterances] == ["a", "b"]
    assert sorted(source.skipped) == [
        ("empty.wav", "audio file has zero bytes"),
        ("gone.wav", "transcript without a recording"),
        ("long.wav (4.0 s)", "longer than --max-duration 3"),
        ("mute.wav", "no transcript"),
        ("phone.m4a", ".m4a can't be read; convert it to .wav"),
        ("short.wav (0.4 s)", "shorter than --min-duration 1"),
    ]


def test_files_with_the_same_stem_have_names_of_their_own(tmp_path):
    for name in ("a.wav", "a.flac", "sub/a.wav", "sub__a.wav", "B.wav", "b.flac", "é/ö ü.wav"):
        write_sound(tmp_path / "audio" / name)
    rows = {f"audio/{p.relative_to(tmp_path / 'audio').as_posix()}": "x" * 9
            for p in (tmp_path / "audio").rglob("*.*")}  # fmt: skip
    source = folder_source(tmp_path / "audio", write_table(tmp_path / "t.csv", rows), CONFIG)
    ids = [u.id for u in source.utterances]
    assert len({identity.casefold() for identity in ids}) == len(ids) == 7
    assert not any(set("/\\ ") & set(identity) for identity in ids)


def test_long_names_stay_names_of_files(tmp_path):
    name = "ä" * 100
    write_sound(tmp_path / "audio" / f"{name}.wav")
    table = write_table(tmp_path / "t.csv", {f"{name}.wav": "hello"})
    (found,) = folder_source(tmp_path / "audio", table, CONFIG).utterances
    assert len(f".{found.id}_condition.npy.123456.part".encode()) < 255


def test_a_text_that_fits_two_files_is_refused(tmp_path):
    write_sound(tmp_path / "audio" / "a.wav")
    write_sound(tmp_path / "audio" / "a.flac")
    with pytest.raises(UserError, match=r"'a' fits 2 files"):
        folder_source(tmp_path / "audio", write_table(tmp_path / "t.csv", {"a": "x"}), CONFIG)


def test_a_table_without_a_column_of_files_is_refused_with_what_it_has(tmp_path):
    write_sound(tmp_path / "audio" / "a.wav")
    table = write_table(tmp_path / "t.csv", {"a.wav": "x"}, header="clip,text")
    with pytest.raises(UserError, match=r"missing column: one of audio_path.*found clip, text"):
        folder_source(tmp_path / "audio", table, CONFIG)


def test_clips_that_are_all_too_long_are_listed(tmp_path):
    for number in range(7):
        write_sound(tmp_path / "ozzy" / "dataset" / "audio" / f"{number}.wav", 3.0)
    rows = {f"{number}.wav": "hello" for number in range(7)}
    speaker = Speaker("ozzy", tmp_path)
    write_table(speaker.transcripts, rows)
    with pytest.raises(UserError) as caught:
        speaker_source(speaker, PrepareConfig(max_duration=2))
    assert "7 x longer than --max-duration 2: 0.wav (3.0 s), 1.wav (3.0 s)" in str(caught.value)
    assert "and 2 more" in str(caught.value)
    assert "segment_recordings.py --speaker ozzy" in str(caught.value)


def test_a_speaker_without_texts_is_sent_to_the_transcriber(tmp_path):
    speaker = Speaker("ozzy", tmp_path)
    write_sound(speaker.audio / "a.wav")
    with pytest.raises(UserError) as caught:
        speaker_source(speaker, CONFIG)
    assert "1 x no transcript: a.wav" in str(caught.value)
    assert "transcribe_dataset.py --speaker ozzy" in str(caught.value)


def test_no_folder_and_an_empty_one_are_refused(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        speaker_source(Speaker("ozzy", tmp_path), CONFIG)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no recordings in the folder"):
        folder_source(tmp_path / "empty", tmp_path, CONFIG)


def cut(clips: Path, manifest: Path, inside: str) -> Path:
    """Three clips of one recording, their list, and a table of their texts."""
    found = [Clip(f"talk@{n}", f"{inside}talk@{n}.wav", "", 1.5, "ozzy", "en", "talk.flac", 2.0 * n)
             for n in range(3)]  # fmt: skip
    for clip in found:
        write_sound(clips / f"{clip.id}.wav")
    write_manifest(manifest, found)
    return write_table(
        manifest.parent / "heard.csv", {c.id + ".wav": "hello" for c in found}, "filename,text"
    )


def origins(source: Source) -> list[tuple[str, float, str]]:
    return [(u.recording, u.start, u.language) for u in source.utterances]


CUT = [("talk.flac", 2.0 * number, "en") for number in range(3)]


def test_clips_know_the_recording_they_were_cut_from(tmp_path):
    speaker = Speaker("ozzy", tmp_path)
    table = cut(speaker.clips, speaker.clips_manifest, "dataset/clips/")
    table.rename(speaker.transcripts_verbatim)
    write_sound(speaker.audio / "talk.flac", 6)
    by_paths = folder_source(speaker.clips, speaker.transcripts_verbatim, CONFIG)
    for source in (speaker_source(speaker, CONFIG), by_paths):
        assert origins(source) == CUT
        assert source.speaker == "ozzy"


def test_clips_of_a_data_set_of_no_speaker_know_it_too(tmp_path, monkeypatch):
    place = tmp_path / "mine"
    table = cut(place / "clips", place / "clips.jsonl", "clips/")
    assert origins(folder_source(place / "clips", table, CONFIG)) == CUT
    monkeypatch.chdir(place / "clips")
    source = folder_source(Path(), table, CONFIG)
    assert origins(source) == CUT
    assert source.speaker == "ozzy"


def test_a_speaker_s_clips_may_have_the_texts_of_another_table(tmp_path):
    speaker = Speaker("ozzy", tmp_path)
    cut(speaker.clips, speaker.clips_manifest, "dataset/clips/").rename(speaker.transcripts)
    first, second, *_ = sorted(path.name for path in speaker.clips.glob("*.wav"))
    other = tmp_path / "other.csv"
    other.write_text(f"audio_path,text\n{second},Other words.\n", encoding="utf-8")
    source = speaker_source(speaker, CONFIG, other)
    assert [(one.name, one.text) for one in source.utterances] == [(second, "Other words.")]
    assert source.utterances[0].recording == "talk.flac"
    assert (first, "no transcript") in source.skipped


def test_excluded_clips_are_left_out_by_speaker_and_by_paths(tmp_path):
    speaker = Speaker("ozzy", tmp_path)
    table = cut(speaker.clips, speaker.clips_manifest, "dataset/clips/")
    table.rename(speaker.transcripts_verbatim)
    first, *rest = sorted(path.name for path in speaker.clips.glob("*.wav"))
    speaker.excluded.write_text(f"{first}  # a cough\n", encoding="utf-8")
    by_paths = folder_source(speaker.clips, speaker.transcripts_verbatim, CONFIG)
    for source in (speaker_source(speaker, CONFIG), by_paths):
        assert [utterance.name for utterance in source.utterances] == rest
        assert source.skipped == [(first, "named in excluded.txt")]
    speaker.excluded.write_text("talk.flac\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"no clip can be used; 3 x named in excluded\.txt"):
        speaker_source(speaker, CONFIG)


def test_lines_of_exclusions_without_effect_are_told_once(tmp_path, caplog):
    speaker = Speaker("ozzy", tmp_path)
    table = cut(speaker.clips, speaker.clips_manifest, "dataset/clips/")
    table = table.rename(speaker.transcripts)
    speaker.excluded.write_text("gone.wav\n", encoding="utf-8")
    folder_source(speaker.clips, table, CONFIG)
    assert caplog.text.count("1 lines fit no clip, for example gone.wav") == 1
    speaker_source(speaker, CONFIG)
    assert caplog.text.count("gone.wav") == 2
    speaker_source(speaker, CONFIG, table)
    assert caplog.text.count("gone.wav") == 3


def test_linked_clips_keep_their_recording_and_their_exclusions(tmp_path):
    speaker = Speaker("ozzy", tmp_path)
    table = cut(speaker.clips, speaker.clips_manifest, "dataset/clips/")
    table.rename(speaker.transcripts)
    first, *rest = sorted(path.name for path in speaker.clips.glob("*.wav"))
    speaker.clips.rename(tmp_path / "elsewhere")
    speaker.clips.symlink_to(tmp_path / "elsewhere")
    speaker.excluded.write_text(first, encoding="utf-8")
    source = folder_source(speaker.clips, speaker.transcripts, CONFIG)
    assert [one.name for one in source.utterances] == rest
    assert {one.recording for one in source.utterances} == {"talk.flac"}


def test_a_list_of_other_clips_is_refused(tmp_path):
    table = cut(tmp_path / "clips", tmp_path / "clips.jsonl", "clips/")
    for path in (tmp_path / "clips").glob("*.wav"):
        path.rename(path.with_name("x" + path.name))
    with pytest.raises(UserError, match="names none of those in the folder"):
        folder_source(tmp_path / "clips", table, CONFIG)


@pytest.mark.parametrize("seed", range(8))
def test_a_recording_more_leaves_the_others_where_they_were(seed):
    clips = [utterance(f"{r:03d}", 0) for r in range(60)]
    before: set[str] = set()
    moved = 0
    for n in range(20, 60):
        held_out = {u.id for u in split(clips[:n], PrepareConfig(seed=seed))[1]}
        moved += len(held_out - before - {clips[n - 1].id}) if before else 0
        before = held_out
    assert moved <= 4  # the share grows from 2 to 5 recordings


def test_no_recording_is_on_both_sides():
    clips = [utterance(f"rec{r}", n) for r in range(8) for n in range(r + 1)]
    train, held_out, notes = split(clips, PrepareConfig(train_split=0.8))
    assert {u.recording for u in train}.isdisjoint(u.recording for u in held_out)
    assert sorted(u.id for u in [*train, *held_out]) == sorted(u.id for u in clips)
    assert 0 < sum(u.duration for u in held_out) <= 0.2 * sum(u.duration for u in clips)
    assert notes == []
    assert (train, held_out, notes) == split(clips, PrepareConfig(train_split=0.8))


def test_the_seed_chooses_what_is_held_out():
    clips = [utterance(f"rec{r}", 0) for r in range(30)]
    chosen = {split(clips, PrepareConfig(seed=seed))[1][0].id for seed in range(5)}
    assert len(chosen) > 1


def test_both_sides_have_a_clip_at_any_share():
    for share in (0.01, 0.5, 0.99):
        for clips in ([utterance("a", 0), utterance("b", 0)], [utterance("a", n) for n in (0, 1)]):
            train, held_out, _ = split(clips, PrepareConfig(train_split=share))
            assert len(train) == len(held_out) == 1


def test_a_single_recording_gives_its_last_clips_and_a_note():
    clips = [utterance("talk", number) for number in range(20)]
    train, held_out, notes = split(clips, CONFIG)
    assert held_out == clips[18:]
    assert train == clips[:18]
    assert "one recording" in notes[0]


def test_few_long_recordings_are_held_out_whole_with_a_note_or_by_clip_on_request():
    clips = [utterance(name, number) for name in "ab" for number in range(10)]
    _, held_out, notes = split(clips, CONFIG)
    assert len(held_out) == 10
    assert notes[0].startswith("50 % of the sound is held out")
    _, held_out, notes = split(clips, PrepareConfig(split_by="clip"))
    assert len(held_out) == 2
    assert notes == []


def test_a_single_clip_is_too_little():
    with pytest.raises(UserError, match="one clip is too little"):
        split([utterance("a", 0)], CONFIG)


@pytest.mark.parametrize(
    "values",
    [{"train_split": 1.0}, {"train_split": 0.0}, {"min_duration": 20.0}, {"workers": 0}],
)
def test_settings_that_make_no_sense_are_refused(values):
    with pytest.raises(UserError):
        PrepareConfig(**values)


def test_what_is_cut_may_be_trained_on_and_is_found_good():
    assert ClipConfig().max_seconds == Limits().max_seconds == CONFIG.max_duration
