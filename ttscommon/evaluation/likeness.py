"""How near is a way of speaking to the speaker's own, and which part of the way was gained?

The floor is how far the speaker is from themselves. The transfer score says which part of the way
from the base to that floor a condition has come: 0 is the base, 1 can't be told from the speaker.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ttscommon.evaluation.manner import Array, Manner, Measure, measures
from ttscommon.evaluation.scores import N_DRAWS, Score, widened_interval

N_SPLITS = 200
FLOOR_LIMIT = 0.95  # quantile of the floor that the base must exceed
FEWEST_RECORDINGS = 8
MEAN = "mean"  # of the transfer scores


@dataclass(frozen=True)
class Floor:
    """How far the speaker is from themselves: the median over random parts, and a limit."""

    median: float
    limit: float


@dataclass(frozen=True)
class Likeness:
    """How near each condition's manner is to that of the real recordings.

    Attributes:
        distances: {condition: {measure: Score}}, from the real recordings
        floors: {measure: Floor}
        transfer: {condition: {measure: Score}}, with their "mean"
        refused: {measure: why it has no transfer score}
    """

    distances: Mapping[str, Mapping[str, Score]]
    floors: Mapping[str, Floor]
    transfer: Mapping[str, Mapping[str, Score]]
    refused: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        tables = {"distances": self.distances, "transfer": self.transfer}
        return {
            **{
                key: {
                    condition: {name: score.to_dict() for name, score in scores.items()}
                    for condition, scores in table.items()
                }
                for key, table in tables.items()
            },
            "floors": {k: {"median": f.median, "limit": f.limit} for k, f in self.floors.items()},
            "refused": dict(self.refused),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Likeness:
        """What `to_dict` gave."""
        distances, transfer = (
            {
                condition: {name: Score.from_dict(score) for name, score in scores.items()}
                for condition, scores in data[key].items()
            }
            for key in ("distances", "transfer")
        )
        floors = {name: Floor(**floor) for name, floor in data["floors"].items()}
        return cls(distances, floors, transfer, data["refused"])


def half_split_floor(
    measure: Measure,
    real: Sequence[Manner],
    *,
    n_part: int | None = None,
    n_splits: int = N_SPLITS,
    seed: int = 0,
) -> Floor:
    """How far a speaker is from themselves: the distance of a random part to the rest.

    A system nearer to the speaker than that can't be told from the speaker.

    Args:
        n_part: how many utterances the system has; the part has as many, but at most half

    Raises:
        ValueError: if there are too few utterances, or parts can't be compared
    """
    if len(real) < FEWEST_RECORDINGS:
        raise ValueError(f"{len(real)} recordings are too few to halve")
    half = len(real) // 2
    size = half if n_part is None else min(half, n_part)
    rng, rows = np.random.default_rng(seed), measure.rows(real)
    chosen = np.argsort(rng.random((n_splits, len(real))), axis=1) < size  # (n_splits, N)
    found = measure.compare(chosen @ rows, ~chosen @ rows)
    found = found[~np.isnan(found)]
    if not len(found):
        raise ValueError("nothing to compare")
    return Floor(float(np.median(found)), float(np.quantile(found, FLOOR_LIMIT)))


@dataclass(frozen=True)
class Draws:
    """Distances and transfer scores in many draws of texts, the same texts in every condition.

    Attributes:
        apart: {measure: {condition: (1 + n_draws,)}}, first what was found, then the draws
        gained: the same as transfer scores, without the base and the refused measures
        n_texts, n: of each condition, how many texts and utterances it has
    """

    apart: Mapping[str, Mapping[str, Array]]
    gained: Mapping[str, Mapping[str, Array]]
    floors: Mapping[str, Floor]
    refused: Mapping[str, str]
    n_texts: Mapping[str, int]
    n: Mapping[str, int]

    def score(self, found: Array, condition: str) -> Score:
        """What was found, and its interval from the draws."""
        low, high = widened_interval(found[1:], self.n_texts[condition])
        return Score(float(found[0]), self.n[condition], low, high)


def draw(
    conditions: Mapping[str, Sequence[Manner]],
    real: Sequence[Manner],
    base: str,
    *,
    n_draws: int = N_DRAWS,
    seed: int = 0,
) -> Draws:
    """Every condition's distances to the real recordings, with texts drawn again and again.

    NTS = 1 - (d(S, R) - floor) / (d(base, R) - floor), from -1 to 1. A measure in which the base is
    already within the speaker's own variation has no transfer score.
    """
    everybody = [*real, *(one for manners in conditions.values() for one in manners)]
    groups = {group: i for i, group in enumerate(sorted({one.group for one in everybody}))}
    draws = draw_groups(len(groups), n_draws, seed)
    apart: dict[str, dict[str, Array]] = {}
    gained: dict[str, dict[str, Array]] = {}
    floors, refused = {}, {}
    for name, measure in measures(everybody).items():
        theirs = drawn_sums(measure.rows(real), real, groups, draws)
        apart[name] = {
            condition: measure.compare(theirs, drawn_sums(measure.rows(own), own, groups, draws))
            for condition, own in conditions.items()
        }
        try:
            floors[name] = half_split_floor(measure, real, n_part=len(conditions[base]))
        except ValueError as error:
            refused[name] = str(error)
            continue
        if reason := _refusal(apart[name][base][0], floors[name]):
            refused[name] = reason
            continue
        gained[name] = {
            condition: _transfer(found, apart[name][base], floors[name].median)
            for condition, found in apart[name].items()
            if condition != base
        }
    n_texts = {name: len({one.group for one in own}) for name, own in conditions.items()}
    n = {name: len(own) for name, own in conditions.items()}
    return Draws(apart, gained, floors, refused, n_texts, n)


def likeness(
    conditions: Mapping[str, Sequence[Manner]],
    real: Sequence[Manner],
    base: str,
    *,
    n_draws: int = N_DRAWS,
    seed: int = 0,
) -> Likeness:
    """Distances of every condition to the real recordings, and transfer scores of all but the base;
    see `draw`."""
    drawn = draw(conditions, real, base, n_draws=n_draws, seed=seed)
    distances = {
        condition: {
            name: drawn.score(found[condition], condition)
            for name, found in drawn.apart.items()
            if not np.isnan(found[condition][0])
        }
        for condition in conditions
    }
    transfer: dict[str, dict[str, Score]] = {}
    for condition in conditions:
        if condition == base:
            continue
        known = {
            name: found[condition]
            for name, found in drawn.gained.items()
            if not np.isnan(found[condition][0])
        }
        if known:
            known[MEAN] = np.mean(list(known.values()), axis=0)
        transfer[condition] = {name: drawn.score(x, condition) for name, x in known.items()}
    return Likeness(distances, drawn.floors, transfer, drawn.refused)


def draw_groups(n_groups: int, n_draws: int, seed: int) -> NDArray[np.int64]:
    """(1 + n_draws, G): how often each group is in a draw; first once each, as was found."""
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(n_groups, [1 / n_groups] * n_groups, size=n_draws)
    return np.vstack([np.ones(n_groups, int), draws])


def drawn_sums(
    rows: Array, manners: Sequence[Manner], groups: Mapping[str, int], draws: NDArray
) -> Array:
    """(n_draws, K): the sums of the rows (N, K) of `manners` over the drawn groups."""
    by_group = np.zeros((len(groups), rows.shape[1]))
    np.add.at(by_group, [groups[one.group] for one in manners], rows)
    return draws.astype(np.float64) @ by_group


def _transfer(apart: Array, base: Array, floor: float) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.clip(1 - (apart - floor) / (base - floor), -1, 1)
    # In a draw in which the base is as good as the speaker, nothing can be gained.
    return np.where(base > floor, found, np.where(np.isnan(base), np.nan, -1.0))


def _refusal(base: float, floor: Floor) -> str | None:
    if math.isnan(base):
        return "nothing to compare"
    if base <= floor.limit + 1e-9:
        return (
            f"the base is {base:.3f} away, within the speaker's own variation ({floor.limit:.3f})"
        )
    return None
