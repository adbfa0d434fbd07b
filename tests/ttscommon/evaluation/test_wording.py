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


@pytest.mark.parametrize(
    ("spoken", "smooth"),
    [
        ("w-want", "want"),
        ("wh-what", "what"),
        ("Str-street", "street"),
        ("i-it", "it"),
        ("be-be-because", "because"),
        ("t-t-shirt", "t shirt"),
        ("I-I-I was", "i was"),
        ("и в-в-время", "и время"),
    ],
)
def test_a_beginning_said_in_vain_vanishes_from_its_word(spoken, smooth):
    assert fluent(spoken, "ru" if "и" in spoken else "en") == smooth


@pytest.mark.parametrize(
    "text",
    [
        "re-enter pre and post war",
        "I was going— and then",
        "no-nonsense people",
        "an off-office hour",
        "a be-bed and co-conspirators",
        "re-read pages 1-15",
    ],
)
def test_hyphens_and_dashes_of_fluent_text_cost_no_word(text):
    assert fluent(text) == " ".join(normal_words(text, "en"))


def test_a_loop_nobody_says_stays():
    assert fluent("the the the the end") == "the the the the end"


def test_fillers_are_those_of_the_language():
    assert fluent("Er ist äh da", "de") == "er ist da"  # "er" is "he" here
    assert fluent("er he is there", "en-us") == "he is there"
    assert fluent("euh je sais", "fr") == "je sais"
    assert count_fillers("Um, the, uh, album. Ummm!", "en") == 3


@pytest.mark.parametrize("language", ["en", "fr", "de", "ru"])
def test_a_letter_alone_is_a_unit_or_an_initial_and_no_sound(language):
    letter = "м" if language == "ru" else "m"
    assert fluent(f"6 {letter} da", language) == f"6 {letter} da"
    assert count_fillers(f"{letter}. Smith, {letter * 3}, {letter * 2}", language) == 2
    assert fluent("Э, да", "ru") == "да"


@pytest.mark.parametrize(("word", "language"), [("mm", "en"), ("MM", "de"), ("мм", "ru")])
def test_a_unit_behind_a_number_is_no_sound(word, language):
    assert count_fillers(f"5 {word} da, 2.5 {word}", language) == 0
    assert fluent(f"da 5 {word} da", language) == f"da 5 {word.lower()} da"
    assert count_fillers(f"5, {word}, {word}", language) == 1
    assert fluent(f"da {word} da da", language) == "da"


@pytest.mark.parametrize(
    ("a", "b", "language"),
    [
        ("A B C", "ABC", "en"),
        ("press A.B.C. now", "press ABC now", "en"),
        ("A.I. helps", "AI helps", "en"),
        ("the F B I agent", "the FBI agent", "en"),
        ("A-B-C", "ABC", "en"),
        ("call 9 1 1", "call 911", "en"),
        ("call 9-1-1", "call nine one one", "en"),
        ("der B M W", "der BMW", "de"),
        ("le 1 1 2", "le 112", "fr"),
        ("www dot", "w w w dot", "en"),
    ],
)
def test_what_is_spelt_is_the_word_that_it_spells(a, b, language):
    for is_fluent in (False, True):
        found = [normal_words(text, language, fluent=is_fluent) for text in (a, b)]
        assert found[0] == found[1]


@pytest.mark.parametrize(
    ("text", "language", "plain"),
    [
        ("I I was", "en", "i i was"),  # said again
        ("sole e i bambini", "it", "sole e i bambini"),  # words of one letter
        ("b b b b b", "en", "b b b b b"),  # a loop
        ("plan b of 3", "en", "plan b of 3"),
        ("Plan B, I think", "en", "plan b i think"),
        ("Plan B. I think", "en", "plan b i think"),
        ("plan b i think", "en", "plan b i think"),
        ("So did I. A man", "en", "so did i a man"),
        ("A U.S. pass", "en", "a us pass"),
        ("A.I. I say", "en", "ai i say"),
        ("vitamins B, C; D", "en", "vitamins b c d"),
        ("B, C und D", "de", "b c und d"),
        ("I-I was", "en", "i i was"),
    ],
)
def test_words_of_one_letter_and_loops_spell_nothing(text, language, plain):
    assert normal_words(text, language) == plain.split()


def test_a_stutter_before_a_word_spells_nothing():
    assert fluent("I w want to") == "i want to"
    assert fluent("I I was") == "i was"


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
