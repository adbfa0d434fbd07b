"""How long somebody takes for words, and which they draw out."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ttscommon.evaluation.wording import count_syllables, is_filler, plain_words
from ttscommon.transcribe import Word

# A word is drawn out if its seconds a syllable lie so many standard deviations above the speaker's
# for words of as many syllables, and are so many seconds more at least.
DEVIATIONS, DRAWN_OUT = 3.0, 0.15
FEWEST_WORDS = 20  # of a number of syllables, to know how long they take
MANY_SYLLABLES = 4  # as many or more count alike


@dataclass(frozen=True)
class Paces:
    """How long the speaker takes for a syllable, by the number of syllables of the word.

    Attributes:
        usual: {syllables: (mean, standard deviation) of log seconds a syllable}
    """

    usual: Mapping[int, tuple[float, float]]

    @classmethod
    def of(cls, clips: Iterable[Sequence[Word]], language: str) -> Paces:
        """Learn from all words of all clips; medians, so that a drawn-out word hardly counts."""
        found: dict[int, list[float]] = defaultdict(list)
        for words in clips:
            for word in words:
                n, pace = _pace(word, language)
                if pace > 0:
                    found[min(n, MANY_SYLLABLES)].append(math.log(pace))
        usual = {}
        for n, logs in found.items():
            if len(logs) >= FEWEST_WORDS:
                middle = float(np.median(logs))
                spread = 1.4826 * float(np.median(np.abs(np.array(logs) - middle)))
                usual[n] = (middle, max(spread, 0.05))
        return cls(usual)

    def is_drawn_out(self, word: Word, language: str) -> bool:
        """Whether the speaker stretches the word, compared with words of as many syllables."""
        n, pace = _pace(word, language)
        known = self.usual.get(min(n, MANY_SYLLABLES))
        if pace <= 0 or known is None:
            return False
        middle, spread = known
        far = math.log(pace) > middle + DEVIATIONS * spread
        return far and (pace - math.exp(middle)) * n >= DRAWN_OUT


def _pace(word: Word, language: str) -> tuple[int, float]:
    """Syllables, and seconds for each; 0 seconds for what is no word."""
    bare = plain_words(word.word).replace(" ", "")
    if not bare or is_filler(bare, language):
        return 0, 0.0
    n = count_syllables(word.word, language)
    return n, (word.end - word.start) / n if n else 0.0
