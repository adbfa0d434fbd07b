"""Fillers, stutters, drawn-out words and pace, from words with times."""

from __future__ import annotations

import pytest

from indextts.pattern_words import find_fillers, find_stutters, speech_rate
from ttscommon.segment import Span
from ttscommon.transcribe import Word


def said(text: str, seconds: float = 0.4, gap: float = 0.0) -> list[Word]:
    """One word after the other; "going:1.5" lasts 1.5 s, "_:0.5" is nothing for 0.5 s."""
    words, here = [], 0.0
    for token in text.split():
        word, _, length = token.partition(":")
        end = here + float(length or seconds)
        if word != "_":
            words.append(Word(word, round(here, 3), round(end, 3)))
        here = end + gap
    return words


def starts(spans: list[Span]) -> list[float]:
    return [span.start for span in spans]


def test_hesitation_sounds_are_found_with_their_times():
    words = said("So, um, I uhh went")
    assert find_fillers(words, "So, um, I uhh went", "en") == [
        ("um", Span(0.4, 0.8)),
        ("uhh", Span(1.2, 1.6)),
    ]


def test_a_filler_that_only_the_text_has_is_put_into_the_gap_between_its_neighbours():
    words = said("I _:0.5 went there")
    assert find_fillers(words, "I um went there", "en") == [("um", Span(0.4, 0.9))]
    assert find_fillers(said("I went there"), "I um went there", "en") == []  # no room for it


def test_words_that_are_no_fillers_are_none():
    assert find_fillers(said("well like you know"), "well like you know", "en") == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I I went", [0.0]),
        ("the th-the cat", [0.4]),
        ("go- going home", [0.0]),
        ("b but no", [0.0]),
        ("I want I want it", [0.0]),
        ("I um I went", [0.0]),
        ("no no no way", [0.0, 0.4]),
        ("we re-enter the room", []),
        ("a cat and a dog", []),
        ("um um well", []),
        ("", []),
    ],
)
def test_false_starts_and_repeats_are_stutters(text, expected):
    assert starts(find_stutters(said(text), "en")) == expected


def test_a_repeated_phrase_is_one_span_as_long_as_the_phrase():
    assert find_stutters(said("I want I want it"), "en") == [Span(0.0, 0.8)]


def test_the_pace_counts_syllables_over_speech_and_not_over_pauses():
    words = said("cat cat cat cat cat", 0.2)  # 1 s
    assert speech_rate(words, [Span(0.0, 1.0)], 1.0, "en") == [pytest.approx(5.0)]
    late = [Word(w.word, w.start + 0.5, w.end + 0.5) for w in words]
    rates = speech_rate(late, [Span(0.5, 1.5)], 2.0, "en")
    assert rates == [pytest.approx(5.0)] * 3
    assert speech_rate(words, [Span(0.0, 1.0)], 3.0, "en")[-1] == 0.0
