"""A manner of speaking in numbers: pauses, fillers and pace of one utterance and of many.

Pauses are the gaps between stretches of speech that the voice detector finds (exact to about 0.06 s
on recordings with silences put in); silence before the first and after the last word is none.
Durations are compared as logarithms, in which they are about normal (Campione and Veronis 2002;
Demol et al. 2007). Rates depend on the shortest gap that counts as a pause, so say which it was.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ttscommon.evaluation.disfluency import count_repetitions
from ttscommon.evaluation.scores import Score, ratio_score, score
from ttscommon.evaluation.wording import count_fillers, count_syllables, separate_words
from ttscommon.segment import Span, speech_spans

SHORTEST_PAUSE = 0.2  # seconds; closures of plosives are shorter (Campione and Veronis 2002)
LONG_PAUSE = 1.0  # seconds; hardly found in read speech
TOO_LONG_PAUSE = 2.5  # seconds; more likely a fault than a manner


@dataclass(frozen=True)
class Timing:
    """When one utterance speaks and when it rests.

    Attributes:
        speech: the stretches of speech
        pauses: the gaps between them of at least the shortest pause
        n_words, n_fillers, n_syllables, n_repetitions: of its text; 0 without one
    """

    speech: tuple[Span, ...]
    pauses: tuple[Span, ...]
    n_words: int = 0
    n_fillers: int = 0
    n_syllables: int = 0
    n_repetitions: int = 0

    @property
    def seconds(self) -> float:
        """From the first word to the last; 0 where nobody speaks."""
        return self.speech[-1].end - self.speech[0].start if self.speech else 0.0

    @property
    def speech_seconds(self) -> float:
        """Without the pauses."""
        return self.seconds - sum(pause.duration for pause in self.pauses)


def find_pauses(speech: Sequence[Span], shortest: float = SHORTEST_PAUSE) -> list[Span]:
    """The gaps of at least `shortest` seconds between stretches of speech."""
    gaps = (Span(before.end, after.start) for before, after in itertools.pairwise(speech))
    return [gap for gap in gaps if gap.duration >= shortest]


def measure_timing(
    audio: NDArray[np.float32],
    sample_rate: int,
    *,
    text: str = "",
    language: str = "en",
    shortest: float = SHORTEST_PAUSE,
) -> Timing:
    """The timing of `audio` (S,).

    Args:
        text: what is said, word for word: fillers are counted in it
    """
    speech = speech_spans(audio, sample_rate)
    return Timing(
        speech=tuple(speech),
        pauses=tuple(find_pauses(speech, shortest)),
        n_words=len(separate_words(text)),
        n_fillers=count_fillers(text, language),
        n_syllables=count_syllables(text, language),
        n_repetitions=count_repetitions(text, language),
    )


def timing_scores(timings: Sequence[Timing]) -> dict[str, Score]:
    """What the utterances do together; what can't be said of them is left out.

    Returns:
        pauses_per_minute, fillers_per_minute, repetitions_per_minute,
            too_long_pauses_per_minute: of speech with pauses
        pauses_per_100_words, fillers_per_100_words, repetitions_per_100_words
        pause_seconds: median over utterances of their median pause
        long_pause_share: of pauses, how many last longer than 1 s
        phonation_ratio: the share of time that isn't pause
        syllables_per_second: while speaking (articulation rate)
    """
    spoken = [timing for timing in timings if timing.seconds > 0]
    counts = {
        "pauses": [len(timing.pauses) for timing in spoken],
        "fillers": [timing.n_fillers for timing in spoken],
        "repetitions": [timing.n_repetitions for timing in spoken],
        "too_long_pauses": [_longer(timing, TOO_LONG_PAUSE) for timing in spoken],
    }
    minutes = [timing.seconds / 60 for timing in spoken]
    words = [timing.n_words / 100 for timing in spoken]
    rates = {
        **{f"{name}_per_minute": (count, minutes) for name, count in counts.items()},
        "pauses_per_100_words": (counts["pauses"], words),
        "fillers_per_100_words": (counts["fillers"], words),
        "repetitions_per_100_words": (counts["repetitions"], words),
        "long_pause_share": ([_longer(t, LONG_PAUSE) for t in spoken], counts["pauses"]),
        "phonation_ratio": (
            [timing.speech_seconds for timing in spoken],
            [timing.seconds for timing in spoken],
        ),
        "syllables_per_second": (
            [timing.n_syllables for timing in spoken],
            [timing.speech_seconds for timing in spoken],
        ),
    }
    if not any(words):
        spelt = ("fillers", "repetitions", "syllables")
        rates = {name: pair for name, pair in rates.items() if not name.startswith(spelt)}
    scores = {name: ratio_score(*pair) for name, pair in rates.items() if sum(pair[1]) > 0}
    medians = [float(np.median([p.duration for p in t.pauses])) for t in spoken if t.pauses]
    return scores | ({"pause_seconds": score(medians, statistic="median")} if medians else {})


def _longer(timing: Timing, seconds: float) -> int:
    return sum(pause.duration > seconds for pause in timing.pauses)
