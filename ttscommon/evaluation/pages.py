"""An evaluation as a page to read and to listen to: the verdict first, then the worst sentences."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ttscommon.evaluation.comparison import Result
from ttscommon.evaluation.conditions import pair, partners
from ttscommon.evaluation.evaluate import BETTER, Evaluation
from ttscommon.evaluation.likeness import MEAN
from ttscommon.evaluation.scores import CONFIDENCE, Score, holm
from ttscommon.evaluation.wording import compared_words
from ttscommon.listening.page import Finding, Item, ListeningPage, ScoreRow, Version
from ttscommon.metrics import aligned_words
from ttscommon.seeds import seed_for

MOST_CLIPS = 60  # on a page; more take too long to open, and to listen to
TITLE = "Did it help?"
# In the order of the table. What is neither good nor bad has no direction in BETTER.
MEANINGS = {
    "fluent_wer": "share of wrong words, hesitations forgiven",
    "wer": "share of wrong words",
    "cer": "share of wrong letters",
    "similarity": "likeness of the voice, GE2E cosine",
    "similarity_wavlm": "likeness of the voice, WavLM cosine",
    "dnsmos": "guess of listeners' opinion, 1 to 5",
    "dnsmos_signal": "the same, the voice alone",
    "dnsmos_p808": "the same, another network",
    "mel_cepstral_distance": "dB from a recording of the same text",
    "faults": "share of clips with something plainly wrong",
    "failures": "share of clips without an end, empty, or of another length than usual",
    "invalid_frames": "share of frames for which the model alone would have said no code",
    "length_ratio": "times as long as the speaker takes for as many letters",
    "right_length": "share of clips 0.7 to 1.4 times as long as the recording",
    "pause_placement_f1": "pauses between the same words as in the recording",
    "too_long_pauses_per_minute": "pauses of more than 2.5 s",
    "pauses_per_minute": "pauses of at least 0.2 s",
    "pauses_per_minute_100ms": "pauses of at least 0.1 s",
    "pauses_per_minute_300ms": "pauses of at least 0.3 s",
    "mean_pause_seconds": "mean length of a pause",
    "long_pause_share": "of the pauses, longer than 1 s",
    "pauses_per_100_words": "pauses of at least 0.2 s",
    "fillers_per_minute": "hesitation sounds that were heard",
    "fillers_per_100_words": "hesitation sounds that were heard",
    "repetitions_per_minute": "words and phrases said again at once",
    "phonation_ratio": "share of time that isn't pause",
    "syllables_per_second": "while speaking",
    "duration_ratio": "times as long as the recording",
    "f0": "median pitch in Hz",
    "f0_spread": "liveliness of the pitch, semitones",
    "voiced_share": "of the frames that aren't near silence",
    "voiced_npvi": "rhythm: unlikeness of neighbouring voiced stretches",
    "level": "loudness, dB of full scale",
    "level_spread": "liveliness of the loudness, dB",
}
# What a verdict is made of: one metric for each thing that can be heard.
TELLING = ("fluent_wer", "similarity", "similarity_wavlm", "dnsmos", "mel_cepstral_distance")
TELLING += ("faults", "pause_placement_f1", "too_long_pauses_per_minute")
UNCLEAR = "no clear difference"
SHOWN = ("fluent_wer", "similarity", "dnsmos", "mel_cepstral_distance")


@dataclass(frozen=True)
class _Text:
    """One text as every condition says it; the base's result comes first."""

    results: Mapping[str, Result]

    def worst(self, metric: str, base: str, real: str | None) -> float:
        """The metric of the worst condition that was judged, larger for worse; -inf for none."""
        sign = 1 if BETTER.get(metric) == "lower" else -1
        judged = [one for name, one in self.results.items() if name not in (base, real)]
        values = [sign * one.values[metric] for one in judged if metric in one.values]
        return max(values, default=-math.inf)


def write_report(
    evaluation: Evaluation,
    path: Path,
    *,
    title: str = TITLE,
    language: str = "en",
    most_clips: int = MOST_CLIPS,
    first: Sequence[Finding] = (),
    tables: Mapping[str, list[dict[str, object]]] | None = None,
) -> None:
    """Write an evaluation as one offline HTML file, with its sounds inside.

    Args:
        first: sentences above the verdict
        tables: by caption, above the others
        language: of the texts, to mark which words were heard wrongly
        most_clips: with more, the page holds the worst texts and others drawn at random

    Raises:
        UserError: if none of the sounds can be read any more
    """
    texts = _texts(evaluation)
    base, real = evaluation.base, evaluation.real
    texts.sort(key=lambda text: _badness(text, base, real), reverse=True)
    kept, note = _kept(texts, most_clips)
    ListeningPage(
        title,
        _items(kept, evaluation, language),
        lead="\n\n".join(part for part in (_lead(evaluation), note) if part),
        scores=score_rows(evaluation),
        tables={**(tables or {}), **_tables(evaluation)},
        base=base,
        reference=real if any(real in text.results for text in kept) else None,
        findings=[*first, *findings(evaluation)],
        own_order="worst first",
        orders={
            f"{metric}, worst first": [text.worst(metric, base, real) for text in kept]
            for metric in SHOWN
            if any(text.worst(metric, base, real) > -math.inf for text in kept)
        },
    ).write(path)


def findings(evaluation: Evaluation) -> list[Finding]:
    """The verdict in plain sentences: better or not, by how much, how sure, and the guard rails."""
    found = []
    for name, changes in evaluation.differences.items():
        if name == evaluation.real:
            continue
        found.append(_comparison(name, evaluation.base, changes))
        found += _guard_rails(name, evaluation)
        if evaluation.likeness and (way := evaluation.likeness.transfer[name].get(MEAN)):
            found.append(_way(name, way, evaluation))
    return found


def score_rows(evaluation: Evaluation) -> list[ScoreRow]:
    """The table of every metric, the most telling first."""
    metrics = {metric for scores in evaluation.scores.values() for metric in scores}
    ordered = [metric for metric in MEANINGS if metric in metrics]
    return [
        ScoreRow(
            metric,
            {name: s[metric] for name, s in evaluation.scores.items() if metric in s},
            {name: s[metric] for name, s in evaluation.differences.items() if metric in s},
            BETTER.get(metric),
            MEANINGS.get(metric, ""),
        )
        for metric in [*ordered, *sorted(metrics - set(ordered))]
    ]


def marked_words(text: str, heard: str, language: str) -> list[tuple[str, str]]:
    """What was heard as (kind, word), compared as for the word error rate.

    A wrong word stands for one of the text, an extra one for none, a missing one wasn't heard.
    """
    wanted, found = compared_words(text, heard, language)
    words = []
    for i, j in aligned_words(wanted, found):
        if j is None:
            words.append(("missing", wanted[i or 0]))
        elif i is None:
            words.append(("extra", found[j]))
        else:
            words.append(("right" if wanted[i] == found[j] else "wrong", found[j]))
    return words


def _comparison(name: str, base: str, changes: Mapping[str, Score]) -> Finding:
    rows = {m: ScoreRow(m, {}, {name: changes[m]}, BETTER[m]) for m in TELLING if m in changes}
    chances = holm({metric: p for metric in rows if (p := changes[metric].p) is not None})
    verdicts = {
        metric: row.verdict(name) if chances.get(metric, 0.0) < 1 - CONFIDENCE else UNCLEAR
        for metric, row in rows.items()
    }
    better, worse = ([m for m, v in verdicts.items() if v == kind] for kind in ("better", "worse"))
    said = [
        f"{kind} in {_listed([_change(metric, changes[metric]) for metric in metrics])}"
        for kind, metrics in (("better", better), ("worse", worse))
        if metrics
    ]
    if not said:
        what = ", ".join(verdicts) or "anything that can be judged"
        return Finding("neither", f"{name} and {base}: no clear difference in {what}.")
    kind = "neither" if better and worse else "better" if better else "worse"
    return Finding(kind, f"{name} is {', but '.join(said)} than {base}.")


def _guard_rails(name: str, evaluation: Evaluation) -> list[Finding]:
    rails = [rail for rail in evaluation.guard_rails if rail.condition == name]
    by_status = {
        status: [rail.metric for rail in rails if rail.status == status]
        for status in ("failed", "not shown", "passed")
    }
    found = []
    if failed := by_status["failed"]:
        text = f"{name} broke {_count(failed, 'guard rail')}: {_listed(failed)}."
        found.append(Finding("worse", text))
    if unclear := by_status["not shown"]:
        text = (
            f"Not shown that {name} kept up with the base in {_listed(unclear)}: take more texts."
        )
        found.append(Finding("neither", text))
    if (passed := by_status["passed"]) and not failed:
        text = f"{name} kept {_count(passed, 'guard rail')}: {_listed(passed)}."
        found.append(Finding("better", text))
    return found


def _way(name: str, way: Score, evaluation: Evaluation) -> Finding:
    n = len(evaluation.likeness.transfer[name]) - 1 if evaluation.likeness else 0
    kind = "better" if way.low > 0 else "worse" if way.high < 0 else "neither"
    return Finding(
        kind,
        f"In its manner of speaking (pauses, pace, rhythm; {n} of the measures), {name} went "
        f"{way.value:.0%} of the way from {evaluation.base} to the real recordings "
        f"({way.low:.0%} to {way.high:.0%}).",
    )


def _change(metric: str, change: Score) -> str:
    return f"{metric} by {abs(change.value):.3f} ({change.low:+.3f} to {change.high:+.3f})"


def _count(things: Sequence[str], noun: str) -> str:
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"


def _listed(words: Sequence[str]) -> str:
    return " and ".join(part for part in (", ".join(words[:-1]), words[-1]) if part)


def _lead(evaluation: Evaluation) -> str:
    counts = {
        name: sum(one.condition == name for one in evaluation.results) for name in evaluation.scores
    }
    clips = ", ".join(f"{count} of {name}" for name, count in counts.items())
    return (
        f"Clips that were measured: {clips}. Intervals hold the true value in 95 of 100 such "
        "evaluations; in the table a difference counts if its interval leaves out zero, which one "
        "in twenty does by chance. The sentences above ask about several metrics at once and "
        "correct for that (Holm), so they claim less. The worst texts stand first."
    )


def _texts(evaluation: Evaluation) -> list[_Text]:
    by_condition: dict[str, list[Result]] = {name: [] for name in evaluation.scores}
    for one in evaluation.results:
        by_condition[one.condition].append(one)
    base = by_condition[evaluation.base]
    found: dict[int, dict[str, Result]] = {id(one): {evaluation.base: one} for one in base}
    for name, results in by_condition.items():
        if name in (evaluation.base, evaluation.real):
            continue
        for one, other in pair(base, results):
            found[id(one)][name] = other
    real = by_condition.get(evaluation.real or "", [])
    same = partners(base, real)
    for i, one in enumerate(base):
        if evaluation.real and real:
            # Where nobody read this text, another recording still lets likeness be heard.
            found[id(one)][evaluation.real] = same.get(i, real[i % len(real)])
    texts = [_Text(results) for results in found.values()]
    return [text for text in texts if len(text.results) > 1] or texts


def _badness(text: _Text, base: str, real: str | None) -> tuple[float, ...]:
    judged = [one for name, one in text.results.items() if name not in (base, real)]
    n_faults = max((len(one.faults) for one in judged), default=0)
    return (n_faults, *(text.worst(m, base, real) for m in ("fluent_wer", "similarity", "dnsmos")))


def _kept(texts: Sequence[_Text], most_clips: int) -> tuple[list[_Text], str]:
    """Half of the places go to the worst, the others are drawn, so that tests aren't only hard."""
    n_conditions = max((len(text.results) for text in texts), default=1)
    n = max(1, most_clips // n_conditions)
    if len(texts) <= n:
        return list(texts), ""
    n_worst = (n + 1) // 2
    draw = random.Random(seed_for("report", len(texts)))
    others = sorted(draw.sample(range(n_worst, len(texts)), n - n_worst))
    note = (
        f"Here are {n} of {len(texts)} texts, the {n_worst} worst and {n - n_worst} others drawn "
        "at random. The numbers are over all of them."
    )
    return [*texts[:n_worst], *(texts[i] for i in others)], note


def _items(texts: Sequence[_Text], evaluation: Evaluation, language: str) -> list[Item]:
    items, used = [], set()
    for number, text in enumerate(texts):
        first = text.results[evaluation.base]
        name = first.id if first.seed is None else f"{first.id}, seed {first.seed}"
        if name in used:
            name = f"{name} ({number + 1})"
        used.add(name)
        ordered = {c: text.results[c] for c in evaluation.scores if c in text.results}
        versions = {c: _version(one, first, language) for c, one in ordered.items()}
        items.append(Item(name, first.text or "", versions))
    return items


def _version(one: Result, first: Result, language: str) -> Version:
    heard = []
    if one.text and one.heard is not None:
        heard = marked_words(one.text, one.heard, language)
    elif one.heard:
        heard = [("right", one.heard)]
    return Version(
        Path(one.path),
        [(start, end) for start, end in one.pauses],
        {metric: one.values[metric] for metric in SHOWN if metric in one.values},
        heard,
        one.faults,
        (one.text or one.id) if one.group != first.group else "",
    )


def _tables(evaluation: Evaluation) -> dict[str, list[dict[str, object]]]:
    faults: dict[str, dict[str, object]] = {}
    for one in evaluation.results:
        for fault in one.faults:
            row = faults.setdefault(fault.partition(":")[0], {"fault": fault.partition(":")[0]})
            row[one.condition] = int(str(row.get(one.condition, 0))) + 1
    tables: dict[str, list[dict[str, object]]] = {
        "Guard rails: in these a condition must not be significantly worse than the base, by more "
        "than the tolerance.": [
            {
                "condition": r.condition,
                "metric": r.metric,
                "status": r.status,
                "tolerance": r.tolerance,
            }
            for r in evaluation.guard_rails
        ],
        "Manner of speaking: distances to the real recordings, the speaker's own variation, and "
        "the way from the base to the speaker (0 is the base, 1 the speaker).": _manner(evaluation),
        "Clips with something plainly wrong.": list(faults.values()),
        "Not measured.": [{"metric": m, "why": why} for m, why in evaluation.absent.items()],
        "Left out, because they can't be read.": [
            {"file": path, "why": why} for path, why in evaluation.skipped
        ],
    }
    return {caption: rows for caption, rows in tables.items() if rows}


def _manner(evaluation: Evaluation) -> list[dict[str, object]]:
    found = evaluation.likeness
    if found is None:
        return []
    names = list(dict.fromkeys([*found.floors, *found.refused, MEAN]))
    rows = []
    for name in names:
        row: dict[str, object] = {"measure": name}
        if floor := found.floors.get(name):
            row["own variation"] = f"{floor.median:.3f}, up to {floor.limit:.3f}"
        for condition, scores in found.distances.items():
            row[condition] = str(scores[name]) if name in scores else None
        for condition, scores in found.transfer.items():
            row[f"way of {condition}"] = str(scores[name]) if name in scores else None
        row["no way, because"] = found.refused.get(name, "")
        rows.append(row)
    return [
        row
        for row in rows
        if row["measure"] != MEAN or any(MEAN in s for s in found.transfer.values())
    ]
