"""The tool as it is typed, with a recogniser that hears the same words in everything."""

from __future__ import annotations

import csv
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.fakes.faster_whisper import LISTENING, write_model
from tests.ttscommon.listener import RATE, put, sentence_audio
from tools import validate_dataset
from tools.transcribe_dataset import main
from ttscommon.clip_words import ClipWords
from ttscommon.errors import UserError
from ttscommon.files import read_json
from ttscommon.manifest import read_transcripts
from ttscommon.progress import read_kept
from ttscommon.workspace import Speaker

ROOT = Path(__file__).resolve().parents[2]
TOOL, FAKES = ROOT / "tools" / "transcribe_dataset.py", ROOT / "tests" / "fakes"
SAID = "um the number you want is not here so please try again a little later"
COLUMNS = ["filename", "text", "verbatim", "duration", "num_pauses", "num_fillers"]


@pytest.fixture
def whisper(tmp_path, monkeypatch) -> Path:
    """A model folder that the fake in tests/fakes reads as faster-whisper reads a real one."""
    monkeypatch.syspath_prepend(str(FAKES))
    return write_model(tmp_path / "whisper", SAID)


@pytest.fixture
def ozzy(tmp_path) -> Speaker:
    """Three recordings that are clips already."""
    speaker = Speaker("ozzy", tmp_path / "training")
    for name, number in zip("abc", (1, 3, 4), strict=True):
        put(speaker.audio, f"{name}.wav", sentence_audio(number))
    return speaker


def flags(speaker: Speaker, whisper: Path, *more: str) -> list[str]:
    whose = ["--speaker", speaker.name, "--training-root", str(speaker.root)]
    return [*whose, "--whisper-model", str(whisper), "--device", "cpu", *more]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_table_words_and_statistics_are_written_and_the_next_command_follows(ozzy, whisper, capsys):
    main(flags(ozzy, whisper))
    said = capsys.readouterr().out
    table = rows(ozzy.transcripts_verbatim)
    assert list(table[0]) == COLUMNS
    assert [row["filename"] for row in table] == ["a.wav", "b.wav", "c.wav"]
    assert table[0]["text"].startswith("um the number")
    assert table[0]["verbatim"].startswith("[UM] the number")
    words = ClipWords(ozzy.words).read()["a.wav"]["words"]
    assert all(0 <= word["start"] <= word["end"] for word in words)
    stats = read_json(ozzy.transcription_stats, format="ttscommon.transcription")
    assert stats["language"] == "en"
    assert re.search(rf"^3 clips, 0\.\d+ minutes, {stats['words']} words in en", said)
    following = shlex.split(re.findall("^Next: (.*)$", said, re.MULTILINE)[-1])
    assert following[1] == "tools/validate_dataset.py"
    args = validate_dataset.build_parser().parse(following[2:])
    assert (args.speaker, args.training_root) == ("ozzy", ozzy.root)


def test_a_text_by_hand_without_words_is_no_crash(ozzy, whisper, capsys):
    ozzy.transcripts.write_text("audio_path,text\na.wav,…\n", encoding="utf-8")
    main(flags(ozzy, whisper))
    assert "1 texts written by hand and 0 corrected" in capsys.readouterr().out


def test_flags_decide_what_is_a_pause_and_what_is_written_for_a_filler(ozzy, whisper):
    rest = np.zeros(RATE // 2)
    put(ozzy.audio, "a.wav", np.concatenate([sentence_audio(1), rest, sentence_audio(3)]))
    main(flags(ozzy, whisper, "--min-pause", "0.3", "--long-pause", "0.4"))
    assert "[LONG]" in rows(ozzy.transcripts_verbatim)[0]["verbatim"]
    main(flags(ozzy, whisper, "--min-pause", "3", "--long-pause", "4", "--no-fillers"))
    table = rows(ozzy.transcripts_verbatim)
    assert {row["num_pauses"] for row in table} == {"0"}
    assert all(row["verbatim"] == row["text"] for row in table)
    assert all(int(row["num_fillers"]) >= 1 for row in table)


def test_folders_may_be_given_instead_of_a_speaker(ozzy, whisper, tmp_path, capsys):
    model = ["--whisper-model", str(whisper), "--language", "en"]
    output = tmp_path / "set"
    main(["--audio-dir", str(ozzy.audio), "--output-dir", str(output), *model])
    assert len(read_transcripts(output / "transcripts_verbatim.csv")) == 3
    assert not ozzy.transcripts_verbatim.exists()
    following = re.findall("^Next: (.*)$", capsys.readouterr().out, re.MULTILINE)[-1]
    args = validate_dataset.build_parser().parse(shlex.split(following)[2:])
    assert args.transcripts == output / "transcripts_verbatim.csv"


def test_a_table_without_a_column_of_files_says_what_it_has_and_nothing_is_written(ozzy, whisper):
    ozzy.transcripts.write_text("speaker,text\nozzy,hello\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"missing column: one of audio_path.*found speaker, text"):
        main(flags(ozzy, whisper))
    assert not ozzy.transcripts_verbatim.exists()


def test_a_text_for_two_recordings_of_one_stem_is_refused(ozzy, whisper):
    put(ozzy.audio, "a.flac", sentence_audio(5))
    ozzy.transcripts.write_text("audio_path,text\na,hello\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"'a' fits 2 files.*write the path"):
        main(flags(ozzy, whisper))
    ozzy.transcripts.write_text("audio_path,text\na.flac,hello\n", encoding="utf-8")
    main(flags(ozzy, whisper))
    texts = read_transcripts(ozzy.transcripts_verbatim)
    assert texts["a.flac"] == "hello"
    assert texts["a.wav"].startswith("um the number")


def test_an_empty_text_by_hand_is_none_and_a_row_without_sound_is_told(ozzy, whisper, caplog):
    table = 'audio_path,text\na.wav,""\nb.wav,By hand.\ngone.wav,Nobody.\n'
    ozzy.transcripts.write_text(table, encoding="utf-8")
    main(flags(ozzy, whisper))
    texts = read_transcripts(ozzy.transcripts_verbatim)
    assert texts["a.wav"].startswith("um the number")
    assert texts["b.wav"] == "By hand."
    assert set(texts) == {"a.wav", "b.wav", "c.wav"}
    assert "left out a line without text" in caplog.text
    assert "1 transcripts fit no recording, for example gone.wav" in caplog.text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--whisper-model", "none.pt"], "no such Whisper model"),
        (["--language", "klingon"], "doesn't know the language 'klingon'"),
        (["--min-pause", "2", "--long-pause", "1"], "pause"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(ozzy, whisper, words, message):
    with pytest.raises(UserError, match=message):
        main(flags(ozzy, whisper, *words))
    assert sorted(path.name for path in ozzy.dataset.iterdir() if path.name[0] != ".") == ["audio"]


def test_a_speaker_without_recordings_is_told(tmp_path, whisper):
    with pytest.raises(UserError, match="no clips to transcribe"):
        main(flags(Speaker("nobody", tmp_path), whisper))


def test_without_a_place_it_is_wrong_usage():
    with pytest.raises(SystemExit) as stopped:
        main([])
    assert stopped.value.code == 2


@pytest.mark.slow
def test_a_run_that_is_killed_breaks_no_file_and_nothing_is_heard_twice(tmp_path):
    speaker = Speaker("ozzy", tmp_path / "training")
    for number in range(1, 9):
        put(speaker.audio, f"c{number}.wav", sentence_audio(number))
    log = tmp_path / "listened.txt"
    whisper = write_model(tmp_path / "whisper", SAID, slow=0.3)
    command = [sys.executable, str(TOOL), *flags(speaker, whisper, "--language", "en")]
    path = os.pathsep.join(filter(None, [str(FAKES), os.environ.get("PYTHONPATH")]))
    surroundings = {**os.environ, "PYTHONPATH": path, LISTENING: str(log)}
    kept = speaker.dataset / ".heard.jsonl"

    def heard() -> list[str]:
        return log.read_text(encoding="utf-8").split() if log.is_file() else []

    running = subprocess.Popen(command, env=surroundings, stderr=subprocess.DEVNULL)
    while len(heard()) < 3:
        assert running.poll() is None
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    running.wait()
    before = list(read_records_of(kept))
    assert 2 <= len(before) <= 4
    assert not speaker.transcripts_verbatim.exists()
    assert not list(speaker.dataset.glob("*.part"))

    log.unlink()
    done = subprocess.run(command, env=surroundings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(heard()) == 8 - len(before)
    assert len(rows(speaker.transcripts_verbatim)) == 8
    log.unlink()
    again = subprocess.run(command, env=surroundings, capture_output=True, text=True)
    assert (again.returncode, heard()) == (0, [])
    assert again.stdout == done.stdout


def read_records_of(path: Path) -> list[dict]:
    return [record for record in read_kept(path) if "words" in record.get("value", {})]
