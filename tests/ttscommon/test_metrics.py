from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ttscommon.metrics import (
    Errors,
    cepstral_distance,
    character_errors,
    cheapest_path,
    mel_cepstral_distance,
    mel_cepstrum,
    mel_dtw,
    plain_words,
    word_error_rate,
    word_errors,
)


def noise_mel(n_frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(-4, 2, (100, n_frames)).astype(np.float32)


def test_case_and_punctuation_are_no_errors():
    assert word_error_rate(["Don't stop; re-enter it."], ["dont STOP re enter it"]) == 0


def test_words_are_counted_over_all_texts_together():
    # one of eight words, not the mean of 1/2 and 0/6
    references = ["press one", "please hold while we connect you"]
    assert word_error_rate(references, ["press two", references[1]]) == pytest.approx(1 / 8)


def test_a_missing_transcript_counts_every_word_as_deleted():
    assert word_error_rate(["press one", "press two"], ["", "press two"]) == pytest.approx(0.5)


def test_lists_of_different_length_are_refused():
    with pytest.raises(ValueError, match="2 references but 1"):
        word_error_rate(["a", "b"], ["a"])


def test_devanagari_vowel_signs_survive_normalisation():
    assert plain_words("नमस्ते, दुनिया।") == "नमस्ते दुनिया"


def test_a_mel_is_at_distance_zero_from_itself_and_from_its_slow_copy():
    mel = noise_mel(40)
    assert mel_dtw(mel, mel) == 0
    assert mel_dtw(mel, np.repeat(mel, 2, axis=1)) == 0


def test_a_constant_offset_is_its_own_distance():
    flat = np.full((100, 30), -3.0)
    assert mel_dtw(flat, flat + 0.5) == pytest.approx(0.5)


def test_the_depth_of_silence_does_not_count():
    assert mel_dtw(np.full((100, 20), -16.1), np.full((100, 25), -9.5)) == 0


def test_mels_with_different_bands_are_refused():
    with pytest.raises(ValueError, match="100 mel bands against 80"):
        mel_dtw(noise_mel(5), noise_mel(5)[:80])


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 1000))
def test_the_path_is_connected_and_as_cheap_as_the_recurrence_says(n_rows, n_columns, seed):
    cost = np.random.default_rng(seed).random((n_rows, n_columns))
    rows, columns = cheapest_path(cost)
    assert (rows[0], columns[0], rows[-1], columns[-1]) == (0, 0, n_rows - 1, n_columns - 1)
    steps = set(zip(np.diff(rows).tolist(), np.diff(columns).tolist(), strict=True))
    assert steps <= {(0, 1), (1, 0), (1, 1)}
    assert cost[rows, columns].sum() == pytest.approx(least_cost(cost))


def least_cost(cost: np.ndarray) -> float:
    """The textbook recurrence, cell by cell."""
    total = np.full((cost.shape[0] + 1, cost.shape[1] + 1), np.inf)
    total[0, 0] = 0
    for i, j in np.ndindex(*cost.shape):
        total[i + 1, j + 1] = cost[i, j] + min(total[i, j], total[i, j + 1], total[i + 1, j])
    return total[-1, -1]


@pytest.mark.parametrize(
    ("reference", "hypothesis", "n_errors", "n_words"),
    [
        ("please hold while we connect you", "please hold while we connect you", 0, 6),
        ("please hold while we connect you", "please fold while connect you now", 3, 6),  # S, D, I
        ("press one", "", 2, 2),
        ("", "thank you", 2, 0),
        ("press twenty one", "Press 21.", 0, 2),
        ("the the end", "the end", 1, 3),
        ("vitamins B, C, D", "vitamins B C D", 0, 4),  # nobody hears a comma
        ("vitamins B, C, D", "vitamins BCD", 0, 4),
        ("the F B I, the BBC", "the F, B, I, the B, B, C", 0, 4),
        ("vitamins B, C, D", "vitamins B C E", 3, 4),
        ("plan B, C or D", "plan BC", 2, 5),
    ],
)
def test_word_errors_are_those_counted_by_hand(reference, hypothesis, n_errors, n_words):
    assert word_errors(reference, hypothesis) == Errors(n_errors, n_words)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "n_errors", "n_letters"),
    [
        ("cat", "cart", 1, 3),
        ("ice cream", "icecream", 0, 8),
        ("abc", "", 3, 3),
        ("你好", "你好吗", 1, 2),
    ],
)
def test_character_errors_are_those_counted_by_hand(reference, hypothesis, n_errors, n_letters):
    assert character_errors(reference, hypothesis) == Errors(n_errors, n_letters)


def test_fluent_errors_forgive_hesitation_but_no_wrong_word():
    text, stuttered = "I was going home", "Um, I I was go- going, uh, home"
    assert word_errors(text, stuttered).n_errors == 4
    assert word_errors(text, stuttered, fluent=True).n_errors == 0
    assert word_errors(text, "Um, I I was go- going, uh, away", fluent=True).n_errors == 1
    assert word_errors(stuttered, text, fluent=True) == Errors(0, 4)
    assert word_errors(text, "", fluent=True) == Errors(4, 4)  # silence
    assert word_errors(text, "Um, uh.", fluent=True) == Errors(4, 4)


def test_the_cepstral_distance_of_one_cosine_is_its_root_mean_square_in_decibels():
    flat = np.zeros((80, 30))
    ripple = 0.3 * np.cos(np.pi * 4 * (np.arange(80) + 0.5) / 80)[:, None] + flat
    a, b = mel_cepstrum(flat), mel_cepstrum(ripple)
    expected = 20 / np.log(10) * np.sqrt(np.mean(ripple**2))
    assert cepstral_distance(a, b) == pytest.approx(expected)
    assert cepstral_distance(a, mel_cepstrum(flat + 2)) == pytest.approx(0)  # only louder


def test_thirteen_cepstra_are_compared():
    flat = np.zeros((80, 5))
    for order, is_seen in ((13, True), (14, False)):
        ripple = np.cos(np.pi * order * (np.arange(80) + 0.5) / 80)[:, None] + flat
        found = cepstral_distance(mel_cepstrum(flat), mel_cepstrum(ripple))
        assert (found > 1) == is_seen


def test_noise_far_below_the_voice_is_no_distance():
    rng = np.random.default_rng(0)
    voice = np.sin(np.arange(8000) * 0.3).astype(np.float32) * 0.5
    hiss = rng.normal(0, 1e-6, 8000).astype(np.float32)
    assert mel_cepstral_distance(voice, voice + hiss) < 0.1


def test_the_cepstral_distance_warps_time():
    cepstra = np.random.default_rng(0).normal(size=(13, 20))
    assert cepstral_distance(cepstra, np.repeat(cepstra, 3, axis=1)) == 0


def test_loudness_and_silent_ends_leave_the_distance_of_recordings_at_zero():
    audio = np.random.default_rng(0).normal(0, 0.1, 8000).astype(np.float32)
    ends = np.zeros(3200, np.float32)
    padded = np.concatenate([ends, 0.5 * audio, ends])
    assert mel_cepstral_distance(padded, audio) == pytest.approx(0, abs=0.05)
    assert mel_cepstral_distance(audio[::-1].copy(), audio) > 0.5


def test_silence_and_other_rates_are_refused():
    with pytest.raises(ValueError, match="less sound"):
        mel_cepstral_distance(np.zeros(8000, np.float32), np.ones(8000, np.float32))
    with pytest.raises(ValueError, match="not 24000"):
        mel_cepstral_distance(np.ones(8000), np.ones(8000), 24_000)
