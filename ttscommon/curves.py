"""A run's numbers over its steps, and small charts of them for a page."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.ticker import LogLocator, MaxNLocator

WIDTH, HEIGHT = 320, 150  # of a chart, in its own units
LEFT, RIGHT, TOP, BOTTOM = 44, 14, 8, 20  # of the room around the plot
MOST_POINTS = 240  # of a line; more are averaged
LOG_FROM = 30.0  # a range this wide is drawn on a logarithmic scale
SMOOTHED_OVER = 0.04  # of the line's points
NOT_CURVES = {"step", "group"}

Points = Sequence[tuple[float, float]]


class History:
    """Every number that was recorded, as (step, value) by group and name."""

    def __init__(self) -> None:
        self._columns: dict[tuple[str, str], tuple[array[float], array[float]]] = {}

    def add(self, record: Mapping[str, Any]) -> None:
        """Take in a line of `progress.jsonl`; what isn't a finite number is left out."""
        for name, value in record.items():
            is_number = isinstance(value, (int, float)) and math.isfinite(value)
            if name in NOT_CURVES or not is_number:
                continue
            key = (str(record.get("group", "")), name)
            steps, values = self._columns.setdefault(key, (array("d"), array("d")))
            steps.append(record["step"])
            values.append(value)

    def names(self, group: str) -> list[str]:
        """What was recorded in a group, in the order of its first appearance."""
        return [name for found, name in self._columns if found == group]

    @property
    def groups(self) -> list[str]:
        return list(dict.fromkeys(group for group, _ in self._columns))

    @property
    def last_step(self) -> float:
        return max((steps[-1] for steps, _ in self._columns.values()), default=0.0)

    def points(self, group: str, name: str) -> list[tuple[float, float]]:
        columns = self._columns.get((group, name))
        return [] if columns is None else list(zip(*columns, strict=True))

    def last(self, group: str, name: str) -> float | None:
        columns = self._columns.get((group, name))
        return None if columns is None else columns[1][-1]


@dataclass(frozen=True)
class Chart:
    """Where everything of a chart is drawn, in a box of WIDTH x HEIGHT.

    Attributes:
        value: the newest, as it is read
        across, up: (place, label) of the ticks
        line: path of the numbers of training, `trend` of their running mean
        dots: (x, y, label) of the numbers of evaluations
        scale: "" or "log"
    """

    title: str
    value: str
    across: Sequence[tuple[float, str]]
    up: Sequence[tuple[float, str]]
    line: str
    trend: str
    dots: Sequence[tuple[float, float, str]]
    dot_line: str
    scale: str


def chart(
    title: str, line: Points, dots: Points = (), *, last_step: float | None = None
) -> Chart | None:
    """A chart of a line, of dots, or of both; None where there is nothing to draw.

    Args:
        last_step: where the axis ends, so that charts can be compared; by default with the numbers
    """
    line = _thinned(line)
    everything = [*line, *dots]
    if not everything:
        return None
    values = [value for _, value in everything]
    is_log = min(values) > 0 and max(values) / min(values) > LOG_FROM
    ticks = _ticks(min(values), max(values), is_log=is_log)
    low, high = min(ticks[0], *values), max(ticks[-1], *values)
    last_step = max(step for step, _ in everything) if last_step is None else last_step
    inner_width, inner_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(step: float) -> float:
        return round(LEFT + inner_width * step / max(last_step, 1), 1)

    def y(value: float) -> float:
        a, b, c = (math.log(v) for v in (low, value, high)) if is_log else (low, value, high)
        return round(TOP + inner_height * (1 - (b - a) / ((c - a) or 1)), 1)

    def path(points: Points) -> str:
        return "M" + "L".join(f"{x(step)} {y(value)}" for step, value in points) if points else ""

    newest = max(line[-1:] + list(dots[-1:]), key=lambda point: point[0])[1]
    return Chart(
        title=title,
        value=short(newest),
        across=[(x(step), short(step)) for step in _whole_ticks(last_step)],
        up=[(y(value), short(value)) for value in ticks],
        line=path(line),
        trend=path(_smoothed(line)) if len(line) > 20 else "",
        dots=[(x(s), y(v), f"{short(v)} at step {s:,.0f}") for s, v in _thinned(dots)],
        dot_line=path(_thinned(dots)),
        scale="log" if is_log else "",
    )


def short(value: float) -> str:
    """A number in as few characters as tell it: 1,200, 0.25, 3e-05."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}" if abs(value) < 1e6 else f"{value / 1e6:.3g} M"
    return f"{value:.3g}" if abs(value) >= 1e-3 else f"{value:.1e}".replace(".0e", "e")


def _thinned(points: Points) -> list[tuple[float, float]]:
    """At most MOST_POINTS, each the mean of its neighbours; the last one stays."""
    size = -(-len(points) // MOST_POINTS)
    if size <= 1:
        return list(points)
    rest = points[:-1]
    parts = [rest[start : start + size] for start in range(0, len(rest), size)]
    means = [tuple(sum(column) / len(part) for column in zip(*part, strict=True)) for part in parts]
    return [*((mean[0], mean[1]) for mean in means), points[-1]]


def _smoothed(points: Points) -> list[tuple[float, float]]:
    """The running mean, in which a number's weight falls with its distance in the past."""
    keep = 1 - 1 / max(2.0, SMOOTHED_OVER * len(points))
    total = weight = 0.0
    smooth = []
    for step, value in points:
        total, weight = keep * total + value, keep * weight + 1
        smooth.append((step, total / weight))
    return smooth


def _ticks(low: float, high: float, *, is_log: bool) -> list[float]:
    """Three to five round numbers from about `low` to about `high`."""
    if is_log:
        found = [float(v) for v in LogLocator(numticks=5).tick_values(low, high)]
        within = [v for v in found if low * 0.999 <= v <= high * 1.001]
        return within if len(within) > 1 else [low, high]
    if high == low:
        low, high = low - (abs(low) or 1) * 0.1, high + (abs(high) or 1) * 0.1
    return [float(v) for v in MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)]


def _whole_ticks(last: float) -> list[float]:
    found = MaxNLocator(4, steps=[1, 2, 2.5, 5, 10], integer=True).tick_values(0, max(last, 1))
    return [float(v) for v in found if v <= max(last, 1)]
