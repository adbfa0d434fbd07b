"""A speaker's hesitations, counted in their texts and written into others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indextts.hesitations import Habits
from indextts.pattern_text import stripped
from indextts.sentences import TOLD
from ttscommon.evaluation.disfluency import count_repetitions, find_fillers
from ttscommon.evaluation.wording import plain_words

SAID = [
    "Um, we went to the... house, and uh the the door was open.",
    "It was, er, late... but nobody came.",
    "So I, um, I sat down [PAUSE] and waited.",
    "Nobody was there.",
]


def written(habits: Habits, n_seeds: int = 20) -> list[str]:
    return [habits.written_into(text, "en", seed) for text in TOLD for seed in range(n_seeds)]


@given(st.sampled_from(TOLD), st.integers(0, 2**32 - 1))
def test_what_is_written_in_can_be_taken_out_again(text, seed):
    found = Habits.counted(SAID, "en").written_into(text, "en", seed)
    assert plain_words(stripped(found, "en")) == plain_words(stripped(text, "en"))


def test_there_are_as_many_of_each_kind_as_the_speaker_has():
    said = ["One two um three four... five six six seven eight nine."] * 3
    habits, text = Habits.counted(said, "en"), "Ten two three four five six seven eight nine."
    drawn = [habits.written_into(text, "en", seed) for seed in range(800)]
    n_fillers = sum(len(find_fillers(text, "en")) for text in drawn) / len(drawn)
    n_repeats = sum(count_repetitions(text, "en") for text in drawn) / len(drawn)
    n_rests = sum(text.count("...") for text in drawn) / len(drawn)
    assert (n_fillers, n_repeats, n_rests) == pytest.approx((1, 1, 1), abs=0.15)


def test_fillers_come_where_and_as_the_speaker_has_them():
    said = ["Um, nobody came to the house.", "Um, we sat down and waited."] * 40
    texts = written(Habits.counted(said, "en"), 2)
    assert {one for text in texts for one in find_fillers(text, "en")} == {("um", "initial")}
    assert all(text.startswith("Um, ") for text in texts)


def test_a_seed_writes_the_same_and_another_something_else():
    habits = Habits.counted(SAID, "en")
    assert written(habits, 2) == written(habits, 2)
    assert len({habits.written_into(TOLD[0], "en", seed) for seed in range(20)}) > 5


@pytest.mark.parametrize("said", [[], [""], ["Nobody was there.", "We sat down."]])
def test_of_a_fluent_speaker_nothing_is_written(said):
    habits = Habits.counted(said, "en")
    assert habits.is_fluent
    assert habits.written_into(TOLD[0], "en", 0) == TOLD[0]
