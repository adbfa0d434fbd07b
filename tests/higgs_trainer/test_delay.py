"""Codes become frames and come back as in the original; generated frames end where they should."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from higgs_trainer.config import Streams
from higgs_trainer.delay import IGNORED, cut, delayed, labels_of, undelayed
from tests.higgs_trainer.golden import STREAMS, part, tensors
from ttscommon.errors import UserError


def random_codes(n_codebooks: int, n_steps: int, seed: int = 0) -> torch.Tensor:
    chance = torch.Generator().manual_seed(seed)
    return torch.randint(0, 64, (n_codebooks, n_steps), generator=chance)


@pytest.mark.parametrize("case", range(4))
def test_frames_and_labels_are_the_originals(case):
    golden = part("delay_pattern", f"{case}.")
    codes = golden["codes"]
    streams = Streams(n_codebooks=len(codes), n_codes=64, begin_id=64, end_id=65)
    frames = delayed(codes, streams)
    assert torch.equal(frames.T, golden["delayed"])
    assert torch.equal(labels_of(codes, streams).T, golden["delayed_labels"])
    assert torch.equal(undelayed(frames), golden["reverted"])
    assert torch.equal(undelayed(frames)[:, 1:-1], golden["reverted_trimmed"])
    assert len(frames) == streams.n_frames(codes.shape[1])


@given(st.integers(1, 9), st.integers(0, 12), st.integers(0, 99))
def test_what_is_written_as_frames_is_cut_out_again(n_codebooks, n_steps, seed):
    streams = Streams(n_codebooks=n_codebooks, n_codes=64, begin_id=64, end_id=65)
    codes = random_codes(n_codebooks, n_steps, seed)
    found = cut(delayed(codes, streams), streams)
    assert torch.equal(found.codes, codes)
    assert found.is_sound


@given(st.integers(1, 9), st.integers(1, 12))
def test_each_codebook_has_one_end_among_its_labels(n_codebooks, n_steps):
    streams = Streams(n_codebooks=n_codebooks, n_codes=64, begin_id=64, end_id=65)
    labels = labels_of(random_codes(n_codebooks, n_steps), streams)
    assert (labels == streams.end_id).sum(0).tolist() == [1] * n_codebooks
    assert (labels != IGNORED).sum(0).tolist() == [n_steps + 1] * n_codebooks
    assert not (labels == streams.begin_id).any()


@pytest.mark.parametrize("name", ["plain_tts", "zero_shot_clone"])
def test_native_frames_are_cut_as_the_original_cuts_its_own(name):
    """The native program's own decoding would keep one more step, of garbage."""
    native = tensors(f"generation_native_{name}")["audio_sequence"].T
    original = tensors("generation")[f"{name}.audio_sequence"].T
    theirs = undelayed(original)[:, 1:-1].clamp(0, 63)
    assert torch.equal(cut(native, STREAMS).codes, theirs)
    assert torch.equal(cut(original, STREAMS).codes, theirs)
    all_ends = int((native == 65).all(1).nonzero()[0])
    assert undelayed(native[1:all_ends]).shape[1] == theirs.shape[1] + 1


def test_frames_without_an_end_give_all_that_is_whole():
    frames = delayed(random_codes(8, 20), STREAMS)[:15]
    found = cut(frames, STREAMS)
    assert not found.stopped
    assert torch.equal(found.codes, random_codes(8, 20)[:, :7])
    assert cut(frames[:4], STREAMS).codes.shape == (8, 0)


def test_an_end_in_another_codebook_first_is_told():
    frames = delayed(random_codes(8, 20), STREAMS)
    frames[14, 3] = STREAMS.end_id
    found = cut(frames, STREAMS)
    assert (found.first_row, found.codes.shape[1], found.is_sound) == (3, 10, False)


def test_begins_and_ends_among_the_codes_are_counted():
    frames = delayed(random_codes(8, 6), STREAMS)
    frames[5, 1] = STREAMS.begin_id
    found = cut(frames, STREAMS)
    assert (found.n_strange, int(found.codes.max())) == (1, 63)
    assert not found.is_sound


def test_frames_that_begin_in_the_middle_are_refused():
    with pytest.raises(ValueError, match="begin with"):
        cut(delayed(random_codes(8, 6), STREAMS)[1:], STREAMS)


def test_a_stream_whose_marks_are_codes_is_refused():
    with pytest.raises(UserError, match="codebooks"):
        Streams(n_codebooks=8, n_codes=1026, begin_id=1024, end_id=1025)
