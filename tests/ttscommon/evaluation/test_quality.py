"""DNSMOS is within the range of recordings, and falls with noise."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from ttscommon.audio import load
from ttscommon.errors import UserError
from ttscommon.evaluation.quality import measure_quality

RECORDING = Path(__file__).resolve().parents[3] / "examples/sample_speaker/audio/spk_003.flac"
RATE = 16_000


def test_a_recording_is_good_and_noise_six_decibels_below_it_spoils_it():
    speech = load(RECORDING, RATE)
    noise = np.random.default_rng(0).normal(size=len(speech)).astype(np.float32)
    noise *= np.sqrt(np.square(speech).mean() / np.square(noise).mean()) / 2
    clean, noisy = measure_quality(speech), measure_quality(speech + noise)
    assert 3.0 < clean.overall < 3.5
    assert noisy.overall < 2.1
    assert noisy.background < clean.background - 1
    assert noisy.p808 < clean.p808 - 1
    assert clean.signal == pytest.approx(3.52, abs=0.1)
    assert clean.p808 == pytest.approx(3.78, abs=0.1)
    assert noisy.signal > clean.signal - 0.5  # noise is around the voice, not in it


def test_no_audio_and_other_rates_are_refused():
    with pytest.raises(ValueError, match="no audio"):
        measure_quality(np.zeros(0, np.float32))
    with pytest.raises(ValueError, match="not 24000"):
        measure_quality(np.ones(100, np.float32), 24_000)


def test_a_missing_package_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "speechmos", None)
    with pytest.raises(UserError, match="needs the package speechmos"):
        measure_quality(np.ones(RATE, np.float32))
