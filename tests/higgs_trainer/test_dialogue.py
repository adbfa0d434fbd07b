"""Who says what, in whose voice, and after what."""

from __future__ import annotations

import pytest
import torch

from higgs_trainer.conversation import Audio, request
from higgs_trainer.dialogue import Line, Said, asked, lines_of, pieces_of, references_of
from higgs_trainer.text import TextConfig
from ttscommon.errors import UserError

PLAIN = TextConfig()
CODES = torch.zeros(8, 3, dtype=torch.long)
PROMPT = {"system": "Speak.", "scene": "A room."}


def said(text: str, speaker: int | None = None) -> Said:
    return Said(Line(text, speaker), CODES)


def test_a_text_without_names_is_one_line():
    assert lines_of(" Hello  there", PLAIN) == [Line("Hello there.")]


def test_speakers_take_turns():
    found = lines_of("[SPEAKER0] Tea (hot)?\n[SPEAKER1] No\n more [SPEAKER0] Fine", PLAIN)
    assert found == [Line("Tea hot ?", 0), Line("No\nmore.", 1), Line("Fine.", 0)]
    assert [line.tagged for line in found][1] == "[SPEAKER1] No\nmore."


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("...", "nothing to say in the text"),
        ("[SPEAKER0] Hi. [SPEAKER1] [SPEAKER0] Ho.", r"nothing to say in a turn of \[SPEAKER1\]"),
        ("Well. [SPEAKER0] Hi.", "nobody is named"),
        ("Hi <|AUDIO|>", "belongs to the structure"),
    ],
)
def test_what_cannot_be_said_is_refused(text, what):
    with pytest.raises(UserError, match=what):
        lines_of(text, PLAIN)


def test_a_long_turn_stays_its_speakers():
    pieces = pieces_of([Line("One two. Three four.", 1)], 10, size=len, language="en")
    assert pieces == [Line("One two.", 1), Line("Three", 1), Line("four.", 1)]


def test_references_go_to_speakers_in_order():
    lines = [Line("Hi.", 1), Line("Ho.", 0)]
    found = references_of(lines, [("I am A.", CODES), ("I am B.", CODES)])
    assert [one.line for one in found] == [Line("I am A.", 0), Line("I am B.", 1)]
    assert references_of([Line("Hi.")], [("I am A.", CODES)])[0].line == Line("I am A.")
    with pytest.raises(UserError, match="doesn't say who speaks"):
        references_of([Line("Hi.")], [("I am A.", CODES), ("I am B.", CODES)])
    with pytest.raises(UserError, match=r"for \[SPEAKER1\], who says nothing"):
        references_of([Line("Hi.", 0)], [("I am A.", CODES), ("I am B.", CODES)])


def test_one_line_after_a_reference_is_asked_for_as_in_training():
    conversation, codes = asked(Line("Hi."), [], [said("I am A.")], n_before=1, **PROMPT)
    assert conversation == request("Hi.", references=[("I am A.", Audio())], **PROMPT)
    assert len(codes) == 1


def test_a_dialogue_hears_its_references_and_what_was_said_last():
    before = [said("One.", 0), said("Two.", 1), said("Three.", 0)]
    references = [said("A.", 0), said("B.", 1)]
    conversation, codes = asked(
        Line("Four.", 1), before, references, n_before=1, speakers=(0, 1), **PROMPT
    )
    texts = [turn.text for turn in conversation.turns if turn.role == "user"]
    assert texts == ["[SPEAKER0] A.", "[SPEAKER1] B.", "[SPEAKER0] Three.", "[SPEAKER1] Four."]
    assert len(codes) == len(conversation.audios) == 3
    assert "SPEAKER0:" not in conversation.turns[0].text


def test_without_references_first_lines_keep_the_voices():
    before = [said("One.", 0), said("Two.", 1), said("Three.", 0), said("Four.", 1)]
    conversation, _ = asked(Line("Five.", 0), before, [], n_before=1, speakers=(0, 1), **PROMPT)
    texts = [turn.text for turn in conversation.turns if turn.role == "user"]
    assert texts == ["[SPEAKER0] One.", "[SPEAKER1] Two.", "[SPEAKER1] Four.", "[SPEAKER0] Five."]
    scene = conversation.turns[0].text
    assert "A room.\n\nSPEAKER0: feminine\nSPEAKER1: masculine" in scene
