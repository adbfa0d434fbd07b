"""Effects that were put in are found, with their size; where there is none, none is claimed."""

from __future__ import annotations

import numpy as np
import pytest

from ttscommon.evaluation.effects import causal_effects, dose_slopes, rate_ratios, swap_effects
from ttscommon.evaluation.likeness import Draws, draw
from ttscommon.evaluation.manner import Manner
from ttscommon.evaluation.pauses import Timing, find_pauses
from ttscommon.evaluation.scores import chance, holm
from ttscommon.segment import Span


def spoken(n_fillers: int, n_pauses: int, group: str, pause: float = 0.5) -> Manner:
    """60 s, from the first word to the last."""
    edges = np.linspace(0, 60, n_pauses + 2)
    ends = [*(edge - pause for edge in edges[1:-1]), 60.0]
    spans = [Span(float(a), float(b)) for a, b in zip(edges[:-1], ends, strict=True)]
    fillers = [("um", "initial")] * n_fillers
    timing = Timing(tuple(spans), tuple(find_pauses(spans)), 100, n_fillers, 200)
    return Manner(group, timing, fillers=fillers)


def speaker(rate: float, seed: int, n: int = 30, name: str = "") -> list[Manner]:
    """Poisson counts, which differ from text to text."""
    rng = np.random.default_rng(seed)
    return [
        spoken(int(f), int(p), f"{name}{i}")
        for i, (f, p) in enumerate(rng.poisson((rate, 2 * rate), (n, 2)))
    ]


@pytest.fixture(scope="module")
def drawn() -> Draws:
    real = speaker(10, 0, name="r")
    conditions = {"base": speaker(3, 1), "on": speaker(10, 2), "off": speaker(3, 3)}
    conditions["other"] = speaker(25, 4)
    return draw(conditions, real, "base", n_draws=500)


def test_what_is_switched_on_is_what_helped(drawn):
    effects = causal_effects(drawn, "on", "off")
    assert {"pause_rate", "filler_rate"} <= effects.keys()
    for name in ("pause_rate", "filler_rate"):
        assert effects[name].low > 0.5
        assert effects[name].p < 0.01
    nothing = causal_effects(drawn, "off", "off")
    assert all(one.value == 0 and one.p == 1 for one in nothing.values())
    assert causal_effects(drawn, "off", "on")["pause_rate"].value < -0.5


def test_anothers_pattern_is_further_away_by_their_log_ratio(drawn):
    effect = swap_effects(drawn, "on", "other")["filler_rate"]
    own, other = (drawn.apart["filler_rate"][name][0] for name in ("on", "other"))
    assert effect.value == pytest.approx(other - own)
    assert effect.low < np.log(2.5) < effect.high
    assert effect.p < 0.01


def test_the_slope_of_doses_is_the_line_that_was_put_in():
    doses = {s: [spoken(round(2 + 4 * s), 4, str(i)) for i in range(8)] for s in (0, 0.5, 1, 1.5)}
    slopes = dose_slopes(doses, n_draws=200)
    assert slopes["fillers_per_minute"].value == pytest.approx(4)
    assert slopes["fillers_per_minute"].n == 32
    assert slopes["pauses_per_minute"].value == pytest.approx(0, abs=1e-12)
    assert slopes["pauses_per_minute"].p == 1
    with pytest.raises(ValueError, match="two strengths"):
        dose_slopes({1.0: doses[1]})


def test_the_slope_of_noisy_doses_has_the_truth_in_its_interval():
    doses = {s: speaker(5 + 5 * s, round(10 * s)) for s in (0.0, 0.5, 1.0, 1.5)}
    found = dose_slopes(doses, n_draws=500)["fillers_per_minute"]
    assert found.low < 5 < found.high
    assert found.low > 2
    assert found.p < 0.01


def test_fillers_twice_as_often_are_over_generated_twice():
    ours, theirs = ([spoken(n, 4, str(i)) for i in range(6)] for n in (6, 3))
    ratios = rate_ratios(ours, theirs, n_draws=200)
    assert ratios["fillers_per_minute"].value == pytest.approx(2)
    assert ratios["pauses_per_minute"].value == pytest.approx(1)
    assert "repetitions_per_minute" not in ratios  # nobody repeats anything
    none = rate_ratios([spoken(0, 4, "0")], [spoken(2, 4, "0")], n_draws=50)
    assert none["fillers_per_minute"].value == pytest.approx(0.5 / 2.5)


def test_the_p_of_effects_is_raised_for_their_number(drawn):
    effects = swap_effects(drawn, "on", "off")
    changes = {m: a["off"] - a["on"] for m, a in drawn.apart.items() if m in effects}
    alone = {m: chance(x[0], x[1:], drawn.n_texts["off"]) for m, x in changes.items()}
    assert len(effects) > 1
    assert {m: one.p for m, one in effects.items()} == pytest.approx(holm(alone))
    assert any(one.p > alone[m] for m, one in effects.items())
