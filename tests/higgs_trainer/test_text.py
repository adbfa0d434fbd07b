"""Texts as the model reads them, in training and when it speaks."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from higgs_trainer.text import TextConfig, has_speech, language_of, n_letters, normalised, words_of

PLAIN = TextConfig()
OTHER = TextConfig(arabic_tatweel="keep", arabic_diacritics="strip", arabic_digits="keep")
ALPHABET = "aZ1.?()[]<>°CFé \n\t\u064e\u0651\u0640\u0627\u0653\u0665\ufefb\ufdfa\ufe77，。“’\u200f"
PIECES = [*ALPHABET, "[laugh]", "[applause]", "[SPEAKER0]", "°C", "ab"]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("Hello  there", "Hello there."),
        ("Hello (you)!", "Hello you !"),
        ("“It’s 20°C”", '"It\'s 20 degrees Celsius"'),
        ("你好，世界。", "你好, 世界."),
        ("Ｆｕｌｌ width！", "Full width!"),
        ("Ha [laugh]", "Ha <SE>[Laughter]</SE>"),
        ("[Sing Start] la la [sing end]", "<SE_s>[Singing]</SE_s> la la <SE_e>[Singing]</SE_e>"),
        ("[SPEAKER0] Hi\n\n  [SPEAKER1]  Ho", "[SPEAKER0] Hi\n[SPEAKER1] Ho."),
        ("a\u200fb\u00adc", "abc."),
        (" \n ", ""),
    ],
)
def test_texts_are_written_as_the_released_program_writes_them(written, read):
    assert normalised(written, PLAIN) == read


def test_a_mark_without_its_end_changes_nothing_the_second_time():
    once = normalised("°C<SE>ﷺ [laugh]", PLAIN)
    assert normalised(once, PLAIN) == once


def test_arabic_is_written_as_the_options_say():
    text = "مرحبـــا، كَيْفَ حالُكَ؟ ٣٥٫٥٪"
    assert normalised(text, PLAIN) == "مرحبا، كَيْفَ حالُكَ؟ 35.5%."
    assert normalised(text, OTHER) == "مرحبـــا، كيف حالك؟ ٣٥٫٥٪."
    assert normalised("هل هذا صحيح؟", PLAIN).endswith("؟")


def test_signs_that_make_another_letter_stay():
    stripped = TextConfig(arabic_diacritics="strip")
    assert normalised("ا\u0653من أُمّ", stripped) == "آمن أم."
    assert normalised("ﻻ ﷲ", stripped) == "لا الله."


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join), st.sampled_from([PLAIN, OTHER]))
def test_what_was_normalised_stays_as_it_is(text, config):
    once = normalised(text, config)
    assert normalised(once, config) == once


def test_the_script_says_the_language():
    assert language_of("كيف حالك OK") == "ar"
    assert language_of("How are you, كيف?") == "en"
    assert language_of("今日は") == "zh"
    assert language_of("नमस्ते") == "other"
    assert language_of("1234") == "en"


def test_what_is_said_is_counted_and_what_is_not_is_not():
    assert n_letters("[SPEAKER0] ab, <SE>[Laughter]</SE> c!") == 3
    assert n_letters("كَيْفَ") == n_letters("كيف") == n_letters("كـيـف") == 3
    assert n_letters("in 7") == 6
    assert words_of("[SPEAKER1] Ha [laugh] ho <SE>[Cough]</SE>.") == "Ha ho ."
    assert has_speech("<SE>[Laughter]</SE>")
    assert not has_speech("... !")
