"""A manner of speaking in numbers: pauses, fillers and pace of one utterance and of many.

Pauses are the gaps between stretches of speech that the voice detector finds (exact to about 0.06 s
on recordings with silences put in); silence before the first and after the last word is none.
Durations are compared as logarithms, in which they are about normal (Campione and Veronis 2002;
Demol et al. 2007). Rates depend on the shortest gap that counts as a pause, so say which it was.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ttscommon.evaluation.scores import Score, ratio_score, score
from ttscommon.evaluation.wording import count_fillers, count_syllables, plain_words
from ttscommon.segment import Span, speech_spans

SHORTEST_PAUSE = 0.2  # seconds; closures of plosives are shorter (Campione and Veronis 2002)
LONG_PAUSE = 1.0  # seconds; hardly found in read speech
TOO_LONG_PAUSE = 2.5  # seconds; more likely a fault than a manner
NOTHING = 0.5  # added to counts of which one is zero, so that their ratio exists


@dataclass(frozen=True)
class Timing:
    """When one utterance speaks and when it rests.

    Attributes:
        speech: the stretches of speech
        pauses: the gaps between them of at least the shortest pause
        n_words, n_fillers, n_syllables: of its text; 0 without one
    """

    speech: tuple[Span, ...]
    pauses: tuple[Span, ...]
    n_words: int = 0
    n_fillers: int = 0
    n_syllables: int = 0

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
        n_words=len(plain_words(text).split()),
        n_fillers=count_fillers(text, language),
        n_syllables=count_syllables(text, language),
    )


def timing_scores(timings: Sequence[Timing]) -> dict[str, Score]:
    """What the utterances do together; what can't be said of them is left out.

    Returns:
        pauses_per_minute, fillers_per_minute, too_long_pauses_per_minute: of speech with pauses
        pauses_per_100_words, fillers_per_100_words
        pause_seconds: median over utterances of their median pause
        long_pause_share: of pauses, how many last longer than 1 s
        phonation_ratio: the share of time that isn't pause
        syllables_per_second: while speaking (articulation rate)
    """
    spoken = [timing for timing in timings if timing.seconds > 0]
    counts = {
        "pauses": [len(timing.pauses) for timing in spoken],
        "fillers": [timing.n_fillers for timing in spoken],
        "too_long_pauses": [_longer(timing, TOO_LONG_PAUSE) for timing in spoken],
    }
    minutes = [timing.seconds / 60 for timing in spoken]
    words = [timing.n_words / 100 for timing in spoken]
    rates = {
        **{f"{name}_per_minute": (count, minutes) for name, count in counts.items()},
        "pauses_per_100_words": (counts["pauses"], words),
        "fillers_per_100_words": (counts["fillers"], words),
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
        rates = {k: v for k, v in rates.items() if "fillers" not in k and "syllables" not in k}
    scores = {name: ratio_score(*pair) for name, pair in rates.items() if sum(pair[1]) > 0}
    medians = [float(np.median([p.duration for p in t.pauses])) for t in spoken if t.pauses]
    return scores | ({"pause_seconds": score(medians, statistic="median")} if medians else {})


def log_durations(timings: Sequence[Timing]) -> NDArray[np.float64]:
    """The natural logarithm of every pause's seconds."""
    return np.log([pause.duration for timing in timings for pause in timing.pauses])


def pause_duration_distance(a: Sequence[Timing], b: Sequence[Timing]) -> float:
    """Wasserstein distance of the pauses' log durations, in nats: 0.10 is about 10 % longer.

    Raises:
        ValueError: if one side has no pause
    """
    from scipy.stats import wasserstein_distance

    ours, theirs = log_durations(a), log_durations(b)
    if not len(ours) or not len(theirs):
        raise ValueError("one side has no pauses to compare")
    return float(wasserstein_distance(ours, theirs))


def pause_rate_distance(a: Sequence[Timing], b: Sequence[Timing]) -> float:
    """|ln(rate of pauses in b / in a)|; see `rate_distance`."""
    counts = [sum(len(timing.pauses) for timing in side) for side in (a, b)]
    seconds = [sum(timing.seconds for timing in side) for side in (a, b)]
    return rate_distance(counts[0], seconds[0], counts[1], seconds[1])


def filler_rate_distance(a: Sequence[Timing], b: Sequence[Timing]) -> float:
    """|ln(rate of fillers in b / in a)|; see `rate_distance`."""
    counts = [sum(timing.n_fillers for timing in side) for side in (a, b)]
    seconds = [sum(timing.seconds for timing in side) for side in (a, b)]
    return rate_distance(counts[0], seconds[0], counts[1], seconds[1])


def rate_distance(count_a: float, time_a: float, count_b: float, time_b: float) -> float:
    """|ln((count_b / time_b) / (count_a / time_a))|; if one count is 0, both get 0.5 more.

    Raises:
        ValueError: if a time isn't positive
    """
    if time_a <= 0 or time_b <= 0:
        raise ValueError("no time in which anything could happen")
    if not count_a or not count_b:
        count_a, count_b = count_a + NOTHING, count_b + NOTHING
    return abs(math.log(count_b / time_b) - math.log(count_a / time_a))


def half_split_floor(
    timings: Sequence[Timing],
    distance: Callable[[Sequence[Timing], Sequence[Timing]], float],
    *,
    n_splits: int = 200,
    seed: int = 0,
) -> tuple[float, float]:
    """How far a speaker is from themselves: median and 95th percentile over random halves.

    A system nearer to the speaker than that can't be told from the speaker.

    Raises:
        ValueError: if fewer than four utterances are given, or halves can't be compared
    """
    if len(timings) < 4:
        raise ValueError(f"{len(timings)} utterances are too few to halve")
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n_splits):
        order, half = rng.permutation(len(timings)), len(timings) // 2
        sides = [[timings[i] for i in part] for part in (order[:half], order[half:])]
        if all(any(timing.pauses for timing in side) for side in sides):
            found.append(distance(sides[0], sides[1]))
    if not found:
        raise ValueError("no pauses to compare")
    return float(np.median(found)), float(np.quantile(found, 0.95))


def _longer(timing: Timing, seconds: float) -> int:
    return sum(pause.duration > seconds for pause in timing.pauses)
