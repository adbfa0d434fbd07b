"""The tool as it is typed: both ways to name a speaker, stopped, killed, and in two processes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.indextts.prepared_clips import write_noise, write_table
from tools.prepare_lora_dataset import build_parser, main
from ttscommon.errors import UserError
from ttscommon.workspace import Speaker

TOOL = Path(__file__).resolve().parents[2] / "tools" / "prepare_lora_dataset.py"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    from indextts.miniature import write_miniature

    folder = tmp_path_factory.mktemp("checkpoint") / "miniature"
    write_miniature(folder)
    return folder


def write_speaker(root: Path, n_clips: int) -> Speaker:
    speaker = Speaker("ozzy", root)
    for number in range(n_clips):
        write_noise(speaker.audio / f"c{number:03d}.wav", number)
    rows = {f"audio/c{number:03d}.wav": f"Clip {number}." for number in range(n_clips)}
    write_table(speaker.transcripts, rows)
    return speaker


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_speaker_s_name_says_all_and_the_next_command_follows(tmp_path, checkpoint, capsys):
    speaker = write_speaker(tmp_path, 3)
    flags = ["--speaker", "ozzy", "--training-root", str(tmp_path), "--model-dir", str(checkpoint)]
    main([*flags, "--json", str(tmp_path / "done.json")])
    said = capsys.readouterr().out
    assert re.search(r"^3 clips, .*: 2 to train on, 1 to validate with", said)
    assert f"tools/train_gpt_lora.py --speaker ozzy --training-root {tmp_path}" in said
    assert json.loads((tmp_path / "done.json").read_text(encoding="utf-8"))["n_train"] == 2
    assert (speaker.processed / "train_manifest.jsonl").is_file()

    explicit = ["--audio-dir", str(speaker.audio), "--transcripts", str(speaker.transcripts)]
    output = speaker.dataset / "elsewhere"
    main([*explicit, "--output-dir", str(output), "--model-dir", str(checkpoint)])
    assert "--train-manifest" in capsys.readouterr().out
    assert contents(output) == contents(speaker.processed)


def test_a_lone_clip_is_refused(tmp_path, checkpoint):
    write_speaker(tmp_path, 1)
    flags = ["--speaker", "ozzy", "--training-root", str(tmp_path), "--model-dir", str(checkpoint)]
    with pytest.raises(UserError, match="one clip is too little"):
        main(flags)


def bad_source(root: Path, table: str, *more: str) -> str:
    """What is said of three clips of a second with this table of texts."""
    speaker = write_speaker(root, 3)
    speaker.transcripts.write_text(table, encoding="utf-8")
    flags = ["--speaker", "ozzy", "--training-root", str(root), "--model-dir", "not-looked-at"]
    with pytest.raises(UserError) as refused:
        main([*flags, *more])
    assert not speaker.processed.exists()
    return str(refused.value)


def test_a_table_without_a_column_of_files_says_what_it_has(tmp_path):
    said = bad_source(tmp_path, "who,text\nozzy,hello\n")
    assert "missing column: one of audio_path, audio, filename" in said
    assert "found who, text" in said


def test_another_table_may_stand_for_the_speaker_s_texts(tmp_path):
    other = tmp_path / "other.csv"
    other.write_text("audio_path,text\nc001.wav,hello\n", encoding="utf-8")
    table = "audio_path,text\n" + "".join(f"c{n:03d}.wav,Clip.\n" for n in range(3))
    short = ["--max-duration", "0.5", "--min-duration", "0.1"]
    said = bad_source(tmp_path, table, "--transcripts", str(other), *short)
    assert "2 x no transcript: c000.wav, c002.wav" in said


def test_texts_that_fit_no_recording_leave_nothing_to_train_on(tmp_path, caplog):
    said = bad_source(tmp_path, "audio_path,text\ngone.wav,hello\n")
    assert "3 x no transcript: c000.wav, c001.wav, c002.wav" in said
    assert "tools/transcribe_dataset.py --speaker ozzy" in said
    assert "1 transcripts fit no recording, for example gone.wav" in caplog.text


def test_clips_that_are_all_too_long_are_to_be_cut(tmp_path):
    table = "audio_path,text\n" + "".join(f"c{n:03d}.wav,Clip.\n" for n in range(3))
    said = bad_source(tmp_path, table, "--max-duration", "0.5", "--min-duration", "0.1")
    assert "no clip can be used; 3 x longer than --max-duration 0.5: c000.wav (" in said
    assert "tools/segment_recordings.py --speaker ozzy" in said


def test_a_text_for_two_files_of_one_stem_is_refused(tmp_path):
    write_noise(Speaker("ozzy", tmp_path).audio / "c000.flac", 9)
    said = bad_source(tmp_path, "audio_path,text\nc000,hello\n")
    assert "'c000' fits 2 files" in said


@pytest.mark.parametrize(
    "flags", [[], ["--audio-dir", "a"], ["--speaker", "ozzy", "--audio-dir", "a"]]
)
def test_half_a_source_is_wrong_usage(flags):
    with pytest.raises(SystemExit) as stopped:
        main(flags)
    assert stopped.value.code == 2


def test_the_defaults_are_the_original_s():
    args = build_parser().parse(["--speaker", "ozzy", "--train_split", "0.8"])
    assert args.train_split == 0.8
    text = build_parser().format_help()
    for value in ("(default: 0.9)", "(default: 15.0)", "(default: 1.0)", "(default: 42)"):
        assert value in text


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_stopped_leaves_whole_files_and_goes_on(tmp_path, checkpoint, stop):
    speaker = write_speaker(tmp_path, 24)
    flags = ["--speaker", "ozzy", "--training-root", str(tmp_path), "--model-dir", str(checkpoint)]
    command = [sys.executable, str(TOOL), *flags]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    features = speaker.processed / "features"
    while len(list(features.glob("*.json"))) < 3:
        assert running.poll() is None, running.communicate()
        time.sleep(0.01)
    os.killpg(running.pid, stop)
    _, said = running.communicate(timeout=120)
    notes = {path: path.stat().st_ino for path in features.glob("c*.json")}
    assert 3 <= len(notes) < 24
    assert not (speaker.processed / "train_manifest.jsonl").exists()
    if stop == signal.SIGINT:
        assert running.returncode == 130
        assert said.strip().splitlines()[-1] == "stopped; the same command goes on from here"
    main(flags)
    assert {path: path.stat().st_ino for path in notes} == notes
    assert not list(speaker.processed.rglob("*.part"))
    kept = contents(speaker.processed)
    shutil.rmtree(speaker.processed)
    main(flags)
    assert contents(speaker.processed) == kept


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_launched_processes_make_what_one_makes(tmp_path, checkpoint):
    speaker = write_speaker(tmp_path, 9)
    (speaker.audio / "c004.wav").write_bytes(b"no sound")
    flags = ["--speaker", "ozzy", "--training-root", str(tmp_path), "--model-dir", str(checkpoint)]
    # What `accelerate launch` runs on GPUs; without one it starts a single process.
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", str(TOOL)]
    done = subprocess.run(
        [*launch, *flags, "--device", "cpu"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert len(re.findall("^8 clips", done.stdout, re.MULTILINE)) == 1  # told once
    assert "Computed 4 of them now" in done.stdout
    two = contents(speaker.processed)
    shutil.rmtree(speaker.processed)
    main(flags)
    assert contents(speaker.processed) == two
