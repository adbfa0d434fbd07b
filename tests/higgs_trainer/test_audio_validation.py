"""What is wrong with speech is named, and real speech passes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from higgs_trainer.audio_validation import AudioQualityValidator, ValidationConfig
from higgs_trainer.config import Streams
from ttscommon import audio
from ttscommon.errors import UserError

RATE = 24000
ASK = AudioQualityValidator()
RANDOM = np.random.default_rng(0)
TIME = np.arange(2 * RATE) / RATE
# Partials of a pitch in syllables: what the questions are about, without a recording.
VOICE = sum(np.sin(2 * np.pi * 120 * k * TIME + k * k) / k for k in range(1, 12))
VOICE = (0.15 * VOICE * (0.55 - 0.45 * np.cos(2 * np.pi * 4 * TIME))).astype(np.float32)


def issues(sound: np.ndarray) -> list[str]:
    return [found.what for found in ASK.waveform(sound.astype(np.float32), RATE).issues]


def test_a_voice_passes():
    assert issues(VOICE) == []
    assert str(ASK.waveform(VOICE, RATE)) == "nothing is wrong"
    assert ASK.waveform(VOICE, RATE).is_valid


@pytest.mark.parametrize(
    ("sound", "wrong"),
    [
        (np.zeros(RATE), "silence"),
        (np.full(RATE, 1e-4), "silence"),
        (np.concatenate([VOICE, np.zeros(3 * RATE)]), "silence at the end"),
        (np.clip(20 * VOICE, -1, 1), "clipped"),
        (VOICE + 0.2, "offset"),
        (RANDOM.normal(0, 0.1, RATE), "flatness"),
        (0.5 * np.sin(2 * np.pi * 440 * TIME), "crest dB"),
        (VOICE[:2000], "seconds"),
        (np.tile(VOICE, 40), "seconds"),
        (np.where(TIME < 1, VOICE, np.nan), "samples that are no numbers"),
        (np.zeros(0), "seconds"),
    ],
)
def test_what_is_wrong_with_sound_is_named(sound, wrong):
    assert wrong in issues(sound)


def test_peaks_that_only_reach_full_scale_are_not_clipped():
    sound = VOICE.copy()
    sound[::400] = 1.0
    assert "clipped" not in issues(sound)


def test_the_bundled_recordings_pass():
    found = audio.find_audio(Path(__file__).resolve().parents[2] / "examples" / "sample_speaker")
    assert found
    for path in found:
        verdict = ASK.waveform(audio.load(path, RATE), RATE)
        assert verdict.is_valid, f"{path.name}: {verdict}"


def codes(n_steps: int = 50) -> np.ndarray:
    return RANDOM.integers(0, 1024, (8, n_steps))


def token_issues(tokens: np.ndarray, **options) -> list[str]:
    return [found.what for found in ASK.tokens(tokens, Streams(), **options).issues]


def test_codes_as_speech_has_them_pass():
    assert token_issues(codes(), expected=(20, 80)) == []
    assert token_issues(codes(5)) == []


@pytest.mark.parametrize(
    ("row", "wrong"),
    [
        (np.full(50, 7), "stuck codebook"),
        (np.repeat(np.arange(5), 10), "repeated"),
        (np.tile([3, 4], 25), "alternating"),
        (np.full(50, 1025), "codes that the model hasn't"),
    ],
)
def test_one_bad_codebook_is_enough(row, wrong):
    tokens = codes()
    tokens[2] = row
    assert wrong in token_issues(tokens)


def test_speech_that_is_poor_too_short_or_endless_is_named():
    assert token_issues(codes() % 2) == ["diversity"]
    assert token_issues(codes(), expected=(60, 90)) == ["steps"]
    assert token_issues(codes(), expected=(10, 40)) == ["steps"]
    assert token_issues(codes(), stopped=False) == ["speech without an end"]
    assert token_issues(codes(0)) == ["steps"]


def test_verdicts_add_up_and_are_plain_data():
    both = ASK.waveform(VOICE, RATE) + ASK.tokens(codes(0), Streams())
    assert str(both) == "steps 0 (at least 1)"
    plain = both.to_dict()
    assert plain["valid"] is False
    assert len(plain["findings"]) == len(both.findings)


def test_limits_are_settings():
    strict = AudioQualityValidator(ValidationConfig(max_silence=0.0, min_crest_db=40.0))
    assert {one.what for one in strict.waveform(VOICE, RATE).issues} >= {"crest dB"}
    with pytest.raises(UserError, match="below max_seconds"):
        ValidationConfig(min_seconds=3, max_seconds=2)
