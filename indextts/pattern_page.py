"""How the clips of a speaker are spoken, as a page to look at and to listen to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from indextts.clips import TRAIN_MANIFEST, VALIDATION_MANIFEST
from indextts.pattern_features import PatternFeatures
from indextts.pattern_frames import FRAME, MARGIN, Frames
from ttscommon.audio import load
from ttscommon.manifest import read_records
from ttscommon.report import LINE_COLORS, MIME_TYPES, Report
from ttscommon.segment import VAD_RATE

N_POINTS = 1200  # of a waveform
GRAY = "#8a8f98"
KINDS = {
    "pauses": LINE_COLORS[0],
    "fillers": LINE_COLORS[1],
    "stutters": LINE_COLORS[3],
    "prolongations": LINE_COLORS[2],
}
EXPLAINED = (
    "Behind the waveform stand the spans that were found. The strip below has one bar for each "
    "code: full bars are silence codes, pale ones all others. Where strip and pauses disagree, "
    "either a pause was missed or a code is wrongly taken for silence."
)


def write_page(
    folder: Path, info: Mapping[str, Any], path: Path, *, title: str, max_clips: int
) -> int:
    """Write the page of a prepared folder; how many clips it shows.

    Clips with most to see come first.

    Args:
        info: as in pattern_info.json
        max_clips: of them at most
    """
    clips = [
        (record, PatternFeatures.read(folder / record["pattern_features_path"]))
        for name in (TRAIN_MANIFEST, VALIDATION_MANIFEST)
        for record in read_records(folder / name)
    ]
    report = Report(title, "What was found in the recordings, for a pattern to be learned from.")
    _overview(report, info, [features for _, features in clips])
    report.section("Clips", EXPLAINED)
    ordered = sorted(clips, key=lambda pair: -_n_events(pair[1]))[:max_clips]
    silence = set(info["silence_codes"])
    for record, features in ordered:
        _show(report, folder, record, features, silence)
    if len(ordered) < len(clips):
        report.heading(f"{len(clips) - len(ordered)} more clips are not shown")
    report.write(path)
    return len(ordered)


def clip_figure(
    audio: NDArray[np.float32],
    features: PatternFeatures,
    codes: NDArray,
    silence: set[int],
) -> Figure:
    """Waveform, spans and codes of one clip.

    Args:
        audio: (S,) at 16 kHz
        codes: (T,)
    """
    figure = Figure(figsize=(7.2, 2.1), layout="constrained")
    wave, strip = figure.subplots(2, 1, sharex=True, height_ratios=(5, 1))
    _draw_wave(wave, audio)
    for name, color in KINDS.items():
        for number, span in enumerate(getattr(features, name)):
            wave.axvspan(
                *_edges(span), color=color, alpha=0.35, lw=0, label=f"{'_' * number}{name}"
            )
    for span in (features.lead, features.trail):
        wave.axvspan(*_edges(span), color=GRAY, alpha=0.2, lw=0)
    is_silence = np.isin(codes, sorted(silence))
    edges = np.arange(len(codes) + 1) * FRAME + MARGIN
    for is_kind, color, alpha in ((is_silence, LINE_COLORS[0], 1.0), (~is_silence, GRAY, 0.25)):
        height = np.append(is_kind, False).astype(float)
        # One shape for all: a bar for each code takes seconds to draw.
        strip.fill_between(edges, height, step="post", color=color, alpha=alpha, lw=0)
    strip.set(ylim=(0, 1), yticks=[], xlabel="seconds", xlim=(0, len(audio) / VAD_RATE))
    strip.set_ylabel("codes", fontsize=8, rotation=0, ha="right", va="center")
    for axes in (wave, strip):
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(labelsize=8)
    if any(getattr(features, name) for name in KINDS):
        wave.legend(loc="lower right", bbox_to_anchor=(1, 0.98), ncols=4, frameon=False, fontsize=8)
    return figure


def _overview(report: Report, info: Mapping[str, Any], clips: Sequence[PatternFeatures]) -> None:
    notes = "\n\n".join(str(note) for note in info["notes"])
    report.section("Speaker", notes)
    report.table(
        [{"rate": name.replace("_", " "), "value": v} for name, v in info["rates"].items()]
    )
    n_codes = len(info["silence_codes"])
    if n_codes:
        text = (
            f"{n_codes} codes are silence in at least {info['silence_share']:.0%} of their frames. "
            f"They make up {info['coverage']:.1%} of the silent frames ({info['n_silent']}) and "
            f"{info['leakage']:.1%} of the spoken ones ({info['n_spoken']})."
        )
        report.section("Silence codes", text)
        rows = sorted(info["silence_codes"], key=lambda code: -info["counts"][str(code)])
        report.table(
            [
                {
                    "code": str(code),
                    "frames": info["counts"][str(code)],
                    "silent share": info["share"][str(code)],
                }
                for code in rows[:20]
            ],
            caption="The 20 most frequent" if len(rows) > 20 else "",
        )
    lengths = [length for clip in clips for length in clip.pause_seconds]
    if lengths:
        report.section("Pauses")
        report.figure(_histogram(lengths), f"How long {len(lengths)} pauses last")


def _histogram(lengths: Sequence[float]) -> Figure:
    figure = Figure(figsize=(7.2, 2.0), layout="constrained")
    axes = figure.subplots()
    edges = np.geomspace(min(lengths) * 0.99, max(max(lengths), 2 * min(lengths)), 25)
    axes.hist(lengths, bins=list(edges), color=LINE_COLORS[0])
    axes.set_xscale("log")
    ticks = [t for t in (0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5) if edges[0] <= t <= edges[-1]]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set(xlabel="seconds", ylabel="pauses")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    return figure


def _show(
    report: Report,
    folder: Path,
    record: Mapping[str, Any],
    features: PatternFeatures,
    silence: set[int],
) -> None:
    recording = folder / record["audio_path"]
    text = record["text"]
    if record["is_stripped"]:
        text += f" (said: {record['verbatim']})"
    report.heading(record["id"], text)
    audio = load(recording, VAD_RATE)
    codes = np.load(folder / record["codes_path"], allow_pickle=False)
    found = ", ".join(
        f"{len(getattr(features, name))} {name}" for name in KINDS if getattr(features, name)
    )
    report.figure(clip_figure(audio, features, codes, silence), found or "nothing found")
    if recording.suffix.lower() in MIME_TYPES:
        report.audio(record["id"], recording)


def _draw_wave(axes: Axes, audio: NDArray[np.float32]) -> None:
    """The lowest and highest sample of each of many short stretches."""
    edges = np.linspace(0, len(audio), min(N_POINTS, len(audio)) + 1).astype(int)[:-1]
    low, high = np.minimum.reduceat(audio, edges), np.maximum.reduceat(audio, edges)
    axes.fill_between(edges / VAD_RATE, low, high, color=GRAY, lw=0.4)
    axes.set(yticks=[])


def _edges(span: Frames) -> tuple[float, float]:
    return span[0] * FRAME + MARGIN, span[1] * FRAME + MARGIN


def _n_events(features: PatternFeatures) -> int:
    return sum(len(getattr(features, name)) for name in KINDS)
