"""Is the tuned voice better than the base, by how much, how sure? Any two or more conditions.

Conditions are folders of utterances ("base", "tuned", "real"), compared text by text and seed by
seed. A guard rail is a metric in which the tuned voice must not be significantly worse: its 95 %
interval of paired differences lies on the bad side of zero, also by Holm's correction for asking
about several, and the loss exceeds a tolerance.
"""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ttscommon.errors import UserError
from ttscommon.evaluation.comparison import Context, Known, Result, compare
from ttscommon.evaluation.conditions import Utterance, pair
from ttscommon.evaluation.likeness import Likeness, likeness
from ttscommon.evaluation.measuring import Instruments, measure_all
from ttscommon.evaluation.scores import (
    Score,
    paired_ratio_difference,
    ratio_score,
    share_score,
)
from ttscommon.files import atomic, read_json, write_json

log = logging.getLogger(__name__)

FORMAT, FORMAT_VERSION = "voxtune.evaluation", 1
MOST_UNREADABLE = 0.1  # share of the files of a condition
# Fewer texts can't show anything: with five, even all of them worse has a chance of 1 in 16.
FEWEST_TEXTS = 6
Direction = Literal["higher", "lower"]
# Which way is good; what is neither good nor bad is left out.
BETTER: dict[str, Direction] = {
    "wer": "lower",
    "fluent_wer": "lower",
    "cer": "lower",
    "similarity": "higher",
    "similarity_wavlm": "higher",
    "dnsmos": "higher",
    "dnsmos_signal": "higher",
    "dnsmos_p808": "higher",
    "mel_cepstral_distance": "lower",
    "faults": "lower",
    "too_long_pauses_per_minute": "lower",
    "pause_placement_f1": "higher",
    "right_length": "higher",
    "failures": "lower",
    "invalid_frames": "lower",
}
SHARES = ("faults", "right_length", "failures")  # of clips
# Guard rails, and how much worse is still no loss: a point of WER, a hundredth of a cosine.
TOLERANCES = {
    "fluent_wer": 0.01,
    "similarity": 0.01,
    "similarity_wavlm": 0.01,
    "dnsmos": 0.05,
    "faults": 0.02,
    "too_long_pauses_per_minute": 0.1,
}


RailStatus = Literal["passed", "failed", "not shown"]


@dataclass(frozen=True)
class GuardRail:
    """Whether a condition kept up with the base in one metric.

    Attributes:
        status: "failed" is significantly worse, and by more than the tolerance; "passed" is shown
            not to be worse by more than that; "not shown" is neither
    """

    condition: str
    metric: str
    status: RailStatus
    tolerance: float


@dataclass(frozen=True)
class Evaluation:
    """Everything that was found out.

    Attributes:
        scores: {condition: {metric: Score}}
        differences: {condition: {metric: condition - base, over pairs}}
        absent: {metric: why it wasn't measured}
        skipped: (path, reason) of files that can't be read
        likeness: how near the manner of speaking is to the real recordings; None without any
    """

    base: str
    real: str | None
    scores: Mapping[str, Mapping[str, Score]]
    differences: Mapping[str, Mapping[str, Score]]
    guard_rails: Sequence[GuardRail]
    results: Sequence[Result]
    absent: Mapping[str, str] = field(default_factory=dict)
    skipped: Sequence[tuple[str, str]] = ()
    likeness: Likeness | None = None

    @property
    def failures(self) -> list[GuardRail]:
        """The guard rails that a condition broke."""
        return [rail for rail in self.guard_rails if rail.status == "failed"]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; `from_dict` gives an equal evaluation."""
        plain = {
            name: {
                condition: {metric: score.to_dict() for metric, score in scores.items()}
                for condition, scores in table.items()
            }
            for name, table in (("scores", self.scores), ("differences", self.differences))
        }
        return {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "base": self.base,
            "real": self.real,
            "conditions": list(self.scores),  # in their order, which sorted JSON loses
            **plain,
            "guard_rails": [asdict(rail) for rail in self.guard_rails],
            "results": [asdict(result) | {"values": result.values} for result in self.results],
            "absent": dict(self.absent),
            "skipped": [list(pair) for pair in self.skipped],
            "likeness": self.likeness.to_dict() if self.likeness else None,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Evaluation:
        """What `to_dict` gave."""
        order = data.get("conditions", list(data["scores"]))
        scores, differences = (
            {
                condition: {m: Score.from_dict(s) for m, s in data[name][condition].items()}
                for condition in order
                if condition in data[name]
            }
            for name in ("scores", "differences")
        )
        plain = [{k: v for k, v in one.items() if k != "values"} for one in data["results"]]
        return cls(
            base=data["base"],
            real=data["real"],
            scores=scores,
            differences=differences,
            guard_rails=[GuardRail(**rail) for rail in data["guard_rails"]],
            results=[Result(**one) for one in plain],
            absent=data["absent"],
            skipped=[(path, reason) for path, reason in data["skipped"]],
            likeness=Likeness.from_dict(found) if (found := data.get("likeness")) else None,
        )

    def write(self, path: Path) -> None:
        """Write JSON, and beside it a CSV with one row for each utterance."""
        write_json(path, self.to_dict())
        metrics = sorted({name for result in self.results for name in result.parts})
        table = io.StringIO(newline="")
        writer = csv.writer(table)
        columns = ["condition", "id", "seed", "path", "seconds", *metrics]
        writer.writerow([*columns, "verdicts", "text", "heard"])
        for one in self.results:
            values = one.values
            row = [one.condition, one.id, one.seed, one.path, f"{one.seconds:.3f}"]
            row += [f"{values[name]:.5g}" if name in values else "" for name in metrics]
            writer.writerow([*row, "; ".join(one.faults), one.text, one.heard])
        with atomic(path.with_suffix(".csv")) as draft:
            draft.write_text(table.getvalue(), encoding="utf-8", newline="")


def read_evaluation(path: Path) -> Evaluation:
    """What `Evaluation.write` wrote.

    Raises:
        UserError: if the file is missing, broken or of another format
    """
    data = read_json(path, format=FORMAT)
    if data.get("version") != FORMAT_VERSION:
        raise UserError(f"version {data.get('version')} isn't known here", where=path)
    try:
        return Evaluation.from_dict(data)
    except (LookupError, TypeError, ValueError) as error:
        raise UserError(f"broken evaluation: {error!r}", where=path) from error


def evaluate(
    conditions: Mapping[str, Sequence[Utterance]],
    instruments: Instruments,
    *,
    base: str | None = None,
    real: str | None = None,
    cache: Path | None = None,
    n_processes: int = 1,
    known: Mapping[Path, Known] | None = None,
) -> Evaluation:
    """Measure every utterance and compare the conditions.

    Args:
        base: what others are compared with; by default "base", else the first
        real: recordings of the speaker, whose voice is the one to be like; by default "real"
        cache: where results are kept from run to run
        known: what is known of a file besides its sound, such as whether the model found an end

    Raises:
        UserError: if a condition has nothing in common with the base, or too much is unreadable
    """
    base, real = choose_roles(conditions, base, real)
    for name, utterances in conditions.items():
        if name not in (base, real) and not pair(conditions[base], utterances):
            what = f"'{name}' has no text (or name) in common with '{base}'"
            raise UserError(what, fix="speak the same texts with both, with the same seeds")
    paths = [utterance.path for utterances in conditions.values() for utterance in utterances]
    measured = measure_all(paths, instruments, cache=cache, n_processes=n_processes)
    skipped = [(path, why) for path, one in measured.items() if (why := one.trouble) is not None]
    readable = {
        name: [one for one in utterances if measured[one.path].trouble is None]
        for name, utterances in conditions.items()
    }
    _refuse_unreadable(conditions, readable, skipped)
    recordings = readable.get(real or "", [])
    context = Context(measured, recordings, instruments.language, known or {})
    results = {
        name: [compare(name, utterance, context) for utterance in utterances]
        for name, utterances in readable.items()
    }
    differences = {
        name: _differences(results[base], found) for name, found in results.items() if name != base
    }
    judged = [name for name in differences if name != real]
    absent = dict(instruments.absent)
    if real is None:
        why = "there are no recordings to be like (real=FOLDER)"
        absent |= dict.fromkeys((*instruments.encoders, "mel_cepstral_distance"), why)
    return Evaluation(
        base=base,
        real=real,
        scores={name: _scores(found) for name, found in results.items()},
        differences={name: found for name, (found, _) in differences.items()},
        guard_rails=[rail for name in judged for rail in judge_rails(name, *differences[name])],
        results=[one for found in results.values() for one in found],
        absent=absent,
        skipped=[(str(path), why) for path, why in skipped],
        likeness=_likeness(readable, context, base, real),
    )


def _likeness(
    readable: Mapping[str, Sequence[Utterance]], context: Context, base: str, real: str | None
) -> Likeness | None:
    if real is None:
        return None
    manners = {name: [context.manner(one) for one in found] for name, found in readable.items()}
    theirs = manners.pop(real)
    return likeness(manners, theirs, base)


def _scores(results: Sequence[Result]) -> dict[str, Score]:
    scores = {}
    for metric in sorted({name for result in results for name in result.parts}):
        having = [one for one in results if metric in one.parts]
        tops, ofs = zip(*(one.parts[metric] for one in having), strict=True)
        if sum(ofs) > 0:
            groups = [one.group for one in having]
            scores[metric] = ratio_score(tops, ofs, groups=groups)
            if metric in SHARES:  # mostly all or none, of which a bootstrap would be certain
                scores[metric] = share_score([top > 0 for top in tops], groups=groups)
    return scores


def _differences(
    before: Sequence[Result], after: Sequence[Result]
) -> tuple[dict[str, Score], dict[str, int]]:
    """The change of each metric over pairs, and how many texts it rests on."""
    pairs = pair(before, after)
    found, n_texts = {}, {}
    for metric in sorted({name for result in after for name in result.parts}):
        both = [(a, b) for a, b in pairs if metric in a.parts and metric in b.parts]
        sides = [[one[side].parts[metric] for one in both] for side in (0, 1)]
        if not both or any(sum(of for _, of in side) <= 0 for side in sides):
            continue
        (a, a_of), (b, b_of) = (zip(*side, strict=True) for side in sides)
        groups = [one.group for one, _ in both]
        found[metric] = paired_ratio_difference((a, a_of), (b, b_of), groups=groups)
        n_texts[metric] = len(set(groups))
    return found, n_texts


def judge_rails(
    condition: str, changes: Mapping[str, Score], n_texts: Mapping[str, int]
) -> list[GuardRail]:
    """Whether a condition kept up with the base, by its changes and how many texts they rest on.

    Not corrected for their number: that guards claims of a gain, and here a loss mustn't be missed.
    """
    rails = []
    for metric, tolerance in TOLERANCES.items():
        if metric not in changes:
            continue
        change, sign = changes[metric], 1 if BETTER[metric] == "lower" else -1
        best, worst = sorted((sign * change.low, sign * change.high))
        status: RailStatus = "not shown"
        if n_texts[metric] >= FEWEST_TEXTS:
            # If even the interval's better end is a loss, the loss is significant.
            if best > 0 and sign * change.value > tolerance:
                status = "failed"
            elif worst <= tolerance:
                status = "passed"
        rails.append(GuardRail(condition, metric, status, tolerance))
    return rails


def choose_roles(
    conditions: Mapping[str, Sequence[Utterance]], base: str | None, real: str | None
) -> tuple[str, str | None]:
    """Which condition is the base, and which holds real recordings, if one does.

    Raises:
        UserError: if there is no condition of that name, or no other than the real one
    """
    for name in (base, real):
        if name is not None and name not in conditions:
            raise UserError(f"no condition '{name}'", fix=f"there are {', '.join(conditions)}")
    real = real or ("real" if "real" in conditions else None)
    others = [name for name in conditions if name != real]
    if not others:
        raise UserError("nothing to evaluate but real recordings", fix="add base=FOLDER")
    return base or ("base" if "base" in others else others[0]), real


def _refuse_unreadable(
    conditions: Mapping[str, Sequence[Utterance]],
    readable: Mapping[str, Sequence[Utterance]],
    skipped: Sequence[tuple[Path, str]],
) -> None:
    for path, why in skipped:
        log.warning("left out %s: %s", path, why)
    for name, utterances in conditions.items():
        lost = len(utterances) - len(readable[name])
        if lost > MOST_UNREADABLE * len(utterances):
            path, why = next((p, w) for p, w in skipped if p in {one.path for one in utterances})
            raise UserError(f"{lost} of {len(utterances)} files of '{name}': {why}", where=path)
