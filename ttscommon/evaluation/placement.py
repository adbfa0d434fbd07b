"""Between which words does somebody pause? Pauses in the places where words meet.

A place is the boundary between two neighbouring words of the text; what stands around it is its
context. Words are found in the sound by a recogniser, pauses by the voice detector.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ttscommon.evaluation.wording import plain_words
from ttscommon.metrics import aligned_words
from ttscommon.segment import Span
from ttscommon.transcribe import Word


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


CONTEXTS = ("sentence end", "comma", "clause", "function word", "other word")
# What begins a clause, and words that carry grammar rather than meaning, as far as we know them.
CLAUSE_OPENERS = {
    "de": _words("aber als bevor da dass denn doch ob obwohl oder sondern und weil wenn während"),
    "en": _words(
        "after although and because before but if nor or since so than that though unless until "
        "when where whether which while who whose yet"
    ),
    "es": _words("aunque cuando donde mas ni o pero porque pues que si sino u y"),
    "fr": _words("car comme donc et lorsque mais ni or ou parce puisque quand que qui si"),
    "it": _words("anche che dove e ma mentre o perché però poiché quando se sebbene"),
    "pt": _words("como e embora enquanto mas nem onde ou pois porque quando que se"),
    "ru": _words("а если и или когда который но потому поэтому что чтобы хотя"),
}
FUNCTION_WORDS = {
    "en": _words(
        "a about am an are as at be been by can could did do does for from had has have he her his "
        "i in into is it its may me might must my no not of off on our out over shall she should "
        "the their them these they this those to under up us was we were will with would you "
        "your"
    ),
}
REACH = 0.3  # seconds by which a recogniser's words may miss a pause
_SENTENCE_END = re.compile(r"[.!?…。！？।][\"'”’»)\]]*$")
_COMMA = re.compile(r"([,;:،、，)\]–—]|(?<=\s)-)[\"'”’»)\]]*$")


@dataclass(frozen=True)
class Place:
    """The boundary after one word of a text.

    Attributes:
        context: one of CONTEXTS
    """

    context: str
    is_pause: bool


def find_places(
    text: str, heard: Sequence[Word], pauses: Sequence[Span], language: str
) -> dict[int, Place]:
    """{index of a word: the place after it}; a word that wasn't heard has no place.

    Args:
        heard: the words as they were understood, with their times
    """
    tokens = _tokens(text)
    spoken = [(plain_words(word.word).replace(" ", ""), word) for word in heard]
    spoken = [(bare, word) for bare, word in spoken if bare]
    match = {
        i: j
        for i, j in aligned_words([bare for bare, _ in tokens], [bare for bare, _ in spoken])
        if i is not None and j is not None
    }
    known = [i for i in range(len(tokens) - 1) if i in match and i + 1 in match]
    words = [word for _, word in spoken]
    gaps = {i: (words[match[i]].end, words[match[i + 1]].start) for i in known}
    resting = {_nearest(pause, gaps) for pause in pauses} - {None}
    return {
        i: Place(context_of(tokens[i][1], tokens[i + 1][0], language), i in resting) for i in known
    }


def agreement(ours: Mapping[int, Place], theirs: Mapping[int, Place]) -> tuple[float, float]:
    """2 hits and hits + misses + all pauses, whose ratio is F1, over places that both have."""
    both = ours.keys() & theirs.keys()
    n_ours, n_theirs = (sum(side[i].is_pause for i in both) for side in (ours, theirs))
    hits = sum(ours[i].is_pause and theirs[i].is_pause for i in both)
    return 2.0 * hits, float(n_ours + n_theirs)


def context_of(written: str, following: str, language: str) -> str:
    """What stands around the place between two words, one of CONTEXTS.

    Args:
        written: the word before it, with its marks
        following: the word after it, plain
    """
    code = language.partition("-")[0].lower()
    if is_sentence_end(written):
        return "sentence end"
    if _COMMA.search(written):
        return "comma"
    if following in CLAUSE_OPENERS.get(code, ()):
        return "clause"
    return "function word" if following in FUNCTION_WORDS.get(code, ()) else "other word"


def is_sentence_end(written: str) -> bool:
    """Whether a word as it is written, dots that hesitate included, ends a sentence."""
    return _SENTENCE_END.search(written) is not None


def _tokens(text: str) -> list[tuple[str, str]]:
    """Each word bare and as written; a lone dash belongs to the word before it."""
    found: list[tuple[str, str]] = []
    for piece in text.split():
        bare = plain_words(piece).replace(" ", "")
        if bare:
            found.append((bare, piece))
        elif found:
            found[-1] = (found[-1][0], f"{found[-1][1]} {piece}")
    return found


def _nearest(pause: Span, gaps: Mapping[int, tuple[float, float]]) -> int | None:
    """A recogniser may count a pause to the word beside it, so the nearest boundary is taken."""

    def distance(i: int) -> float:
        end, start = gaps[i]
        return max(end - pause.end, pause.start - start, 0.0)

    place = min(gaps, key=distance, default=None)
    return place if place is not None and distance(place) <= REACH else None
