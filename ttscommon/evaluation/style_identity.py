"""Is it told by its manner who speaks? A small classifier of manners, without any timbre.

It learns, from real recordings only, to tell the target from other people by what is counted of an
utterance: pauses, fillers, repeats, pace, places of pauses, rhythm. What a system speaks gets a log
odds; how much more than the base is its gain. A classifier that can't tell the real people apart
tells nothing of a system, and no gain is given then.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ttscommon.evaluation.likeness import FEWEST_RECORDINGS, draw_groups
from ttscommon.evaluation.manner import Manner
from ttscommon.evaluation.scores import (
    N_DRAWS,
    Score,
    holm,
    paired_ratio_difference,
    widened_interval,
)

FEWEST_PEOPLE = 10
N_FOLDS = 5
CHANCE = 0.5  # the area under the curve of a coin


@dataclass(frozen=True)
class StyleIdentity:
    """What the classifier told.

    Attributes:
        auc: of real utterances that it hadn't learned from, of people that it hadn't met; 0.5 is
            chance, 1 never wrong
        log_odds: {condition: mean}, above zero for what is more like the target than like others
        gains: {condition: by how much they are above the base's}, p by Holm
        weights: {feature: of a standard deviation of it}, the heaviest first
        refused: why there are no gains
    """

    n_people: int
    auc: Score | None = None
    log_odds: Mapping[str, float] = field(default_factory=dict)
    gains: Mapping[str, Score] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    refused: str | None = None

    def summary(self, condition: str) -> str:
        """A line on one condition."""
        if self.refused is not None:
            return self.refused
        gain = self.gains.get(condition)
        return f"{condition} gains {gain} over the base (area under the curve {self.auc})"


def features(manner: Manner) -> dict[str, float]:
    """What is counted of one utterance; NaN where it has nothing to tell."""
    timing = manner.timing
    minutes, lengths = timing.seconds / 60, [pause.duration for pause in timing.pauses]
    paces = [math.log(pace) for _, pace in manner.paces if pace > 0]
    found = {
        "pauses_per_minute": _ratio(len(lengths), minutes),
        "log_pause_seconds": _mean([math.log(length) for length in lengths]),
        "repetitions_per_minute": _ratio(timing.n_repetitions, minutes),
        "phonation_ratio": _ratio(timing.speech_seconds, timing.seconds),
        "syllables_per_second": _ratio(timing.n_syllables, timing.speech_seconds),
        "log_word_pace": _mean(paces),
        "log_word_pace_spread": float(np.std(paces)) if len(paces) > 1 else math.nan,
        "voiced_npvi": math.nan if manner.voiced_npvi is None else manner.voiced_npvi,
        "fillers_per_minute": _ratio(timing.n_fillers, minutes),
    }
    for name, is_marked in (("marked", True), ("unmarked", False)):
        places = [p.is_pause for p in manner.places.values()
                  if (p.context in ("sentence end", "comma")) == is_marked]  # fmt: skip
        found[f"pauses_at_{name}_places"] = _mean(places)
    for sound in {sound for sound, _ in manner.fillers}:
        count = sum(own == sound for own, _ in manner.fillers)
        found[f"{sound}_per_minute"] = _ratio(count, minutes)
    return found


def identify_style(
    conditions: Mapping[str, Sequence[Manner]],
    real: Sequence[Manner],
    others: Mapping[str, Sequence[Manner]],
    base: str,
    *,
    n_draws: int = N_DRAWS,
    seed: int = 0,
) -> StyleIdentity:
    """Learn the target from real recordings, and look at every condition.

    Args:
        conditions: of the same texts
        real: of the target, those of one recording beside each other
        others: {person: their real utterances}
    """
    people = {name: list(own) for name, own in others.items() if own}
    if len(people) < FEWEST_PEOPLE:
        why = f"{len(people)} other people are few to tell somebody from; {FEWEST_PEOPLE} are asked"
        return StyleIdentity(len(people), refused=why)
    if len(real) < FEWEST_RECORDINGS:
        return StyleIdentity(len(people), refused=f"{len(real)} recordings are too few to learn")
    auc = _auc(real, list(people.values()), n_draws, seed)
    if auc.low <= CHANCE:
        why = f"real people can't be told apart by it (area under the curve {auc})"
        return StyleIdentity(len(people), auc, refused=why)
    classifier = _learned(real, [one for own in people.values() for one in own])
    told = {name: _log_odds(classifier, own) for name, own in conditions.items()}
    return StyleIdentity(
        len(people),
        auc,
        {name: float(found.mean()) for name, found in told.items()},
        _gains(conditions, told, base, n_draws, seed),
        _weights(classifier),
    )


def _auc(
    real: Sequence[Manner], people: Sequence[Sequence[Manner]], n_draws: int, seed: int
) -> Score:
    """The area under the curve; people and the target's utterances are drawn again and again.

    Each fold leaves out some people as a whole, and utterances of the target that are neighbours:
    clips of one recording are alike.
    """
    ours = np.arange(len(real)) * N_FOLDS // len(real)  # (N,) folds
    turns = np.random.default_rng(seed).permutation(len(people)) % N_FOLDS  # (people,)
    own, theirs = np.zeros(len(real)), [np.zeros(len(one)) for one in people]
    for fold in range(N_FOLDS):
        known = [one for one, at in zip(real, ours, strict=True) if at != fold]
        rest = [m for one, at in zip(people, turns, strict=True) if at != fold for m in one]
        classifier = _learned(known, rest)
        out = np.flatnonzero(ours == fold).tolist()
        own[out] = _log_odds(classifier, [real[i] for i in out])
        for i in np.flatnonzero(turns == fold).tolist():
            theirs[i] = _log_odds(classifier, people[i])
    # (N, people): how many of a person's utterances each of the target's is above; ties are half.
    above = np.stack([_above(own, one) for one in theirs], axis=1)
    sizes = np.array([len(one) for one in theirs], np.float64)
    draws = draw_groups(len(real), n_draws, seed), draw_groups(len(people), n_draws, seed + 1)
    found = np.einsum("dn,np,dp->d", draws[0], above, draws[1], optimize=True)
    found = found / (draws[0].sum(1) * (draws[1] @ sizes))
    n_independent = min(len(real), len(people))
    return Score(float(found[0]), len(real), *widened_interval(found[1:], n_independent))


def _above(own: NDArray, theirs: NDArray) -> NDArray[np.float64]:
    lower, upper = (np.searchsorted(np.sort(theirs), own, side=side) for side in ("left", "right"))
    return (lower + upper) / 2


def _gains(
    conditions: Mapping[str, Sequence[Manner]],
    told: Mapping[str, NDArray],
    base: str,
    n_draws: int,
    seed: int,
) -> dict[str, Score]:
    """Paired by text: the mean over a text's utterances in both conditions."""
    before, found = _by_text(conditions[base], told[base]), {}
    for name, own in conditions.items():
        after = _by_text(own, told[name])
        texts = [text for text in after if text in before]
        if name == base or not texts:
            continue
        ones = np.ones(len(texts))
        sides = [([side[text] for text in texts], ones) for side in (before, after)]
        found[name] = paired_ratio_difference(*sides, seed=seed, n_draws=n_draws)
    raised = holm({name: 1.0 if x.p is None else x.p for name, x in found.items()})
    return {name: Score(x.value, x.n, x.low, x.high, raised[name]) for name, x in found.items()}


def _by_text(manners: Sequence[Manner], told: NDArray) -> dict[str, float]:
    groups: dict[str, list[float]] = {}
    for one, value in zip(manners, told, strict=True):
        groups.setdefault(one.group, []).append(float(value))
    return {text: float(np.mean(values)) for text, values in groups.items()}


def _learned(target: Sequence[Manner], others: Sequence[Manner]) -> Any:
    """A logistic regression, with both sides of equal weight however many utterances they have."""
    from sklearn.feature_extraction import DictVectorizer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classifier = make_pipeline(
        DictVectorizer(sparse=False),
        SimpleImputer(keep_empty_features=True),
        StandardScaler(),
        LogisticRegression(class_weight="balanced", max_iter=1000),
    )
    labels = [True] * len(target) + [False] * len(others)
    return classifier.fit([features(one) for one in (*target, *others)], labels)


def _log_odds(classifier: Any, manners: Sequence[Manner]) -> NDArray[np.float64]:
    return classifier.decision_function([features(one) for one in manners])


def _weights(classifier: Any) -> dict[str, float]:
    names, weights = classifier[0].feature_names_, classifier[-1].coef_[0]
    order = np.argsort(-np.abs(weights))
    return {str(names[i]): float(weights[i]) for i in order}


def _ratio(top: float, of: float) -> float:
    return top / of if of > 0 else math.nan


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else math.nan
