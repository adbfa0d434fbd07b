"""Distances between manners are those of closed forms; the way to the speaker is measured right."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from ttscommon.evaluation.likeness import Likeness, draw, half_split_floor, likeness
from ttscommon.evaluation.manner import Manner, Measure, measures
from ttscommon.evaluation.pauses import Timing, find_pauses
from ttscommon.evaluation.placement import Place
from ttscommon.segment import Span


def manner(
    *pauses: float, fillers: int = 0, group: str = "", repetitions: int = 0, **more
) -> Manner:
    """Two seconds of speech around each pause."""
    spans, now = [Span(0, 2)], 2.0
    for pause in pauses:
        spans.append(Span(now + pause, now + pause + 2))
        now += pause + 2
    counts = 10, fillers, 20, repetitions
    return Manner(group, Timing(tuple(spans), tuple(find_pauses(spans)), *counts), **more)


def distance(measure: Measure, a: list[Manner], b: list[Manner]) -> float:
    return float(measure.compare(measure.rows(a).sum(0), measure.rows(b).sum(0)))


def apart(name: str, a: list[Manner], b: list[Manner]) -> float:
    return distance(measures([*a, *b])[name], a, b)


def test_pauses_longer_by_a_tenth_are_a_tenth_apart():
    a = [manner(0.3, 0.5), manner(0.9)]
    b = [manner(0.33, 0.55), manner(0.99)]
    assert apart("pause_duration", a, b) == pytest.approx(math.log(1.1))
    assert apart("pause_duration", a, a) == 0


def test_the_distance_of_distributions_is_that_of_scipy():
    rng = np.random.default_rng(0)
    a, b = ([manner(*rng.lognormal(mean, 0.5, 3)) for _ in range(20)] for mean in (0.0, 0.4))
    logs = [[math.log(p.duration) for one in side for p in one.timing.pauses] for side in (a, b)]
    assert apart("pause_duration", a, b) == pytest.approx(wasserstein_distance(*logs))


def test_rates_are_compared_by_their_ratio_whichever_way():
    once, twice = [manner(fillers=1)], [manner(fillers=2)]
    assert apart("filler_rate", once, twice) == pytest.approx(math.log(2))
    assert apart("filler_rate", twice, once) == pytest.approx(math.log(2))
    assert apart("filler_rate", [manner()], twice) == pytest.approx(math.log(5))  # 2.5 to 0.5
    assert math.isnan(apart("filler_rate", [manner()], [manner(0.5)]))  # nobody says any
    found = apart("pause_rate", [manner(0.5)], [manner(0.25, 0.25)])
    assert found == pytest.approx(math.log((2 / 6.5) / (1 / 4.5)))


def test_repetitions_are_compared_as_rates():
    once, thrice = [manner(repetitions=1)], [manner(repetitions=3)]
    assert apart("repetition_rate", once, thrice) == pytest.approx(math.log(3))


def test_words_drawn_out_are_compared_as_rates():
    once, thrice = [manner(n_drawn_out=1)], [manner(n_drawn_out=3)]
    assert apart("prolongation_rate", once, thrice) == pytest.approx(math.log(3))


def said(*fillers: str, where: str = "medial") -> list[Manner]:
    return [manner(fillers=len(fillers)) if not fillers else Manner(
        "", manner().timing, fillers=[(word, where) for word in fillers])]  # fmt: skip


def test_other_fillers_are_ln_2_apart_and_half_of_them_what_is_counted_by_hand():
    assert apart("filler_identity", said("um", "um"), said("uh")) == pytest.approx(math.log(2))
    assert apart("filler_identity", said("um", "uh"), said("uh", "um")) == pytest.approx(0)
    # p = (1, 0), q = (1/2, 1/2): H(3/4, 1/4) - H(1/2, 1/2) / 2
    by_hand = -0.75 * math.log(0.75) - 0.25 * math.log(0.25) - math.log(2) / 2
    assert apart("filler_identity", said("um"), said("um", "uh")) == pytest.approx(by_hand)
    assert math.isnan(apart("filler_identity", said(), said("um")))
    assert math.isnan(apart("filler_identity", said(), said()))


def test_the_same_fillers_elsewhere_are_apart_in_their_places():
    a, b = said("um"), said("um", where="initial")
    assert apart("filler_identity", a, b) == pytest.approx(0)
    assert apart("filler_position", a, b) == pytest.approx(math.log(2))


def test_pauses_in_other_places_are_apart_though_they_are_as_many():
    def places(*paused: bool) -> dict[int, Place]:
        contexts = ("comma", "comma", "other word", "other word")
        pairs = enumerate(zip(contexts, paused, strict=True))
        return {i: Place(context, is_pause) for i, (context, is_pause) in pairs}

    at_commas = [manner(places=places(True, True, False, False))]
    elsewhere = [manner(places=places(False, False, True, True))]
    assert apart("pause_placement", at_commas, elsewhere) == pytest.approx(math.log(2))
    assert apart("pause_placement", at_commas, at_commas) == pytest.approx(0)
    half = [manner(places=places(True, False, False, False))]
    # JS of p = 1 and p = 1/2 by hand: h(3/4) - h(1/2) / 2; commas are half of the places
    by_hand = -0.75 * math.log(0.75) - 0.25 * math.log(0.25) - math.log(2) / 2
    assert apart("pause_placement", at_commas, half) == pytest.approx(by_hand / 2)


def test_words_said_twice_as_slowly_are_ln_2_apart_in_each_kind_of_word():
    fast = [manner(paces=[(1, 0.2), (2, 0.15)])]
    slow = [manner(paces=[(1, 0.4), (2, 0.3)])]
    assert apart("word_rhythm", fast, slow) == pytest.approx(math.log(2))


def speaker(n: int, longer: float, seed: int, name: str = "") -> list[Manner]:
    rng = np.random.default_rng(seed)
    places = {0: Place("comma", True), 1: Place("comma", False)}  # the same for everybody
    lengths = longer * rng.lognormal(-0.2, 0.4, (n, 3))
    return [manner(*row, group=f"{name}{i}", places=places) for i, row in enumerate(lengths)]


def test_a_speaker_is_nearer_to_their_own_half_than_to_one_who_pauses_twice_as_long():
    real, slow = speaker(60, 1, 0), speaker(60, 2, 1)
    measure = measures([*real, *slow])["pause_duration"]
    floor = half_split_floor(measure, real)
    assert 0 < floor.median < floor.limit < distance(measure, real, slow)
    assert half_split_floor(measure, real, n_part=5).median > floor.median  # few are noisier
    with pytest.raises(ValueError, match="too few to halve"):
        half_split_floor(measure, real[:7])


@pytest.fixture(scope="module")
def found() -> Likeness:
    conditions = {
        "base": speaker(100, 0.5, 1),
        "half": speaker(100, 0.5**0.5, 2),
        "same": speaker(100, 1, 3),
        "wrong": speaker(100, 0.4, 4),
    }
    return likeness(conditions, speaker(100, 1, 0, "r"), "base", n_draws=500)


def test_the_transfer_score_tells_half_the_way_from_all_of_it(found):
    gained = {name: scores["pause_duration"] for name, scores in found.transfer.items()}
    assert gained["half"].low < 0.5 < gained["half"].high
    assert gained["half"].high < 0.9 < gained["same"].value
    assert gained["wrong"].high < 0
    assert "base" not in found.transfer
    assert found.distances["base"]["pause_duration"].value == pytest.approx(math.log(2), abs=0.15)


def test_a_measure_in_which_the_base_is_as_the_speaker_is_refused(found):
    assert "within the speaker's own variation" in found.refused["pause_placement"]
    assert found.refused["filler_rate"] == "nothing to compare"
    assert all("pause_placement" not in scores for scores in found.transfer.values())
    few = likeness({"base": speaker(9, 0.5, 1)}, speaker(5, 1, 0), "base", n_draws=50)
    assert "too few" in few.refused["pause_duration"]


def test_likeness_reads_back_as_it_was_written(found):
    assert Likeness.from_dict(found.to_dict()) == found


@pytest.mark.slow
def test_intervals_of_transfer_scores_hold_the_truth_as_often_as_they_say():
    truth = 0.5  # in the log domain half way, apart from the floor
    hits = []
    for seed in range(60):
        conditions = {
            "base": speaker(60, 0.4, 3 * seed + 1),
            "half": speaker(60, 0.4**0.5, 3 * seed + 2),
        }
        real = speaker(60, 1, 3 * seed, "r")
        score = likeness(conditions, real, "base", n_draws=300).transfer["half"]["pause_duration"]
        hits.append(score.low <= truth <= score.high)
    assert np.mean(hits) > 0.85


def test_short_and_long_words_are_compared_with_their_like():
    a = [manner(paces=[(1, 0.2), (2, 0.4), (3, 0.3)])]
    b = [manner(paces=[(1, 0.4), (2, 0.2), (3, 0.3)])]
    assert apart("word_rhythm", a, b) == pytest.approx(2 * math.log(2) / 3)


def test_a_context_weighs_as_much_as_it_has_places():
    def places(n_other: int, is_pause: bool) -> dict[int, Place]:
        others = [Place("other word", False)] * n_other
        return dict(enumerate([Place("comma", is_pause), *others]))

    a, b = ([manner(places=places(9, is_pause))] for is_pause in (True, False))
    assert apart("pause_placement", a, b) == pytest.approx(math.log(2) / 10)


def test_what_was_found_is_of_the_texts_as_they_are_and_the_floor_is_no_distance():
    real, base, tuned = speaker(40, 1, 0, "r"), speaker(40, 0.4, 1), speaker(40, 0.7, 2)
    drawn = draw({"base": base, "tuned": tuned}, real, "base", n_draws=20)
    measure = measures([*real, *base, *tuned])["pause_duration"]
    d_base, d_tuned = (distance(measure, real, one) for one in (base, tuned))
    assert drawn.apart["pause_duration"]["tuned"][0] == pytest.approx(d_tuned)
    floor = drawn.floors["pause_duration"].median
    way = 1 - (d_tuned - floor) / (d_base - floor)
    assert drawn.gained["pause_duration"]["tuned"][0] == pytest.approx(way)
