"""Ways of speaking, and how far apart two sets of utterances are in them.

Every distance is between two sets, not between pairs of utterances, and is built from sums over
each set; so thousands of random draws are one product of matrices. The formulas: pauses and rates
as log ratios and as Wasserstein distances of log durations; the places of pauses as
Jensen-Shannon divergence by context; which fillers, and where, as that of their shares; rhythm
after U3D (arXiv 2507.02176), with words of one, two and more syllables as units.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ttscommon.evaluation.pauses import Timing
from ttscommon.evaluation.placement import CONTEXTS, Place

Array = NDArray[np.float64]
NOTHING = 0.5  # added to counts of which one is zero, so that their ratio exists
MOST_STEPS = 512  # of a distribution function


@dataclass(frozen=True)
class Manner:
    """What is known of the way in which one utterance is spoken.

    Attributes:
        group: the same for all that say the same text
        places: see `ttscommon.evaluation.placement.find_places`
        paces: (syllables of a word, its seconds a syllable)
        voiced_npvi: see `ttscommon.evaluation.prosody.Prosody`
        fillers: see `ttscommon.evaluation.disfluency.find_fillers`
        n_drawn_out: words that the real speaker would take much less time for, see
            `ttscommon.evaluation.paces.Paces`
    """

    group: str
    timing: Timing
    places: Mapping[int, Place] = field(default_factory=dict)
    paces: Sequence[tuple[int, float]] = ()
    voiced_npvi: float | None = None
    fillers: Sequence[tuple[str, str]] = ()
    n_drawn_out: int = 0


class Measure(Protocol):
    """A distance between two sets of utterances that needs only sums over each set."""

    def rows(self, manners: Sequence[Manner]) -> Array:
        """(N, K): what each utterance adds to the sums."""
        ...

    def compare(self, a: Array, b: Array) -> Array:
        """(..., K) and (..., K) -> (...); NaN where there is nothing to compare."""
        ...


@dataclass(frozen=True)
class Rate:
    """|ln(rate of b / rate of a)|, the rate being counts over amounts; 0.10 is about 10 %.

    If one count is 0, both get 0.5 more; if both are, there is nothing to compare.
    """

    count: Callable[[Manner], float]
    amount: Callable[[Manner], float]

    def rows(self, manners: Sequence[Manner]) -> Array:
        pairs = [(self.count(manner), self.amount(manner)) for manner in manners]
        return np.array(pairs, np.float64).reshape(-1, 2)

    def compare(self, a: Array, b: Array) -> Array:
        (count_a, of_a), (count_b, of_b) = np.moveaxis(a, -1, 0), np.moveaxis(b, -1, 0)
        more = np.where((count_a <= 0) | (count_b <= 0), NOTHING, 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = np.abs(np.log((count_b + more) / of_b) - np.log((count_a + more) / of_a))
        known = (of_a > 0) & (of_b > 0) & (count_a + count_b > 0)
        return np.where(known, found, np.nan)


@dataclass(frozen=True)
class Spread:
    """Wasserstein distance of two distributions of values, averaged over kinds of values.

    Attributes:
        values: (kind, value) pairs of an utterance
        steps: (kind, edges of its distribution function), ascending
    """

    values: Callable[[Manner], Iterable[tuple[int, float]]]
    steps: Sequence[tuple[int, Array]]

    @classmethod
    def over(
        cls, manners: Sequence[Manner], values: Callable[[Manner], Iterable[tuple[int, float]]]
    ) -> Spread:
        """Steps at every value that occurs, or at 512 quantiles of them."""
        by_kind: dict[int, list[float]] = {}
        for kind, value in (pair for manner in manners for pair in values(manner)):
            by_kind.setdefault(kind, []).append(value)
        steps = []
        for kind, found in sorted(by_kind.items()):
            edges = np.unique(found)
            if len(edges) > MOST_STEPS:
                edges = np.unique(np.quantile(found, np.linspace(0, 1, MOST_STEPS)))
            steps.append((kind, edges))
        return cls(values, steps)

    def rows(self, manners: Sequence[Manner]) -> Array:
        rows = []
        for manner in manners:
            pairs = list(self.values(manner))
            row = []
            for kind, edges in self.steps:
                own = np.sort([value for k, value in pairs if k == kind])
                row.append(np.searchsorted(own, edges, side="right").astype(np.float64))
            rows.append(np.concatenate(row) if row else np.zeros(0))
        return np.array(rows, np.float64).reshape(len(manners), -1)

    def compare(self, a: Array, b: Array) -> Array:
        found, first = [], 0
        for _, edges in self.steps:
            here = slice(first, first + len(edges))
            first += len(edges)
            total_a, total_b = a[..., here][..., -1:], b[..., here][..., -1:]
            with np.errstate(divide="ignore", invalid="ignore"):
                apart = np.abs(a[..., here] / total_a - b[..., here] / total_b)  # (..., K)
            found.append((apart[..., :-1] * np.diff(edges)).sum(-1) + 0 * apart[..., -1])
        if not found:
            return np.full(np.broadcast_shapes(a.shape[:-1], b.shape[:-1]), np.nan)
        return _nan_mean(np.stack(found))


@dataclass(frozen=True)
class Habit:
    """Jensen-Shannon divergence (nats) of the chance of a pause, averaged over contexts.

    D = sum_c w_c JS(Bern(p_c of a) || Bern(p_c of b)), w_c the share of places with context c.
    """

    def rows(self, manners: Sequence[Manner]) -> Array:
        rows = np.zeros((len(manners), len(CONTEXTS), 2))
        for row, manner in zip(rows, manners, strict=True):
            for place in manner.places.values():
                row[CONTEXTS.index(place.context)] += (place.is_pause, 1)
        return rows.reshape(len(manners), -1)

    def compare(self, a: Array, b: Array) -> Array:
        a, b = (x.reshape(*x.shape[:-1], len(CONTEXTS), 2) for x in (a, b))
        with np.errstate(divide="ignore", invalid="ignore"):
            p, q = a[..., 0] / a[..., 1], b[..., 0] / b[..., 1]
        middle = (p + q) / 2
        apart = _entropy(middle) - (_entropy(p) + _entropy(q)) / 2
        shared = ~np.isnan(apart)
        weight = np.where(shared, a[..., 1] + b[..., 1], 0.0)
        total = weight.sum(-1)
        with np.errstate(divide="ignore", invalid="ignore"):
            return (np.where(shared, apart, 0.0).clip(0) * weight).sum(-1) / total


@dataclass(frozen=True)
class Shares:
    """Jensen-Shannon divergence (nats) of how often each of some kinds occurs; at most ln 2.

    Attributes:
        kinds: all that there are
    """

    names: Callable[[Manner], Iterable[str]]
    kinds: Sequence[str]

    @classmethod
    def over(cls, manners: Sequence[Manner], names: Callable[[Manner], Iterable[str]]) -> Shares:
        """Kinds are what occurs."""
        return cls(names, sorted({name for manner in manners for name in names(manner)}))

    def rows(self, manners: Sequence[Manner]) -> Array:
        counts = [[list(self.names(m)).count(kind) for kind in self.kinds] for m in manners]
        return np.array(counts, np.float64).reshape(len(manners), -1)

    def compare(self, a: Array, b: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            p, q = a / a.sum(-1, keepdims=True), b / b.sum(-1, keepdims=True)
        if not self.kinds:
            return np.full(np.broadcast_shapes(a.shape[:-1], b.shape[:-1]), np.nan)
        middle, halves = _surprise((p + q) / 2), (_surprise(p) + _surprise(q)) / 2
        # What isn't 0 only by rounding.
        return np.where(np.isnan(middle - halves), np.nan, np.maximum(middle - halves, 0))


def measures(manners: Sequence[Manner]) -> dict[str, Measure]:
    """Every distance, by name.

    Args:
        manners: of all conditions together; they decide how finely distributions are looked at
    """

    def pause_lengths(manner: Manner) -> Iterable[tuple[int, float]]:
        return ((0, math.log(pause.duration)) for pause in manner.timing.pauses)

    def own_pace(manner: Manner) -> Iterable[tuple[int, float]]:
        timing = manner.timing
        if timing.n_syllables and timing.speech_seconds > 0:
            yield 0, math.log(timing.n_syllables / timing.speech_seconds)

    def word_paces(manner: Manner) -> Iterable[tuple[int, float]]:
        return ((min(n, 3), math.log(pace)) for n, pace in manner.paces if pace > 0)

    def rhythm(manner: Manner) -> Iterable[tuple[int, float]]:
        return [] if manner.voiced_npvi is None else [(0, manner.voiced_npvi / 100)]

    return {
        "pause_rate": Rate(lambda m: len(m.timing.pauses), lambda m: m.timing.seconds),
        "pause_duration": Spread.over(manners, pause_lengths),
        "filler_rate": Rate(lambda m: m.timing.n_fillers, lambda m: m.timing.seconds),
        "filler_identity": Shares.over(manners, lambda m: (word for word, _ in m.fillers)),
        "filler_position": Shares.over(manners, lambda m: (where for _, where in m.fillers)),
        "repetition_rate": Rate(lambda m: m.timing.n_repetitions, lambda m: m.timing.seconds),
        "prolongation_rate": Rate(lambda m: m.n_drawn_out, lambda m: m.timing.seconds),
        "phonation_ratio": Rate(lambda m: m.timing.speech_seconds, lambda m: m.timing.seconds),
        "articulation_rate": Rate(
            lambda m: m.timing.n_syllables,
            lambda m: m.timing.speech_seconds if m.timing.n_syllables else 0.0,
        ),
        "articulation_spread": Spread.over(manners, own_pace),
        "pause_placement": Habit(),
        "word_rhythm": Spread.over(manners, word_paces),
        "voiced_rhythm": Spread.over(manners, rhythm),
    }


def _entropy(p: Array) -> Array:
    """Of a coin that falls with chance p on one side, in nats."""
    with np.errstate(divide="ignore", invalid="ignore"):
        sides = [np.where(x > 0, -x * np.log(x), 0.0) for x in (p, 1 - p)]
    return np.where(np.isnan(p), np.nan, sides[0] + sides[1])


def _surprise(p: Array) -> Array:
    """Entropy (nats) of the distribution in the last axis."""
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0, -p * np.log(p), 0.0)
    return np.where(np.isnan(p), np.nan, terms).sum(-1)


def _nan_mean(stacked: Array) -> Array:
    """Over the first axis, leaving out NaN; NaN where nothing is left."""
    known = ~np.isnan(stacked)
    with np.errstate(invalid="ignore"):
        return np.where(known, stacked, 0.0).sum(0) / np.where(known.any(0), known.sum(0), np.nan)
