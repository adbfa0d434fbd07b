"""Words, silences and hesitations become a text with marks, and numbers."""

from __future__ import annotations

import pytest

from ttscommon.clip_config import VerbatimConfig
from ttscommon.errors import UserError
from ttscommon.segment import Span
from ttscommon.spoken import Heard, filler_mark, understand, unmarked
from ttscommon.transcribe import Word


def heard(
    *words: tuple[str, float, float], speech: list[tuple[float, float]], duration: float = 5.0
) -> Heard:
    return Heard([Word(*word) for word in words], speech, duration)


TALK = heard(
    ("Um,", 0.5, 0.9),
    ("well,", 1.0, 2.0),  # the pause from 1.4 on is given to it, as recognisers do
    ("yes.", 2.0, 2.4),
    ("Uh...", 3.4, 3.6),
    ("no!", 3.6, 4.0),
    speech=[(0.5, 1.4), (2.0, 2.4), (3.4, 4.0)],
)


def test_marks_stand_where_nobody_speaks_and_fillers_are_named():
    said = understand(TALK, VerbatimConfig(), "en")
    assert said.text == "Um, well, yes. Uh... no!"
    assert said.verbatim == "[UM], well, [PAUSE] yes. [LONG] [UH]... no!"
    assert said.fillers == {"[UH]": 1, "[UM]": 1}
    assert (len(said.pauses), said.n_long_pauses) == (2, 1)


def test_marks_come_into_the_text_only_on_request():
    said = understand(TALK, VerbatimConfig(marked_text=True), "en")
    assert said.text == said.verbatim


def test_fillers_stay_words_on_request_and_are_counted_all_the_same():
    said = understand(TALK, VerbatimConfig(fillers=False), "en")
    assert said.verbatim == "Um, well, [PAUSE] yes. [LONG] Uh... no!"
    assert sum(said.fillers.values()) == 2


def test_silence_before_the_first_and_after_the_last_word_is_no_pause():
    said = understand(TALK, VerbatimConfig(), "en")
    assert said.lead == pytest.approx(0.5)
    assert said.trail == pytest.approx(1.0)
    assert all(0.5 < pause.start < 4.0 for pause in said.pauses)


def test_a_pause_is_taken_off_the_word_it_was_given_to():
    said = understand(TALK, VerbatimConfig(), "en")
    assert (said.words[1].start, said.words[1].end) == (1.0, 1.4)
    late = heard(("one", 0.0, 0.5), ("two", 0.5, 2.0), speech=[(0.0, 0.6), (1.5, 2.0)])
    assert understand(late, VerbatimConfig(), "en").words[1] == Word("two", 1.5, 2.0)
    for word in said.words:
        assert not any(p.start < (word.start + word.end) / 2 < p.end for p in said.pauses)


def test_only_gaps_that_a_voice_detector_confirms_are_pauses():
    said = understand(
        heard(("one", 0.0, 0.5), ("two", 1.5, 2.0), speech=[(0.0, 2.0)]), VerbatimConfig(), "en"
    )
    assert said.pauses == []
    assert said.verbatim == "one two"


def test_thresholds_decide_what_counts():
    config = VerbatimConfig(min_pause=0.8, long_pause=2.0)
    said = understand(TALK, config, "en")
    assert said.pauses == [Span(2.4, 3.4)]
    assert said.verbatim == "[UM], well, yes. [PAUSE] [UH]... no!"


def test_a_pause_before_the_first_word_that_was_heard_comes_first():
    missed = heard(("yes", 2.0, 2.4), speech=[(0.0, 0.5), (2.0, 2.4)])
    assert understand(missed, VerbatimConfig(), "en").verbatim == "[LONG] yes"


@pytest.mark.parametrize(
    ("word", "language", "mark"),
    [
        ("Uh,", "en", "[UH]"),
        ("ummm...", "en", "[UM]"),
        ("Hmm?", "en", "[HMM]"),
        ("mm-hmm", "en", "[HMM]"),
        ("Er", "en", "[ER]"),
        ("Ah!", "en", "[AH]"),
        ("Ähm,", "de", "[UM]"),
        ("äh", "de", "[UH]"),
        ("um", "de", None),
        ("er", "de", None),
        ("Errand", "en", None),
        ("...", "en", None),
        ("嗯", "zh", "[UM]"),
    ],
)
def test_hesitations_are_told_by_language_and_not_by_punctuation(word, language, mark):
    assert filler_mark(word, language) == mark


def test_a_unit_behind_a_number_has_no_mark():
    assert filler_mark(" mm", "en") == "[HMM]"
    assert filler_mark(" mm", "en", before=" 5") is None


def test_scripts_without_spaces_stay_without():
    words = [Word("你", 0.0, 0.2, True), Word("好", 0.2, 0.4, True), Word("。", 0.4, 0.4, True)]
    said = understand(Heard(words, [(0.0, 0.4)], 0.5), VerbatimConfig(), "zh")
    assert said.text == "你好。"


def test_what_was_heard_survives_being_kept():
    assert Heard.from_dict(TALK.to_dict()) == TALK


@pytest.mark.parametrize("thresholds", [(0.05, 0.7), (0.8, 0.7)])
def test_thresholds_that_make_no_sense_are_refused(thresholds):
    with pytest.raises(UserError, match="min_pause"):
        VerbatimConfig(min_pause=thresholds[0], long_pause=thresholds[1])


def test_a_text_without_its_marks_holds_the_words():
    assert unmarked("So [PAUSE] we [UM], go [LONG] home. [sic]") == "So we um, go home. [sic]"
