"""Fillers and repetitions of verbatim texts, counted by hand."""

from __future__ import annotations

import pytest

from ttscommon.evaluation.disfluency import count_repetitions, find_fillers


@pytest.mark.parametrize(
    ("heard", "count"),
    [
        ("I was going home.", 0),
        ("I, I was going", 1),
        ("I was I was going", 1),  # one phrase, not two words
        ("I I I was", 2),
        ("go- going w-w-what", 3),
        ("go- no", 0),  # given up, not said again
        ("the um the end", 1),
        ("um um uh", 0),  # fillers are no repetition
        ("the the the the end", 0),  # a loop, which is a fault
        ("re-enter the pre-war house", 0),
        ("no-nonsense co-conspirators re-read it", 0),
        ("be-be-because w-w-want", 4),
        ("I-I was", 1),
    ],
)
def test_repetitions_are_those_counted_by_hand(heard, count):
    assert count_repetitions(heard, "en") == count


def test_what_the_text_itself_repeats_does_not_count():
    assert count_repetitions("He had had it it", "en", intended="He had had it.") == 1
    assert count_repetitions("He had had had it", "en", intended="He had had it.") == 1


def test_repetitions_are_heard_in_scripts_without_spaces():
    assert count_repetitions("我我想", "zh") == 1


def test_fillers_have_a_sound_and_a_place():
    assert find_fillers("Ummm, I, uh, think so, er.", "en") == [
        ("um", "initial"),
        ("uh", "medial"),
        ("er", "final"),
    ]
    assert find_fillers("Uh, um.", "en") == [("uh", "initial"), ("um", "initial")]
    assert find_fillers("嗯我呃想", "zh") == [("嗯", "initial"), ("呃", "medial")]
    assert find_fillers("All fluent.", "en") == []
    assert find_fillers("A 5 mm screw.", "en") == []
    assert count_repetitions("5 mm 5 mm wide", "en") == 1  # "mm" is a word of the phrase
