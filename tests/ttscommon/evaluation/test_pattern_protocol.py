"""Made-up speakers and systems: what was built in is found, and nothing else is claimed."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest

from ttscommon.errors import UserError
from ttscommon.evaluation.manner import Manner
from ttscommon.evaluation.pattern_protocol import (
    Claim,
    PatternResult,
    find_roles,
    judge_patterns,
    with_shortest,
)
from ttscommon.evaluation.pauses import Timing, find_pauses
from ttscommon.evaluation.placement import Place
from ttscommon.segment import Span

N_TEXTS = 100
SPEAKER, BASE = (12.0, 0.6, 6.0), (4.0, 0.3, 1.0)  # pauses a minute, seconds, fillers a minute
BETWEEN = tuple((a + b) / 2 for a, b in zip(SPEAKER, BASE, strict=True))


def speak(habits: Sequence[float], seed: int, prefix: str = "t", n: int = N_TEXTS) -> list[Manner]:
    """Utterances of 10 s of speech; pauses come after commas or, one in five, elsewhere."""
    rate, length, fillers = habits
    rng = np.random.default_rng(seed)
    return [_utterance(rng, rate, length, fillers, f"{prefix}{i}") for i in range(n)]


def _utterance(
    rng: np.random.Generator, rate: float, length: float, fillers: float, group: str
) -> Manner:
    n_pauses = int(rng.poisson(rate / 6))
    spans, here = [], 0.0
    for _ in range(n_pauses + 1):
        end = here + 10 / (n_pauses + 1)
        spans.append(Span(here, end))
        here = end + float(rng.lognormal(np.log(length), 0.4))
    n_fillers = int(rng.poisson(fillers / 6))
    timing = Timing(tuple(spans), tuple(find_pauses(spans)), 25, n_fillers, 40)
    places = {i: Place("comma", rng.random() < rate / 15) for i in range(3)}
    places |= {i: Place("other word", rng.random() < rate / 150) for i in range(3, 20)}
    return Manner(group, timing, places, fillers=[("um", "medial")] * n_fillers)


@pytest.fixture(scope="module")
def good() -> PatternResult:
    """The whole way with the pattern; none without, with noise, or with another's."""
    other = (2.0, 1.2, 12.0)
    conditions = {
        "R": speak(SPEAKER, 0, "r"),
        "B0": speak(BASE, 1),
        "B1": speak((4.0, 0.3, 4.0), 2),
        "L": speak(BASE, 3),
        "LP": speak(SPEAKER, 4),
        "LP0": speak(BASE, 5),
        "LPr": speak(BASE, 6),
        "LPx": speak(other, 7),
        "LP@0.5": speak(BETWEEN, 8),
    }
    return judge_patterns(conditions, n_draws=100)


def status(result: PatternResult, word: str) -> str:
    return claim(result, word).status


def claim(result: PatternResult, word: str) -> Claim:
    return next(one for one in result.claims if word in one.name)


def test_a_pattern_that_works_is_shown_to_work(good):
    assert [one.status for one in good.claims] == ["shown"] * 4, good.claims
    assert good.transfer["LP"]["mean"].value > 0.8
    assert abs(good.transfer["LP0"]["mean"].value) < 0.3
    assert good.slopes["pauses_per_minute"].value > 0
    assert good.effects["LP - LP0"]["pause_rate"].low > 0.5
    assert 0.67 < good.ratios["LP"]["fillers_per_minute"].value < 1.5


def test_the_result_is_plain_json(good):
    data = json.loads(json.dumps(good.to_dict(), allow_nan=False))
    assert data["format"] == "voxtune.pattern_evaluation"
    assert data["roles"]["doses"] == {"0": "LP0", "0.5": "LP@0.5", "1": "LP"}
    assert data["transfer"]["LP"]["pause_rate"]["value"] > 0.5
    assert set(data["by_threshold"]) == {"100", "200", "300"}


def test_a_pattern_that_does_nothing_is_not_shown():
    conditions = {"R": speak(SPEAKER, 0, "r"), "B0": speak(BASE, 1), "P": speak(BASE, 2)}
    conditions |= {"P0": speak(BASE, 3), "Pr": speak(BASE, 4), "Px": speak(BASE, 5)}
    result = judge_patterns({**conditions, "P@2": speak(BASE, 6)}, n_draws=100)
    assert result.roles.system == "P"
    assert [one.status for one in result.claims] == ["not shown"] * 4, result.claims


def test_what_the_adapter_does_alone_is_no_credit_to_the_pattern():
    conditions = {"R": speak(SPEAKER, 0, "r"), "B0": speak(BASE, 1)}
    conditions |= {name: speak(SPEAKER, i) for i, name in enumerate(("LP", "LP0", "LPr"), 2)}
    result = judge_patterns(conditions, n_draws=100)
    assert status(result, "carries over") == "shown"
    assert status(result, "pattern that does it") == "not shown"


def test_a_base_that_is_like_the_speaker_already_makes_nothing_testable():
    conditions = {"R": speak(SPEAKER, 0, "r"), "B0": speak(SPEAKER, 1), "LP": speak(SPEAKER, 2)}
    result = judge_patterns(conditions, n_draws=100)
    assert {"pause_rate", "pause_duration", "filler_rate"} <= set(result.refused)
    assert "mean" not in result.transfer["LP"]
    found = claim(result, "carries over")
    assert found.status == "not testable"
    assert "within the speaker's own variation" in found.reason


def test_half_of_the_way_is_found_as_half():
    conditions = {"R": speak(SPEAKER, 0, "r", 300), "B0": speak(BASE, 1, n=300)}
    middle = (np.sqrt(SPEAKER[0] * BASE[0]), np.sqrt(SPEAKER[1] * BASE[1]), 3.0)
    result = judge_patterns({**conditions, "LP": speak(middle, 2, n=300)}, n_draws=100)
    for measure in ("pause_rate", "pause_duration"):
        score = result.transfer["LP"][measure]
        assert score.low < 0.55
        assert 0.3 < score.value < 0.7


def test_what_was_not_given_is_not_claimed():
    conditions = {"R": speak(SPEAKER, 0, "r"), "B0": speak(BASE, 1), "LP": speak(SPEAKER, 2)}
    result = judge_patterns(conditions, n_draws=100)
    assert status(result, "pattern that does it") == "not testable"
    assert "LP0 and LPr" in claim(result, "pattern that does it").reason
    assert status(result, "this speaker") == "not testable"
    assert status(result, "strength") == "not testable"
    assert "B1" in claim(result, "carries over").reason
    assert any("1.0 tries a text" in note for note in result.notes)


def test_few_texts_and_different_texts_are_noted():
    conditions = {"R": speak(SPEAKER, 0, "r", 12), "B0": speak(BASE, 1, n=12)}
    result = judge_patterns({**conditions, "LP": speak(SPEAKER, 2, n=11)}, n_draws=50)
    assert any("11 texts are few" in note for note in result.notes)
    assert any(note.startswith("B0: not the same texts") for note in result.notes)


@pytest.mark.parametrize(
    ("names", "what"),
    [
        (["B0", "LP"], "real recordings"),
        (["R", "LP"], "the base"),
        (["R", "B0", "L"], "nothing to judge"),
        (["R", "B0", "LP", "tuned"], "'tuned' is no condition"),
        (["R", "B0", "LP", "LP@x"], "'LP@x' is no condition"),
    ],
)
def test_conditions_that_are_missing_or_strange_are_refused(names, what):
    with pytest.raises(UserError, match=what):
        find_roles(names)


def test_roles_follow_from_names():
    roles = find_roles(["R", "B0", "P", "LP", "LP0", "P0", "LP@1.5", "P@0.5"])
    assert (roles.system, roles.off, roles.random, roles.swapped) == ("LP", "LP0", None, None)
    assert roles.doses == {0.0: "LP0", 1.0: "LP", 1.5: "LP@1.5"}


def test_a_condition_without_utterances_is_refused():
    with pytest.raises(UserError, match="'LP' has no utterances"):
        judge_patterns({"R": speak(SPEAKER, 0), "B0": speak(BASE, 1), "LP": []})


def test_a_longer_shortest_pause_leaves_fewer():
    spans = (Span(0, 1), Span(1.15, 2), Span(2.4, 3))
    one = Manner("a", Timing(spans, tuple(find_pauses(spans))))
    counts = [len(with_shortest([one], s)[0].timing.pauses) for s in (0.1, 0.2, 0.5)]
    assert counts == [2, 1, 0]
