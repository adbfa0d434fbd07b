"""What the speakers of the experiment on speech say, and by which habits they rest and hesitate.

A sentence has up to four phrases out of 32, so 4,096 whole ones; those of the test are combinations
that nobody said in training. Phrases are joined by silence: how much, and with which filler, is a
speaker's habit, and where each rest is, is known to the sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ttscommon.evaluation.placement import FUNCTION_WORDS

SUBJECTS = (
    *("the old farmer", "my younger sister", "the student", "our new teacher"),
    *("the hungry soldier", "the painter", "every good lawyer", "my uncle Robert"),
)
VERBS = ("carried", "painted", "found", "opened", "borrowed", "cleaned", "described", "wanted")
OBJECTS = (
    *("the heavy box", "the broken window", "the silver key", "the blue bicycle"),
    *("several bottles", "yellow curtains", "kitchen chairs", "winter gloves"),
)
TAILS = (
    *("in the evening", "at the market", "under the bridge", "with great care"),
    *("near the river", "during the summer", "without any help", "behind the school"),
)
SLOTS = (SUBJECTS, VERBS, OBJECTS, TAILS)
FILLERS = ("um", "uh")
PHRASES = tuple(phrase for slot in SLOTS for phrase in slot)
WORDS = tuple(sorted({word for phrase in PHRASES for word in phrase.split()}))
FIRST_TEXT_ID = 2  # 0 and 1 are start and stop
N_TEXT_IDS = FIRST_TEXT_ID + len(WORDS)
MOST_WORDS = sum(max(len(phrase.split()) for phrase in slot) for slot in SLOTS)
SIZES, SHARES = (1, 2, 3, 4), (0.2, 0.2, 0.2, 0.4)  # phrases of a text to learn from
SPREAD = 0.25  # standard deviation of the logarithm of a speaker's pauses
SHORTEST_PAUSE, LONGEST_PAUSE = 0.22, 1.3  # seconds

Text = tuple[str, ...]  # phrases


@dataclass(frozen=True)
class Habit:
    """How somebody speaks.

    Attributes:
        pauses: chance of a pause before a phrase that begins with a function word, and others
        seconds: median length of pauses
        fillers: chance of a filler before a phrase
        um: share of the fillers that are "um"; the others are "uh"
    """

    pauses: tuple[float, float]
    seconds: float
    fillers: float
    um: float = 1.0

    @classmethod
    def drawn(cls, chance: np.random.Generator) -> Habit:
        """Of the population that a base learns from."""
        function, other = chance.beta(0.8, 1.8, size=2)
        seconds = np.exp(chance.normal(np.log(0.36), 0.3))
        return cls(
            (float(function), float(other)),
            float(seconds),
            float(chance.beta(0.5, 3.5)),
            float(chance.random()),
        )


@dataclass(frozen=True)
class Piece:
    """What comes before a phrase, and the phrase.

    Attributes:
        rest: seconds of silence; 0: none
        filler: "" for none
    """

    rest: float
    filler: str
    phrase: str


def targets() -> dict[str, Habit]:
    """Two people far from the average: one rests long before little words, one says um."""
    return {
        "slow": Habit(pauses=(0.85, 0.08), seconds=0.68, fillers=0.02),
        "um": Habit(pauses=(0.04, 0.04), seconds=0.28, fillers=0.5),
    }


def held_out_texts(n: int, chance: np.random.Generator) -> list[Text]:
    """Different whole sentences; `draw_texts` is told to leave them alone."""
    found: dict[Text, None] = {}
    while len(found) < n:
        found[_whole(chance)] = None
    return list(found)


def draw_texts(n: int, chance: np.random.Generator, without: Sequence[Text]) -> list[Text]:
    """Stretches of sentences, none of them a whole one of `without`."""
    banned, found = set(without), []
    while len(found) < n:
        size = int(chance.choice(SIZES, p=SHARES))
        first = int(chance.integers(len(SLOTS) - size + 1))
        text = _whole(chance)[first : first + size]
        if text not in banned:
            found.append(text)
    return found


def say(text: Text, habit: Habit, chance: np.random.Generator) -> list[Piece]:
    """One way in which somebody of this habit says the text; no two are the same."""
    pieces = []
    for number, phrase in enumerate(text):
        rest, filler = 0.0, ""
        if number and chance.random() < habit.pauses[0 if is_function(phrase) else 1]:
            length = habit.seconds * np.exp(chance.normal(0, SPREAD))
            rest = float(np.clip(length, SHORTEST_PAUSE, LONGEST_PAUSE))
        if chance.random() < habit.fillers:
            filler = FILLERS[0 if chance.random() < habit.um else 1]
        pieces.append(Piece(rest, filler, phrase))
    return pieces


def is_function(phrase: str) -> bool:
    """Whether its first word carries grammar rather than meaning."""
    return phrase.split()[0] in FUNCTION_WORDS["en"]


def text_ids(text: Text) -> list[int]:
    """A number for each word."""
    return [FIRST_TEXT_ID + WORDS.index(word) for word in sentence(text).split()]


def sentence(text: Text) -> str:
    return " ".join(text)


def n_places(texts: Sequence[Text]) -> int:
    """How many boundaries of phrases, where somebody may rest."""
    return sum(1 for text in texts for _ in pairwise(text))


def _whole(chance: np.random.Generator) -> Text:
    return tuple(slot[int(chance.integers(len(slot)))] for slot in SLOTS)
