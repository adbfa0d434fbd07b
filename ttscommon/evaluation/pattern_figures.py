"""Manners of speaking as pictures: how long pauses last, where they are, what a strength does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from ttscommon.evaluation.manner import Manner
from ttscommon.evaluation.pattern_protocol import BASE, REAL, PatternResult
from ttscommon.evaluation.placement import CONTEXTS
from ttscommon.report import LINE_COLORS

GRAY, SMALL = "#8a8f98", 8
TICKS = (0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 7, 10, 20)
DOSED = {"pauses_per_minute": "pauses a minute", "fillers_per_minute": "fillers a minute"}

Conditions = Mapping[str, Sequence[Manner]]


def duration_figure(manners: Conditions) -> Figure:
    """The share of pauses that last at most so long, for each condition."""
    figure = Figure(figsize=(7.2, 3.0), layout="constrained")
    axes = figure.subplots()
    for name, own in manners.items():
        lengths = np.sort([pause.duration for one in own for pause in one.timing.pauses])
        if len(lengths):
            shares = np.arange(1, len(lengths) + 1) / len(lengths)
            label = f"{name} ({len(lengths)})"
            axes.step(lengths, shares, where="post", label=label, **_line(name, manners))
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    # From the tick below to the one above, so that there are two at least.
    first = max([tick for tick in TICKS if tick <= low], default=TICKS[0])
    last = min([tick for tick in TICKS if tick >= high], default=TICKS[-1])
    axes.set_xlim(min(low, first), max(high, last))
    ticks = [tick for tick in TICKS if first <= tick <= last]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set(xlabel="seconds", ylabel="share of pauses")
    return _finished(figure)


def placement_figure(manners: Conditions) -> Figure:
    """The chance of a pause in each context, for each condition."""
    figure = Figure(figsize=(7.2, 3.0), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / max(len(manners), 1)
    for number, (name, own) in enumerate(manners.items()):
        chances = []
        for context in CONTEXTS:
            places = [
                p.is_pause for one in own for p in one.places.values() if p.context == context
            ]
            chances.append(float(np.mean(places)) if places else 0.0)
        left = np.arange(len(CONTEXTS)) + (number - (len(manners) - 1) / 2) * width
        color = _line(name, manners)["color"]
        axes.bar(left, chances, width * 0.9, label=name, color=color)
    axes.set_xticks(range(len(CONTEXTS)), CONTEXTS)
    axes.set(ylabel="chance of a pause")
    return _finished(figure)


def dose_figure(result: PatternResult) -> Figure:
    """Rates by strength of the pattern, with those of base and speaker."""
    figure = Figure(figsize=(7.2, 2.8), layout="constrained")
    for axes, (event, label) in zip(figure.subplots(1, 2), DOSED.items(), strict=True):
        strengths = list(result.roles.doses)
        rates = [result.counts[name][event] for name in result.roles.doses.values()]
        line = {"color": LINE_COLORS[0], "label": result.roles.system, "clip_on": False}
        axes.plot(strengths, rates, marker="o", **line)
        for name, style in ((BASE, ":"), (REAL, "-")):
            color = GRAY if name == BASE else LINE_COLORS[1]
            axes.axhline(result.counts[name][event], color=color, linestyle=style, label=name)
        axes.set(xlabel="strength of the pattern", ylabel=label, xticks=strengths)
        axes.set_ylim(bottom=0, top=max(1, axes.get_ylim()[1]))
    return _finished(figure)


def _line(name: str, manners: Conditions) -> dict:
    if name in (REAL, BASE):
        color = LINE_COLORS[1] if name == REAL else GRAY
        return {"color": color, "linewidth": 2.4 if name == REAL else 1.6}
    others = [other for other in manners if other not in (REAL, BASE)]
    colors = [color for color in LINE_COLORS if color != LINE_COLORS[1]]
    return {"color": colors[others.index(name) % len(colors)], "linewidth": 1.6}


def _finished(figure: Figure) -> Figure:
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=SMALL)
        axes.legend(frameon=False, fontsize=SMALL)
    return figure
