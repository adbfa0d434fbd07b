"""Pauses as spans of codes: found where they were put in, and only there."""

from __future__ import annotations

import numpy as np
import pytest

from indextts.pattern_frames import (
    FRAME,
    SILENT,
    SPOKEN,
    UNSURE,
    count_frames,
    find_rests,
    runs,
    to_frame,
    to_frames,
    to_seconds,
)
from tests.indextts.planted import count_hits, plant, sample_recordings
from ttscommon.segment import VAD_RATE, Span


def found_in(planted) -> list[Span]:
    return [to_seconds(pause) for pause in find_rests(planted.audio).pauses]


def shares(planted) -> tuple[int, int, int]:
    """Hits, found, planted."""
    found = [found_in(one) for one in planted]
    pairs = zip(found, planted, strict=True)
    hits = sum(count_hits(ours, one.pauses) for ours, one in pairs)
    return hits, sum(map(len, found)), sum(len(one.pauses) for one in planted)


def test_pauses_are_found_where_they_were_put_in():
    hits, n_found, n_planted = shares([plant(path, 3) for path in sample_recordings()[:10]])
    assert n_planted >= 8
    assert hits >= 0.9 * n_found
    assert hits >= 0.9 * n_planted


@pytest.mark.slow
@pytest.mark.parametrize("noise_db", [None, -40.0])
def test_nine_of_ten_pauses_in_recordings_are_found_and_nine_of_ten_found_are_real(noise_db):
    recordings = sample_recordings()
    planted = [plant(path, n, noise_db=noise_db) for n, path in enumerate(recordings)]
    hits, n_found, n_planted = shares(planted)
    assert n_planted >= 30
    assert hits >= 0.9 * n_found
    assert hits >= 0.9 * n_planted


def test_a_span_of_seconds_and_of_codes_are_the_same():
    span = to_seconds((10, 25))
    assert to_frames(span, 100) == (10, 25)
    assert span.duration == pytest.approx(15 * FRAME)
    assert to_frames(Span(0.5, 0.501), 100)[1] - to_frames(Span(0.5, 0.501), 100)[0] == 1
    assert to_frames(Span(5.0, 9.0), 100) == (99, 100)


def test_the_number_of_frames_is_that_of_the_codes():
    from transformers import SeamlessM4TFeatureExtractor

    extractor = SeamlessM4TFeatureExtractor()
    for n_samples in (VAD_RATE, VAD_RATE + 319, 2 * VAD_RATE + 77):
        sound = np.random.default_rng(0).standard_normal(n_samples).astype(np.float32)
        read = extractor(sound, sampling_rate=VAD_RATE, return_tensors="np")
        assert count_frames(n_samples) == int(read["attention_mask"].sum())


def test_silence_before_and_after_is_no_pause():
    speech = plant(sample_recordings()[0], 0).audio
    lone = np.concatenate([np.zeros(VAD_RATE, np.float32), speech, np.zeros(VAD_RATE, np.float32)])
    rests = find_rests(lone)
    assert rests.lead[0] == 0
    assert rests.lead[1] >= to_frame(1.1)
    assert rests.trail[1] == rests.n_frames
    assert all(rests.lead[1] <= first and last <= rests.trail[0] for first, last in rests.pauses)
    assert np.all(rests.kinds[: rests.lead[1]] == SILENT)


def test_what_nobody_speaks_in_is_all_silence():
    rests = find_rests(np.zeros(VAD_RATE, np.float32))
    assert rests.pauses == []
    assert rests.lead == (0, rests.n_frames)
    assert np.all(rests.kinds == SILENT)


def test_breath_in_a_pause_belongs_to_it_but_counts_neither_as_silence_nor_as_speech():
    planted = next(
        one
        for one in (plant(path, 1) for path in sample_recordings())
        if one.pauses and one.pauses[0].duration > 0.9
    )
    pause, sound = planted.pauses[0], planted.audio.copy()
    middle = round((pause.start + pause.end) / 2 * VAD_RATE)
    breath = slice(middle - 1600, middle + 1600)
    sound[breath] += 0.02 * np.random.default_rng(0).standard_normal(3200).astype(np.float32)
    rests = find_rests(sound)
    assert count_hits([to_seconds(one) for one in rests.pauses], [pause]) == 1
    inside = rests.kinds[to_frame(middle / VAD_RATE) - 2 : to_frame(middle / VAD_RATE) + 2]
    assert np.all(inside == UNSURE)


def test_speech_is_neither_silent_nor_unsure_for_the_most_part():
    rests = find_rests(plant(sample_recordings()[1], 0).audio)
    assert np.mean(rests.kinds == SPOKEN) > 0.5


def test_a_known_number_of_codes_is_kept():
    audio = plant(sample_recordings()[2], 0).audio
    for n_frames in (count_frames(len(audio)) - 1, count_frames(len(audio)) + 1):
        rests = find_rests(audio, n_frames=n_frames)
        assert rests.n_frames == len(rests.kinds) == n_frames
        assert rests.trail[1] == n_frames


def test_runs_are_stretches_of_true():
    assert runs(np.array([1, 1, 0, 1, 0, 0, 1], bool)) == [(0, 2), (3, 4), (6, 7)]
    assert runs(np.zeros(3, bool)) == []
