"""Silence codes: those that were planted, and no others."""

from __future__ import annotations

import numpy as np
import pytest

from indextts.pattern_frames import SILENT, SPOKEN, UNSURE, find_rests
from indextts.silence_codes import learn_silence_codes
from tests.indextts.planted import plant, sample_recordings
from ttscommon.errors import UserError

N_CODES = 320
PLANTED = (3, 17, 52, 99, 140, 141, 200, 255, 310)


def encoded(kinds: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Codes as a codec might give them: an eighth of silence and 3 in 1000 of speech go wrong."""
    silence = np.array(PLANTED)
    speech = np.setdiff1d(np.arange(N_CODES), silence)
    wrong = rng.random(len(kinds)) < np.where(kinds == SILENT, 0.125, 0.003)
    is_silent = (kinds == SILENT) ^ wrong
    return np.where(is_silent, rng.choice(silence, len(kinds)), rng.choice(speech, len(kinds)))


def true_kinds(planted, n_frames: int) -> np.ndarray:
    """By the places where silence was put in, not by the extractor."""
    from indextts.pattern_frames import to_frames

    kinds = np.full(n_frames, SPOKEN, np.int8)
    for span in planted.pauses:
        kinds[slice(*to_frames(span, n_frames))] = SILENT
    kinds[:9] = SILENT
    kinds[n_frames - 14 :] = SILENT
    return kinds


def test_planted_codes_are_recovered_from_recordings():
    rng, clips = np.random.default_rng(0), []
    for number, path in enumerate(sample_recordings()[:12]):
        planted = plant(path, number)
        rests = find_rests(planted.audio)
        clips.append((encoded(true_kinds(planted, rests.n_frames), rng), rests.kinds))
    learned = learn_silence_codes(clips)
    assert learned.codes == PLANTED
    assert learned.coverage > 0.8
    assert learned.leakage < 0.02


def test_a_code_that_is_mostly_speech_or_too_rare_is_none():
    codes = np.array([7] * 10 + [8] * 10 + [9] * 4)
    kinds = np.array([SILENT] * 10 + [SILENT] * 7 + [SPOKEN] * 3 + [SILENT] * 4)
    learned = learn_silence_codes([(codes, kinds)])
    assert learned.codes == (7,)
    assert learned.share == {7: 1.0, 8: 0.7, 9: 1.0}
    assert learned.counts == {7: 10, 8: 10, 9: 4}
    assert learn_silence_codes([(codes, kinds)], share=0.7, fewest=4).codes == (7, 8, 9)


def test_frames_that_may_be_either_count_for_nothing():
    codes, kinds = np.full(20, 7), np.array([SILENT] * 6 + [UNSURE] * 14)
    learned = learn_silence_codes([(codes, kinds)])
    assert learned.codes == (7,)
    assert learned.counts == {7: 6}


def test_speech_without_silence_has_no_silence_codes():
    learned = learn_silence_codes([(np.arange(50), np.full(50, SPOKEN))])
    assert learned.codes == ()
    assert (learned.n_silent, learned.coverage) == (0, 0.0)
    assert learned.to_dict()["share"] == {}


@pytest.mark.parametrize(("share", "fewest"), [(0.4, 5), (1.2, 5), (0.8, 0), (float("nan"), 5)])
def test_senseless_limits_are_refused(share, fewest):
    with pytest.raises(UserError):
        learn_silence_codes([], share=share, fewest=fewest)


def test_codes_and_frames_of_different_length_are_a_mistake_of_ours():
    with pytest.raises(ValueError, match="3 codes for 4 frames"):
        learn_silence_codes([(np.zeros(3), np.zeros(4))])
