"""A classifier of manners: it must know real people apart before it may speak of a system."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.ttscommon.evaluation.test_pattern_protocol import BASE, BETWEEN, SPEAKER, speak
from ttscommon.evaluation.manner import Manner
from ttscommon.evaluation.pauses import Timing
from ttscommon.evaluation.style_identity import StyleIdentity, features, identify_style
from ttscommon.segment import Span


def people(n: int, n_each: int = 15) -> dict[str, list[Manner]]:
    """With pauses, their lengths and fillers of their own, none as the target's."""
    chance = np.random.default_rng(7)
    habits = [(*chance.uniform((2, 0.2, 0), (10, 0.6, 4)),) for _ in range(n)]
    return {f"p{i}": speak(own, 50 + i, f"p{i}_", n_each) for i, own in enumerate(habits)}


@pytest.fixture(scope="module")
def told() -> StyleIdentity:
    conditions = {"B0": speak(BASE, 1), "LP": speak(SPEAKER, 2), "LP@0.5": speak(BETWEEN, 3)}
    conditions |= {"LP0": speak(BASE, 4)}
    return identify_style(conditions, speak(SPEAKER, 0, "r", 60), people(12), "B0", n_draws=200)


def test_what_sounds_like_the_target_gains_and_what_stays_the_base_does_not(told):
    assert told.refused is None
    assert told.auc is not None
    assert 0.9 < told.auc.value <= 1
    assert told.gains["LP"].low > told.gains["LP@0.5"].value > 0
    assert told.gains["LP"].p is not None
    assert told.gains["LP"].p < 0.05
    assert told.gains["LP0"].low < 0 < told.gains["LP0"].high
    assert told.log_odds["LP"] > 0 > told.log_odds["B0"]


def test_who_speaks_as_all_others_do_is_refused():
    """Also where many utterances of few people would make chance look sure."""
    habit = (6.0, 0.4, 2.0)
    others = {f"p{i}": speak(habit, 100 + i, f"p{i}_", 30) for i in range(10)}
    conditions = {"B0": speak(BASE, 1), "LP": speak(habit, 2)}
    found = identify_style(conditions, speak(habit, 0, "r", 60), others, "B0", n_draws=200)
    assert found.auc is not None
    assert found.auc.low < 0.5
    assert found.refused is not None
    assert "can't be told apart" in found.refused
    assert not found.gains


@pytest.mark.parametrize(("n_real", "n_people"), [(60, 9), (7, 12)])
def test_too_few_people_or_recordings_are_refused(n_real, n_people):
    conditions = {"B0": speak(BASE, 1), "LP": speak(SPEAKER, 2)}
    found = identify_style(conditions, speak(SPEAKER, 0, "r", n_real), people(n_people), "B0")
    assert found.refused is not None
    assert found.auc is None
    assert not found.gains


def test_an_utterance_without_speech_has_features_that_say_nothing():
    assert all(math.isnan(value) for value in features(Manner("a", Timing((), ()))).values())
    one = features(Manner("a", Timing((Span(0, 6), Span(7, 12)), (Span(6, 7),), 20, 1, 22),
                          fillers=[("um", "medial")]))  # fmt: skip
    assert one["pauses_per_minute"] == pytest.approx(5)
    assert one["um_per_minute"] == one["fillers_per_minute"] == pytest.approx(5)
    assert one["log_pause_seconds"] == pytest.approx(0)
    assert one["phonation_ratio"] == pytest.approx(11 / 12)
