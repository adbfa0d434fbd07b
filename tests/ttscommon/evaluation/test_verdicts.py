"""Each fault is caught by the verdict meant for it, and good speech has none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ttscommon.audio import load
from ttscommon.evaluation.verdicts import judge

RECORDING = Path(__file__).resolve().parents[3] / "examples/sample_speaker/audio/spk_003.flac"
RATE = 16_000
TEXT = "Please enter the channel number followed by the pound key."


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    return load(RECORDING, RATE)


def faults(audio: np.ndarray, **given) -> list[str]:
    return [verdict.name for verdict in judge(audio, RATE, **given)]


def test_good_speech_has_no_fault(speech):
    assert faults(speech, text=TEXT, heard=TEXT, expected_seconds=3.0) == []


@pytest.mark.parametrize("level", [0.0, 1e-4])
def test_silence_is_silent(level):
    noise = level * np.random.default_rng(0).normal(size=RATE)
    assert faults(noise.astype(np.float32)) == ["silent"]
    assert faults(np.zeros(0, np.float32)) == ["silent"]


def test_noise_is_no_speech():
    noise = np.random.default_rng(0).normal(0, 0.05, 2 * RATE).astype(np.float32)
    assert faults(noise) == ["no_speech"]


def test_flat_peaks_are_clipped_and_one_full_peak_is_not(speech):
    loud = np.clip(4 * speech / np.abs(speech).max(), -1, 1)
    assert faults(loud) == ["clipped"]
    assert faults(speech / np.abs(speech).max()) == []


def test_a_peak_is_flat_from_three_samples_on(speech):
    for n, found in ((2, []), (3, ["clipped"])):
        peaks = 0.5 * speech / np.abs(speech).max()
        for first in range(0, len(peaks) - n, 1000):
            peaks[first : first + n] = 1.0
        assert faults(peaks) == found


def test_a_signal_that_stands_still_is_stuck(speech):
    stuck = speech.copy()
    stuck[8000:20_000] = 0.25
    assert "stuck" in faults(stuck)
    paused = speech.copy()
    paused[8000:20_000] = 0
    assert "stuck" not in faults(paused)


def test_endings_far_from_the_expected_are_wrong(speech):
    assert faults(speech, expected_seconds=1.5) == ["too_long"]
    assert faults(speech, expected_seconds=6.0) == ["too_short"]


def test_a_loop_is_caught_and_a_stutter_or_a_text_that_repeats_is_not(speech):
    loop = TEXT + " thank you" * 5
    assert faults(speech, text=TEXT, heard=loop) == ["repeats"]
    assert faults(speech, text=TEXT, heard="Please, please, " + TEXT) == []
    assert faults(speech, text="no " * 5, heard="no " * 5) == []


@pytest.mark.parametrize("loop", ["A B " * 10, "1 2 " * 8, "one two " * 5, "A. B. " * 5])
def test_a_loop_of_letters_or_digits_is_no_word_that_somebody_spells(speech, loop):
    assert faults(speech, text=TEXT, heard=f"{TEXT} {loop}") == ["repeats"]


@pytest.mark.parametrize(
    ("text", "heard"),
    [
        ("Dial 10000.", "dial 1 0 0 0 0"),
        ("Dial 2222 now.", "dial two two two two now"),
        ("ABABABAB it says", "A B A B A B A B it says"),
        ("1 2 1 2 1 2 1 2", "1 2 1 2 1 2 1 2 1 2"),
    ],
)
def test_what_the_text_has_so_is_no_loop(speech, text, heard):
    assert faults(speech, text=text, heard=heard) == []


def test_the_reason_says_what_was_measured(speech):
    verdict = judge(speech, RATE, expected_seconds=1.0)[0]
    assert verdict.reason.endswith("times the expected 1.0 s")
