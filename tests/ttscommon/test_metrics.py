from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ttscommon.metrics import cheapest_path, mel_dtw, plain_words, word_error_rate


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
