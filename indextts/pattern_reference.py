"""What the public pattern trainer finds in a clip, to compare ours with.

It takes pauses from one code of another codec, fillers and stutters from the letters of the text,
and puts none of them at a time. See `indextts.pattern_features` for ours.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

SILENCE_CODE, SHORTEST_RUN = 52, 3
RATE_WINDOW, RATE_HOP = 50, 25  # codes
SLOWEST = 0.1  # seconds, and share of the rate
FILLERS = re.compile(
    r"\b(?:uh+|um+|er+|ah+)\b|\[(?:UH|UM|ER|AH|PAUSE|LONG|BREATH)\]", re.IGNORECASE
)
STUTTERS = re.compile(r"\b(\w+)-\1\b|\b(\w{1,3})-\2|\.{3,}", re.IGNORECASE)
MARKS = (
    (re.compile(r"\.{2,}"), "..."),
    (re.compile(r"(?<!\[)\buh+\b(?!\])", re.IGNORECASE), "[UH]"),
    (re.compile(r"(?<!\[)\b(?:um+|hm+)\b(?!\])", re.IGNORECASE), "[UM]"),
    (re.compile(r"(?<!\[)\bah+\b(?!\])", re.IGNORECASE), "[AH]"),
    (re.compile(r"(?<!\[)\ber+\b(?!\])", re.IGNORECASE), "[ER]"),
    (re.compile(r"\[long pause\]", re.IGNORECASE), "[LONG]"),
    (re.compile(r"\[pause\]", re.IGNORECASE), "[PAUSE]"),
)


def analyse(
    text: str, codes: Sequence[int], seconds: float, silence_code: int = SILENCE_CODE
) -> dict[str, Any]:
    """The features as the public trainer stores them.

    Returns:
        pause_positions: code numbers, pause_durations: ms, filler_positions and stutter_positions:
        letters, speech_rate: words a second, rate_variations, total_duration, num_...
    """
    flags = [code == silence_code for code in codes]
    pauses = _runs(flags)
    milliseconds = seconds / max(1, len(flags)) * 1000
    fillers = [match.start() for match in FILLERS.finditer(text)]
    stutters = [match.start() for match in STUTTERS.finditer(text)]
    n_words = sum(not word.startswith("[") for word in text.split())
    return {
        "pause_positions": [first for first, _ in pauses],
        "pause_durations": [length * milliseconds for _, length in pauses],
        "filler_positions": fillers,
        "stutter_positions": stutters,
        "speech_rate": n_words / max(SLOWEST, seconds),
        "rate_variations": _rates(flags),
        "total_duration": seconds,
        "num_pauses": len(pauses),
        "num_fillers": len(fillers),
        "num_stutters": len(stutters),
    }


def normalise(text: str) -> str:
    """A transcript with the public trainer's marks."""
    for pattern, mark in MARKS:
        text = pattern.sub(mark, text)
    return " ".join(text.split())


def _runs(flags: Sequence[bool]) -> list[tuple[int, int]]:
    """First and length of each stretch that is long enough."""
    found, first = [], 0
    for here, flag in enumerate([*flags, False]):
        if flag:
            continue
        if here - first >= SHORTEST_RUN:
            found.append((first, here - first))
        first = here + 1
    return found


def _rates(flags: Sequence[bool]) -> list[float]:
    starts = range(0, len(flags) - RATE_WINDOW + 1, RATE_HOP)
    shares = [sum(flags[first : first + RATE_WINDOW]) / RATE_WINDOW for first in starts]
    return [max(SLOWEST, 2 * (1 - share)) for share in shares] or [1.0]
