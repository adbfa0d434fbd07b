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

from ttscommon.evaluation.disfluency import count_repetitions
from ttscommon.evaluation.wording import count_fillers, count_syllables, separate_words
from ttscommon.segment import Span

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
    speech: Sequence[Span], *, text: str = "", said: str | None = None, language: str = "en"
) -> Timing:
    """The timing of an utterance, from its stretches of speech (see `speech_spans`).

    Args:
        text: whose words and syllables are counted
        said: the same word for word, if it is another: its fillers and repetitions are counted
    """
    said = text if said is None else said
    return Timing(
        speech=tuple(speech),
        pauses=tuple(find_pauses(speech)),
        n_words=len(separate_words(text)),
        n_fillers=count_fillers(said, language),
        n_syllables=count_syllables(text, language),
        n_repetitions=count_repetitions(said, language),
    )


def timing_parts(timing: Timing) -> dict[str, tuple[float, float]]:
    """{metric: (numerator, denominator)}, to be summed over utterances; what can't be said of this
    one is left out.

    Returns:
        pauses_per_minute, fillers_per_minute, repetitions_per_minute,
            too_long_pauses_per_minute: of speech with pauses; of pauses of at least 0.2 s, and
            pauses_per_minute_100ms and _300ms of at least so many
        pauses_per_100_words, fillers_per_100_words
        mean_pause_seconds
        long_pause_share: of pauses, how many last longer than 1 s
        phonation_ratio: the share of time that isn't pause
        syllables_per_second: while speaking (articulation rate)
    """
    if not timing.speech:
        return {}
    minutes, lengths = timing.seconds / 60, [pause.duration for pause in timing.pauses]
    n_too_long, n_long = (sum(s > most for s in lengths) for most in (TOO_LONG_PAUSE, LONG_PAUSE))
    found = {
        "pauses_per_minute": (len(lengths), minutes),
        "too_long_pauses_per_minute": (n_too_long, minutes),
        "long_pause_share": (n_long, len(lengths)),
        "mean_pause_seconds": (sum(lengths), len(lengths)),
        "phonation_ratio": (timing.speech_seconds, timing.seconds),
    }
    for milliseconds in (100, 300):  # what counts as a pause decides how many there are
        n = len(find_pauses(timing.speech, milliseconds / 1000))
        found[f"pauses_per_minute_{milliseconds}ms"] = (n, minutes)
    if timing.n_words:
        found["fillers_per_minute"] = (timing.n_fillers, minutes)
        found["repetitions_per_minute"] = (timing.n_repetitions, minutes)
        found["pauses_per_100_words"] = (len(lengths), timing.n_words / 100)
        found["fillers_per_100_words"] = (timing.n_fillers, timing.n_words / 100)
        found["syllables_per_second"] = (timing.n_syllables, timing.speech_seconds)
    return found
