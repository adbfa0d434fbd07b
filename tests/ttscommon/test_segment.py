"""Long recordings are cut in silence only, into clips of the wanted length."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import soxr
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ttscommon.audio import load, trim_silence
from ttscommon.segment import Span, join_spans, longest_silence, speech_spans

RECORDINGS = Path(__file__).resolve().parents[2] / "examples" / "sample_speaker" / "audio"
RATE = 16_000
LOW_RATE = 2_000  # enough where no voice detector listens


@pytest.fixture(scope="module")
def sentences() -> list[np.ndarray]:
    """Four sentences of a real speaker, trimmed."""
    paths = [RECORDINGS / f"spk_00{n}.flac" for n in (1, 2, 3, 4)]
    return [trim_silence(load(path, RATE), RATE, -42.0) for path in paths]


def segment(audio: np.ndarray, rate: int) -> list[Span]:
    return join_spans(audio, rate, speech_spans(audio, rate), min_seconds=3, max_seconds=8)


def with_silences(sentences: list[np.ndarray], seconds: float) -> np.ndarray:
    silence = np.zeros(round(seconds * RATE), np.float32)
    return np.concatenate([part for sentence in sentences for part in (sentence, silence)])


def test_speech_is_found_to_a_thirtieth_of_a_second(sentences):
    audio = with_silences([np.zeros(RATE // 2, np.float32), sentences[0]], 0.5)
    spans = speech_spans(audio, RATE)
    assert spans[0].start == pytest.approx(1.0, abs=0.1)
    assert spans[-1].end == pytest.approx(1.0 + len(sentences[0]) / RATE, abs=0.15)
    samples = np.array([(span.start * RATE, span.end * RATE) for span in spans])
    np.testing.assert_array_equal(samples, samples.round())  # samples, not tenths of a second


def test_silence_and_hum_hold_no_speech():
    hum = 0.01 * np.sin(2 * np.pi * 50 * np.arange(3 * RATE) / RATE).astype(np.float32)
    assert speech_spans(np.zeros(3 * RATE, np.float32), RATE) == []
    assert speech_spans(hum, RATE) == []


def test_a_long_recording_is_cut_only_where_it_is_quiet(sentences):
    audio = with_silences(sentences * 2, 0.4)
    pieces = segment(audio, RATE)
    assert sum(piece.duration for piece in pieces) > 0.9 * len(audio) / RATE
    loudest = np.abs(audio).max()
    for piece in pieces:
        assert 3 <= piece.duration <= 8
        for edge in {piece.start, piece.end} - {0.0, len(audio) / RATE}:
            around = audio[max(0, round((edge - 0.01) * RATE)) : round((edge + 0.01) * RATE)]
            assert np.abs(around).max(initial=0) < 0.05 * loudest


def test_the_sample_rate_of_the_recording_does_not_matter(sentences):
    audio = with_silences(sentences, 0.5)
    slow = segment(audio, RATE)
    fast = segment(soxr.resample(audio, RATE, 44_100), 44_100)
    assert [piece.start for piece in fast] == pytest.approx([p.start for p in slow], abs=0.1)


def test_the_longest_silence_is_found_and_unbroken_speech_has_none(sentences):
    silence = np.zeros(RATE, np.float32)
    audio = np.concatenate([sentences[0], silence, sentences[1]])
    middle = len(sentences[0]) / RATE + 0.5
    assert longest_silence(audio, RATE) == pytest.approx(middle, abs=0.15)
    spans = speech_spans(sentences[0], RATE)
    inside = sentences[0][round(spans[0].start * RATE) : round(spans[0].end * RATE)]
    assert longest_silence(inside[RATE // 4 : RATE], RATE) is None


def test_using_it_leaves_torch_its_threads(sentences):
    before = torch.get_num_threads()
    speech_spans(sentences[0], RATE)
    assert torch.get_num_threads() == before


def sound_of(spans: list[Span], total: float) -> np.ndarray:
    """(S,) noise where there is speech, much weaker noise elsewhere."""
    time = np.arange(round(total * LOW_RATE)) / LOW_RATE
    level = np.full(len(time), 1e-3, np.float32)
    for span in spans:
        level[(time >= span.start) & (time < span.end)] = 0.3
    return level * np.random.default_rng(0).normal(size=len(time)).astype(np.float32)


def joined(spans: list[Span], total: float) -> list[Span]:
    return join_spans(sound_of(spans, total), LOW_RATE, spans, min_seconds=3, max_seconds=12)


@st.composite
def speech(draw: st.DrawFn) -> tuple[list[Span], float]:
    """Stretches of speech with silences of 0.1 to 4 s between them."""
    spans, now = [], draw(st.floats(0, 1))
    for _ in range(draw(st.integers(0, 12))):
        length = draw(st.floats(0.1, 15))
        spans.append(Span(now, now + length))
        now += length + draw(st.floats(0.1, 4))
    return spans, now


@settings(max_examples=30, deadline=None)
@given(speech())
def test_pieces_are_in_order_of_the_right_length_and_never_split_a_span(example):
    spans, total = example
    pieces = joined(spans, total)
    for piece in pieces:
        assert 3 <= piece.duration <= 12
        inside = [s for s in spans if s.start >= piece.start and s.end <= piece.end]
        touched = [s for s in spans if s.start < piece.end and s.end > piece.start]
        assert inside == touched != []
    for earlier, later in itertools.pairwise(pieces):
        assert earlier.end <= later.start


def test_of_two_places_to_cut_the_longer_silence_is_taken():
    first, second = joined([Span(0, 5), Span(5.1, 8), Span(8.8, 14)], 14)
    assert 8 < first.end < 8.4 < second.start < 8.8


def test_a_gap_that_is_as_loud_as_speech_is_no_place_to_cut():
    spans = [Span(0, 7), Span(7.3, 14)]
    assert len(joined(spans, 14)) == 2
    loud = sound_of([Span(0, 14)], 14)  # the detector missed 0.3 s of a word
    assert join_spans(loud, LOW_RATE, spans, min_seconds=3, max_seconds=12) == []


def test_no_piece_goes_on_across_a_long_pause():
    assert len(joined([Span(0, 4), Span(7, 11)], 11)) == 2


def test_speech_without_a_silence_in_time_is_left_out_and_its_neighbours_kept():
    pieces = joined([Span(0, 4), Span(4.5, 20), Span(20.5, 24.5)], 25)
    assert [round(piece.start) for piece in pieces] == [0, 20]
