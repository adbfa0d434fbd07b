"""One clip's pattern file, and what all clips say together."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from indextts.pattern_features import (
    PatternFeatures,
    features_of_rests,
    rates,
    read_words,
    with_words,
)
from indextts.pattern_frames import SILENT, SPOKEN, UNSURE, Rests
from ttscommon.errors import UserError
from ttscommon.evaluation.paces import Paces
from ttscommon.files import read_json, write_json
from ttscommon.transcribe import Word

KINDS = np.array([SILENT] * 5 + [SPOKEN] * 45 + [SILENT] * 20 + [SPOKEN] * 25 + [UNSURE] * 5)


def plain() -> PatternFeatures:
    rests = Rests(100, [(50, 70)], (0, 5), (95, 100), KINDS.astype(np.int8))
    return features_of_rests(rests, "key")


def spoken() -> PatternFeatures:
    words = [Word("I", 0.1, 0.3), Word("um,", 0.3, 0.7), Word("I", 0.7, 1.0), Word("do", 1.4, 1.9)]
    return with_words(plain(), words, "I um, I do", Paces({}), "en")


def test_a_clip_s_file_says_what_it_was_given(tmp_path):
    features = spoken()
    features.write(tmp_path / "a_pattern.json")
    assert PatternFeatures.read(tmp_path / "a_pattern.json") == features
    data = read_json(tmp_path / "a_pattern.json")
    assert data["frames"] == 100
    assert data["pauses"] == [[50, 70]]
    assert data["filler_words"] == ["um"]
    assert len(data["stutters"]) == 1
    assert set(data) >= {"fillers", "prolongations", "rate"}


def test_spans_stand_where_the_words_are():
    features = spoken()
    (filler,) = features.fillers
    assert abs(filler[0] * 0.02 - 0.3) <= 0.02
    assert abs(filler[1] * 0.02 - 0.7) <= 0.02


def test_the_kinds_of_frames_come_back_from_the_file():
    assert np.array_equal(plain().kinds, KINDS)


def test_rates_are_over_speech_with_its_pauses():
    found = rates([spoken(), spoken()])
    assert found["seconds"] == pytest.approx(3.6)
    assert found["pauses_per_minute"] == pytest.approx(60 * 2 / 3.6, rel=1e-3)
    assert found["pause_seconds"] == pytest.approx(0.4)
    assert found["fillers_per_100_words"] == pytest.approx(100 * 2 / 6, rel=1e-3)
    assert found["syllables_per_second"] == pytest.approx(6 / (3.6 - 0.8), rel=1e-3)


def test_without_pauses_or_words_nothing_is_said_about_them():
    silent = dataclasses.replace(plain(), pauses=[])
    found = rates([silent])
    assert found["pauses_per_minute"] == 0
    assert not {"pause_seconds", "fillers_per_minute", "syllables_per_second"} & set(found)
    assert rates([]) == {"seconds": 0.0, "words": 0.0}


@pytest.mark.parametrize("change", [{"pauses": [[1, 2, 3]]}, {"version": 9}, {"lead": None}])
def test_a_file_of_another_kind_is_refused(tmp_path, change):
    path = tmp_path / "a_pattern.json"
    spoken().write(path)
    write_json(path, read_json(path) | change)
    with pytest.raises(UserError):
        PatternFeatures.read(path)


def test_words_of_a_clip_are_read_and_broken_ones_refused():
    entry = {
        "words": [{"word": "hi", "start": 0.1, "end": 0.4}, {"word": "?", "start": 1, "end": 1}]
    }
    assert read_words({"a.wav": entry}, "a.wav") == [Word("hi", 0.1, 0.4)]
    assert read_words({}, "a.wav") == []
    with pytest.raises(UserError, match="broken words"):
        read_words({"a.wav": {"words": [{"word": "hi"}]}}, "a.wav")
