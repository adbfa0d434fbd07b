"""Charts: what is drawn where, in how many points."""

from __future__ import annotations

import re

import numpy as np
import pytest

from ttscommon.curves import BOTTOM, HEIGHT, LEFT, MOST_POINTS, TOP, WIDTH, History, chart, short


def places(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"([-\d.]+) ([-\d.]+)", path)]


@pytest.mark.parametrize(
    "values", [[1.0], [0.0, 0.0], [-3.0, 5.0], [1e-8, 1e8], [5.0, 5.0, 5.0], [1e-5, 3e-5]]
)
def test_every_point_lies_within_the_plot(values):
    drawn = chart("x", [(10.0 * i, v) for i, v in enumerate(values, 1)], [(5.0, values[0])])
    assert drawn is not None
    inside = [*places(drawn.line), *((x, y) for x, y, _ in drawn.dots)]
    inside += [(LEFT, y) for y, _ in drawn.up] + [(x, TOP) for x, _ in drawn.across]
    assert all(LEFT <= x <= WIDTH and TOP <= y <= HEIGHT - BOTTOM for x, y in inside)
    assert 2 <= len(drawn.up) <= 8


def test_lower_numbers_are_drawn_lower_and_later_steps_further_right():
    drawn = chart("loss", [(1, 3.0), (2, 2.0), (4, 1.0)])
    assert drawn is not None
    (x1, y1), (x2, y2), (x3, y3) = places(drawn.line)
    assert x1 < x2 < x3
    assert y1 < y2 < y3  # down the page
    assert drawn.value == "1"
    assert drawn.scale == ""


def test_a_wide_range_is_drawn_on_a_logarithmic_scale():
    drawn = chart("loss", [(1, 1000.0), (2, 10.0), (3, 0.1)])
    assert drawn is not None
    (_, top), (_, middle), (_, bottom) = places(drawn.line)
    assert drawn.scale == "log"
    assert middle == pytest.approx((top + bottom) / 2, abs=0.1)


def test_a_long_line_is_thinned_and_keeps_its_mean_and_its_end():
    random = np.random.default_rng(0)
    points = [(float(i), float(v)) for i, v in enumerate(random.normal(5, 1, 10_001))]
    drawn = chart("loss", points)
    assert drawn is not None
    assert MOST_POINTS // 2 < len(places(drawn.line)) <= MOST_POINTS + 1
    assert places(drawn.line)[-1][0] == max(x for x, _ in places(drawn.line))
    assert drawn.trend


def test_nothing_recorded_is_nothing_drawn():
    assert chart("loss", []) is None


def test_a_history_keeps_numbers_by_group_and_name():
    history = History()
    history.add({"step": 1, "group": "train", "loss": 2.0, "note": "x", "bad": None})
    history.add({"step": 2, "group": "train", "loss": float("nan")})
    history.add({"step": 2, "group": "val", "loss": 1.5})
    assert history.names("train") == ["loss"]
    assert history.points("train", "loss") == [(1.0, 2.0)]
    assert history.last("val", "loss") == 1.5
    assert history.last("val", "cer") is None


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (3e-5, "3e-05"), (0.25, "0.25"), (1234.0, "1,234"), (2.5e6, "2.5 M"), (-2, "-2")],
)
def test_numbers_are_told_shortly(value, text):
    assert short(value) == text
