"""The public trainer's analyser, as it was seen to work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from indextts.pattern_reference import analyse, normalise

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "indextts2" / "pattern_reference.json"
CASES = json.loads(GOLDEN.read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", CASES["analyzer_cases"], ids=lambda case: case["text"])
def test_the_analyser_finds_what_the_original_finds(case):
    found = analyse(case["text"], case["codes"], case["duration"], CASES["silence_code"])
    expected = case["features"]
    assert found.pop("pause_durations") == pytest.approx(expected["pause_durations"])
    assert found == {k: v for k, v in expected.items() if k != "pause_durations"}


@pytest.mark.parametrize("case", CASES["normalize_transcript_cases"], ids=lambda c: c["text"])
def test_transcripts_get_the_original_s_marks(case):
    assert normalise(case["text"]) == case["out"]


def test_a_clip_without_sound_has_no_rate_and_no_division_by_zero():
    found = analyse("one two", [], 0.0)
    assert found["speech_rate"] == 20.0
    assert found["rate_variations"] == [1.0]
