"""Pauses are found where silence was put in; rates and distances are those counted by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from ttscommon.audio import load, trim_silence
from ttscommon.evaluation.pauses import (
    Timing,
    filler_rate_distance,
    find_pauses,
    half_split_floor,
    measure_timing,
    pause_duration_distance,
    pause_rate_distance,
    rate_distance,
    timing_scores,
)
from ttscommon.segment import Span

RECORDINGS = Path(__file__).resolve().parents[3] / "examples" / "sample_speaker" / "audio"
RATE = 16_000


def spoken(*pauses: float, words: int = 10, fillers: int = 0) -> Timing:
    """Two seconds of speech around each pause."""
    spans, now = [Span(0, 2)], 2.0
    for pause in pauses:
        spans.append(Span(now + pause, now + pause + 2))
        now += pause + 2
    return Timing(tuple(spans), tuple(find_pauses(spans)), words, fillers, 2 * words)


@pytest.fixture(scope="module")
def sentences() -> list[np.ndarray]:
    paths = [RECORDINGS / f"spk_00{n}.flac" for n in (1, 3, 4)]
    return [trim_silence(load(path, RATE), RATE, -42.0) for path in paths]


def test_silences_put_in_are_found_where_and_as_long_as_they_are(sentences):
    before = np.zeros(RATE // 2, np.float32)
    pieces, placed, now = [before], [], 0.5
    for sentence, silence in zip(sentences, (0.4, 1.3, 0.8), strict=True):
        now += len(sentence) / RATE
        pieces += [sentence, np.zeros(round(silence * RATE), np.float32)]
        placed.append((now, now + silence))
        now += silence
    found = measure_timing(np.concatenate(pieces), RATE)
    assert len(placed) == 3  # of which the last is the end of the recording
    for start, end in placed[:-1]:
        assert any(
            abs(pause.start - start) < 0.1 and abs(pause.end - end) < 0.1 for pause in found.pauses
        )
    assert all(0.5 < pause.start < pause.end < placed[-1][0] for pause in found.pauses)


def test_fluent_reading_has_no_pause_of_its_own(sentences):
    assert measure_timing(sentences[1], RATE).pauses == ()


def test_silence_has_no_timing():
    found = measure_timing(np.zeros(RATE, np.float32), RATE, text="hello there")
    assert (found.seconds, found.speech_seconds, found.pauses) == (0, 0, ())
    assert timing_scores([found]) == {}


def test_gaps_shorter_than_a_pause_are_none():
    spans = [Span(0, 1), Span(1.15, 2), Span(2.4, 3)]
    assert find_pauses(spans) == [Span(2, 2.4)]
    assert find_pauses(spans, 0.1) == [Span(1, 1.15), Span(2, 2.4)]


def test_rates_are_those_counted_by_hand():
    # 4 + 1.5 and 2 seconds; one pause of 1.5 s; 20 words, 3 of them fillers, 40 syllables
    scores = timing_scores([spoken(1.5, fillers=3), spoken()])
    value = {name: found.value for name, found in scores.items()}
    assert value["pauses_per_minute"] == pytest.approx(60 / 7.5)
    assert value["fillers_per_minute"] == pytest.approx(3 * 60 / 7.5)
    assert value["pauses_per_100_words"] == pytest.approx(5)
    assert value["fillers_per_100_words"] == pytest.approx(15)
    assert value["phonation_ratio"] == pytest.approx(6 / 7.5)
    assert value["syllables_per_second"] == pytest.approx(40 / 6)
    assert value["long_pause_share"] == 1
    assert value["too_long_pauses_per_minute"] == 0
    assert value["pause_seconds"] == pytest.approx(1.5)


def test_without_texts_there_are_no_rates_of_words():
    scores = timing_scores([spoken(1.0, words=0)])
    assert "pauses_per_minute" in scores
    assert not any("words" in name or "fillers" in name or "syllables" in name for name in scores)


def test_pauses_longer_by_a_tenth_are_a_tenth_apart():
    a = [spoken(0.3, 0.5), spoken(0.9)]
    b = [spoken(0.33, 0.55), spoken(0.99)]
    assert pause_duration_distance(a, b) == pytest.approx(math.log(1.1))
    assert pause_duration_distance(a, a) == 0


def test_twice_the_rate_is_ln_2_apart_whichever_way():
    assert rate_distance(3, 60, 6, 60) == pytest.approx(math.log(2))
    assert rate_distance(6, 60, 3, 60) == pytest.approx(math.log(2))
    assert rate_distance(0, 60, 2, 60) == pytest.approx(math.log(5))  # 2.5 against 0.5
    assert rate_distance(0, 60, 0, 60) == 0
    assert pause_rate_distance([spoken(0.5)], [spoken(0.25, 0.25)]) == pytest.approx(
        math.log((2 / 6.5) / (1 / 4.5))
    )
    assert filler_rate_distance([spoken(fillers=1)], [spoken(fillers=2)]) == pytest.approx(
        math.log(2)
    )


def test_a_speaker_is_nearer_to_their_own_half_than_to_one_who_pauses_twice_as_long():
    rng = np.random.default_rng(0)
    speaker = [spoken(*rng.lognormal(-0.5, 0.5, 3)) for _ in range(40)]
    slow = [spoken(*(2 * rng.lognormal(-0.5, 0.5, 3))) for _ in range(40)]
    median, limit = half_split_floor(speaker, pause_duration_distance)
    assert 0 < median < limit < pause_duration_distance(speaker, slow)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="no pauses"):
        pause_duration_distance([spoken()], [spoken(0.5)])
    with pytest.raises(ValueError, match="too few to halve"):
        half_split_floor([spoken(0.5)] * 3, pause_duration_distance)
    with pytest.raises(ValueError, match="no time"):
        rate_distance(1, 0, 1, 1)
