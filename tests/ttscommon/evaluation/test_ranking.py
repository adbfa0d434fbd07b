"""The best system is first, and what is only chance is no place of its own."""

from __future__ import annotations

import re

import numpy as np
import pytest

from ttscommon.errors import UserError
from ttscommon.evaluation.comparison import Result
from ttscommon.evaluation.evaluate import Evaluation
from ttscommon.evaluation.ranking import rank

N_TEXTS = 12


def result(condition: str, number: int, wrong: float, **changes) -> Result:
    parts = {"cer": [wrong, 10.0], "similarity": [0.8, 1.0], "dnsmos": [3.0, 1.0]}
    settings = {"seconds": 1.0, "heard": "", "pauses": [], "faults": [], "parts": parts, "seed": 0}
    return Result(condition, f"{number}", f"text {number}", "a text", path="",
                  **{**settings, **changes})  # fmt: skip


def evaluation_of(*results: Result) -> Evaluation:
    return Evaluation("base", "real", {}, {}, [], results)


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    """Two that are alike, a bad one, and recordings; each clip has its own chance."""
    chance = np.random.default_rng(0)
    errors = {"base": (6, 1.0), "good": (2, 1.0), "alike": (2.05, 1.0), "real": (0.5, 0.1)}
    return evaluation_of(
        *(
            result(name, number, float(abs(chance.normal(mean, spread))))
            for name, (mean, spread) in errors.items()
            for number in range(N_TEXTS)
        )
    )


@pytest.mark.parametrize("metric", ["overall", "cer"])
def test_the_bad_one_is_last_for_sure_and_the_others_share_their_places(evaluation, metric):
    ranking = rank(evaluation, metric)
    assert ranking.ranks[2].condition == "base"
    assert [one.places for one in ranking.ranks] == ["1-2", "1-2", "3"]
    first, second = ranking.sentences()
    assert "not distinguishable" in first
    assert "not distinguishable" not in second
    assert "3. base" in second


@pytest.mark.parametrize("metric", ["overall", "cer"])
def test_the_interval_that_is_told_lies_around_the_distance(evaluation, metric):
    for sentence in rank(evaluation, metric).sentences():
        by = sentence.split(" by ")[-1]
        value, low, high = (float(n) for n in re.findall(r"-?\d+\.\d+", by))
        assert low <= value <= high


def test_one_text_alone_tells_nobody_apart():
    both = result("good", 0, 0.0), result("base", 0, 9.0)
    assert [one.places for one in rank(evaluation_of(*both)).ranks] == ["1-2", "1-2"]


def test_saying_nothing_is_worse_than_saying_it_wrong():
    silent = {"parts": {"cer": [10.0, 10.0]}, "faults": ["silent"]}
    wrong = [result("wrong", number, 10.0) for number in range(N_TEXTS)]
    mute = [result("mute", number, 10.0, **silent) for number in range(N_TEXTS)]
    ranking = rank(evaluation_of(*mute, *wrong))
    assert [(one.condition, one.places) for one in ranking.ranks] == [("wrong", "1"), ("mute", "2")]
    assert ranking.ranks[1].score.value == 0


def test_what_has_no_good_end_or_was_not_measured_is_refused(evaluation):
    with pytest.raises(UserError, match="'f0' can't rank"):
        rank(evaluation, "f0")
    with pytest.raises(UserError, match="wer wasn't measured"):
        rank(evaluation, "wer")
