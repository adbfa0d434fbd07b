"""Marks of hesitation: written out for the model, or taken away."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indextts.pattern_text import is_stripped, readable, stripped

WORDS = "I um Uh, [UH] [PAUSE] [LONG] ... … went went go- going th-the home. you? [BREATH] no"
TEXTS = st.lists(st.sampled_from(["[pause:0.5]", "wait..", *WORDS.split()])).map(" ".join)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Um, so I [UH] went [PAUSE] home.", "Um, so I uh went... home."),
        ("hello, [PAUSE] world. [LONG] Next one", "hello... world. Next one"),
        ("Well... [PAUSE] ok", "Well... ok"),
        ("wait.. what", "wait... what"),
        ("[LONG] So", "So"),
        ("no marks here, really", "no marks here, really"),
        ("It costs 3.50 [BREATH] now", "It costs 3.50 now"),
        ("[pause:0.8] hi", "[pause:0.8] hi"),
        ("", ""),
    ],
)
def test_marks_become_what_one_would_write(text, expected):
    assert readable(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Um, so I [UH] went [PAUSE] home.", "So I went home."),
        ("I, um, think th-the go- going home...", "I think the going home."),
        ("I I went um.", "I went."),
        ("So I want I want it. It. no [PAUSE]", "So I want it. It. no."),
        ("Life finds a way... you know?", "Life finds a way you know?"),
        ("We were... Then it rained", "We were. Then it rained"),
        ("we re-enter", "we re-enter"),
        ("wait.. [pause:0.5] [pause:0.5] wait.. [pause:0.5]", "wait [pause:0.5]"),
        ("um...", "um..."),  # nothing else is said
    ],
)
def test_a_stripped_text_is_what_a_fluent_speaker_would_read(text, expected):
    assert stripped(text, "en") == expected


def test_other_languages_have_their_own_sounds():
    assert stripped("Ich ähm weiß es nicht.", "de") == "Ich weiß es nicht."
    assert stripped("Er war da.", "de") == "Er war da."
    assert stripped("A 5 mm screw.", "en") == "A 5 mm screw."


@given(TEXTS)
def test_both_are_at_rest(text):
    assert readable(readable(text)) == readable(text)
    once = stripped(text, "en")
    assert stripped(once, "en") == once


@given(TEXTS)
def test_marks_and_plain_text_strip_to_the_same(text):
    assert stripped(readable(text), "en") == stripped(text, "en")


def test_a_share_of_clips_is_stripped_and_always_the_same_ones():
    names = [f"clip_{number}" for number in range(1000)]
    chosen = [name for name in names if is_stripped(name, share=0.3, seed=1)]
    assert 250 < len(chosen) < 350
    assert chosen == [name for name in names if is_stripped(name, share=0.3, seed=1)]
    assert set(chosen) <= {name for name in names if is_stripped(name, share=0.5, seed=1)}
    assert not any(is_stripped(name, share=0.0, seed=1) for name in names)
    assert all(is_stripped(name, share=1.0, seed=1) for name in names)
