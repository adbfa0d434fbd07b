"""The tool as it is typed: what it leaves, what it keeps, and what it says."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from indextts.clips import read_clips
from indextts.pattern_features import PatternFeatures
from indextts.pattern_frames import count_frames, to_seconds
from indextts.pattern_text import is_stripped
from tests.indextts.planted import Planted, count_hits, plant, sample_recordings
from tests.indextts.prepared_clips import write_table
from tools.prepare_lora_dataset import main as prepare_lora
from tools.prepare_pattern_dataset_v3 import build_parser, main
from ttscommon.audio import save
from ttscommon.clip_words import ClipWords
from ttscommon.errors import UserError
from ttscommon.segment import VAD_RATE
from ttscommon.workspace import Speaker

TOOL = Path(__file__).resolve().parents[2] / "tools" / "prepare_pattern_dataset_v3.py"
CLIPS = (3, 6, 12)  # short ones with room for a pause


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    from indextts.miniature import write_miniature

    folder = tmp_path_factory.mktemp("checkpoint") / "miniature"
    write_miniature(folder)
    return folder


@pytest.fixture(scope="module")
def planted() -> list[Planted]:
    return [plant(sample_recordings()[number], number) for number in CLIPS]


@pytest.fixture
def speaker(tmp_path, planted) -> Speaker:
    return write_speaker(tmp_path, planted)


def write_speaker(root: Path, planted: list[Planted]) -> Speaker:
    """With words.json and the table as tools/transcribe_dataset.py leaves them."""
    speaker = Speaker("ozzy", root)
    words, rows = {}, {}
    for number, one in enumerate(planted):
        name = f"c{number}.wav"
        save(speaker.audio / name, one.audio, VAD_RATE)
        said = [{"word": w, "start": 0.2 + 0.3 * i, "end": 0.5 + 0.3 * i} for i, w in enumerate(
            ["Um,", "I", "I", "went", "home."])]  # fmt: skip
        words[name] = {"text": "Um, I I went home.", "source": "heard", "words": said}
        rows[name] = f'{name},"Um, I I went home.","[UM], I I went [PAUSE] home.",5.0,1,1'
    ClipWords(speaker.words).write(words)
    header = "filename,text,verbatim,duration,num_pauses,num_fillers"
    speaker.transcripts_verbatim.write_text("\n".join([header, *rows.values()]), encoding="utf-8")
    return speaker


def flags_of(speaker: Speaker, checkpoint: Path) -> list[str]:
    return [
        *("--speaker", "ozzy", "--training-root", str(speaker.root)),
        *("--model-dir", str(checkpoint), "--max-clips", "0"),
    ]


def records(folder: Path) -> dict[str, dict]:
    lines = [
        line
        for name in ("train_manifest.jsonl", "val_manifest.jsonl")
        for line in (folder / name).read_text(encoding="utf-8").splitlines()
    ]
    return {record["id"]: record for record in map(json.loads, lines)}


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".html"
    }


def test_clips_get_spans_of_their_codes_and_texts_with_and_without_marks(
    speaker, planted, checkpoint, capsys, tmp_path
):
    flags = flags_of(speaker, checkpoint)
    main([*flags, "--strip-share", "0.5", "--json", str(tmp_path / "done.json")])
    folder = speaker.processed_v3
    clips = records(folder)
    assert sorted(clips) == ["c0", "c1", "c2"]
    hits = n_found = 0
    for number, one in enumerate(planted):
        record = clips[f"c{number}"]
        features = PatternFeatures.read(folder / record["pattern_features_path"])
        assert features.frames == record["code_len"]
        assert abs(features.frames - count_frames(len(one.audio))) <= 1
        hits += count_hits([to_seconds(pause) for pause in features.pauses], one.pauses)
        n_found += len(features.pauses)
        assert record["num_pauses"] == len(features.pauses)
        assert (record["num_fillers"], record["num_stutters"]) == (1, 1)
        assert features.filler_words == ["um"]
        assert record["sample_type"] == "pattern_v3"
        without = is_stripped(record["id"], share=0.5, seed=42)
        assert record["is_stripped"] is without
        assert record["text"] == ("I went home." if without else "um, I I went... home.")
        assert record["verbatim"] == "um, I I went... home."
    assert hits == n_found == sum(len(one.pauses) for one in planted) > 0
    info = json.loads((folder / "pattern_info.json").read_text(encoding="utf-8"))
    assert set(info) >= {"silence_codes", "share", "rates", "notes", "text"}
    assert info["rates"]["pauses_per_minute"] > 0
    assert json.loads((tmp_path / "done.json").read_text(encoding="utf-8"))["patterns"] == info
    assert f"train_pattern_embeddings.py --speaker ozzy --training-root {tmp_path}" in (
        capsys.readouterr().out
    )
    assert len(read_clips([folder / "train_manifest.jsonl"])) == 2  # the trainer's reader takes it


def test_a_second_run_changes_nothing_and_a_changed_share_changes_texts_only(speaker, checkpoint):
    flags = flags_of(speaker, checkpoint)
    main(flags)
    first = contents(speaker.processed_v3)
    times = {path: path.stat().st_mtime_ns for path in speaker.processed_v3.rglob("*.npy")}
    main(flags)
    assert contents(speaker.processed_v3) == first
    assert {path: path.stat().st_mtime_ns for path in times} == times
    main([*flags, "--strip-share", "1"])
    assert {one["text"] for one in records(speaker.processed_v3).values()} == {"I went home."}
    after = contents(speaker.processed_v3)
    kept = [name for name in first if name.endswith(("_codes.npy", "_w2v.npy", "_pattern.json"))]
    assert len(kept) == 9
    assert all(first[name] == after[name] for name in kept)


def test_features_of_the_lora_data_set_are_taken_over(speaker, checkpoint, capsys):
    flags = flags_of(speaker, checkpoint)
    prepare_lora(flags[:-2])
    before = contents(speaker.processed)
    main(flags)
    assert "took over the sound of 3" in capsys.readouterr().out
    assert contents(speaker.processed) == before
    taken = contents(speaker.processed_v3)
    shutil.rmtree(speaker.processed)
    shutil.rmtree(speaker.processed_v3)
    main(flags)
    assert contents(speaker.processed_v3) == taken  # as if computed anew


def test_features_that_no_longer_hold_are_made_again(speaker, planted, checkpoint):
    flags = flags_of(speaker, checkpoint)
    prepare_lora(flags[:-2])
    save(speaker.audio / "c0.wav", planted[0].audio[: 2 * VAD_RATE], VAD_RATE)
    main(flags)
    record = records(speaker.processed_v3)["c0"]
    assert record["code_len"] <= 100
    codes = np.load(speaker.processed_v3 / record["codes_path"])
    assert len(codes) == record["code_len"]
    pattern = PatternFeatures.read(speaker.processed_v3 / record["pattern_features_path"])
    assert pattern.frames == record["code_len"]


def test_texts_by_hand_win_over_what_was_heard(speaker, checkpoint):
    write_table(speaker.transcripts, {"audio/c1.wav": "Er, by hand."})
    main([*flags_of(speaker, checkpoint), "--strip-share", "0"])
    clips = records(speaker.processed_v3)
    assert clips["c1"]["text"] == "Er, by hand."
    assert clips["c0"]["text"] == "um, I I went... home."


def test_a_speaker_without_any_pause_and_any_words_is_told_and_prepared(
    tmp_path, planted, checkpoint, capsys
):
    speaker = Speaker("ozzy", tmp_path)
    spoken = [one.audio[round(0.2 * VAD_RATE) :] for one in planted]
    for number, (sound, one) in enumerate(zip(spoken, planted, strict=True)):
        end = one.pauses[0].start if one.pauses else 2.0
        save(speaker.audio / f"c{number}.wav", sound[: round((end - 0.2) * VAD_RATE)], VAD_RATE)
    rows = {f"audio/c{number}.wav": "Some words." for number in range(len(planted))}
    write_table(speaker.transcripts, rows)
    flags = [*flags_of(speaker, checkpoint), "--min-duration", "0.2"]
    main(flags)
    said = capsys.readouterr().out
    assert "no pauses in" in said
    assert "no words with times" in said
    assert (speaker.processed_v3 / "train_manifest.jsonl").is_file()


def test_the_speaker_s_conditioning_is_put_beside_the_clips(speaker, checkpoint):
    from indextts.checkpoint import CheckpointFolder
    from indextts.clip_encoder import ClipEncoder
    from indextts.pattern_conditioning import extract_conditioning, save_conditioning

    encoder = ClipEncoder(CheckpointFolder.open(checkpoint), torch.device("cpu"))
    held = extract_conditioning(sorted(speaker.audio.glob("*.wav")), encoder)
    save_conditioning(held, speaker.pattern_conditioning)
    flags = flags_of(speaker, checkpoint)
    for _ in range(2):  # the second run doesn't take them for leftovers
        main(flags)
        array = np.load(speaker.processed_v3 / "features" / "GLOBAL_condition.npy")
        assert np.array_equal(array, held["gpt_conditioning"][0].numpy())
    held["_metadata"]["base"] = "other"
    save_conditioning(held, speaker.pattern_conditioning)
    with pytest.raises(UserError, match="another base"):
        main(flags)


def test_the_page_shows_every_clip_once(speaker, checkpoint):
    main([*flags_of(speaker, checkpoint)[:-2], "--max-clips", "2"])
    page = (speaker.processed_v3 / "patterns.html").read_text(encoding="utf-8")
    assert "How ozzy speaks" in page
    assert "1 more clips are not shown" in page
    assert page.count("<audio") == 2
    assert "http://" not in page.replace("http://www.w3.org", "")


@pytest.mark.parametrize(
    "flags",
    [
        ["--pause-threshold", "3"],
        ["--strip-share", "1.5"],
        ["--silence-share", "0.2"],
        ["--silence-count", "0"],
        ["--pattern-conditioning", "nowhere.pt"],
    ],
)
def test_senseless_settings_are_refused_before_anything_is_written(speaker, checkpoint, flags):
    with pytest.raises(UserError):
        main([*flags_of(speaker, checkpoint), *flags])
    assert not speaker.processed_v3.exists()


@pytest.mark.parametrize("flags", [[], ["--audio-dir", "a"], ["-s", "a", "--audio-dir", "a"]])
def test_half_a_source_is_wrong_usage(flags):
    with pytest.raises(SystemExit) as stopped:
        main(flags)
    assert stopped.value.code == 2


def test_defaults_are_shown():
    text = build_parser().format_help()
    for value in ("(default: 10)", "(default: 0.5)", "(default: 0.8)", "(default: 42)"):
        assert value in text


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_that_is_killed_leaves_whole_files_and_goes_on(tmp_path, planted, checkpoint):
    speaker = write_speaker(tmp_path, planted * 4)
    flags = flags_of(speaker, checkpoint)
    running = subprocess.Popen([sys.executable, str(TOOL), *flags], start_new_session=True)
    features = speaker.processed_v3 / "features"
    while len(list(features.glob("*_pattern.json"))) < 3:
        assert running.poll() is None
        time.sleep(0.01)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    assert not (speaker.processed_v3 / "train_manifest.jsonl").exists()
    kept = {path: path.stat().st_ino for path in features.glob("*_pattern.json")}
    assert len(kept) < 12
    for path in kept:
        PatternFeatures.read(path)
    main(flags)
    assert {path: path.stat().st_ino for path in kept} == kept
    assert not list(speaker.processed_v3.rglob("*.part"))
    resumed = contents(speaker.processed_v3)
    shutil.rmtree(speaker.processed_v3)
    main(flags)
    assert contents(speaker.processed_v3) == resumed
