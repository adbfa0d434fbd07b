"""Scores say how sure they are: coverage by simulation, and what can't be scored is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ttscommon.evaluation.scores import (
    Score,
    holm,
    paired_ratio_difference,
    ratio_score,
    share_score,
)


def score(values, **how) -> Score:
    """Of values whose denominators are all 1."""
    return ratio_score(values, np.ones(len(values)), **how)


def paired_difference(a, b, **how) -> Score:
    """As `score`."""
    return paired_ratio_difference((a, np.ones(len(a))), (b, np.ones(len(b))), **how)


def coverage(draw, truth: float, n_trials: int = 200) -> float:
    """How often the interval of a random sample holds the truth."""
    held = 0
    for trial in range(n_trials):
        found = draw(np.random.default_rng(trial))
        held += found.low <= truth <= found.high
    return held / n_trials


# Of 200 intervals that hold the truth 95 times in 100, 181 to 198 do (in 98 of 100 cases and more).
@pytest.mark.parametrize("n", [8, 30])
def test_19_of_20_intervals_of_a_mean_hold_the_truth_also_for_few_utterances(n):
    found = coverage(lambda rng: score(rng.normal(3, 2, n), n_draws=250), 3)
    assert 0.905 <= found <= 0.99


def test_19_of_20_intervals_of_an_error_rate_hold_the_truth():
    def draw(rng):
        words = rng.integers(3, 30, 60)
        return ratio_score(rng.binomial(words, 0.1), words, n_draws=250)

    assert 0.905 <= coverage(draw, 0.1) <= 0.99


def test_19_of_20_intervals_of_a_difference_hold_the_truth_though_utterances_vary_far_more():
    def draw(rng):
        hard = rng.normal(0, 10, 20)
        a, b = hard + rng.normal(0, 1, 20), hard + 0.5 + rng.normal(0, 1, 20)
        return paired_difference(a, b, n_draws=250)

    assert 0.905 <= coverage(draw, 0.5) <= 0.99


def test_seeds_of_one_text_do_not_pass_for_independent_utterances():
    def draw(rng, grouped):
        texts = np.repeat(np.arange(15), 4)
        values = rng.normal(0, 1, 15)[texts] + rng.normal(0, 0.1, 60)
        return score(values, groups=list(texts) if grouped else None, n_draws=250)

    assert coverage(lambda rng: draw(rng, True), 0, 100) >= 0.88
    assert coverage(lambda rng: draw(rng, False), 0, 100) < 0.8


def test_a_rate_weighs_utterances_by_their_length():
    found = ratio_score([1, 0], [2, 6])
    assert (found.value, found.n) == (1 / 8, 2)
    assert (found.low, found.high) == (0, 0.5)


def test_a_paired_difference_is_b_minus_a():
    found = paired_difference([1, 2, 3], [2, 3, 4])
    assert (found.value, found.n) == (1, 3)
    assert (found.low, found.high) == pytest.approx((1, 1))
    rates = paired_ratio_difference(([1, 1], [10, 10]), ([2, 4], [10, 10]))
    assert rates.value == pytest.approx(0.2)


def test_a_difference_that_is_none_has_a_p_below_a_twentieth_in_one_of_twenty_cases():
    chances = []
    for trial in range(300):
        a, b = np.random.default_rng(trial).normal(0, 1, (2, 12))
        chances.append(paired_difference(a, b, n_draws=250).p)
    assert 0.02 <= np.mean(np.array(chances) < 0.05) <= 0.085
    assert 0.4 <= np.mean(chances) <= 0.6


def test_p_is_under_a_twentieth_where_the_interval_leaves_out_zero():
    agreed = 0
    for trial in range(100):
        rng = np.random.default_rng(trial)
        found = paired_difference(np.zeros(15), rng.normal(0.5, 1, 15))
        agreed += (found.p < 0.05) == (found.low > 0 or found.high < 0)
    assert agreed >= 98


def test_p_goes_on_falling_where_no_draw_lies_beyond_zero():
    noise = np.random.default_rng(0).normal(0, 1, 10)
    near, far = (paired_difference(np.zeros(10), noise + by).p for by in (4, 40))
    assert far < near < 1e-3
    assert paired_difference([0, 0, 0], [1, 1, 1]).p == 0
    assert paired_difference([0, 0, 0], [0, 0, 0]).p == 1
    assert paired_difference([0], [1]).p == 1


def test_p_is_that_of_students_test_for_a_mean():
    from scipy.stats import ttest_1samp

    values = np.random.default_rng(5).normal(0.6, 1, 40)
    found = paired_difference(np.zeros(40), values, n_draws=20_000)
    assert found.p == pytest.approx(ttest_1samp(values, 0).pvalue, rel=0.25)


def test_several_questions_raise_each_others_p_as_holm_says():
    found = holm({"a": 0.04, "b": 0.01, "c": 0.03, "d": 0.5})
    assert found == pytest.approx({"a": 0.09, "b": 0.04, "c": 0.09, "d": 0.5})
    assert list(found) == ["a", "b", "c", "d"]
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


def test_a_difference_keeps_its_p_on_the_way_through_a_file():
    found = paired_difference([1, 2, 3], [2, 4, 3])
    assert found.p is not None
    assert Score.from_dict(found.to_dict()) == found


def test_scores_repeat_themselves():
    values = np.random.default_rng(0).random(20)
    assert score(values) == score(values)


def test_one_utterance_has_a_value_and_an_endless_interval():
    found = score([0.5])
    assert (found.value, found.n, found.low, found.high) == (0.5, 1, -math.inf, math.inf)
    assert found.to_dict() == {"value": 0.5, "n": 1, "low": None, "high": None}
    assert Score.from_dict(found.to_dict()) == found


def test_none_of_ten_is_not_certainly_none():
    found = share_score([False] * 10)
    assert (found.value, found.low) == (0, 0)
    assert found.high == pytest.approx(0.278, abs=0.001)  # Wilson: z^2 / (n + z^2)


def test_a_share_of_tries_is_as_sure_as_its_texts_are_many():
    texts = np.repeat(np.arange(8), 4)
    of_one_text = share_score(texts == 0, groups=list(texts))
    assert (of_one_text.value, of_one_text.n) == (1 / 8, 32)
    assert (of_one_text.low, of_one_text.high) == pytest.approx((0.022, 0.471), abs=0.001)
    nowhere = share_score([False] * 32, groups=list(texts))
    assert (nowhere.low, nowhere.high) == (0, pytest.approx(0.324, abs=0.001))  # none of 8
    alone = share_score([True] * 4, groups=[0] * 4)
    assert (alone.low, alone.high) == (pytest.approx(0.207, abs=0.001), 1)  # one of one
    mixed = share_score([True, False, False, False] * 8, groups=list(texts))
    assert (mixed.low, mixed.high) != (of_one_text.low, of_one_text.high)
    assert mixed == share_score([True, False, False, False] * 8)  # every text says the same


def test_a_text_tried_most_often_does_not_stand_for_many():
    flags, texts = [True] * 13 + [False] * 7, [0] * 13 + list(range(1, 8))
    kish = 20**2 / (13**2 + 7)
    z = 1.96
    half = z * math.sqrt(0.65 * 0.35 / kish + (z / 2 / kish) ** 2) / (1 + z**2 / kish)
    found = share_score(flags, groups=texts)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.01)


# Beta-binomial tries: with a correlation of 1 a text fails in all its tries or in none.
@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize(("n_texts", "truth"), [(8, 0.2), (20, 0.05), (20, 0.5)])
def test_19_of_20_intervals_of_a_share_hold_the_truth_however_alike_tries_of_a_text_are(
    n_texts, truth, correlation
):
    texts = np.repeat(np.arange(n_texts), 4)

    def draw(rng, grouped=True):
        if correlation in (0, 1):
            fails = np.full(n_texts, truth) if correlation == 0 else rng.random(n_texts) < truth
        else:
            spread = 1 / correlation - 1
            fails = rng.beta(truth * spread, (1 - truth) * spread, n_texts)
        flags = rng.random(len(texts)) < fails[texts]
        return share_score(list(flags), groups=list(texts) if grouped else None)

    assert coverage(draw, truth) >= 0.905
    if correlation > 0.5:
        assert coverage(lambda rng: draw(rng, grouped=False), truth) < 0.8


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]])
def test_what_has_no_mean_is_refused(values):
    with pytest.raises(ValueError, match=r"no values|NaN"):
        score(values)


def test_rates_without_words_and_unequal_columns_are_refused():
    with pytest.raises(ValueError, match="denominators"):
        ratio_score([1, 2], [0, 0])
    with pytest.raises(ValueError, match="different length"):
        paired_difference([1], [1, 2])
    with pytest.raises(ValueError, match="3 values but 2 groups"):
        score([1, 2, 3], groups=["a", "b"])


def test_a_numerator_is_drawn_with_its_own_denominator():
    found = ratio_score([1, 2, 30, 4], [2, 4, 60, 8])
    assert (found.low, found.high) == (0.5, 0.5)
