"""What became of a manner of speaking, as a page to read and one to listen to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ttscommon.evaluation.conditions import Utterance, pair, partners
from ttscommon.evaluation.evaluate import Evaluation
from ttscommon.evaluation.pattern_figures import (
    Conditions,
    dose_figure,
    duration_figure,
    placement_figure,
)
from ttscommon.evaluation.pattern_protocol import (
    BASE,
    PRIMARY,
    REAL,
    TOO_OFTEN,
    TOO_SELDOM,
    PatternResult,
    Scores,
    over_generated,
)
from ttscommon.evaluation.scores import Score
from ttscommon.listening.page import Item, ListeningPage, Version
from ttscommon.report import Report
from ttscommon.seeds import seed_for

WHOLE = ("texts", "utterances")
MOST_WEIGHTS = 6  # of a classifier
LEAD = (
    "Conditions: `B0` base, `B1` base with hesitations in the text, `L` LoRA only, `P` pattern "
    "only, `LP` both, `0` pattern switched off, `x` another speaker's, `r` random, `R` real "
    "recordings. 0 is the base and 1 can't be told from the speaker; intervals are 95 %."
)


def write_pattern_report(
    result: PatternResult, evaluation: Evaluation, manners: Conditions, path: Path, *, title: str
) -> None:
    """Write the page of tables and pictures."""
    report = Report(title, LEAD)
    report.section("Verdict", "\n\n".join(result.notes))
    claims = [{"claim": c.name, "status": c.status, "because": c.reason} for c in result.claims]
    report.table(claims)
    _show_transfer(report, result)
    if len(result.roles.doses) > 1:
        report.section("Strength", "Rates of events at each strength of the pattern.")
        report.figure(dose_figure(result))
        slopes = [_named(name, score) for name, score in result.slopes.items()]
        _table(report, slopes, "Slopes")
    _show_pauses(report, result, manners)
    report.section("Events", "In all utterances of a condition together.")
    report.table([_counted(name, row) for name, row in result.counts.items()])
    _show_corrected(report, result)
    _show_style(report, result)
    _show_guard_rails(report, result, evaluation)
    report.write(path)


def write_blind_test(
    result: PatternResult,
    utterances: Mapping[str, Sequence[Utterance]],
    path: Path,
    *,
    title: str,
    most_items: int,
) -> int:
    """Write the page of the test "which is more like X?"; how many texts it has.

    X is a recording of the speaker, of the same text where there is one. A and B are the system and
    the same without its pattern, in an order that nobody can see.
    """
    system, control = result.roles.system, result.roles.off or BASE
    pairs = pair(utterances[control], utterances[system])
    random = np.random.default_rng(seed_for("blind test", title))
    chosen = sorted(random.permutation(len(pairs))[:most_items].tolist())
    real = list(utterances[REAL])
    same = partners([one for one, _ in pairs], real)
    shuffled = [real[i] for i in random.permutation(len(real)).tolist()]
    items = []
    for place, number in enumerate(chosen):
        without, with_pattern = pairs[number]
        x = same.get(number) or shuffled[place % len(shuffled)]
        versions = {
            control: Version(without.path),
            system: Version(with_pattern.path),
            REAL: Version(x.path, text="" if number in same else (x.text or x.id)),
        }
        seed = "" if without.seed is None else f", seed {without.seed}"
        items.append(Item(f"{without.id}{seed}", without.text or "", versions))
    page = ListeningPage(
        title=title,
        items=items,
        lead="X is the speaker. Answer first, then `Listen`, which says which is which.",
        view="like",
        base=control,
        reference=REAL,
        pairs=[(control, system)],
    )
    page.write(path)
    return len(items)


def _show_transfer(report: Report, result: PatternResult) -> None:
    """Scores, why there are none, and what they come from; nothing where there is nothing."""
    report.section("The way to the speaker", "Share of the way from the base that was gained.")
    _table(report, _by_measure(result.transfer))
    reasons: dict[str, list[str]] = {}
    for name, why in result.refused.items():
        reasons.setdefault(why, []).append(_words(name))
    rows = [{"not scored": ", ".join(names), "because": why} for why, names in reasons.items()]
    _table(report, rows)
    if distances := _distances(result):
        report.section("Distances", "From the real recordings, and of these from themselves.")
        report.table(distances)
    effects = _by_measure(result.effects)
    if effects or result.swap:
        report.section("What the pattern does", "Differences of transfer scores; p by Holm.")
        _table(report, effects)
        title = f"How much further away {result.roles.swapped} is"
        _table(report, [_named(name, score) for name, score in result.swap.items()], title)


def _show_pauses(report: Report, result: PatternResult, manners: Conditions) -> None:
    names = [REAL, BASE, result.roles.system, result.roles.off, result.roles.swapped]
    shown = {name: manners[name] for name in names if name is not None}
    report.section("Pauses")
    report.figure(duration_figure(shown), "How long pauses last")
    if any(one.places for own in shown.values() for one in own):
        report.figure(placement_figure(shown), "Where they are, by what stands around the place")
    rows = [
        {"condition": name, "shortest pause": f"{milliseconds} ms", **_texts(scores)}
        for milliseconds, table in result.by_threshold.items()
        for name, scores in table.items()
        if scores
    ]
    _table(report, rows, "The way to the speaker with other shortest pauses")


def _show_corrected(report: Report, result: PatternResult) -> None:
    """Shares of places, as detected and without the detectors' errors."""
    if not result.corrected:
        return
    text = "Of all places where there could be one, in how many there is one: as detected, and "
    report.section("Detectors", text + "without the errors they made in the labelled recordings.")
    for event, own in result.corrected.items():
        if own.refused is not None:
            report.heading(f"No {event} are corrected", own.refused)
            continue
        told = f"sensitivity {own.sensitivity}, specificity {own.specificity}"
        rows = [
            {"condition": name, "as detected": own.observed[name], "corrected": str(share)}
            | ({f"times {REAL}": str(own.ratios[name])} if name in own.ratios else {})
            for name, share in own.shares.items()
        ]
        report.table(rows, f"{event.capitalize()}: {told}, in {own.n_events} labelled ones")


def _show_style(report: Report, result: PatternResult) -> None:
    """Whose manner a classifier takes it for."""
    style = result.style
    if style is None:
        return
    text = (
        f"A classifier that learned from real recordings to tell the speaker from {style.n_people} "
        "others by what is counted above, without timbre: by how much more than of the base it is "
        "sure of the speaker (log odds)."
    )
    report.section("Whose manner is it?", text)
    if style.auc is not None:
        told = "Area under the curve with real recordings and people that it hadn't met"
        report.table(
            [{"measure": told, "found": str(style.auc)}], "0.5 is chance, 1 is never wrong"
        )
    if style.refused is not None:
        report.heading("No gains are told", style.refused)
    gains = [{"condition": name, "gain": _shown(score)} for name, score in style.gains.items()]
    _table(report, gains)
    heaviest = list(style.weights.items())[:MOST_WEIGHTS]
    _table(report, [{"measure": _words(n), "weight": w} for n, w in heaviest], "What it goes by")


def _show_guard_rails(report: Report, result: PatternResult, evaluation: Evaluation) -> None:
    report.section("Guard rails")
    rows = []
    for rail in evaluation.guard_rails:
        change = evaluation.differences[rail.condition][rail.metric]
        row = {"condition": rail.condition, "metric": _words(rail.metric), "change": str(change)}
        rows.append({**row, "tolerance": rail.tolerance, "status": rail.status})
    _table(report, rows, "Against the base")
    wrong = over_generated(result)
    rows = [
        {
            "event": _words(name),
            "times as often as the speaker": str(score),
            "status": "failed" if name in wrong else "passed",
        }
        for name, score in result.ratios[result.roles.system].items()
    ]
    _table(report, rows, f"{result.roles.system} must be between {TOO_SELDOM:g} and {TOO_OFTEN:g}")


def _table(report: Report, rows: Sequence[Mapping[str, object]], caption: str = "") -> None:
    """A table, if it has any rows: a caption of nothing only puzzles."""
    if rows:
        report.table(rows, caption)


def _by_measure(table: Mapping[str, Scores]) -> list[dict[str, object]]:
    """A row for each measure, the ones that count first."""
    names = [*PRIMARY, *(name for scores in table.values() for name in scores)]
    rows = []
    for name in dict.fromkeys(names):
        cells = {column: _shown(scores[name]) for column, scores in table.items() if name in scores}
        if cells:
            rows.append({"measure": _words(name), **cells})
    return rows


def _distances(result: PatternResult) -> list[dict[str, object]]:
    rows = []
    for name in dict.fromkeys(m for scores in result.distances.values() for m in scores):
        row: dict[str, object] = {"measure": _words(name)}
        if floor := result.floors.get(name):
            row["own variation"] = f"{floor.median:.3f}, up to {floor.limit:.3f}"
        row |= {c: str(scores[name]) for c, scores in result.distances.items() if name in scores}
        rows.append(row)
    return rows


def _texts(scores: Scores) -> dict[str, object]:
    return {_words(name): str(score) for name, score in scores.items()}


def _counted(condition: str, counts: Mapping[str, float]) -> dict[str, object]:
    """Texts and utterances are whole; rates aren't."""
    shown = {name: int(value) if name in WHOLE else value for name, value in counts.items()}
    return {"condition": condition, **{_words(name): value for name, value in shown.items()}}


def _words(name: str) -> str:
    return name.replace("_", " ")


def _named(name: str, score: Score) -> dict[str, object]:
    return {"measure": _words(name), "found": _shown(score)}


def _shown(score: Score) -> str:
    return str(score) if score.p is None else f"{score}, p {score.p:.3g}"
