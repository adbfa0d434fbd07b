"""What people get wrong with their recordings: one clear line each, and nothing lost."""

from __future__ import annotations

import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.lewm.recordings_made import RATE, tone, write_dataset, write_tones, write_transcripts
from tools import lewm_preprocess
from ttscommon.errors import UserError
from ttscommon.files import read_json
from ttscommon.workspace import Speaker


def run(tmp_path: Path, *flags: str) -> str:
    """Run the real tool on tmp_path/in; returns the one line it fails with, or nothing."""
    words = ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"), *flags]
    line = ""
    try:
        lewm_preprocess.main([*words, "--workers", "1", "--json", str(tmp_path / "report.json")])
    except UserError as error:
        line = str(error)
    assert "\n" not in line
    assert (tmp_path / "out" / "features.json").exists() == (not line)
    return line


def skipped(tmp_path: Path) -> dict[str, str]:
    (report,) = read_json(tmp_path / "report.json")
    return {skip["what"]: skip["why"] for skip in report["skipped"]}


def test_a_folder_that_is_not_there_is_named(tmp_path):
    line = run(tmp_path)
    assert "no such folder" in line
    assert str(tmp_path / "in") in line


def test_an_empty_folder_says_what_belongs_into_it(tmp_path):
    (tmp_path / "in").mkdir()
    assert "no recordings in the folder" in (line := run(tmp_path))
    assert ".wav" in line


def test_a_folder_of_phone_memos_says_that_they_must_be_converted(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "memo.m4a").write_bytes(b"x" * 100)
    assert "1 files, but none in a readable format" in run(tmp_path)


def test_a_speaker_without_recordings_is_told_where_to_put_them(tmp_path):
    with pytest.raises(UserError, match="no such folder") as caught:
        lewm_preprocess.main(["--speaker", "ozzy", "--training-root", str(tmp_path)])
    assert str(tmp_path / "ozzy" / "dataset" / "audio") in str(caught.value)


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "", " "])
def test_a_name_that_leads_elsewhere_is_refused_before_anything_is_read(tmp_path, name):
    with pytest.raises(UserError, match="can't be a speaker's name"):
        lewm_preprocess.main(["--speaker", name, "--training-root", str(tmp_path)])
    assert not list(tmp_path.iterdir())


def test_transcripts_without_recordings_are_counted(tmp_path):
    write_dataset(tmp_path / "in", 3)
    write_transcripts(
        tmp_path / "in" / "transcripts.csv",
        [f"audio/clip00{n}.wav" for n in range(3)] + ["audio/gone.wav"],
    )
    assert run(tmp_path) == ""
    assert skipped(tmp_path) == {"audio/gone.wav": "transcript without a recording"}


def test_transcripts_that_fit_no_recording_are_refused(tmp_path):
    write_tones(tmp_path / "in", 2)
    write_transcripts(tmp_path / "in" / "transcripts.csv", [f"other{n}.wav" for n in range(5)])
    assert "5 x transcript without a recording" in run(tmp_path)


def test_excluded_recordings_are_left_out_and_are_no_fault(tmp_path, caplog):
    write_dataset(tmp_path / "in", 4)
    excluded = tmp_path / "in" / "excluded.txt"
    excluded.write_text("clip000.wav\nclip001  # a cough\naudio/clip003\ntalk@1\n")
    assert run(tmp_path) == ""
    gone = {f"audio/clip00{n}.wav": "named in excluded.txt" for n in (0, 1, 3)}
    assert skipped(tmp_path) == gone
    assert read_json(tmp_path / "out" / "features.json")["n_clips"] == 1
    assert "1 lines name no recording" in caplog.text
    assert caplog.text.count("talk@1") == 1


def test_a_speaker_s_list_of_exclusions_counts_and_may_name_all(tmp_path):
    speaker = Speaker("ozzy", tmp_path)
    write_dataset(speaker.dataset, 2)
    speaker.excluded.write_text("clip000\nclip001\n")
    with pytest.raises(UserError, match=r"all 2 .*2 x named in excluded\.txt"):
        lewm_preprocess.main(["--speaker", "ozzy", "--training-root", str(tmp_path)])


def test_recordings_without_transcripts_are_counted_when_transcription_is_off(tmp_path):
    write_dataset(tmp_path / "in", 2)
    write_tones(tmp_path / "in" / "audio", 6)
    assert run(tmp_path, "--transcribe", "never") == ""
    reasons = skipped(tmp_path)
    assert sorted(reasons) == [f"audio/clip00{n}.wav" for n in range(2, 6)]
    assert set(reasons.values()) == {"no transcript, and no transcription"}


def test_no_transcript_at_all_is_an_error_when_transcription_is_off(tmp_path):
    write_tones(tmp_path / "in", 2)
    assert "2 x no transcript, and no transcription" in run(tmp_path, "--transcribe", "never")


def test_no_transcript_at_all_and_no_whisper_says_that_whisper_is_missing(tmp_path):
    write_tones(tmp_path / "in", 2)
    line = run(tmp_path, "--whisper-model", str(tmp_path / "base.pt"))
    assert "no such Whisper model" in line


def test_a_missing_whisper_costs_only_the_clips_that_need_it(tmp_path):
    write_dataset(tmp_path / "in", 3)
    write_tones(tmp_path / "in" / "audio", 4)
    assert run(tmp_path, "--whisper-model", str(tmp_path / "base.pt")) == ""
    assert list(skipped(tmp_path)) == ["audio/clip003.wav"]


def test_a_table_that_is_not_utf_8_is_named_with_the_line(tmp_path):
    write_tones(tmp_path / "in", 1)
    table = tmp_path / "in" / "transcripts.csv"
    table.write_bytes("audio_path,text\nclip000.wav,schön\n".encode("latin-1"))
    assert "line 2 isn't UTF-8" in (line := run(tmp_path))
    assert str(table) in line


def spoil_with_text(path: Path) -> None:
    path.write_text("this is no sound")


def spoil_by_emptying(path: Path) -> None:
    path.write_bytes(b"")


def spoil_with_no_samples(path: Path) -> None:
    soundfile.write(path, np.zeros(0), RATE)


def spoil_with_nan(path: Path) -> None:
    soundfile.write(path, np.full(RATE, np.nan, np.float32), RATE, subtype="FLOAT")


def spoil_with_silence(path: Path) -> None:
    soundfile.write(path, np.zeros(RATE), RATE)


def spoil_by_cutting_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:30])


SPOILED: list[tuple[Callable[[Path], None], str]] = [
    (spoil_with_text, "cannot decode the audio"),
    (spoil_by_emptying, "audio file has zero bytes"),
    (spoil_with_no_samples, "audio has no samples"),
    (spoil_with_nan, "audio holds NaN or infinite samples"),
    (spoil_with_silence, "less than 0.3 s of sound"),
    (spoil_by_cutting_off, "cannot decode the audio"),
]


@pytest.mark.parametrize(("spoil", "why"), SPOILED)
def test_a_bad_file_is_left_out_with_its_reason(tmp_path, spoil, why):
    write_dataset(tmp_path / "in", 3)
    spoil(tmp_path / "in" / "audio" / "clip001.wav")
    assert run(tmp_path) == ""
    ((what, reason),) = skipped(tmp_path).items()
    assert what == "audio/clip001.wav"
    assert reason.startswith(why)
    assert read_json(tmp_path / "out" / "features.json")["n_clips"] == 2


@pytest.mark.parametrize(("spoil", "why"), SPOILED)
def test_mostly_bad_files_are_refused_with_the_most_frequent_reason(tmp_path, spoil, why):
    write_dataset(tmp_path / "in", 3)
    for number in (0, 2):
        spoil(tmp_path / "in" / "audio" / f"clip00{number}.wav")
    line = run(tmp_path)
    assert "2 of 3 recordings can't be used" in line
    assert why in line
    assert "clip000.wav" in line


def test_a_clip_over_the_limit_is_left_out_when_nothing_can_transcribe_its_pieces(tmp_path):
    write_dataset(tmp_path / "in", 3)
    soundfile.write(tmp_path / "in" / "audio" / "clip000.wav", tone(5.0), RATE)
    assert run(tmp_path, "--transcribe", "never", "--max-seconds", "4") == ""
    assert "longer than 4 s" in skipped(tmp_path)["audio/clip000.wav"]


@pytest.mark.parametrize("text", ["\u200b", "word " * 300])
def test_a_text_that_is_empty_or_too_long_is_left_out(tmp_path, text):
    write_dataset(tmp_path / "in", 2)
    with (tmp_path / "in" / "transcripts.csv").open("a", encoding="utf-8") as table:
        table.write(f'audio/clip002.wav,"{text}"\n')
    write_tones(tmp_path / "in" / "audio", 3)
    assert run(tmp_path, "--transcribe", "never") == ""
    ((what, why),) = skipped(tmp_path).items()
    assert what.startswith("audio/clip002.wav")
    assert "text" in why


def test_a_full_disk_is_noticed_before_the_work(tmp_path, monkeypatch):
    write_dataset(tmp_path / "in", 2)
    usage = namedtuple("usage", "total used free")(10**12, 10**12, 10_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert "disk almost full" in run(tmp_path)
    assert not (tmp_path / "out").exists()


def test_a_disk_that_fills_up_while_writing_leaves_no_half_file(tmp_path, monkeypatch):
    import pyarrow

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "shard")

    write_dataset(tmp_path / "in", 2)
    monkeypatch.setattr(pyarrow.ipc.RecordBatchStreamWriter, "write_batch", full, raising=False)
    with pytest.raises(OSError, match="No space left"):  # ttscommon.cli.run makes it one line
        run(tmp_path)
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    "words", [[], ["--input", "x"], ["--output", "x"], ["--speaker", "a", "b", "--input", "x"]]
)
def test_half_a_command_is_wrong_usage(words, capsys):
    with pytest.raises(SystemExit) as caught:
        lewm_preprocess.main(words)
    assert caught.value.code == 2
    assert "--input" in capsys.readouterr().err


def test_an_unknown_setting_in_a_file_suggests_the_nearest(tmp_path):
    write_dataset(tmp_path / "in", 1)
    (tmp_path / "c.yaml").write_text("max_secnds: 9\n")
    assert "did you mean 'max_seconds'" in run(tmp_path, "--config", str(tmp_path / "c.yaml"))
