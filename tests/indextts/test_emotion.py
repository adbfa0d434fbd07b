"""Eight weights become one emotion vector by the original's arithmetic."""

import math

import pytest
import torch

from indextts.emotion import (
    EMOTIONS,
    EmotionMatrices,
    Mood,
    emotion_vector,
    limited,
    merged,
    scaled,
)
from ttscommon.errors import UserError

COUNTS = (2, 1, 3, 1, 1, 1, 1, 2)


@pytest.fixture
def matrices():
    random = torch.Generator().manual_seed(0)
    n = sum(COUNTS)
    speakers = torch.randn(n, 5, generator=random)
    return EmotionMatrices(speakers, torch.randn(n, 4, generator=random), COUNTS)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.1] * 7, "8 values, got 7"),
        ([0.1] * 9, "8 values, got 9"),
        ([0.0] * 7 + [-0.1], "'calm' is -0.1"),
        ([math.nan] + [0.0] * 7, "'happy' is nan"),
        ([0.0, math.inf] + [0.0] * 6, "'angry' is inf"),
        (["much"] * 8, "holds numbers"),
        (0.5, "holds numbers"),
    ],
)
def test_a_vector_that_makes_no_sense_is_refused(values, message):
    with pytest.raises(UserError, match=message):
        emotion_vector(values)


def test_weights_above_one_in_all_are_allowed_with_a_warning(caplog):
    assert sum(emotion_vector([0.4] * 8)) == pytest.approx(3.2)
    assert "subtracted" in caplog.text


def test_a_factor_cuts_the_weights_after_four_digits():
    assert scaled([0.33333, 0.99999], 0.5) == (0.1666, 0.4999)
    assert scaled([0.33333], 1.0) == scaled([0.33333], 7.0) == (0.33333,)
    assert scaled([0.33333], -1.0) == (0.0,)


def test_softened_weights_are_toned_down_and_sum_up_to_four_fifths_at_most():
    assert limited([0.2] + [0.0] * 7) == (0.1875, *[0.0] * 7)
    assert sum(limited([1.0] * 8)) == pytest.approx(0.8)
    calm = limited([0.0] * 7 + [0.8], apply_bias=False)
    assert calm == (*[0.0] * 7, 0.8)


def test_alpha_goes_from_the_own_mood_to_the_other_and_beyond():
    own, other = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 2.0]])
    assert merged(own, other, 0.5).tolist() == [[2.0, 2.0]]
    assert merged(own, other, 2.0).tolist() == [[5.0, 2.0]]
    with pytest.raises(UserError, match="emo_alpha"):
        Mood(alpha=math.nan)


def test_each_emotion_is_taken_from_the_speaker_most_like_the_voice(matrices):
    third_sad = 2 + 1 + 2
    rows = matrices.nearest_rows(7 * matrices.speakers[third_sad : third_sad + 1])
    assert rows[EMOTIONS.index("sad")] == 2
    assert all(row < count for row, count in zip(rows, COUNTS, strict=True))


def test_a_mixture_leaves_the_rest_to_the_own_mood(matrices):
    own = torch.ones(1, 4)
    vector = (0.25, 0.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0)
    mixed = matrices.mix(vector, [1, 0, 2, 0, 0, 0, 0, 0], own)
    wanted = 0.25 * matrices.emotions[1] + 0.5 * matrices.emotions[5] + 0.25 * own[0]
    assert torch.allclose(mixed[0], wanted)


def test_random_rows_are_those_of_the_seed(matrices):
    drawn = [matrices.random_rows(seed) for seed in range(20)]
    assert drawn == [matrices.random_rows(seed) for seed in range(20)]
    assert {tuple(rows) for rows in drawn} != {tuple(drawn[0])}
    assert all(row < count for rows in drawn for row, count in zip(rows, COUNTS, strict=True))


def test_matrices_that_disagree_are_refused():
    with pytest.raises(UserError, match="11 rows, the emotion matrix 12"):
        EmotionMatrices(torch.zeros(11, 5), torch.zeros(12, 4), COUNTS)
    with pytest.raises(UserError, match="emo_num"):
        EmotionMatrices(torch.zeros(12, 5), torch.zeros(12, 4), (12,))
