"""The page on which one listens to the clips that are odd."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ttscommon.report import LINE_COLORS, MIME_TYPES, Report
from ttscommon.validation import ClipVerdict, Validation

MOST_PLAYERS = 40  # a page with more opens slowly
N_BINS = 24
MEANINGS = {
    "unreadable": "can't be decoded",
    "no speech": "silence, music or noise",
    "no text": "neither written by hand nor transcribed",
    "unknown tokens": "characters that the tokenizer can't express",
    "long": "longer than systems train on",
    "short": "hardly a word",
    "quiet": "far below the others' loudness",
    "clipped": "recorded too loud",
    "noise": "the voice would learn it",
    "silence at an end": "would be learnt as a pause",
    "speech at an end": "a word may be cut there, and endings would be learnt cut",
    "dull": "a low sample rate: consonants are missing",
    "copy": "the same sound twice; in training and validation it hides faults",
    "pace": "far more or fewer letters a second than usual: perhaps another clip's text",
    "disagreement": "a recogniser hears other words",
    "loop": "the text repeats itself, as recognisers do",
}


def write_page(validation: Validation, clips: Mapping[str, Path], path: Path, title: str) -> None:
    """Write the page for a validation of `clips`, {name: file}."""
    seconds = sum(clip.sound.seconds for clip in validation.clips)
    n_faulty = len(validation.faulty)
    lead = f"{len(validation.clips)} clips, {seconds / 60:.1f} minutes; {n_faulty} have a fault."
    report = Report(title, lead)
    report.section("Faults", "What was found, and what it would do to a training.")
    rows = [
        {"fault": name, "clips": count, "meaning": MEANINGS[name]}
        for name, count in validation.counts.items()
    ]
    report.table(rows or [{"fault": "none", "clips": 0, "meaning": "nothing to complain of"}])
    for note in validation.notes:
        report.section("Note", note)
    if validation.orphans:
        names = ", ".join(validation.orphans[:MOST_PLAYERS])
        report.section("Texts without a clip", f"{len(validation.orphans)}: {names}")
    report.section("The whole set")
    report.table(
        [{"sample rate": f"{r:,} Hz", "clips": n} for r, n in validation.sample_rates.items()]
    )
    report.figure(_histograms(validation), "How clips are spread; outliers are what to look at.")
    if validation.faulty:
        shown = validation.faulty[:MOST_PLAYERS]
        more = n_faulty - len(shown)
        rest = f" The other {more} are in the table below and in the JSON file." if more else ""
        report.section("Clips with faults", f"The worst first.{rest}")
        for clip in shown:
            _play(report, clip, clips[clip.name])
    report.section("Every clip")
    report.table([_row(clip) for clip in validation.clips])
    report.write(path)


def _play(report: Report, clip: ClipVerdict, path: Path) -> None:
    faults = "; ".join(f"{fault.name}: {fault.what}" for fault in clip.faults)
    report.heading(clip.name, faults)
    if clip.sound.trouble is None and path.suffix.lower() in MIME_TYPES:
        report.audio(f"{clip.sound.seconds:.1f} s", path, text=clip.text or "no text")


def _row(clip: ClipVerdict) -> dict[str, object]:
    sound = clip.sound
    row: dict[str, object] = {
        "clip": clip.name,
        "seconds": round(sound.seconds, 2),
        "LUFS": _rounded(sound.loudness),
        "SNR dB": _rounded(sound.snr),
        "lead s": round(sound.lead, 2),
        "trail s": round(sound.trail, 2),
        "letters/s": _rounded(clip.pace),
    }
    if clip.error_rate is not None:
        row["WER"] = round(clip.error_rate, 2)
    names = dict.fromkeys(fault.name for fault in clip.faults)
    return row | {"faults": ", ".join(names), "text": clip.text}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def _histograms(validation: Validation) -> Figure:
    figure = Figure(figsize=(7.2, 2.4), layout="constrained")
    columns = {
        "seconds": [clip.sound.seconds for clip in validation.clips],
        "letters a second": [clip.pace for clip in validation.clips if clip.pace],
        "SNR in dB": [clip.sound.snr for clip in validation.clips if clip.sound.snr is not None],
    }
    for number, (name, values) in enumerate(columns.items()):
        axes = figure.add_subplot(1, len(columns), number + 1)
        axes.hist(values, bins=N_BINS, color=LINE_COLORS[number])
        axes.set(xlabel=name, ylabel="clips" if number == 0 else "")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    return figure
