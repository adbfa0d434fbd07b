"""Does a learned manner of speaking carry over, and is it the pattern that does it?

Conditions have fixed names. B0: base; B1: base with hesitations written into the text; L: LoRA
only; P: pattern only; LP: both; R: real recordings that nothing was trained on. P and LP may have
companions: LP0 with the pattern at strength 0, LPx with another speaker's pattern, LPr with random
vectors of equal length, LP@0.5 at another strength. The same texts are spoken in all but R.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ttscommon.errors import UserError
from ttscommon.evaluation.detection import Corrected
from ttscommon.evaluation.effects import (
    EVENTS,
    causal_effects,
    dose_slopes,
    rate_ratios,
    swap_effects,
)
from ttscommon.evaluation.likeness import MEAN, Draws, Floor, draw
from ttscommon.evaluation.manner import Manner
from ttscommon.evaluation.pauses import find_pauses
from ttscommon.evaluation.scores import CONFIDENCE, N_DRAWS, Score
from ttscommon.evaluation.style_identity import StyleIdentity

FORMAT, VERSION = "voxtune.pattern_evaluation", 1
BASE, INSERTED, ADAPTER, REAL = "B0", "B1", "L", "R"
SYSTEMS = ("LP", "P")  # what is judged, the first that is there
PRIMARY = ("pause_rate", "pause_duration", "filler_rate", "pause_placement")
OF_PAUSES = ("pause_rate", "pause_duration")
SWITCHED = ("pause_rate", "filler_rate")  # in which the pattern itself must show
THRESHOLDS = (0.1, 0.2, 0.3)  # seconds from which a silence is a pause
# What may be called a success, and where more of it is too much.
ENOUGH, AT_LEAST, FEWEST_MEASURES = 0.5, 0.25, 2
TOO_SELDOM, TOO_OFTEN = 0.67, 1.5
# Distances of a speaker from themselves, simulated with 22 pauses a minute, fell from 0.27 (20
# texts) to 0.12 (100) in the 95th percentile: fewer texts can't tell half way from noise.
FEWEST_TEXTS, FEWEST_SEEDS = 100, 3
_DOSE = re.compile(r"(LP|P)@(\d+(?:\.\d+)?)")
KNOWN = "B0, B1, L, P, LP, R, and for P and LP also LP0, LPx, LPr and LP@0.5"

Scores = Mapping[str, Score]


@dataclass(frozen=True)
class Roles:
    """Which condition is what.

    Attributes:
        system: the one that is judged
        off, swapped, random: the same at strength 0, with another's pattern, with random vectors
        doses: {strength: condition}
    """

    system: str
    off: str | None
    swapped: str | None
    random: str | None
    doses: Mapping[float, str]


@dataclass(frozen=True)
class Claim:
    """What might be said of the system, and whether it was shown."""

    name: str
    status: Literal["shown", "not shown", "not testable"]
    reason: str


@dataclass(frozen=True)
class PatternResult:
    """Everything that was found out about manners of speaking.

    Attributes:
        distances: {condition: {measure: Score}}, from the real recordings
        transfer: the same as transfer scores; "mean" is over those of PRIMARY that aren't refused
        refused: {measure: why it has no transfer score}
        by_threshold: {milliseconds: {condition: transfer of the measures of pauses}}
        effects: {"LP - LP0": {measure: difference of transfer scores}}
        swap: {measure: by how much another's pattern is further away}
        slopes: {event: rise of its rate with the strength}
        ratios: {condition: {event: times as often as the speaker}}
        counts: {condition: texts, utterances, events}
        style: what a classifier of manners told, where others were given
        corrected: {event: shares without the detectors' errors}, where these are known
    """

    roles: Roles
    distances: Mapping[str, Scores]
    floors: Mapping[str, Floor]
    transfer: Mapping[str, Scores]
    refused: Mapping[str, str]
    by_threshold: Mapping[int, Mapping[str, Scores]]
    effects: Mapping[str, Scores]
    swap: Scores
    slopes: Scores
    ratios: Mapping[str, Scores]
    counts: Mapping[str, Mapping[str, float]]
    claims: Sequence[Claim]
    notes: Sequence[str] = field(default=())
    style: StyleIdentity | None = None
    corrected: Mapping[str, Corrected] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"format": FORMAT, "version": VERSION, **_plain(self)}


def find_roles(names: Sequence[str]) -> Roles:
    """What the conditions are, by their names.

    Raises:
        UserError: if base, recordings or system are missing, or a name isn't known
    """
    extra = {f"{system}{suffix}" for system in SYSTEMS for suffix in ("", "0", "x", "r")}
    known = {BASE, INSERTED, ADAPTER, REAL, *extra}
    strange = [name for name in names if name not in known and not _DOSE.fullmatch(name)]
    if strange:
        raise UserError(
            f"'{strange[0]}' is no condition of this protocol", fix=f"call them {KNOWN}"
        )
    for name, what in ((BASE, "the base"), (REAL, "real recordings")):
        if name not in names:
            raise UserError(f"{what} ({name}) is missing", fix=f"add {name}=FOLDER")
    system = next((name for name in SYSTEMS if name in names), None)
    if system is None:
        raise UserError("nothing to judge", fix="add LP=FOLDER or P=FOLDER")
    doses = {float(m[2]): m[0] for name in names if (m := _DOSE.fullmatch(name)) and m[1] == system}
    doses[1.0] = system
    if f"{system}0" in names:
        doses[0.0] = f"{system}0"
    companions = (f"{system}{suffix}" for suffix in ("0", "x", "r"))
    off, swapped, random = (name if name in names else None for name in companions)
    return Roles(system, off, swapped, random, dict(sorted(doses.items())))


def judge_patterns(
    manners: Mapping[str, Sequence[Manner]],
    *,
    trouble: str | None = None,
    n_draws: int = N_DRAWS,
    seed: int = 0,
) -> PatternResult:
    """Compare all conditions with the real recordings.

    Args:
        manners: {condition: its utterances}
        trouble: why nothing can be claimed at all, such as a base that can't be understood

    Raises:
        UserError: as `find_roles`, and if a condition has no utterances
    """
    roles = find_roles(list(manners))
    if empty := [name for name, own in manners.items() if not own]:
        raise UserError(f"condition '{empty[0]}' has no utterances")
    spoken = {name: own for name, own in manners.items() if name != REAL}
    real = manners[REAL]
    drawn = draw(spoken, real, BASE, n_draws=n_draws, seed=seed)
    controls = [name for name in (roles.off, roles.random, INSERTED, ADAPTER) if name in spoken]
    effects = {
        f"{roles.system} - {control}": causal_effects(drawn, roles.system, control)
        for control in controls
    }
    doses = {strength: spoken[name] for strength, name in roles.doses.items()}
    result = PatternResult(
        roles=roles,
        distances=_scores(drawn, drawn.apart, list(spoken)),
        floors=drawn.floors,
        transfer=_transfer(drawn, [name for name in spoken if name != BASE]),
        refused=drawn.refused,
        by_threshold=_by_threshold(spoken, real, n_draws, seed),
        effects=effects,
        swap=swap_effects(drawn, roles.system, roles.swapped) if roles.swapped else {},
        slopes=dose_slopes(doses, n_draws=n_draws, seed=seed) if len(doses) > 1 else {},
        ratios={
            name: rate_ratios(own, real, n_draws=n_draws, seed=seed) for name, own in spoken.items()
        },
        counts={name: _counts(own) for name, own in manners.items()},
        claims=[],
        notes=_notes(spoken, roles),
    )
    claims = _claims(result, _mean_difference(drawn, roles.system, INSERTED))
    if trouble:
        claims = [Claim(claim.name, "not testable", trouble) for claim in claims]
    return dataclasses.replace(result, claims=claims)


def over_generated(result: PatternResult) -> dict[str, Score]:
    """Events that happen under 0.67 or over 1.5 times as often as with the speaker."""
    found = result.ratios[result.roles.system]
    return {name: x for name, x in found.items() if not TOO_SELDOM <= x.value <= TOO_OFTEN}


def with_shortest(manners: Sequence[Manner], seconds: float) -> list[Manner]:
    """The same with another shortest pause; places of pauses are left as they are."""
    return [
        dataclasses.replace(
            one,
            timing=dataclasses.replace(
                one.timing, pauses=tuple(find_pauses(one.timing.speech, seconds))
            ),
        )
        for one in manners
    ]


def _by_threshold(
    spoken: Mapping[str, Sequence[Manner]], real: Sequence[Manner], n_draws: int, seed: int
) -> dict[int, Mapping[str, Scores]]:
    found = {}
    for shortest in THRESHOLDS:
        sets = {name: with_shortest(own, shortest) for name, own in spoken.items()}
        drawn = draw(sets, with_shortest(real, shortest), BASE, n_draws=n_draws, seed=seed)
        gained = {name: drawn.gained[name] for name in OF_PAUSES if name in drawn.gained}
        names = [name for name in spoken if name != BASE]
        found[round(1000 * shortest)] = _scores(drawn, gained, names)
    return found


def _scores(
    drawn: Draws, table: Mapping[str, Mapping[str, Any]], names: Sequence[str]
) -> dict[str, Scores]:
    """{condition: {measure: Score}} of what isn't NaN."""
    return {
        condition: {
            measure: drawn.score(found[condition], condition)
            for measure, found in table.items()
            if condition in found and not np.isnan(found[condition][0])
        }
        for condition in names
    }


def _transfer(drawn: Draws, names: Sequence[str]) -> dict[str, Scores]:
    found = _scores(drawn, drawn.gained, names)
    for condition, scores in found.items():
        primary = [drawn.gained[name][condition] for name in PRIMARY if name in scores]
        if primary:
            mean = drawn.score(np.mean(primary, axis=0), condition)
            found[condition] = {**scores, MEAN: mean}
    return found


def _mean_difference(drawn: Draws, ours: str, theirs: str) -> Score | None:
    """By how much the mean transfer score of one condition is above another's."""
    pairs = [
        drawn.gained[name][ours] - drawn.gained[name][theirs]
        for name in PRIMARY
        if {ours, theirs} <= drawn.gained.get(name, {}).keys()
    ]
    known = [pair for pair in pairs if not np.isnan(pair[0])]
    return drawn.score(np.mean(known, axis=0), ours) if known else None


def _claims(result: PatternResult, versus_inserted: Score | None) -> list[Claim]:
    return [
        _transfers(result, versus_inserted),
        _pattern_does_it(result),
        _is_speaker_s(result),
        _is_controllable(result),
    ]


def _transfers(result: PatternResult, versus_inserted: Score | None) -> Claim:
    name = "the manner carries over to new texts"
    scores = result.transfer[result.roles.system]
    used = [measure for measure in PRIMARY if measure in scores]
    if len(used) < FEWEST_MEASURES:
        only = f"only {used[0]} can be scored; " if used else ""
        return Claim(name, "not testable", only + _why_refused(result, PRIMARY))
    mean = scores[MEAN]
    is_enough = mean.value >= ENOUGH and mean.low > AT_LEAST
    reason = (
        f"mean transfer {mean} over {', '.join(used)}; asked for are {ENOUGH:g} and a lower bound "
        f"above {AT_LEAST:g}"
    )
    if versus_inserted is None:
        reason += f"; {INSERTED}, the cheap competitor, wasn't given"
    else:
        is_enough = is_enough and versus_inserted.low > 0
        reason += f"; above {INSERTED} by {versus_inserted}"
    return Claim(name, "shown" if is_enough else "not shown", reason)


def _pattern_does_it(result: PatternResult) -> Claim:
    name, roles = "it is the pattern that does it", result.roles
    lacking = [f"{roles.system}{suffix}" for suffix, role in (("0", roles.off), ("r", roles.random))
               if role is None]  # fmt: skip
    if lacking:
        return Claim(name, "not testable", f"without {' and '.join(lacking)}")
    asked = [m for m in SWITCHED if m in result.transfer[roles.system]]
    if not asked:
        return Claim(name, "not testable", _why_refused(result, SWITCHED))
    told, is_shown = [], True
    for control in (roles.off, roles.random):
        found = result.effects[f"{roles.system} - {control}"]
        told += [f"{m} {found[m]} above {control}" for m in asked if m in found]
        is_shown = is_shown and all(m in found and found[m].low > 0 for m in asked)
    told += [f"{m} can't be tested" for m in SWITCHED if m not in asked]
    return Claim(name, "shown" if is_shown else "not shown", "; ".join(told))


def _is_speaker_s(result: PatternResult) -> Claim:
    name, roles = "it is this speaker's pattern", result.roles
    if roles.swapped is None:
        return Claim(name, "not testable", f"without {roles.system}x")
    found = {m: result.swap[m] for m in PRIMARY if m in result.swap}
    if not found:
        return Claim(name, "not testable", "nothing to compare")
    sure = [m for m, x in found.items() if _is_sure(x) and x.low > 0]
    against = [m for m, x in found.items() if _is_sure(x) and x.high < 0]
    told = "; ".join(f"{m} {x} further away with {roles.swapped}" for m, x in found.items())
    return Claim(name, "shown" if sure and not against else "not shown", told)


def _is_controllable(result: PatternResult) -> Claim:
    """Rates must go the speaker's way with the strength, in order and surely."""
    name, roles = "its strength can be set", result.roles
    if len(roles.doses) < 3:
        return Claim(name, "not testable", f"without three strengths, such as {roles.system}@0.5")
    told, sure, against = [], [], []
    for event in ("pauses_per_minute", "fillers_per_minute"):
        slope = result.slopes.get(event)
        if slope is None:
            continue
        rates = [result.counts[condition][event] for condition in roles.doses.values()]
        way = result.counts[REAL][event] - result.counts[BASE][event]
        rises = np.diff(rates) * np.sign(way)
        told.append(f"{event} {', '.join(f'{rate:.2f}' for rate in rates)}, slope {slope}")
        if _is_sure(slope) and slope.value * way < 0:
            against.append(event)
        elif _is_sure(slope) and np.all(rises >= 0):
            sure.append(event)
    shown = "shown" if sure and not against else "not shown"
    strengths = ", ".join(f"{strength:g}" for strength in roles.doses)
    return Claim(name, shown, f"at {strengths}: " + "; ".join(told))


def _is_sure(score: Score) -> bool:
    return score.p is not None and score.p < 1 - CONFIDENCE


def _why_refused(result: PatternResult, asked: Sequence[str]) -> str:
    return "; ".join(f"{m}: {result.refused[m]}" for m in asked if m in result.refused) or (
        "nothing to compare"
    )


def _counts(manners: Sequence[Manner]) -> dict[str, float]:
    found = {"texts": float(len({one.group for one in manners})), "utterances": float(len(manners))}
    for name, event in EVENTS.items():
        count, minutes = event.rows(manners).sum(0)
        found[name] = float(count / minutes) if minutes > 0 else 0.0
    lengths = [pause.duration for one in manners for pause in one.timing.pauses]
    return found | ({"pause_seconds": float(np.median(lengths))} if lengths else {})


def _notes(spoken: Mapping[str, Sequence[Manner]], roles: Roles) -> list[str]:
    own = spoken[roles.system]
    n_texts = len({one.group for one in own})
    notes = []
    if n_texts < FEWEST_TEXTS:
        notes.append(
            f"{n_texts} texts are few: with fewer than {FEWEST_TEXTS}, half of the way can hardly "
            "be told from chance"
        )
    if len(own) < FEWEST_SEEDS * n_texts:
        notes.append(f"{len(own) / n_texts:.1f} tries a text; {FEWEST_SEEDS} seeds are usual")
    texts = {name: {one.group for one in manners} for name, manners in spoken.items()}
    if other := [name for name in spoken if texts[name] != texts[roles.system]]:
        notes.append(f"{', '.join(other)}: not the same texts as {roles.system}")
    return notes


def _plain(value: Any) -> Any:
    if isinstance(value, Score):
        return value.to_dict()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {f"{key:g}" if isinstance(key, float) else str(key): _plain(v)
                for key, v in value.items()}  # fmt: skip
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value
