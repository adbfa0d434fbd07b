"""Words that are drawn out, against the speaker's other words."""

from __future__ import annotations

from ttscommon.evaluation.paces import Paces
from ttscommon.transcribe import Word


def said(text: str, seconds: float) -> list[Word]:
    """Every word takes as long."""
    return [Word(one, i * seconds, (i + 1) * seconds) for i, one in enumerate(text.split())]


def test_a_word_is_drawn_out_if_the_speaker_s_other_words_are_not():
    paces = Paces.of([said("the cat sat on a mat", 0.3 + 0.01 * n) for n in range(6)], "en")
    assert paces.is_drawn_out(Word("cat", 0.0, 1.2), "en")
    assert not paces.is_drawn_out(Word("cat", 0.0, 0.36), "en")
    assert not paces.is_drawn_out(Word("um", 0.0, 1.2), "en")


def test_too_few_words_tell_nothing_about_a_speaker_s_pace():
    paces = Paces.of([said("the cat", 0.2)], "en")
    assert not paces.is_drawn_out(Word("cat", 0.0, 9.0), "en")
