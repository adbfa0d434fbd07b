"""Pitch and loudness against tones whose pitch and loudness are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ttscommon.audio import load
from ttscommon.evaluation.prosody import measure_prosody, npvi

RECORDING = Path(__file__).resolve().parents[3] / "examples/sample_speaker/audio/spk_003.flac"
RATE = 16_000


def buzz(frequency: np.ndarray, level: float = 0.1) -> np.ndarray:
    """A sawtooth, rich in harmonics as a voice is, whose pitch follows `frequency` (S,) Hz."""
    phase = np.cumsum(frequency) / RATE
    return (level * (2 * (phase % 1) - 1)).astype(np.float32)


def test_the_pitch_of_a_buzz_is_its_frequency_and_it_is_voiced_throughout():
    found = measure_prosody(buzz(np.full(RATE, 120.0)))
    assert found.f0 == pytest.approx(120, rel=0.01)
    assert found.f0_spread == pytest.approx(0, abs=0.05)
    assert found.voiced_share > 0.95


def test_a_glide_over_an_octave_spreads_as_a_uniform_distribution_does():
    found = measure_prosody(buzz(110 * 2 ** np.linspace(0, 1, 2 * RATE)))
    assert found.f0 == pytest.approx(110 * 2**0.5, rel=0.02)
    assert found.f0_spread == pytest.approx(12 / 12**0.5, rel=0.05)  # width / sqrt(12)


def test_half_the_amplitude_is_six_decibels_less():
    loud, soft = (measure_prosody(buzz(np.full(RATE, 150.0), level)) for level in (0.2, 0.1))
    assert loud.level is not None
    assert loud.level == pytest.approx(20 * np.log10(0.2 / 3**0.5), abs=0.3)
    assert loud.level - soft.level == pytest.approx(6.02, abs=0.01)


def test_levels_ten_decibels_apart_spread_by_five():
    loud, soft = (buzz(np.full(RATE, 150.0), 0.2 * 10 ** (-db / 20)) for db in (0, 10))
    found = measure_prosody(np.concatenate([loud, soft]))
    assert found.level_spread == pytest.approx(5, abs=0.2)


def test_one_frame_that_happens_to_be_like_the_next_is_no_voiced_stretch():
    noise = np.random.default_rng(2).normal(0, 0.05, (2, 2120)).astype(np.float32)
    voice, blip = buzz(np.full(RATE // 4, 120.0)), buzz(np.full(400, 120.0))
    found = measure_prosody(np.concatenate([voice, noise[0], blip, noise[1], voice]))
    assert found.voiced_npvi == 0  # two of 25 frames; it would be 185 with the one between them


def test_noise_and_silence_have_no_pitch():
    noise = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)
    assert measure_prosody(noise).f0 is None
    silent = measure_prosody(np.zeros(RATE, np.float32))
    assert (silent.f0, silent.level, silent.voiced_share) == (None, None, 0)


def test_a_woman_speaks_at_about_190_hertz_and_moves_by_some_semitones():
    found = measure_prosody(load(RECORDING, RATE))
    assert found.f0 == pytest.approx(190, abs=8)  # 190.5 by librosa's pYIN
    assert found.f0_spread == pytest.approx(4.3, abs=0.5)  # 4.36
    assert 0.75 < found.voiced_share < 0.95


def test_another_rate_is_refused():
    with pytest.raises(ValueError, match="16000 Hz, not 24000"):
        measure_prosody(np.ones(100, np.float32), 24_000)


def test_lengths_that_double_and_halve_have_an_npvi_of_67():
    assert npvi([1, 2, 1]) == pytest.approx(100 / 1.5)  # |1 - 2| over their mean
    assert npvi([3, 3]) == 0
    assert npvi([3]) is None
