"""A number and how sure it is: means, rates and differences over utterances, with 95 % intervals.

The intervals are bootstrap intervals: the utterances are drawn again, with replacement, some
thousand times. A plain percentile interval is too narrow for few utterances; ours takes the
percentiles further out (the expanded percentile interval of Hesterberg 2015, "What teachers should
know about the bootstrap", section 5.3), which for a mean makes it as wide as Student's.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
N_DRAWS = 2000
ROUNDING = 1e-12  # a difference below it is none

Numbers = Sequence[float] | NDArray


@dataclass(frozen=True)
class Score:
    """A value over `n` utterances and its 95 % interval.

    One utterance alone tells nothing of the spread: its interval is everything, -inf to inf.

    Attributes:
        p: of a difference, the chance of one so far from zero if there were none; see `holm`
    """

    value: float
    n: int
    low: float
    high: float
    p: float | None = None

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def to_dict(self) -> dict[str, float | int | None]:
        """Plain data for JSON, where an endless bound is null."""
        low, high = (bound if math.isfinite(bound) else None for bound in (self.low, self.high))
        found = {"value": self.value, "n": self.n, "low": low, "high": high}
        return found if self.p is None else {**found, "p": self.p}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Score:
        """What `to_dict` gave."""
        low = -math.inf if data["low"] is None else float(data["low"])
        high = math.inf if data["high"] is None else float(data["high"])
        return cls(float(data["value"]), int(data["n"]), low, high, data.get("p"))


def ratio_score(
    numerators: Numbers,
    denominators: Numbers,
    *,
    groups: Sequence[Hashable] | None = None,
    seed: int = 0,
    n_draws: int = N_DRAWS,
) -> Score:
    """Sum of numerators / sum of denominators, such as errors over words; resampled by utterance.

    Args:
        groups: what each utterance belongs to, for example its text when several seeds speak it.
            Utterances of a group vary together, so whole groups are drawn.

    Raises:
        ValueError: if there are no values, one is NaN or infinite, or the denominators aren't
            positive together
    """
    columns = _checked(numerators, denominators)
    _require_positive(columns[1])
    return _interval(_summed(columns, groups), _ratio, len(columns[0]), seed, n_draws)


def paired_ratio_difference(
    a: tuple[Numbers, Numbers],
    b: tuple[Numbers, Numbers],
    *,
    groups: Sequence[Hashable] | None = None,
    seed: int = 0,
    n_draws: int = N_DRAWS,
) -> Score:
    """Ratio of b - ratio of a, pairs of utterances resampled together.

    Args:
        a, b: (numerators, denominators), such as the errors and words of two systems' speech
    """
    columns = _checked(*a, *b)
    _require_positive(columns[1])
    _require_positive(columns[3])
    summed = _summed(columns, groups)
    return _interval(summed, _ratio_change, len(columns[0]), seed, n_draws, is_difference=True)


def share_score(flags: Sequence[bool], *, groups: Sequence[Hashable] | None = None) -> Score:
    """The share of utterances with a property, with Wilson's interval.

    A bootstrap would call "none of ten" certain to be zero; Wilson's says at most 28 %.

    Args:
        groups: as in `ratio_score`. The utterances of a group count for as many as the differences
            between groups show them to be worth: together for one at least, for one each at most.
    """
    having, _ = columns = _checked(flags, np.ones(len(flags)))
    value, n = float(having.mean()), len(having)
    low, high = _wilson(value, _effective_count(value, *_summed(columns, groups)))
    return Score(value, n, low, high)


def widened_interval(drawn: NDArray, n: int) -> tuple[float, float]:
    """The 95 % interval of a statistic from its values in draws of `n` utterances or groups.

    A draw may hold nothing to compute it from (only clips without words); such a NaN is left out.
    """
    if n < 2 or not np.isfinite(drawn).any():
        return -math.inf, math.inf
    from scipy.stats import norm, t

    tail = (1 - CONFIDENCE) / 2
    outer = float(norm.cdf(math.sqrt(n / (n - 1)) * t.ppf(tail, n - 1)))
    low, high = np.nanquantile(drawn, (outer, 1 - outer))
    return float(low), float(high)


def chance(value: float, drawn: NDArray, n: int) -> float:
    """p of a difference, two-sided: the level at which `widened_interval` begins to hold zero.

    Where hardly a draw lies beyond zero, the tail is taken as normal.

    Args:
        drawn: the difference in draws of `n` utterances or groups
    """
    known = drawn[np.isfinite(drawn)]
    known = np.where(np.abs(known) < ROUNDING, 0.0, known)
    if n < 2 or not len(known):
        return 1.0
    from scipy.stats import norm, t

    beyond = min(int((known <= 0).sum()), int((known >= 0).sum())) / len(known)
    spread = float(known.std())
    if not beyond:
        farther = norm.sf(abs(value) / spread) if spread > 0 else 0.0
        beyond = min(1 / (len(known) + 1), float(farther))
    outer = float(norm.isf(min(beyond, 0.5)))
    return float(2 * t.sf(outer * math.sqrt((n - 1) / n), n - 1))


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """p of several questions asked at once, each raised so that under 0.05 there is one wrong "yes"
    in at most 5 of 100 such sets of questions (Holm 1979, "A simple sequentially rejective multiple
    test procedure").
    """
    raised, most = {}, 0.0
    for rank, name in enumerate(sorted(p, key=lambda name: p[name])):
        most = max(most, min(1.0, (len(p) - rank) * p[name]))
        raised[name] = most
    return {name: raised[name] for name in p}


def _checked(*columns: Numbers) -> tuple[NDArray[np.float64], ...]:
    arrays = tuple(np.asarray(column, dtype=np.float64) for column in columns)
    sizes = {len(array) for array in arrays}
    if len(sizes) > 1:
        raise ValueError(f"columns of different length: {sorted(sizes)}")
    if not len(arrays[0]):
        raise ValueError("no values")
    if not all(np.isfinite(array).all() for array in arrays):
        raise ValueError("a value is NaN or infinite")
    return arrays


def _require_positive(denominators: NDArray) -> None:
    if denominators.min() < 0 or denominators.sum() <= 0:
        raise ValueError("the denominators must be 0 or more and not all 0")


def _summed(columns: tuple[NDArray, ...], groups: Sequence[Hashable] | None) -> tuple[NDArray, ...]:
    """Each column summed over the utterances of a group."""
    if groups is None:
        return columns
    if len(groups) != len(columns[0]):
        raise ValueError(f"{len(columns[0])} values but {len(groups)} groups")
    number: dict[Hashable, int] = {}
    places = [number.setdefault(group, len(number)) for group in groups]
    return tuple(np.bincount(places, weights=column) for column in columns)


def _effective_count(share: float, having: NDArray, sizes: NDArray) -> float:
    """How many independent utterances would tell as much of a share (Korn and Graubard 1998,
    "Confidence intervals for proportions with small expected number of positive counts estimated
    from survey data"): between the number of groups, unequal ones counting less (Kish), and that of
    utterances.

    Args:
        having, sizes: utterances of each group with the property, and all of them
    """
    n_groups, n = len(sizes), sizes.sum()
    fewest = n**2 / np.square(sizes).sum()
    if n_groups < 2 or not 0 < share < 1:  # nothing tells how unlike groups are
        return float(fewest)
    from scipy.stats import norm, t

    tail = (1 - CONFIDENCE) / 2
    narrower = float(norm.ppf(tail) / t.ppf(tail, n_groups - 1)) ** 2
    between = np.square(having - share * sizes).sum() / n**2 * n_groups / (n_groups - 1)
    return float(np.clip(narrower * share * (1 - share) / max(between, ROUNDING), fewest, n))


def _wilson(share: float, n: float) -> tuple[float, float]:
    """Wilson 1927, "Probable inference, the law of succession, and statistical inference"."""
    from scipy.stats import norm  # takes a second, which --help needn't

    z = -float(norm.ppf((1 - CONFIDENCE) / 2))
    middle, half = share + z**2 / (2 * n), z * math.sqrt((share * (1 - share) + z**2 / 4 / n) / n)
    low, high = (end / (1 + z**2 / n) for end in (middle - half, middle + half))
    return max(0.0, low), min(1.0, high)


def _ratio(numerators: NDArray, denominators: NDArray, axis: int = -1) -> Any:
    total = denominators.sum(axis)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, numerators.sum(axis) / total, np.nan)


def _ratio_change(
    before: NDArray, before_of: NDArray, after: NDArray, after_of: NDArray, axis: int = -1
) -> Any:
    return _ratio(after, after_of, axis) - _ratio(before, before_of, axis)


def _interval(
    columns: tuple[NDArray, ...],
    statistic: Any,
    n: int,
    seed: int,
    n_draws: int,
    *,
    is_difference: bool = False,
) -> Score:
    value, n_drawn = float(statistic(*columns, axis=-1)), len(columns[0])
    if n_drawn == 1:
        return Score(value, n, -math.inf, math.inf, 1.0 if is_difference else None)
    from scipy.stats import DegenerateDataWarning, bootstrap

    with warnings.catch_warnings():  # utterances that are all alike are no problem here
        warnings.simplefilter("ignore", DegenerateDataWarning)
        drawn = bootstrap(
            columns,
            statistic,
            paired=True,
            vectorized=True,
            n_resamples=n_draws,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).bootstrap_distribution
    p = chance(value, drawn, n_drawn) if is_difference else None
    return Score(value, n, *widened_interval(drawn, n_drawn), p)
