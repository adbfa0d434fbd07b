"""Detectors with known errors, and the shares that are made of them."""

from __future__ import annotations

import numpy as np
import pytest

from ttscommon.evaluation.detection import (
    Labelled,
    correct,
    count_fillers,
    count_pauses,
    true_share,
    without_rests,
)
from ttscommon.evaluation.manner import Manner
from ttscommon.evaluation.pauses import Timing
from ttscommon.evaluation.placement import Place
from ttscommon.segment import Span

SPEECH = (Span(0, 10),)


def test_the_formula_undoes_a_detector_s_errors():
    true, sensitivity, specificity = np.array([0.0, 0.1, 0.4, 1.0]), 0.7, 0.95
    observed = true * sensitivity + (1 - true) * (1 - specificity)
    assert true_share(observed, sensitivity, specificity) == pytest.approx(true)
    assert true_share(np.array([0.0, 0.9]), sensitivity, specificity).tolist() == [0, 1]
    assert np.isnan(true_share(np.array([0.5]), 0.4, 0.6)).all()


def test_every_place_of_a_labelled_text_is_one_of_four():
    text = "Um, so we... went [PAUSE] home late."
    assert without_rests(text) == "Um, so we went home late."
    pauses = {0: False, 1: True, 2: True, 3: False}  # the place behind "home" wasn't heard
    places = {i: Place("other word", found) for i, found in pauses.items()}
    assert count_pauses(Labelled(text, places, "")) == (1, 1, 1, 1)
    assert count_fillers(Labelled(text, {}, "so we uh went home er late"), "en") == (0, 1, 2, 5)
    assert count_fillers(Labelled(text, {}, "uh so we went home late"), "en") == (1, 0, 0, 5)


def made_up(share: float, seed: int, sensitivity: float, specificity: float) -> list[Manner]:
    """100 utterances of 20 places, and a filler in as many of 20 words."""
    chance, found = np.random.default_rng(seed), []
    for number in range(100):
        seen = _seen(chance, chance.random(20) < share, sensitivity, specificity)
        places = {i: Place("other word", bool(one)) for i, one in enumerate(seen)}
        n = int(_seen(chance, chance.random(20) < share, sensitivity, specificity).sum())
        timing = Timing(SPEECH, (), n_words=20 - n, n_fillers=n)
        found.append(Manner(f"t{number}", timing, places))
    return found


def _seen(chance, is_true, sensitivity, specificity):
    return chance.random(len(is_true)) < np.where(is_true, sensitivity, 1 - specificity)


def labelled(n: int, sensitivity: float, specificity: float) -> list[Labelled]:
    chance, found = np.random.default_rng(9), []
    for _ in range(n):
        is_true = chance.random(20) < 0.3
        seen = _seen(chance, is_true, sensitivity, specificity)
        places = {i: Place("other word", bool(one)) for i, one in enumerate(seen)}
        said = " ".join("w..." if one else "w" for one in is_true) + " um" * 3
        found.append(Labelled(said, places, " ".join(["w"] * 20 + ["um"] * 2)))
    return found


def test_corrected_shares_are_the_true_ones_within_their_intervals():
    conditions = {"R": made_up(0.3, 0, 0.6, 0.9), "LP": made_up(0.15, 1, 0.6, 0.9)}
    found = correct(conditions, labelled(100, 0.6, 0.9), "en", "R", n_draws=300)["pauses"]
    assert found.refused is None
    assert found.sensitivity is not None
    assert found.specificity is not None
    assert found.sensitivity.low < 0.6 < found.sensitivity.high
    assert found.specificity.low < 0.9 < found.specificity.high
    assert found.observed["R"] == pytest.approx(0.25, abs=0.02)
    for name, true in (("R", 0.3), ("LP", 0.15)):
        assert found.shares[name].value == pytest.approx(true, abs=0.03)
        assert found.shares[name].low < true < found.shares[name].high
    assert found.ratios["LP"].low < 0.5 < found.ratios["LP"].high < 1


def test_fewer_labels_make_wider_intervals():
    conditions = {"R": made_up(0.3, 0, 0.6, 0.9)}
    few, many = (
        correct(conditions, labelled(n, 0.6, 0.9), "en", "R", n_draws=300)["pauses"].shares["R"]
        for n in (8, 100)
    )
    assert few.high - few.low > 1.5 * (many.high - many.low)


def test_without_enough_labels_or_with_a_detector_like_chance_nothing_is_corrected():
    conditions = {"R": made_up(0.3, 0, 0.6, 0.9)}
    few = correct(conditions, labelled(1, 0.6, 0.9), "en", "R", n_draws=50)["fillers"]
    assert few.refused == "3 labelled events and 20 places without one; 10 are asked"
    none = correct(conditions, [], "en", "R", n_draws=50)["pauses"]
    assert none.refused is not None
    coin = correct(conditions, labelled(100, 0.2, 0.7), "en", "R", n_draws=50)["pauses"]
    assert coin.refused == "the detector finds no more than chance"
    assert not few.shares
    assert not coin.shares
