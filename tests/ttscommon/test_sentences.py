"""Long texts are cut where a reader would breathe."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ttscommon.sentences import fitted, sentences

WORDS = st.text("ab.,!? \u061f\u060c\u0645", min_size=1, max_size=60).map(
    lambda t: " ".join(t.split())
)


def test_pieces_end_with_sentences_as_long_as_those_fit():
    text = "One is short. Two is short, too. Three is a longer one, with clauses, as you see."
    assert fitted(text, 33, language="en") == [
        "One is short. Two is short, too.",
        "Three is a longer one,",
        "with clauses, as you see.",
    ]


def test_arabic_is_cut_at_its_own_marks():
    text = "كيف حالك اليوم؟ أنا بخير، شكرا لك."
    assert sentences(text, "ar") == ["كيف حالك اليوم؟", "أنا بخير، شكرا لك."]
    assert fitted("أنا بخير، شكرا لك.", 10, language="ar") == ["أنا بخير،", "شكرا لك."]


def test_a_word_that_is_too_long_is_cut_and_a_character_is_not():
    assert fitted("abcdef", 4) == ["abcd", "ef"]
    assert fitted("ab", 1, size=lambda piece: 5 * len(piece)) == ["a", "b"]


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(WORDS, st.integers(1, 20))
def test_nothing_is_lost_and_nothing_is_too_long(text, most):
    pieces = fitted(text, most, language="en")
    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert all(len(piece) <= most for piece in pieces)
