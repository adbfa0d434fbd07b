"""What was heard in a clip, word by word, with the pauses and fillers between."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ttscommon.clip_config import VerbatimConfig
from ttscommon.evaluation.pauses import find_pauses
from ttscommon.evaluation.wording import is_filler, plain_words
from ttscommon.segment import Span
from ttscommon.transcribe import Word, sentence

PAUSE, LONG = "[PAUSE]", "[LONG]"
# Whisper writes fluent sentences unless what seems to have come before isn't fluent either. One
# beginning in each language, of that language's own hesitation sounds.
# Measured in English with the base model: after a full stop it adds words at the end of one clip in
# eight ("you"), and "... er, that" takes a first "That" away. This one only costs first capitals.
PROMPTS = {
    "de": "Ähm, also, äh, ich- ich wollte, hm, etwas sagen, äh,",
    "en": "Um, so, uh, I- I wanted to, hmm, say something, er,",
    "es": "Em, bueno, eh, yo- yo quería, mmm, decir algo, eh,",
    "fr": "Hum, alors, euh, je- je voulais, hum, dire quelque chose, euh,",
    "hi": "उम, तो, अं, मैं- मैं, हम्म, कुछ कहना चाहता था, अं,",
    "it": "Ehm, allora, eh, io- io volevo, mmm, dire qualcosa, ehm,",
    "pt": "Hum, então, ahn, eu- eu queria, hum, dizer uma coisa, ahn,",
    "ru": "Эм, ну, э-э, я- я хотел, хм, что-то сказать, э-э,",
    "zh": "嗯，那个，呃，我、我想，嗯，说点什么，呃，",
}
MARK = re.compile(r"\[(PAUSE|LONG|UH|UM|HMM|AH|ER)\]")
NASAL_ENDS = "mnмнम嗯"


def hesitant_beginning(language: str) -> str:
    """What to tell Whisper that came before, so that it writes hesitations down; "" if unknown."""
    return PROMPTS.get(language.partition("-")[0].lower(), "")


@dataclass(frozen=True)
class Heard:
    """What a recogniser and a voice detector found in a clip, before any threshold.

    Attributes:
        speech: (start, end) of the stretches of speech, in seconds
    """

    words: list[Word]
    speech: list[tuple[float, float]]
    duration: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Heard:
        words = [Word(**word) for word in data["words"]]
        return cls(words, [tuple(pair) for pair in data["speech"]], data["duration"])


@dataclass(frozen=True)
class Utterance:
    """A clip as it was spoken.

    Attributes:
        pauses: silences between words
        lead, trail: seconds before the first and after the last word
        fillers: {mark: how often}
        verbatim: the text with marks
    """

    text: str
    verbatim: str
    words: list[Word]
    pauses: list[Span]
    n_long_pauses: int
    lead: float
    trail: float
    fillers: dict[str, int]


def understand(heard: Heard, config: VerbatimConfig, language: str) -> Utterance:
    """Put pauses between words, and marks into the text."""
    speech = [Span(start, end) for start, end in heard.speech]
    pauses = find_pauses(speech, config.min_pause)
    words = _outside(heard.words, pauses)
    after = {_word_before(pause, words): pause for pause in pauses}
    fillers: dict[str, int] = {}
    pieces = [_mark(after[-1], config)] if -1 in after else []
    for number, word in enumerate(words):
        before = words[number - 1].word if number else ""
        mark = filler_mark(word.word, language, before=before)
        if mark is not None:
            fillers[mark] = fillers.get(mark, 0) + 1
        shown = _in_place(word.word, mark) if mark and config.fillers else word.word
        pieces.append(("" if word.is_glued else " ") + shown)
        if number in after:
            pieces.append(" " + _mark(after[number], config))
    verbatim = "".join(pieces).strip()
    return Utterance(
        text=verbatim if config.marked_text else sentence(words),
        verbatim=verbatim,
        words=words,
        pauses=pauses,
        n_long_pauses=sum(pause.duration >= config.long_pause for pause in pauses),
        lead=speech[0].start if speech else heard.duration,
        trail=max(0.0, heard.duration - speech[-1].end) if speech else 0.0,
        fillers=dict(sorted(fillers.items())),
    )


def filler_mark(word: str, language: str, *, before: str = "") -> str | None:
    """[UH], [UM], [HMM], [AH] or [ER] for a hesitation sound, punctuation aside; else None."""
    bare = plain_words(word).replace(" ", "")
    if not bare or not is_filler(bare, language, before=plain_words(before)):
        return None
    if set(bare) <= set("hm") or bare in ("hum", "гм", "хм"):
        return "[HMM]"
    if bare.startswith("er"):
        return "[ER]"
    if bare.rstrip("ं्")[-1:] in NASAL_ENDS or bare[-1] in NASAL_ENDS:
        return "[UM]"
    return "[AH]" if bare.startswith("a") else "[UH]"


def unmarked(text: str) -> str:
    """The words of a text with marks: those of pauses vanish, [UM] is "um"."""
    plain = MARK.sub(lambda m: "" if m[0] in (PAUSE, LONG) else m[1].lower(), text)
    return " ".join(plain.split())


def _mark(pause: Span, config: VerbatimConfig) -> str:
    return LONG if pause.duration >= config.long_pause else PAUSE


def _in_place(word: str, mark: str) -> str:
    """The mark with the word's punctuation after it."""
    end = len(word.rstrip(".,;:!?…-—–\"')»”’。，、！？"))
    return mark + word[end:].replace("-", "").replace("…", "")


def _outside(words: Sequence[Word], pauses: Sequence[Span]) -> list[Word]:
    """The words with the pauses taken off them, which recognisers give to a neighbour."""
    found = []
    for word in words:
        start, end = word.start, word.end
        for pause in pauses:
            if start < pause.start < end < pause.end or (start < pause.start and end >= pause.end):
                inside = _longer_side(start, end, pause)
                start, end = inside
            elif pause.start <= start < pause.end < end:
                start = pause.end
        found.append(Word(word.word, round(start, 3), round(end, 3), word.is_glued))
    return found


def _longer_side(start: float, end: float, pause: Span) -> tuple[float, float]:
    """A word isn't said on both sides of a pause; it is where more of it is."""
    if end - pause.end > pause.start - start:
        return pause.end, end
    return start, pause.start


def _word_before(pause: Span, words: Sequence[Word]) -> int:
    """The last word whose middle is before that of the pause; -1 for none."""
    middle = (pause.start + pause.end) / 2
    return sum((word.start + word.end) / 2 < middle for word in words) - 1
