"""Clips with one thing wrong each, and whether it is found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.ttscommon.listener import RATE, put, sentence_audio
from ttscommon.errors import UserError
from ttscommon.validation import Validation, validate

TEXT = "These are about forty letters of a text"


@pytest.fixture(scope="module")
def sentence() -> np.ndarray:
    silence = np.zeros(RATE // 5)
    return np.concatenate([silence, sentence_audio(1), silence])


def faults(found: Validation) -> set[str]:
    return set(found.counts)


def check(folder: Path, audio: np.ndarray, text: str = TEXT, **options) -> set[str]:
    put(folder, "a.wav", audio)
    return faults(validate({"a": folder / "a.wav"}, {"a": text}, **options))


def test_a_good_clip_has_no_fault(tmp_path, sentence):
    assert check(tmp_path, sentence) == set()


def test_bad_sound_is_found(tmp_path, sentence):
    assert "clipped" in check(tmp_path, np.clip(sentence * 20, -1, 1))
    assert "quiet" in check(tmp_path, sentence * 0.01)
    assert "no speech" in check(tmp_path, np.zeros(RATE))
    assert "silence at an end" in check(tmp_path, np.concatenate([np.zeros(RATE), sentence]))
    noise = 0.1 * np.random.default_rng(0).normal(size=len(sentence) + RATE)
    noise[RATE // 2 : RATE // 2 + len(sentence)] += sentence
    assert "noise" in check(tmp_path, noise)


def test_a_first_syllable_that_the_detector_misses_is_no_noise(tmp_path):
    quiet = np.zeros(RATE // 12)
    found = check(tmp_path, np.concatenate([quiet, sentence_audio(2)]))
    assert "noise" not in found


def test_a_clip_that_begins_in_a_word_is_suspected(tmp_path, sentence):
    loud = int(np.argmax(np.abs(sentence)))
    assert "speech at an end" in check(tmp_path, sentence[loud:])


def test_texts_are_looked_at(tmp_path, sentence):
    assert check(tmp_path, sentence, "") == {"no text"}
    assert "loop" in check(tmp_path, sentence, "thank you " * 5)
    assert "loop" in check(tmp_path, sentence, "A B " * 10)
    assert "loop" in check(tmp_path, sentence, "1 2 " * 8)
    assert "loop" not in check(tmp_path, sentence, "A B C, 1 2 3")
    assert "unknown tokens" in check(tmp_path, sentence, unknown=lambda text: ["ж"])
    assert "disagreement" in check(tmp_path, sentence, heard={"a": "nothing like it at all"})
    assert check(tmp_path, sentence, heard={"a": TEXT}) == set()
    marked = TEXT.replace(" ", " [PAUSE] ")
    assert check(tmp_path, sentence, marked, heard={"a": TEXT}) == set()


def test_a_copy_is_found_at_another_level(tmp_path, sentence):
    paths = {"a": put(tmp_path, "a.wav", sentence), "b": put(tmp_path, "b.wav", sentence / 2)}
    paths["c"] = put(tmp_path, "c.wav", sentence[::-1])
    found = validate(paths, dict.fromkeys(paths, TEXT))
    assert [c.name for c in found.clips if any(f.name == "copy" for f in c.faults)] == ["b"]


def test_the_text_of_another_clip_is_suspected_by_its_pace(tmp_path, sentence):
    rng = np.random.default_rng(0)
    paths = {}
    for name in "abcdef":
        gain = np.repeat(rng.uniform(0.3, 1.0, len(sentence) // 1000 + 1), 1000)[: len(sentence)]
        paths[name] = put(tmp_path, f"{name}.wav", sentence * gain)
    texts = dict.fromkeys(paths, TEXT) | {"d": TEXT * 4}
    found = validate(paths, texts)
    assert [c.name for c in found.clips if any(f.name == "pace" for f in c.faults)] == ["d"]


def test_no_clips_are_an_error(tmp_path):
    with pytest.raises(UserError, match="no clips"):
        validate({}, {})
