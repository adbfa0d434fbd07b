"""Which clips are held out; through a family's door in tests/indextts/test_utterances.py too."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttscommon.errors import UserError
from ttscommon.holdout import hold_out


@dataclass(frozen=True)
class Piece:
    recording: str
    number: int
    seconds: float


pieces = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.floats(0.5, 20)), min_size=2, max_size=30
).map(lambda rows: [Piece(name, n, seconds) for n, (name, seconds) in enumerate(rows)])


@given(clips=pieces, share=st.floats(0.01, 0.99), seed=st.integers(0, 5))
def test_both_sides_have_clips_in_order_and_share_no_recording(clips, share, seed):
    train, held_out, notes = hold_out(clips, share, seed=seed, size=lambda piece: piece.seconds)
    assert train
    assert held_out
    assert sorted([*train, *held_out], key=lambda piece: piece.number) == clips
    assert [p.number for p in train] == sorted(p.number for p in train)
    if len({piece.recording for piece in clips}) > 1:
        assert not {p.recording for p in train} & {p.recording for p in held_out}
    else:
        assert "one recording" in notes[0]


def test_clip_by_clip_takes_the_last_ones_and_has_nothing_to_say():
    clips = [Piece(name, n, 1.0) for name in "ab" for n in range(10)]
    parted = hold_out(clips, 0.1, seed=1, size=lambda piece: piece.seconds, by="clip")
    assert parted.held_out == clips[-2:]
    assert parted.notes == []


def test_one_long_recording_too_much_is_told_with_what_would_help():
    clips = [Piece(name, n, 1.0) for name in "ab" for n in range(10)]
    parted = hold_out(clips, 0.1, seed=1, size=lambda piece: piece.seconds, other="--by-clip")
    assert parted.notes[0].startswith("50 % of the sound is held out")
    assert "--by-clip would" in parted.notes[0]


def test_a_single_clip_is_refused():
    with pytest.raises(UserError, match="one clip is too little"):
        hold_out([Piece("a", 0, 1.0)], 0.1, seed=1, size=lambda piece: piece.seconds)
