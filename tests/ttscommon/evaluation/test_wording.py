"""Texts as words to compare: numbers alike, disfluencies gone, real words kept."""

from __future__ import annotations

import pytest

from ttscommon.evaluation.wording import (
    count_fillers,
    count_syllables,
    longest_loop,
    normal_words,
    plain_words,
)


def fluent(text: str, language: str = "en") -> str:
    return " ".join(normal_words(text, language, fluent=True))


@pytest.mark.parametrize(
    ("spoken", "smooth"),
    [
        ("Um, I, uhh, think so. Hmmm.", "i think so"),
        ("I was go- going home", "i was going home"),
        ("g-g-going wh-what", "going what"),
        ("I I I was I was going", "i was going"),
        ("b but a apple", "but a apple"),  # "a" is a word
    ],
)
def test_disfluencies_vanish(spoken, smooth):
    assert fluent(spoken) == smooth


@pytest.mark.parametrize("text", ["re-enter pre and post war", "I was going— and then"])
def test_hyphens_and_dashes_of_fluent_text_cost_no_word(text):
    assert fluent(text) == " ".join(normal_words(text, "en"))


def test_a_loop_nobody_says_stays():
    assert fluent("the the the the end") == "the the the the end"


def test_fillers_are_those_of_the_language():
    assert fluent("Er ist äh da", "de") == "er ist da"  # "er" is "he" here
    assert fluent("er he is there", "en-us") == "he is there"
    assert fluent("euh je sais", "fr") == "je sais"
    assert count_fillers("Um, the, uh, album. Ummm!", "en") == 3


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("twenty-one of them", "21 of them"),
        ("two point five", "2.5"),
        ("five dollars", "$5"),
        ("it's 1,200 now", "its twelve hundred now"),
    ],
)
def test_numbers_are_the_same_in_letters_and_digits(a, b):
    assert normal_words(a, "en") == normal_words(b, "en")


def test_characters_are_words_where_there_are_no_spaces():
    assert normal_words("你好, world", "zh") == ["你", "好", "world"]


@pytest.mark.parametrize(
    ("text", "language", "count"),
    [
        ("please enter your password", "en", 6),
        ("молоко", "ru", 3),
        ("नमस्ते", "hi", 3),
        ("你好", "zh", 2),
    ],
)
def test_syllables_are_counted(text, language, count):
    assert count_syllables(text, language) == count


def test_the_longest_loop_is_found_with_its_words():
    words = ["well", *["thank", "you"] * 3, "all"]
    assert longest_loop(words) == (3, ["thank", "you"])
    assert longest_loop(["no", "loop", "here"])[0] == 1


def test_plain_words_keep_the_words():
    assert plain_words("Don't stop; re-enter it.") == "dont stop re enter it"
