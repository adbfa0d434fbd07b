"""A made-up language of codes, and speakers who pause and hesitate in it by known chances.

A word is one code that says which word it is and in which timbre, and one to three codes of its
body. What is said is therefore known from the codes alone, without a recogniser. Speakers differ
in timbre and in habits; a prompt tells the one surely, and of the other what a dozen words tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

N_WORDS, N_TIMBRES, N_BODIES = 16, 3, 2
N_SILENCE, N_FILLER = 6, 2
SHORTEST, LONGEST = 3, 6  # words of a text
FIRST_TEXT_ID = 2  # 0 and 1 are start and stop
FRAMES_A_SECOND = 10  # so a word lasts 0.3 s, as one does
SPREAD = 0.25  # standard deviation of the logarithm of a speaker's pauses
# Of the population that a base learns from: a pause before a word, its length, a filler before one.
AVERAGE_PAUSES, AVERAGE_SECONDS, AVERAGE_FILLERS = 0.31, 0.6, 0.09
SHORTEST_PAUSE, LONGEST_PAUSE = 2, 24  # frames
EDGE = (1, 3)  # silent frames before and behind the words

_ONSETS = N_WORDS * N_TIMBRES
_BODIES = _ONSETS + N_WORDS * N_BODIES
_SILENCES = _BODIES + N_SILENCE
N_CODES = _SILENCES + N_FILLER
N_TEXT_IDS = FIRST_TEXT_ID + N_WORDS


@dataclass(frozen=True)
class Habit:
    """How somebody speaks.

    Attributes:
        pauses: chance of a pause before a word of the first and of the second half of all words
        seconds: median length of pauses
        fillers: chance of a filler before a word
    """

    pauses: tuple[float, float]
    seconds: float
    fillers: float

    @classmethod
    def drawn(cls, chance: np.random.Generator) -> Habit:
        """Of the population that a base learns from."""
        first, second = chance.beta(0.8, 1.8, size=2)
        seconds = np.exp(chance.normal(np.log(AVERAGE_SECONDS), 0.4))
        return cls((float(first), float(second)), float(seconds), float(chance.beta(0.5, 5.0)))


@dataclass(frozen=True)
class Utterance:
    """What was said.

    Attributes:
        words: numbers of the words
        pauses, fillers: [first, last + 1] in codes
    """

    words: tuple[int, ...]
    codes: tuple[int, ...]
    pauses: tuple[tuple[int, int], ...] = ()
    fillers: tuple[tuple[int, int], ...] = ()

    @property
    def pause_seconds(self) -> list[float]:
        return [(last - first) / FRAMES_A_SECOND for first, last in self.pauses]


def traits(said: Utterance) -> list[float]:
    """What can be told of a habit from one utterance, 0 for the average speaker's, 1 unit far off.

    Returns:
        pauses before words of the first and of the second half, their length, and fillers
    """
    onsets = [place for place, code in enumerate(said.codes) if is_onset(code)]
    rests: tuple[list[bool], list[bool]] = ([], [])
    for number, (before, after) in enumerate(pairwise(onsets)):
        own = rests[half_of(said.words[number + 1])]
        own.append(any(before < first < after for first, _ in said.pauses))
    shares = [(np.mean(own) - AVERAGE_PAUSES) / 0.25 if own else 0.0 for own in rests]
    lengths = np.log(said.pause_seconds or [AVERAGE_SECONDS])
    length = (np.mean(lengths) - np.log(AVERAGE_SECONDS)) / 0.4
    fillers = (len(said.fillers) / len(said.words) - AVERAGE_FILLERS) / 0.1
    return [float(number) for number in (*shares, length, fillers)]


def draw_texts(n: int, chance: np.random.Generator) -> list[tuple[int, ...]]:
    """Texts of words that don't repeat."""
    sizes = chance.integers(SHORTEST, LONGEST + 1, size=n)
    return [tuple(chance.permutation(N_WORDS)[:size].tolist()) for size in sizes]


def text_ids(words: Sequence[int]) -> list[int]:
    return [FIRST_TEXT_ID + word for word in words]


def say(words: Sequence[int], timbre: int, habit: Habit, chance: np.random.Generator) -> Utterance:
    """One utterance; no two are the same."""
    codes, pauses, fillers = _rest(int(chance.integers(*EDGE, endpoint=True)), chance), [], []
    for number, word in enumerate(words):
        if chance.random() < habit.fillers:
            fillers.append((len(codes), len(codes) + N_FILLER))
            codes += range(_SILENCES, _SILENCES + N_FILLER)
        if number and chance.random() < habit.pauses[half_of(word)]:
            length = habit.seconds * FRAMES_A_SECOND * np.exp(chance.normal(0, SPREAD))
            n = int(np.clip(round(length), SHORTEST_PAUSE, LONGEST_PAUSE))
            pauses.append((len(codes), len(codes) + n))
            codes += _rest(n, chance)
        body = _ONSETS + word * N_BODIES + int(chance.integers(N_BODIES))
        codes += [word * N_TIMBRES + timbre, *[body] * int(chance.integers(1, 3, endpoint=True))]
    codes += _rest(int(chance.integers(*EDGE, endpoint=True)), chance)
    return Utterance(tuple(words), tuple(codes), tuple(pauses), tuple(fillers))


def heard(codes: Sequence[int]) -> Utterance:
    """What is said by these codes: a word for each onset, pauses and fillers between words."""
    kinds = [_kind(code) for code in codes]
    words = [code // N_TIMBRES for code, kind in zip(codes, kinds, strict=True) if kind == "onset"]
    spoken = [place for place, kind in enumerate(kinds) if kind != "silence"]
    pauses = [
        (before + 1, after)
        for before, after in pairwise(spoken)
        if after - before - 1 >= SHORTEST_PAUSE
    ]
    begun = [
        place
        for place, code in enumerate(codes)
        if code == _SILENCES and tuple(codes[place : place + N_FILLER]) == FILLER
    ]
    fillers = tuple((place, place + N_FILLER) for place in begun)
    return Utterance(tuple(words), tuple(codes), tuple(pauses), fillers)


def is_onset(code: int) -> bool:
    """Whether a word begins."""
    return code < _ONSETS


def half_of(word: int) -> int:
    """0 for the first half of all words, 1 for the second; speakers rest before them unequally."""
    return 2 * word // N_WORDS


SILENCE = tuple(range(_BODIES, _SILENCES))
FILLER = tuple(range(_SILENCES, N_CODES))


def _rest(n: int, chance: np.random.Generator) -> list[int]:
    return chance.choice(SILENCE, n).tolist()


def _kind(code: int) -> str:
    bounds = {"onset": _ONSETS, "body": _BODIES, "silence": _SILENCES, "filler": N_CODES}
    return next(kind for kind, bound in bounds.items() if code < bound)
