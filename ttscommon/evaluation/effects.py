"""What caused it? One condition against another in their way to the speaker, and doses of a cause.

Pure functions over manners, for experiments in which one thing is switched on, swapped or turned
up: a learned pattern, another speaker's pattern, a pattern at several strengths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ttscommon.evaluation.likeness import Draws, draw_groups, drawn_sums
from ttscommon.evaluation.manner import NOTHING, Array, Manner, Rate
from ttscommon.evaluation.scores import N_DRAWS, Score, chance, holm, widened_interval

# Events a minute from the first word to the last.
EVENTS = {
    "pauses_per_minute": Rate(lambda m: len(m.timing.pauses), lambda m: m.timing.seconds / 60),
    "fillers_per_minute": Rate(lambda m: m.timing.n_fillers, lambda m: m.timing.seconds / 60),
    "repetitions_per_minute": Rate(
        lambda m: m.timing.n_repetitions, lambda m: m.timing.seconds / 60
    ),
    "prolongations_per_minute": Rate(lambda m: m.n_drawn_out, lambda m: m.timing.seconds / 60),
}


def causal_effects(drawn: Draws, treated: str, control: str) -> dict[str, Score]:
    """By how much more of the way to the speaker `treated` came than `control`, in each measure.

    Delta = NTS(treated) - NTS(control), over the same texts; p is Holm's over the measures.
    """
    return _differences(drawn, {m: (g[treated], g[control]) for m, g in drawn.gained.items()
                                if {treated, control} <= g.keys()}, treated)  # fmt: skip


def swap_effects(drawn: Draws, own: str, swapped: str) -> dict[str, Score]:
    """How much further from the speaker `swapped` is than `own`, in each measure.

    X = d(swapped, R) - d(own, R), such as with another speaker's pattern and with theirs; above
    zero it is the speaker's own that counts. p is Holm's over the measures.
    """
    return _differences(drawn, {m: (a[swapped], a[own]) for m, a in drawn.apart.items()}, swapped)


def dose_slopes(
    doses: Mapping[float, Sequence[Manner]], *, n_draws: int = N_DRAWS, seed: int = 0
) -> dict[str, Score]:
    """By how much each rate of EVENTS rises when the dose does by one: the least-squares line.

    Args:
        doses: {strength: its utterances}, the same texts at each

    Raises:
        ValueError: if there is only one strength, or one has no utterances
    """
    if len(doses) < 2 or not all(doses.values()):
        raise ValueError("a slope takes two strengths or more, with utterances at each")
    groups = _groups(*doses.values())
    draws = draw_groups(len(groups), n_draws, seed)
    strengths = np.array(list(doses), np.float64)
    weights = (strengths - strengths.mean()) / np.square(strengths - strengths.mean()).sum()
    n = sum(map(len, doses.values()))
    found = {}
    for name, event in EVENTS.items():
        rates = [_rate(drawn_sums(event.rows(m), m, groups, draws)) for m in doses.values()]
        slopes = np.tensordot(weights, np.stack(rates), 1)  # (1 + n_draws,)
        if not np.isnan(slopes[0]):
            found[name] = _difference(slopes, n, len(groups))
    return _with_holm(found)


def rate_ratios(
    ours: Sequence[Manner], theirs: Sequence[Manner], *, n_draws: int = N_DRAWS, seed: int = 0
) -> dict[str, Score]:
    """How many times as often each of EVENTS happens as with the speaker; above 1 is too often.

    If one side has none, both counts get 0.5 more; where neither has any, it is left out.
    """
    groups = _groups(ours, theirs)
    draws = draw_groups(len(groups), n_draws, seed)
    found = {}
    for name, event in EVENTS.items():
        a, b = (drawn_sums(event.rows(m), m, groups, draws) for m in (ours, theirs))
        more = np.where((a[:, :1] <= 0) | (b[:, :1] <= 0), NOTHING, 0.0) * (1, 0)
        ratios = _rate(a + more) / _rate(b + more)
        if a[0, 0] + b[0, 0] > 0 and np.isfinite(ratios[0]):
            low, high = widened_interval(ratios[1:], len(groups))
            found[name] = Score(float(ratios[0]), len(ours), low, high)
    return found


def _differences(
    drawn: Draws, sides: Mapping[str, tuple[Array, Array]], condition: str
) -> dict[str, Score]:
    n, n_texts = drawn.n[condition], drawn.n_texts[condition]
    found = {name: a - b for name, (a, b) in sides.items()}
    known = {name: x for name, x in found.items() if not np.isnan(x[0])}
    return _with_holm({name: _difference(x, n, n_texts) for name, x in known.items()})


def _difference(found: Array, n: int, n_texts: int) -> Score:
    value, drawn = float(found[0]), found[1:]
    return Score(value, n, *widened_interval(drawn, n_texts), chance(value, drawn, n_texts))


def _with_holm(scores: Mapping[str, Score]) -> dict[str, Score]:
    raised = holm({name: 1.0 if s.p is None else s.p for name, s in scores.items()})
    return {name: Score(s.value, s.n, s.low, s.high, raised[name]) for name, s in scores.items()}


def _groups(*sets: Sequence[Manner]) -> dict[str, int]:
    names = sorted({one.group for manners in sets for one in manners})
    return {name: i for i, name in enumerate(names)}


def _rate(sums: Array) -> Array:
    """(n, 2) counts and amounts -> (n,); NaN where there is no amount."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(sums[:, 1] > 0, sums[:, 0] / sums[:, 1], np.nan)
