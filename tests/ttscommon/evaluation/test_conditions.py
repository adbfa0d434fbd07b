"""Utterances are found with their texts and seeds, and paired by both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ttscommon.audio import save
from ttscommon.errors import UserError
from ttscommon.evaluation.conditions import Utterance, find_utterances, pair, partners


def folder_of(root: Path, *names: str) -> Path:
    for name in names:
        save(root / name, np.full(100, 0.1, np.float32), 16_000)
    return root


def test_texts_and_seeds_are_found_with_the_files(tmp_path):
    folder = folder_of(tmp_path / "base", "a_seed0.wav", "a_seed1.wav", "seed2/a.wav", "b.wav")
    texts = tmp_path / "texts.csv"
    texts.write_text("audio_path,text\na.wav,Hello.\nb,Good bye.\n", encoding="utf-8")
    found = find_utterances(folder, texts)
    assert [(one.id, one.seed, one.text) for one in found] == [
        ("a", 0, "Hello."),
        ("a", 1, "Hello."),
        ("b", None, "Good bye."),
        ("a", 2, "Hello."),
    ]


def test_a_folder_brings_its_own_texts(tmp_path):
    folder = folder_of(tmp_path, "a.wav", "b.wav")
    (folder / "transcripts.csv").write_text("audio_path,text\na.wav,Hello.\n", encoding="utf-8")
    assert [one.text for one in find_utterances(folder)] == ["Hello.", None]


def test_pairs_say_the_same_with_the_same_seed():
    base = [Utterance(Path(f"b{s}"), "Hello.", s) for s in (0, 1)] + [Utterance(Path("x"), "No.")]
    tuned = [Utterance(Path(f"t{s}"), "hello", s) for s in (1, 0, 2)]
    assert [(a.path.name, b.path.name) for a, b in pair(base, tuned)] == [
        ("b0", "t0"),
        ("b1", "t1"),
    ]


def test_a_recording_without_a_seed_goes_with_any_seed_once():
    tries = [Utterance(Path(f"b{seed}"), "Hello.", seed) for seed in (0, 1)]
    real = [Utterance(Path("r"), "Hello.")]
    assert [(a.path.name, b.path.name) for a, b in pair(tries, real)] == [("b0", "r")]
    assert {i: one.path.name for i, one in partners(tries, real).items()} == {0: "r", 1: "r"}


def test_without_texts_names_are_paired():
    a, b = ([Utterance(Path(f"{side}/x"), None, None, "x")] for side in "ab")
    assert len(pair(a, b)) == 1


def test_bad_folders_are_one_line_each(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        find_utterances(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no recordings in the folder"):
        find_utterances(tmp_path)
    folder = folder_of(tmp_path / "base", "a.wav")
    texts = tmp_path / "texts.csv"
    texts.write_text("audio_path,text\nz.wav,Hello.\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"none of 1 texts names one of 1 files.*'z\.wav'"):
        find_utterances(folder, texts)
