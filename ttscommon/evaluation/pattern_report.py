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
    report.table([{"claim": c.name, "": c.status, "because": c.reason} for c in result.claims])
    report.section("The way to the speaker", "Share of the way from the base that was gained.")
    report.table(_by_measure(result.transfer, result.refused))
    if result.refused:
        rows = [
            {"measure": name, "why it isn't scored": why} for name, why in result.refused.items()
        ]
        report.table(rows)
    report.section("Distances", "From the real recordings, and of these from themselves.")
    report.table(_distances(result))
    report.section("What the pattern does", "Differences of transfer scores; p by Holm.")
    report.table(_by_measure(result.effects, {}))
    if result.swap:
        title_of_swap = f"How much further away {result.roles.swapped} is"
        report.table([_named(name, score) for name, score in result.swap.items()], title_of_swap)
    if len(result.roles.doses) > 1:
        report.section("Strength", "Rates of events at each strength of the pattern.")
        report.figure(dose_figure(result))
        report.table([_named(name, score) for name, score in result.slopes.items()], "Slopes")
    _show_pauses(report, result, manners)
    report.section("Events", "In all utterances of a condition together.")
    report.table([{"condition": name, **row} for name, row in result.counts.items()])
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
        lead="X is the speaker. Answer `More like X` first: `Listen` says which is which.",
        base=control,
        reference=REAL,
        pairs=[(control, system)],
    )
    page.write(path)
    return len(items)


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
    ]
    report.table(rows, "The way to the speaker with other shortest pauses")


def _show_guard_rails(report: Report, result: PatternResult, evaluation: Evaluation) -> None:
    report.section("Guard rails")
    rows = []
    for rail in evaluation.guard_rails:
        change = evaluation.differences[rail.condition][rail.metric]
        row = {"condition": rail.condition, "metric": rail.metric, "change": str(change)}
        rows.append({**row, "tolerance": rail.tolerance, "status": rail.status})
    report.table(rows, "Against the base")
    wrong = over_generated(result)
    rows = [
        {
            "event": name,
            "times as often as the speaker": str(score),
            "status": "failed" if name in wrong else "passed",
        }
        for name, score in result.ratios[result.roles.system].items()
    ]
    report.table(rows, f"{result.roles.system} must be between {TOO_SELDOM:g} and {TOO_OFTEN:g}")


def _by_measure(table: Mapping[str, Scores], refused: Mapping[str, str]) -> list[dict[str, object]]:
    """A row for each measure, the ones that count first."""
    names = [*PRIMARY, *(name for scores in table.values() for name in scores)]
    rows = []
    for name in dict.fromkeys(names):
        cells = {column: _shown(scores[name]) for column, scores in table.items() if name in scores}
        if cells or name in refused:
            rows.append({"measure": name.replace("_", " "), **cells})
    return rows


def _distances(result: PatternResult) -> list[dict[str, object]]:
    rows = []
    for name in dict.fromkeys(m for scores in result.distances.values() for m in scores):
        row: dict[str, object] = {"measure": name.replace("_", " ")}
        if floor := result.floors.get(name):
            row["own variation"] = f"{floor.median:.3f}, up to {floor.limit:.3f}"
        row |= {c: str(scores[name]) for c, scores in result.distances.items() if name in scores}
        rows.append(row)
    return rows


def _texts(scores: Scores) -> dict[str, object]:
    return {name.replace("_", " "): str(score) for name, score in scores.items()}


def _named(name: str, score: Score) -> dict[str, object]:
    return {"measure": name.replace("_", " "), "found": _shown(score)}


def _shown(score: Score) -> str:
    return str(score) if score.p is None else f"{score}, p {score.p:.3g}"
