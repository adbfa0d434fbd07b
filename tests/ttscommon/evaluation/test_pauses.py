"""Pauses are found where silence was put in; rates are those counted by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ttscommon.audio import load, trim_silence
from ttscommon.evaluation.pauses import (
    Timing,
    find_pauses,
    measure_timing,
    timing_parts,
)
from ttscommon.segment import Span, speech_spans

RECORDINGS = Path(__file__).resolve().parents[3] / "examples" / "sample_speaker" / "audio"
RATE = 16_000


def spoken(*pauses: float, words: int = 10, fillers: int = 0) -> Timing:
    """Two seconds of speech around each pause."""
    spans, now = [Span(0, 2)], 2.0
    for pause in pauses:
        spans.append(Span(now + pause, now + pause + 2))
        now += pause + 2
    return Timing(tuple(spans), tuple(find_pauses(spans)), words, fillers, 2 * words)


def rates(*timings: Timing) -> dict[str, float]:
    """Of all utterances together."""
    parts = [timing_parts(timing) for timing in timings]
    names = {name for own in parts for name in own}
    sums = {name: np.sum([own[name] for own in parts if name in own], axis=0) for name in names}
    return {name: top / of for name, (top, of) in sums.items() if of}


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
    found = measure_timing(speech_spans(np.concatenate(pieces), RATE))
    assert len(placed) == 3  # of which the last is the end of the recording
    for start, end in placed[:-1]:
        assert any(
            abs(pause.start - start) < 0.1 and abs(pause.end - end) < 0.1 for pause in found.pauses
        )
    assert all(0.5 < pause.start < pause.end < placed[-1][0] for pause in found.pauses)


def test_fluent_reading_has_no_pause_of_its_own(sentences):
    assert measure_timing(speech_spans(sentences[1], RATE)).pauses == ()


def test_silence_has_no_timing():
    spans = speech_spans(np.zeros(RATE, np.float32), RATE)
    found = measure_timing(spans, text="hello there")
    assert (found.seconds, found.speech_seconds, found.pauses) == (0, 0, ())
    assert timing_parts(found) == {}


def test_words_are_those_of_the_text_and_hesitations_those_that_were_said():
    found = measure_timing([Span(0, 2)], text="Hello there.", said="Um, hello hello there.")
    counts = found.n_words, found.n_syllables, found.n_fillers, found.n_repetitions
    assert counts == (2, 3, 1, 1)
    assert measure_timing([], text="Um, I I go.").n_fillers == 1
    assert measure_timing([], text="Um, I I go.").n_repetitions == 1
    assert measure_timing([], text="Äh, gut.", language="de").n_fillers == 1
    assert measure_timing([], text="Äh, gut.", language="en").n_fillers == 0


def test_gaps_shorter_than_a_pause_are_none():
    spans = [Span(0, 1), Span(1.15, 2), Span(2.4, 3)]
    assert find_pauses(spans) == [Span(2, 2.4)]
    assert find_pauses(spans, 0.1) == [Span(1, 1.15), Span(2, 2.4)]


def test_rates_are_those_counted_by_hand():
    # 4 + 1.5 and 2 seconds; one pause of 1.5 s; 20 words, 3 of them fillers, 40 syllables
    value = rates(spoken(1.5, fillers=3), spoken())
    assert value["pauses_per_minute"] == pytest.approx(60 / 7.5)
    assert value["fillers_per_minute"] == pytest.approx(3 * 60 / 7.5)
    assert value["pauses_per_100_words"] == pytest.approx(5)
    assert value["fillers_per_100_words"] == pytest.approx(15)
    assert value["phonation_ratio"] == pytest.approx(6 / 7.5)
    assert value["syllables_per_second"] == pytest.approx(40 / 6)
    assert value["long_pause_share"] == 1
    assert value["too_long_pauses_per_minute"] == 0
    assert value["mean_pause_seconds"] == pytest.approx(1.5)


def test_pauses_are_counted_at_several_thresholds_and_long_ones_by_their_length():
    spans = [Span(0, 1), Span(1.15, 2), Span(2.25, 3), Span(4.5, 8), Span(11, 12)]
    value = rates(measure_timing(spans))  # gaps of 0.15, 0.25, 1.5 and 3 s in 12 s
    assert value["pauses_per_minute_100ms"] == pytest.approx(20)
    assert value["pauses_per_minute"] == pytest.approx(15)
    assert value["pauses_per_minute_300ms"] == pytest.approx(10)
    assert value["long_pause_share"] == pytest.approx(2 / 3)
    assert value["too_long_pauses_per_minute"] == pytest.approx(5)
    assert value["mean_pause_seconds"] == pytest.approx(4.75 / 3)


def test_without_texts_there_are_no_rates_of_words():
    scores = rates(spoken(1.0, words=0))
    assert "pauses_per_minute" in scores
    assert not any("words" in name or "fillers" in name or "syllables" in name for name in scores)


def test_time_counts_from_the_first_word():
    timing = Timing((Span(3, 5), Span(6, 8)), (Span(5, 6),))
    assert (timing.seconds, timing.speech_seconds) == (5, 4)


def test_repetitions_are_rates_of_their_own():
    speech = (Span(0, 30),)
    value = rates(Timing(speech, (), 50, 1, 80, 3), Timing(speech, (), 50, 2, 80, 1))
    assert value["repetitions_per_minute"] == pytest.approx(4)
    assert value["fillers_per_minute"] == pytest.approx(3)
    assert value["fillers_per_100_words"] == pytest.approx(3)
