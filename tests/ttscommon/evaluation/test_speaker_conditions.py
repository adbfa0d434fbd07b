"""What a speaker's folder holds is found: recordings, folders of outputs, numbered comparisons."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from ttscommon.audio import save
from ttscommon.errors import UserError
from ttscommon.evaluation.conditions import pair
from ttscommon.evaluation.speaker_conditions import (
    find_comparison,
    find_conditions,
    find_recordings,
)
from ttscommon.manifest import Clip, write_manifest
from ttscommon.records import append_record
from ttscommon.workspace import Speaker


def sounds(folder: Path, *names: str) -> None:
    for name in names:
        save(folder / name, np.full(100, 0.1, np.float32), 16_000)


def compared(folder: Path, when: str, said: str, names=("1_base", "2_lora", "3_finetuned")) -> None:
    sounds(folder, *(f"{when}_{name}_{said}.wav" for name in names))


def test_numbered_files_are_conditions_paired_by_text(tmp_path):
    compared(tmp_path, "20260102_030405", "hello-there")
    compared(tmp_path, "20260102_030405", "good-bye_seed3")
    found = find_comparison(tmp_path)
    assert list(found) == ["base", "lora", "finetuned"]
    for name in ("lora", "finetuned"):
        pairs = pair(found["base"], found[name])
        assert len(pairs) == 2
        assert all(a.path.name.replace("1_base", "") in b.path.name.replace("2_lora", "")
                   .replace("3_finetuned", "") for a, b in pairs)  # fmt: skip
    assert {one.seed for one in found["base"]} == {None, 3}


def test_the_text_comes_from_the_runs_summary_or_a_table(tmp_path):
    compared(tmp_path, "1", "hello")
    summary = tmp_path / "1_comparison_summary.txt"
    summary.write_text("Comparison\nText: Hello, there!\n", encoding="utf-8")
    assert {one.text for one in find_comparison(tmp_path)["lora"]} == {"Hello, there!"}
    table = "audio_path,text\n1_2_lora_hello.wav,By hand.\n"
    (tmp_path / "transcripts.csv").write_text(table, encoding="utf-8")
    assert {one.text for one in find_comparison(tmp_path)["lora"]} == {"By hand."}


def test_a_file_without_a_number_is_left_out_and_named(tmp_path, caplog):
    compared(tmp_path, "1", "hello")
    sounds(tmp_path, "other.wav")
    assert len(find_comparison(tmp_path)) == 3
    assert "other.wav: its name has no number" in caplog.text


@pytest.fixture
def speaker(tmp_path) -> Speaker:
    speaker = Speaker("ozzy", tmp_path)
    sounds(speaker.audio, "a.wav", "b.wav")
    speaker.transcripts.write_text("audio_path,text\na.wav,Hello.\n", encoding="utf-8")
    return speaker


def test_recordings_folders_and_comparisons_are_found_together(speaker, caplog):
    compared(speaker.comparison, "1", "hello")
    sounds(speaker.outputs / "base", "x.wav")
    sounds(speaker.outputs / "pattern", "x.wav")
    sounds(speaker.outputs / "stray", "nothing-in-common.wav")
    sounds(speaker.outputs, "loose.wav")
    with caplog.at_level(logging.WARNING):
        found = find_conditions(speaker)
    assert list(found) == ["real", "base", "pattern", "lora", "finetuned"]
    assert len(found["base"]) == 2
    assert {one.text for one in found["real"]} == {"Hello.", None}
    assert "left out stray: it has no text in common with base" in caplog.text


def test_of_cut_recordings_the_clips_alone_are_real(speaker):
    sounds(speaker.clips, "a_0.wav", "a_1.wav")
    clips = [
        Clip(n, f"dataset/clips/{n}.wav", "", 1.0, "ozzy", "en", "a.wav") for n in ("a_0", "a_1")
    ]
    write_manifest(speaker.clips_manifest, clips)
    found = find_recordings(speaker)
    assert [one.path.name for one in found] == ["a_0.wav", "a_1.wav"]
    texts = speaker.folder / "texts.csv"
    texts.write_text("audio_path,text\na_0.wav,Hello.\n", encoding="utf-8")
    assert [one.text for one in find_recordings(speaker, texts)] == ["Hello.", None]
    speaker.excluded.write_text("a.wav", encoding="utf-8")
    with pytest.raises(UserError, match=r"no recordings .*\(2 are named in excluded\.txt"):
        find_recordings(speaker)


def test_a_speaker_without_recordings_is_told(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        find_conditions(Speaker("nobody", tmp_path))
    Speaker("nobody", tmp_path).audio.mkdir(parents=True)
    with pytest.raises(UserError, match="no recordings in the folder"):
        find_conditions(Speaker("nobody", tmp_path))


@pytest.mark.parametrize(("n_held_out", "n_real"), [(8, 8), (7, 12), (0, 12)])
def test_recordings_that_were_held_out_are_the_real_ones_if_they_are_enough(
    tmp_path, n_held_out, n_real, caplog
):
    speaker = Speaker("ozzy", tmp_path)
    names = [f"{number:02}.wav" for number in range(12)]
    sounds(speaker.audio, *names)
    if n_held_out:
        manifest = speaker.processed / "val_manifest.jsonl"
        for name in names[:n_held_out]:
            manifest.parent.mkdir(parents=True, exist_ok=True)
            append_record(manifest, {"id": name, "audio_path": f"../audio/{name}"})
    found = find_recordings(speaker)
    assert [one.path.name for one in found] == names[:n_real]
    assert ("most of which were trained on" in caplog.text) == (n_held_out == 7)
