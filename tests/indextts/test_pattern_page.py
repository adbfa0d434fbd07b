"""Clips on the page of a prepared data set."""

from __future__ import annotations

import numpy as np
import pytest

from indextts.pattern_features import PatternFeatures
from indextts.pattern_frames import FRAME, MARGIN
from indextts.pattern_page import clip_figure


def test_the_strip_is_full_where_codes_are_silence_and_one_shape_however_many_there_are():
    codes = np.array([7, 7, 1, 2, 7, 1] * 100)
    ends = {"lead": (0, 0), "trail": (600, 600)}
    features = PatternFeatures(key="k", frames=600, pauses=[], silent=[], spoken=[], **ends)
    audio = np.zeros(192_000, np.float32)
    _, strip = clip_figure(audio, features, codes, {1, 2}).axes
    silence, others = strip.collections  # a bar for each of the codes takes seconds to draw
    assert not strip.patches
    for shape, wanted in ((silence, {1, 2}), (others, {7})):
        (path,) = shape.get_paths()
        middles = (np.arange(600) + 0.5) * FRAME + MARGIN
        inside = path.contains_points(np.column_stack([middles, np.full(600, 0.5)]))
        assert inside.tolist() == [code in wanted for code in codes.tolist()]
    assert strip.get_xlim()[1] == pytest.approx(12.0)
