"""Pauses are put between the words they stand between, whatever a recogniser makes of the words."""

from __future__ import annotations

from ttscommon.evaluation.placement import CONTEXTS, agreement, find_places
from ttscommon.segment import Span
from ttscommon.transcribe import Word

TEXT = "Well, I stayed home because it rained. Nobody came."


def heard(*words: str, pauses: dict[int, float] | None = None) -> list[Word]:
    """Words of 0.3 s without gaps, but for the pauses after some of them."""
    found, now = [], 0.0
    for number, word in enumerate(words):
        found.append(Word(word, now, now + 0.3))
        now += 0.3 + (pauses or {}).get(number, 0.0)
    return found


def gap(words: list[Word], after: int) -> Span:
    return Span(words[after].end, words[after + 1].start)


def test_every_boundary_has_its_context():
    words = heard(*TEXT.split())
    places = find_places(TEXT, words, [], "en")
    assert [places[i].context for i in range(8)] == [
        "comma", "other word", "other word", "clause", "function word", "other word",
        "sentence end", "other word",
    ]  # fmt: skip
    assert {place.context for place in places.values()} == set(CONTEXTS)
    assert find_places(TEXT, words, [], "fi")[3].context == "other word"  # no list of words


def test_a_pause_stands_between_its_words():
    words = heard(*TEXT.split(), pauses={0: 0.5, 6: 1.0})
    places = find_places(TEXT, words, [gap(words, 0), gap(words, 6)], "en")
    assert [i for i, place in places.items() if place.is_pause] == [0, 6]


def test_a_pause_that_the_recogniser_counted_to_the_next_word_is_found_all_the_same():
    words = heard("one", "two", "three", pauses={0: 0.6})
    late = [words[0], Word("two", words[0].end, words[1].end), words[2]]
    places = find_places("one two three", late, [gap(words, 0)], "en")
    assert [i for i, place in places.items() if place.is_pause] == [0]


def test_words_that_were_not_heard_have_no_place_and_wrong_ones_do():
    words = heard("Well", "I", "strayed", "home", "because", "rained", "nobody", "uh", "came")
    places = find_places(TEXT, words, [], "en")
    assert sorted(places) == [0, 1, 2, 3, 6, 7]
    assert find_places(TEXT, [], [Span(1, 2)], "en") == {}
    assert find_places("", words, [], "en") == {}


def test_agreement_counts_pauses_that_both_have():
    words = heard(*TEXT.split(), pauses={0: 0.5, 3: 0.5, 6: 0.5})
    ours = find_places(TEXT, words, [gap(words, 0), gap(words, 6)], "en")
    theirs = find_places(TEXT, words, [gap(words, 3), gap(words, 6)], "en")
    assert agreement(ours, theirs) == (2.0, 4.0)  # F1 = 2 * 1 / (2 + 2)
    assert agreement({}, theirs) == (0.0, 0.0)


def test_a_pause_far_from_any_boundary_belongs_to_none():
    words = heard("one", "two", "three")
    places = find_places("one two three", words, [Span(5.0, 6.0)], "en")
    assert len(places) == 2
    assert not any(place.is_pause for place in places.values())
