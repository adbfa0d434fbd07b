"""How well pauses and fillers are detected, and shares corrected for the detectors' errors.

Somebody wrote down what is said in some minutes of speech, fillers as words and pauses as dots.
What the detectors found there gives their sensitivity Se and specificity Sp; an observed share p
becomes (p + Sp - 1) / (Se + Sp - 1), from 0 to 1 (Rogan and Gladen 1978, "Estimating prevalence
from the results of a screening test"). That Se and Sp are estimates, too, widens the intervals.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ttscommon.evaluation.likeness import draw_groups
from ttscommon.evaluation.manner import Array, Manner
from ttscommon.evaluation.placement import Place
from ttscommon.evaluation.scores import N_DRAWS, Score, widened_interval
from ttscommon.evaluation.wording import fillers_among, separate_words
from ttscommon.metrics import aligned_words

EVENTS = ("pauses", "fillers")
FEWEST = 10  # labelled events, and as many places without one: fewer tell no share
_MARK = re.compile(r"\s*(?:\[\s*(?:long(?:[ _]pause)?|pause)\s*\]|…)", re.IGNORECASE)
_DOTS = re.compile(r"(?:\.\s*){2,}$")

Counts = tuple[int, int, int, int]


@dataclass(frozen=True)
class Labelled:
    """One utterance whose pauses and fillers somebody wrote down.

    Attributes:
        places: see `ttscommon.evaluation.placement.find_places`, of `without_rests(text)`
        heard: what the recogniser understood
    """

    text: str
    places: Mapping[int, Place]
    heard: str


@dataclass(frozen=True)
class Corrected:
    """Shares of places with an event of one kind.

    Attributes:
        sensitivity, specificity: of the detector
        observed, shares: {condition: share}, as detected and corrected
        ratios: {condition: times as often as in the real recordings}, corrected
        refused: why nothing is corrected
    """

    n_events: int
    n_places: int
    sensitivity: Score | None = None
    specificity: Score | None = None
    observed: Mapping[str, float] = field(default_factory=dict)
    shares: Mapping[str, Score] = field(default_factory=dict)
    ratios: Mapping[str, Score] = field(default_factory=dict)
    refused: str | None = None


def true_share(observed: Array, sensitivity: Array, specificity: Array) -> Array:
    """(p + Sp - 1) / (Se + Sp - 1), from 0 to 1; NaN for a detector no better than chance."""
    better = sensitivity + specificity - 1
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.clip((observed + specificity - 1) / better, 0, 1)
    return np.where(better > 0, found, np.nan)


def without_rests(text: str) -> str:
    """A labelled text without the dots and marks that stand for pauses."""
    return " ".join(word for word, _ in _words(text))


def count_pauses(one: Labelled) -> Counts:
    """Places between words with a pause that was found and missed, without one that was found all
    the same, and that was not."""
    found = [0, 0, 0, 0]
    rests = [rests for _, rests in _words(one.text)]
    for i, place in one.places.items():
        found[_cell(is_true=rests[i], is_found=place.is_pause)] += 1
    return found[0], found[1], found[2], found[3]


def count_fillers(one: Labelled, language: str) -> Counts:
    """The same of words that are fillers."""
    said, heard = separate_words(without_rests(one.text)), separate_words(one.heard)
    are_said, are_heard = fillers_among(said, language), fillers_among(heard, language)
    found = [0, 0, 0, 0]
    for i, j in aligned_words(said, heard):
        is_found = j is not None and are_heard[j]
        if i is None:
            found[2] += is_found  # where nobody said a word
        else:
            found[_cell(is_true=are_said[i], is_found=is_found)] += 1
    return found[0], found[1], found[2], found[3]


def correct(
    conditions: Mapping[str, Sequence[Manner]],
    labelled: Sequence[Labelled],
    language: str,
    real: str,
    *,
    n_draws: int = N_DRAWS,
    seed: int = 0,
) -> dict[str, Corrected]:
    """{"pauses", "fillers": shares of every condition}, drawn again by text and by labelled one."""
    counts = {
        "pauses": np.array([count_pauses(one) for one in labelled], np.float64).reshape(-1, 4),
        "fillers": np.array([count_fillers(one, language) for one in labelled], np.float64)
        .reshape(-1, 4),
    }  # fmt: skip
    draws = draw_groups(len(labelled), n_draws, seed) if labelled else np.zeros((1, 0))
    return {
        event: _corrected(
            {name: _observed(event, own) for name, own in conditions.items()},
            {name: [one.group for one in own] for name, own in conditions.items()},
            counts[event],
            real,
            np.asarray(draws, np.float64),
            seed,
        )
        for event in EVENTS
    }


def _corrected(
    observed: Mapping[str, Array],
    groups: Mapping[str, Sequence[str]],
    counts: Array,
    real: str,
    draws: Array,
    seed: int,
) -> Corrected:
    """What the errors made of the shares of one kind of event.

    Args:
        observed: {condition: (N, 2) events and places of each utterance}
        groups: {condition: (N,) texts}
        counts: (M, 4) of each labelled utterance
        draws: (1 + n, M)
    """
    hits, misses, alarms, quiet = (draws @ counts).T
    n_events, n_others = int(hits[0] + misses[0]), int(alarms[0] + quiet[0])
    if min(n_events, n_others) < FEWEST:
        why = f"{n_events} labelled events and {n_others} places without one; {FEWEST} are asked"
        return Corrected(n_events, n_others, refused=why)
    with np.errstate(divide="ignore", invalid="ignore"):
        se, sp = hits / (hits + misses), quiet / (alarms + quiet)
    known = _score(se, len(counts)), _score(sp, len(counts))
    if not se[0] + sp[0] > 1:
        why = "the detector finds no more than chance"
        return Corrected(n_events, n_others, *known, refused=why)
    names = sorted({group for own in groups.values() for group in own})
    number = {name: i for i, name in enumerate(names)}
    texts = draw_groups(len(names), len(draws) - 1, seed + 1)
    detected, shares = {}, {}
    for name, rows in observed.items():
        sums = np.zeros((len(names), 2))
        np.add.at(sums, [number[group] for group in groups[name]], rows)
        events, places = (texts @ sums).T
        with np.errstate(divide="ignore", invalid="ignore"):
            detected[name] = np.where(places > 0, events / places, np.nan)
        shares[name] = true_share(detected[name], se, sp)
    n = {name: min(len(set(own)), len(counts)) for name, own in groups.items()}
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = {name: found / shares[real] for name, found in shares.items() if name != real}
    return Corrected(
        n_events,
        n_others,
        *known,
        observed={name: float(x[0]) for name, x in detected.items() if np.isfinite(x[0])},
        shares={name: _score(x, n[name]) for name, x in shares.items() if np.isfinite(x[0])},
        ratios={name: _score(x, n[name]) for name, x in ratios.items() if np.isfinite(x[0])},
    )


def _observed(event: str, manners: Sequence[Manner]) -> Array:
    """(N, 2) events, and places where there could be one."""
    if event == "pauses":
        rows = [(sum(p.is_pause for p in m.places.values()), len(m.places)) for m in manners]
    else:
        rows = [(m.timing.n_fillers, m.timing.n_words + m.timing.n_fillers) for m in manners]
    return np.array(rows, np.float64).reshape(-1, 2)


def _words(text: str) -> list[tuple[str, bool]]:
    """Each word of a labelled text, and whether there is a pause behind it."""
    found: list[tuple[str, bool]] = []
    for token in _MARK.sub("... ", text).split():
        bare, rests = _DOTS.sub("", token), _DOTS.search(token) is not None
        if separate_words(bare):
            found.append((bare, rests))
        elif found and rests:
            found[-1] = (found[-1][0], True)
    return found


def _cell(*, is_true: bool, is_found: bool) -> int:
    """Of (hits, misses, false alarms, rightly quiet)."""
    return 2 * (not is_true) + (not is_found)


def _score(found: Array, n: int) -> Score:
    low, high = widened_interval(found[1:], n)
    return Score(float(found[0]), n, low, high)
