"""Data sets with one thing wrong, and what is said about them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from ttscommon.dataset_check import check_dataset, measure
from ttscommon.doctor import Finding
from ttscommon.manifest import Clip, write_manifest
from ttscommon.workspace import Speaker

RATE = 16_000
N = 6


def tone(path: Path, seconds: float = 2.0, rate: int = RATE, gain: float = 0.3) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    hertz = 200 + 10 * len(list(path.parent.iterdir()))
    soundfile.write(path, gain * np.sin(np.arange(round(seconds * rate)) * hertz / rate), rate)
    return path


def write_texts(speaker: Speaker, texts: dict[str, str]) -> None:
    lines = "".join(f"{name},{text}\n" for name, text in texts.items())
    speaker.transcripts.write_text("audio_path,text\n" + lines, encoding="utf-8")


@pytest.fixture
def speaker(tmp_path) -> Speaker:
    """Six recordings with fitting texts."""
    speaker = Speaker("ozzy", tmp_path)
    for number in range(N):
        tone(speaker.audio / f"{number}.wav")
    write_texts(speaker, {f"{number}.wav": "twenty letters in here" for number in range(N)})
    return speaker


def found(speaker: Speaker) -> list[Finding]:
    return list(check_dataset(speaker))


def said(speaker: Speaker, status: str) -> str:
    return "\n".join(f.what for f in found(speaker) if f.status == status)


def test_a_good_set_has_nothing_but_its_size_to_complain_of(speaker):
    notes = [f for f in found(speaker) if f.status != "ok"]
    assert [f.what for f in notes] == [
        "6 that can be read, 0.2 minutes, 16,000 Hz; little for a training"
    ]
    assert "6 of 6 recordings have one" in said(speaker, "ok")


def test_excluded_recordings_need_no_text(speaker):
    write_texts(speaker, {f"{number}.wav": "twenty letters in here" for number in range(N - 1)})
    assert "5 of 6 recordings have one" in said(speaker, "note")
    speaker.excluded.write_text(f"{N - 1}.wav", encoding="utf-8")
    assert "5 of 5 recordings have one" in said(speaker, "ok")


def test_a_broken_list_of_exclusions_is_a_finding(speaker):
    tone(speaker.clips / "0.wav")
    clip = Clip("0", "dataset/clips/0.wav", "", 2.0, "ozzy", "en", "0.wav")
    write_manifest(speaker.clips_manifest, [clip])
    speaker.excluded.write_bytes(b"\xff")
    wrong = [f for f in found(speaker) if f.status == "wrong"]
    assert [f.name for f in wrong] == ["clips", "transcripts"]
    assert all("excluded.txt" in f.what for f in wrong)


def test_every_recording_is_reported_as_it_is_read(speaker):
    calls: list[int] = []
    list(check_dataset(speaker, lambda: calls.append(1)))
    assert len(calls) == N


def test_no_recordings_at_all_are_wrong(tmp_path):
    (finding,) = found(Speaker("nobody", tmp_path))
    assert finding.status == "wrong"
    assert "none in" in finding.what


def test_formats_that_cannot_be_read_are_named_with_a_way_out(speaker):
    (speaker.audio / "voice.m4a").write_bytes(b"not for us")
    first = found(speaker)[0]
    assert "1 (voice.m4a)" in first.what
    assert "ffmpeg -i 'voice.m4a'" in str(first.fix)


def test_broken_files_are_named_by_reason(speaker):
    (speaker.audio / "0.wav").write_bytes(b"")
    soundfile.write(speaker.audio / "1.wav", np.full(9, np.nan), RATE, subtype="FLOAT")
    notes = said(speaker, "note")
    assert "audio file has zero bytes: 1 (0.wav)" in notes
    assert "NaN or infinite samples: 1 (1.wav)" in notes


def test_a_set_that_is_mostly_broken_is_wrong(speaker):
    for number in range(4):
        (speaker.audio / f"{number}.wav").write_bytes(b"RIFF")
    assert said(speaker, "wrong") == "only 2 of 6 can be read"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"gain": 0.0}, "silent throughout"),
        ({"gain": 3.0}, "clipped"),
        ({"seconds": 0.2}, "shorter than"),
        ({"rate": 8_000}, "will sound dull"),
    ],
)
def test_bad_sound_is_heard(speaker, changes, expected):
    tone(speaker.audio / "0.wav", **changes)
    (line,) = [f.what for f in found(speaker) if f.name == "sound"]
    assert expected in line
    assert "0.wav" in line


def test_the_same_file_under_two_names_is_noticed(speaker):
    (speaker.audio / "9.wav").write_bytes((speaker.audio / "3.wav").read_bytes())
    assert "the same file twice: 1 (9.wav)" in said(speaker, "note")


def test_texts_without_sound_and_sound_without_text_are_named(speaker):
    write_texts(speaker, {"0.wav": "yes", "gone.wav": "no"})
    notes = said(speaker, "note")
    assert "1 of 6 recordings have one" in notes
    assert "without a recording: 1 (gone.wav)" in notes


def test_a_broken_table_is_wrong(speaker):
    speaker.transcripts.write_text("who,what\na,b\n", encoding="utf-8")
    assert "missing column" in said(speaker, "wrong")


def test_a_text_far_too_long_for_its_sound_is_suspected(speaker):
    texts = {f"{number}.wav": "twenty letters in here" for number in range(N)}
    write_texts(speaker, {**texts, "4.wav": "far too many words " * 12})
    assert "than the usual 10: 1 (4.wav)" in said(speaker, "note")


def cut(speaker: Speaker, n_clips: int = 2) -> None:
    """Two clips of each recording, with what Whisper heard in them."""
    clips, lines = [], ["filename,text,verbatim,duration,num_pauses,num_fillers"]
    for number in range(N):
        for part in range(n_clips):
            name = f"{number}@{part:06d}-{part + 1:06d}"
            tone(speaker.clips / f"{name}.wav")
            audio = f"dataset/clips/{name}.wav"
            recording = f"{number}.wav"
            clips.append(Clip(name, audio, "", 2.0, "ozzy", "", recording, float(part)))
            lines.append(f"{name}.wav,twenty letters in here,,2.0,0,0")
    write_manifest(speaker.clips_manifest, clips)
    speaker.transcripts_verbatim.write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_where_there_are_clips_they_are_looked_at(speaker):
    speaker.transcripts.unlink()
    cut(speaker)
    said_ok = said(speaker, "ok")
    assert "12 cut from 6 recordings, 0.4 minutes" in said_ok
    assert "12 of 12 clips have one" in said_ok
    tone(speaker.clips / "0@000000-000001.wav", gain=0.0)
    assert "silent throughout: 1 (0@000000-000001.wav)" in said(speaker, "note")


def test_clips_that_are_gone_and_recordings_without_clips_are_named(speaker):
    cut(speaker)
    tone(speaker.audio / "new.wav")
    assert "12 cut from 6 recordings, 0.4 minutes; none of 1 (new.wav)" in said(speaker, "note")
    (speaker.clips / "3@000001-000002.wav").unlink()
    assert said(speaker, "wrong") == "gone or broken: 1 (3@000001-000002.wav)"


def manifest(speaker: Speaker, numbers: range) -> None:
    clips = [
        Clip(str(n), f"dataset/audio/{n}.wav", "text", 2.0, "ozzy", "en", str(n)) for n in numbers
    ]
    write_manifest(speaker.lewm.manifest, clips)


def test_features_of_all_recordings_are_well(speaker):
    manifest(speaker, range(N))
    assert "6 clips, 0.2 minutes" in said(speaker, "ok")


def test_features_made_of_other_recordings_are_noticed(speaker):
    manifest(speaker, range(N - 1))
    assert "1 recordings have no part in it" in said(speaker, "note")
    manifest(speaker, range(N + 1))
    assert "recordings since gone: 1 (6.wav)" in said(speaker, "note")


def test_broken_features_are_wrong_and_told_how_to_be_made_again(speaker):
    speaker.lewm.processed.mkdir(parents=True)
    (wrong,) = [f for f in found(speaker) if f.status == "wrong"]
    assert wrong.fix == "python tools/lewm_preprocess.py --speaker ozzy"


def test_a_long_recording_is_measured_in_pieces(tmp_path):
    sound = measure(tone(tmp_path / "long.wav", seconds=130, rate=1_000))
    assert sound.seconds == 130
    assert sound.peak == pytest.approx(0.3, abs=0.01)
