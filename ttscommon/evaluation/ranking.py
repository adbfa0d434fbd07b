"""Which of several systems is best, and which places are only chance.

Every two systems are compared over the texts that both spoke. A system is before another for sure
if the interval of their paired difference, corrected for all such questions (Holm), leaves out
zero; all other neighbours share their places.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ttscommon.errors import UserError
from ttscommon.evaluation.comparison import Result
from ttscommon.evaluation.conditions import pair
from ttscommon.evaluation.evaluate import BETTER, Evaluation
from ttscommon.evaluation.scores import (
    CONFIDENCE,
    Score,
    holm,
    paired_ratio_difference,
    ratio_score,
)

OVERALL = "overall"
OVERALL_MEANING = (
    "the mean of what was measured of these, each from 0 to 1: 1 - cer, similarity, (dnsmos - 1) / "
    "4, and 1 for a clip without a fault"
)


@dataclass(frozen=True)
class Rank:
    """The place of a system.

    Attributes:
        place: 1 is the best value
        best, worst: the first and the last place that it could have, as far as can be told
    """

    condition: str
    place: int
    best: int
    worst: int
    score: Score

    @property
    def places(self) -> str:
        """ "2", or "1-3" where it can't be told from its neighbours."""
        return str(self.best) if self.best == self.worst else f"{self.best}-{self.worst}"


@dataclass(frozen=True)
class Ranking:
    """Systems, the best first.

    Attributes:
        differences: {(a, b): b - a}, with p corrected for their number
    """

    metric: str
    ranks: Sequence[Rank]
    differences: Mapping[tuple[str, str], Score]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        ranks = [asdict(one) | {"score": one.score.to_dict()} for one in self.ranks]
        changes = [[a, b, score.to_dict()] for (a, b), score in self.differences.items()]
        return {"metric": self.metric, "ranks": ranks, "differences": changes}

    def sentences(self) -> list[str]:
        """Who is first, and for every two neighbours whether they can be told apart."""
        said = []
        for one, next_ in itertools.pairwise(self.ranks):
            change = self.differences.get((one.condition, next_.condition))
            if change is None:  # they have no text in common
                continue
            low, high = sorted((change.low, change.high), reverse=change.value < 0)
            sign = -1 if change.value < 0 else 1
            by = f"{abs(change.value):.3f} ({sign * low:.3f} to {sign * high:.3f})"
            names = f"{one.place}. {one.condition} and {next_.place}. {next_.condition}"
            if is_sure(change):
                said.append(f"{names}: apart in {self.metric} by {by}.")
            else:
                said.append(f"{names}: not distinguishable in {self.metric}, apart by {by}.")
        return said


def require_rankable(metric: str) -> None:
    """Refuse what has no good end.

    Raises:
        UserError: with what is known
    """
    if metric != OVERALL and metric not in BETTER:
        raise UserError(f"'{metric}' can't rank", fix=f"one of {', '.join([OVERALL, *BETTER])}")


def rank(evaluation: Evaluation, metric: str = OVERALL) -> Ranking:
    """The systems by a metric, real recordings left out.

    Raises:
        UserError: if it wasn't measured
    """
    require_rankable(metric)
    terms = _terms(evaluation)
    results: dict[str, list[Result]] = {}
    for one in evaluation.results:
        if one.condition != evaluation.real and (metric == OVERALL or metric in one.parts):
            results.setdefault(one.condition, []).append(one)

    def parts(found: Sequence[Result]) -> tuple[list[float], list[float]]:
        both = [(_overall(r, terms), 1.0) if metric == OVERALL else r.parts[metric] for r in found]
        return [top for top, _ in both], [of for _, of in both]

    scores = {
        name: ratio_score(*parts(found), groups=[r.group for r in found])
        for name, found in results.items()
        if sum(parts(found)[1]) > 0
    }
    if not scores:
        raise UserError(f"{metric} wasn't measured of any model", fix=f"--rank-by {OVERALL}")
    sign = 1 if BETTER.get(metric) == "lower" else -1
    names = sorted(scores, key=lambda name: sign * scores[name].value)
    differences = {}
    for a, b in itertools.combinations(names, 2):
        pairs = pair(results[a], results[b])
        if pairs:
            sides = [parts([both[side] for both in pairs]) for side in (0, 1)]
            groups = [one.group for one, _ in pairs]
            differences[a, b] = paired_ratio_difference(sides[0], sides[1], groups=groups)
    keys = {f"{place}": both for place, both in enumerate(differences)}
    chances = holm({key: differences[both].p or 0.0 for key, both in keys.items()})
    corrected = {both: replace(differences[both], p=chances[key]) for key, both in keys.items()}
    return Ranking(metric, _ranks(names, scores, corrected), corrected)


def is_sure(difference: Score) -> bool:
    """Whether there is one, by its p."""
    return difference.p is not None and difference.p < 1 - CONFIDENCE


def _ranks(
    names: Sequence[str], scores: Mapping[str, Score], differences: Mapping[Any, Score]
) -> list[Rank]:
    sure = {both for both, change in differences.items() if is_sure(change)}
    return [
        Rank(
            name,
            place,
            1 + sum((other, name) in sure for other in names),
            len(names) - sum((name, other) in sure for other in names),
            scores[name],
        )
        for place, name in enumerate(names, 1)
    ]


def _terms(evaluation: Evaluation) -> set[str]:
    """What counts: where one system says nothing, its voice is none of the speaker's."""
    ours = [one for one in evaluation.results if one.condition != evaluation.real]
    return {name for name in ("cer", "similarity", "dnsmos") if any(name in r.parts for r in ours)}


def _overall(result: Result, terms: set[str]) -> float:
    values, found = result.values, [0.0 if result.faults else 1.0]
    if "cer" in terms:
        found.append(1 - min(1.0, values.get("cer", 1.0)))
    if "similarity" in terms:
        found.append(max(0.0, values.get("similarity", 0.0)))
    if "dnsmos" in terms:
        found.append((values.get("dnsmos", 1.0) - 1) / 4)
    return sum(found) / len(found)
