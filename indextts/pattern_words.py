"""What happens among the words of a clip: fillers, stutters, and the pace.

Everything is found in words with their times (words.json of tools/transcribe_dataset.py), so it is
as good as the recogniser is verbatim; those tend to leave out fillers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ttscommon.evaluation.wording import count_syllables, fillers_among, is_filler, plain_words
from ttscommon.metrics import aligned_words
from ttscommon.segment import Span
from ttscommon.transcribe import Word

LONGEST_REPEAT = 3  # words
SHORTEST_FILLER = 0.1  # seconds; what a recogniser puts into less was hardly said
RATE_WINDOW, RATE_HOP = 1.0, 0.5  # seconds; as many codes as the public trainer looks at


def find_fillers(words: Sequence[Word], text: str, language: str) -> list[tuple[str, Span]]:
    """Hesitation sounds with their time.

    Args:
        text: what is said, word for word; fillers in it that the recogniser left out are put into
            the gap between their neighbours, if there is one
    """
    bare = [_bare(word.word) for word in words]
    found = [
        (name, Span(word.start, word.end))
        for name, word, is_one in zip(bare, words, fillers_among(bare, language), strict=True)
        if is_one
    ]
    tokens = [_bare(token) for token in text.split()]
    tokens = [token for token in tokens if token]
    are_fillers = fillers_among(tokens, language)
    spoken = [number for number, name in enumerate(bare) if name]
    before = 0.0
    pairs = aligned_words(tokens, [bare[number] for number in spoken])
    for place, (ours, theirs) in enumerate(pairs):
        if theirs is not None:
            before = words[spoken[theirs]].end
        elif ours is not None and are_fillers[ours]:
            later = (words[spoken[b]].start for _, b in pairs[place:] if b is not None)
            after = next(later, before)
            if after - before >= SHORTEST_FILLER:
                found.append((tokens[ours], Span(before, after)))
    return sorted(found, key=lambda pair: pair[1].start)


def find_stutters(words: Sequence[Word], language: str) -> list[Span]:
    """False starts ("th-the", "go- going") and words said again ("I I", "I want I want").

    A span is what a fluent speaker would have left out, and where it is glued to the word, all of
    it. Words that are doubled on purpose ("very very") count as well; hesitation sounds don't.
    """
    said = [(_bare(word.word), word) for word in words]
    said = [(bare, word) for bare, word in said if bare and not is_filler(bare, language)]
    found: list[Span] = []
    for _, word in said:
        parts = word.word.casefold().replace("‑", "-").strip(" ,.;:!?…\"'").split("-")
        if len(parts) > 1 and parts[0] and parts[1] and parts[1].startswith(parts[0]):
            found.append(Span(word.start, word.end))
    bares = [bare for bare, _ in said]
    place = 0
    while place < len(said):
        size = next((n for n in range(LONGEST_REPEAT, 0, -1) if _repeats(bares, place, n)), 0)
        if not size and place + 1 < len(said):
            size = int(_is_broken_off(said[place][1].word, bares[place], bares[place + 1]))
        if size:
            found.append(Span(said[place][1].start, said[place + size - 1][1].end))
        place += max(size, 1)
    return sorted(set(found), key=lambda span: (span.start, span.end))


def speech_rate(
    words: Sequence[Word], speech: Sequence[Span], seconds: float, language: str
) -> list[float]:
    """Syllables a second of speech in windows of 1 s, every 0.5 s; 0 where nobody speaks.

    Args:
        speech: when there is speech, without the pauses
    """
    starts = np.arange(0, max(seconds - RATE_WINDOW, 0) + 1e-9, RATE_HOP)
    rates = []
    for start in starts.tolist():
        end = start + RATE_WINDOW
        syllables = sum(
            count_syllables(word.word, language) * _overlap(word, start, end)
            / max(word.end - word.start, 1e-3)
            for word in words
        )  # fmt: skip
        spoken = sum(_overlap(span, start, end) for span in speech)
        rates.append(round(syllables / spoken, 3) if spoken > 0.1 else 0.0)
    return rates


def _overlap(part: Word | Span, start: float, end: float) -> float:
    return max(0.0, min(part.end, end) - max(part.start, start))


def _bare(word: str) -> str:
    return plain_words(word).replace(" ", "")


def _repeats(bares: Sequence[str], place: int, size: int) -> bool:
    gram = list(bares[place : place + size])
    return len(gram) == size and gram == list(bares[place + size : place + 2 * size])


def _is_broken_off(written: str, bare: str, following: str) -> bool:
    """ "go-" before "going", or a lone consonant before a word that begins with it."""
    if not following.startswith(bare) or following == bare:
        return False
    is_cut = written.rstrip(" ,.…").endswith(("-", "‑", "–", "—"))
    return is_cut or (len(bare) == 1 and bare not in "aeiouy")
