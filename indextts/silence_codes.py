"""Which codes are silence, learned from the speaker's own recordings.

A codec has many codes for silence, and other weights have others (of 320 clusters of a speech
encoder's features, 38 were silence), so none is ever assumed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indextts.pattern_frames import SILENT, SPOKEN
from ttscommon.errors import UserError

SHARE, FEWEST = 0.8, 5


@dataclass(frozen=True)
class SilenceCodes:
    """Codes whose frames are silent nearly always.

    Attributes:
        share: {code: share of its frames that are silent}, of every code that silence has
        counts: {code: its frames}, of the same
        n_silent, n_spoken: frames that were looked at
        coverage: share of the silent frames that have one of the codes
        leakage: share of the spoken frames that have one
    """

    codes: tuple[int, ...]
    share: dict[int, float]
    counts: dict[int, int]
    n_silent: int
    n_spoken: int
    coverage: float
    leakage: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "silence_codes": list(self.codes),
            "share": {str(code): round(share, 4) for code, share in self.share.items()},
            "counts": {str(code): count for code, count in self.counts.items()},
            "n_silent": self.n_silent,
            "n_spoken": self.n_spoken,
            "coverage": round(self.coverage, 4),
            "leakage": round(self.leakage, 4),
        }


def learn_silence_codes(
    clips: Iterable[tuple[NDArray, NDArray]], *, share: float = SHARE, fewest: int = FEWEST
) -> SilenceCodes:
    """Count the codes of silent and spoken frames.

    Args:
        clips: (T,) codes and (T,) kinds of each clip, see `indextts.pattern_frames.Rests`
        share: of a code's frames that must be silent
        fewest: frames that a code must have to be judged

    Raises:
        UserError: if share or fewest make no sense
    """
    if not 0.5 < share <= 1:
        raise UserError(
            f"the share of silent frames must be above 0.5 and at most 1, got {share:g}"
        )
    if fewest < 1:
        raise UserError(f"a code must have 1 frame or more to be judged, got {fewest}")
    silent: Counter[int] = Counter()
    spoken: Counter[int] = Counter()
    for codes, kinds in clips:
        if len(codes) != len(kinds):
            raise ValueError(f"{len(codes)} codes for {len(kinds)} frames")
        silent.update(np.asarray(codes)[kinds == SILENT].tolist())
        spoken.update(np.asarray(codes)[kinds == SPOKEN].tolist())
    shares = {code: silent[code] / (silent[code] + spoken[code]) for code in sorted(silent)}
    counts = {code: silent[code] + spoken[code] for code in shares}
    chosen = [code for code in shares if shares[code] >= share and counts[code] >= fewest]
    n_silent, n_spoken = silent.total(), spoken.total()
    return SilenceCodes(
        codes=tuple(chosen),
        share=shares,
        counts=counts,
        n_silent=n_silent,
        n_spoken=n_spoken,
        coverage=sum(silent[code] for code in chosen) / n_silent if n_silent else 0.0,
        leakage=sum(spoken[code] for code in chosen) / n_spoken if n_spoken else 0.0,
    )
