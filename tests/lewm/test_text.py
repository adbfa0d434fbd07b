import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lewm import text
from ttscommon.errors import UserError

HINDI = "नमस्ते दुनिया। यह क्या है? हाँ, यह एक परीक्षा है।"
needs_espeak = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="no espeak-ng command")


@pytest.fixture
def fake_espeak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An espeak-ng that says its text backwards, a line per clause, and counts its calls."""
    script = tmp_path / "espeak-ng"
    script.write_text(
        "#!/bin/sh\n"
        f'echo "$@" >> {tmp_path}/calls\n'
        'case "$*" in *" xx "*) echo "voice does not exist" >&2; exit 1;; esac\n'
        "tr '\\n' ' ' | sed 's/  /\\n/g' | tr ';' '\\n' | rev | sed 's/^/(en)/; s/$/(hi)/'\n",
        encoding="utf-8",
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    text.phonemes.cache_clear()
    return tmp_path / "calls"


def test_bytes_are_shifted_by_one_between_begin_and_end():
    assert text.encode("Aé", "bytes", "en") == [257, 66, 0xC3 + 1, 0xA9 + 1, 258]


def test_hindi_is_read_back_from_its_ids():
    ids = text.encode(HINDI, "bytes", "hi")
    assert bytes(i - 1 for i in ids[1:-1]).decode() == HINDI


@given(st.text())
def test_every_id_is_in_the_vocabulary_and_none_is_padding(words):
    try:
        ids = text.encode(words, "bytes", "en")
    except UserError:
        return
    assert all(text.PAD < i < text.VOCABULARY for i in ids)
    assert [i for i in ids if i > 256] == [text.BOS, text.EOS]


def test_cleaning_composes_letters_and_collapses_space():
    assert text.clean("  cafe\u0301 \n\t au\u00a0lait\u200b\ufeff\x07 ") == "café au lait"


def test_cleaning_keeps_the_joiners_that_shape_letters():
    assert text.clean("क्\u200dष") == "क्\u200dष"


@pytest.mark.parametrize("words", ["", "  \n ", "\u200b\x00"])
def test_an_empty_text_is_refused(words):
    for read in (text.clean, lambda w: text.encode(w, "bytes", "en")):
        with pytest.raises(UserError, match="the text is empty"):
            read(words)


def test_a_text_that_is_not_unicode_is_refused():
    with pytest.raises(UserError, match="valid Unicode"):
        text.clean("a\udc80b")


def test_a_text_over_the_limit_is_refused():
    assert len(text.encode("a" * 1024, "bytes", "en")) == 1026
    with pytest.raises(UserError, match=r"takes 1025 bytes, at most 1024 fit.*split it"):
        text.encode("a" * 1025, "bytes", "en")


@given(st.text(min_size=1), st.integers(4, 60), st.sampled_from(["en", "hi", "en-us", "xx"]))
def test_splitting_never_exceeds_the_limit_and_loses_nothing(words, max_bytes, language):
    try:
        cleaned = text.clean(words)
    except UserError:
        return
    pieces = text.split_text(words, max_bytes, language)
    assert all(0 < len(piece.encode()) <= max_bytes for piece in pieces)
    assert "".join("".join(pieces).split()) == "".join(cleaned.split())


@given(st.lists(st.text("abc.,?'", min_size=1, max_size=9), min_size=1), st.integers(9, 40))
def test_splitting_cuts_no_word_that_fits(words, max_bytes):
    pieces = text.split_text(" ".join(words), max_bytes, "en")
    assert " ".join(pieces).split() == " ".join(words).split()


def test_sentences_stay_whole_where_they_fit():
    assert text.split_text("Dr. Ray left. Did he? Yes.", 40, "en") == [
        "Dr. Ray left.",
        "Did he?",
        "Yes.",
    ]
    assert text.split_text(HINDI, 200, "hi") == [
        "नमस्ते दुनिया।",
        "यह क्या है?",
        "हाँ, यह एक परीक्षा है।",
    ]


def test_sentences_of_a_script_without_spaces_are_cut_too():
    assert text.split_text("你好。再见。", 60, "zh") == ["你好。", "再见。"]


def test_a_long_sentence_is_cut_after_a_clause_before_it_is_cut_between_words():
    sentence = "When the rain had stopped, we walked home, and nobody said a word about it."
    assert text.split_text(sentence, 45, "en") == [
        "When the rain had stopped, we walked home,",
        "and nobody said a word about it.",
    ]
    assert text.split_text("one two three four", 9, "en") == ["one two", "three", "four"]


def test_phonemes_keep_punctuation_and_drop_language_marks(fake_espeak):
    assert text.phonemes("ab, cd. Ef [g]! ...", "en") == "ba, dc. g fE!..."
    assert len(fake_espeak.read_text().splitlines()) == 1


def test_a_clause_that_espeak_cuts_itself_stays_one_clause(fake_espeak):
    assert text.phonemes("ab;cd, ef", "en") == "ba dc, fe"


def test_ipa_is_fed_as_bytes_of_what_espeak_says(fake_espeak):
    assert text.encode("ab", "ipa", "en") == text.encode("ba", "bytes", "en")
    text.encode("ab", "ipa", "en")
    assert len(fake_espeak.read_text().splitlines()) == 1  # remembered


def test_many_texts_say_what_each_alone_says_in_one_call(fake_espeak):
    texts = ["ab, cd.", "ef;gh", "[kl]? mn!", "op"]
    together = text.phonemes_of(texts[:1] + texts[2:], "en")
    assert len(fake_espeak.read_text().splitlines()) == 1
    assert together == [text.phonemes(words, "en") for words in texts[:1] + texts[2:]]
    # The clause that espeak-ng cuts by itself sends each text of its group alone.
    assert text.phonemes_of(texts, "en") == [text.phonemes(words, "en") for words in texts]


@pytest.mark.parametrize("form", ["bytes", "ipa", "marked ipa"])
def test_many_texts_are_encoded_as_each_alone(form, fake_espeak):
    texts = ["ab,  cd.", "ef"]
    assert text.encode_all(texts, form, "en") == [text.encode(t, form, "en") for t in texts]


def test_marked_phonemes_begin_with_what_no_text_has(fake_espeak):
    begin, mark, *rest = text.encode("ab", "marked ipa", "en")
    assert [begin, *rest] == text.encode("ab", "ipa", "en")
    assert mark == text.PHONEMES_FOLLOW
    assert mark not in text.encode("".join(map(chr, range(32, 0x17F))), "bytes", "en")


def test_a_voice_of_two_forms_reads_letters_where_espeak_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert text.form_to_feed("mixed", "auto") == "bytes"
    assert text.form_to_feed("mixed", "phonemes") == "marked ipa"


def test_a_voice_of_two_forms_reads_phonemes_unless_told_otherwise(fake_espeak):
    assert text.form_to_feed("mixed", "auto") == "marked ipa"
    assert text.form_to_feed("mixed", "letters") == "bytes"


@pytest.mark.parametrize(("form", "other"), [("bytes", "phonemes"), ("ipa", "letters")])
def test_a_voice_of_one_form_refuses_the_other(form, other):
    assert text.form_to_feed(form, "auto") == form
    with pytest.raises(UserError, match=r"this voice reads (letters|phonemes) only"):
        text.form_to_feed(form, other)


def test_an_unknown_language_is_one_clear_line(fake_espeak):
    with pytest.raises(UserError, match="failed for language 'xx': voice does not exist"):
        text.encode("ab", "ipa", "xx")


def test_a_missing_espeak_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    text.phonemes.cache_clear()
    with pytest.raises(UserError, match=r"needs the espeak-ng command.*install espeak-ng"):
        text.encode("ab", "ipa", "en")


@needs_espeak
@pytest.mark.parametrize(
    ("words", "language", "said"),
    [("Hello, world.", "en", "həlˈəʊ, wˈɜːld."), ("नमस्ते।", "hi", "nəmʌsteː।")],
)
def test_the_real_espeak_is_understood(words, language, said):
    text.phonemes.cache_clear()
    assert text.phonemes(words, language).replace("ˈ", "") == said.replace("ˈ", "")
