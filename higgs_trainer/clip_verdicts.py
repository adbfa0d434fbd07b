"""What is wrong with the audio that is to be learned, asked once of each and kept beside the codes.

Silence, clipping, an offset or numbers that are none make audio useless. What the spectrum and the
codes are like is told only: whispering, and a codec that is no good, would fail for all clips.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from higgs_trainer.audio_validation import AudioQualityValidator, Verdict
from higgs_trainer.config import Streams
from ttscommon.config import to_dict
from ttscommon.files import read_json, write_json

FILE, FORMAT = "verdicts.json", "higgs_trainer.verdicts"
USELESS = ("samples that are no numbers", "silence", "silence at the end", "clipped", "offset")


class Verdicts:
    """Those of a folder of prepared data.

    Attributes:
        path: lists every audio, with all answers
    """

    def __init__(self, processed: Path, codec: str, streams: Streams):
        self.path = processed / FILE
        self.streams, self.judge = streams, AudioQualityValidator()
        self._header = {"codec": codec, "limits": to_dict(self.judge.config)}
        self._known = self._read()
        self._seen: dict[str, dict[str, Any]] = {}

    def knows(self, key: str) -> bool:
        return key in self._known

    def add(self, key: str, audio: np.ndarray, sample_rate: int, codes: Tensor) -> None:
        """Look at sound (S,) and its codes (K, T)."""
        found = self.judge.waveform(audio, sample_rate)
        found += self.judge.tokens(codes.numpy().astype(np.int64), self.streams)
        findings = [{**vars(one), "passed": bool(one.passed)} for one in found.findings]
        told = {"valid": found.is_valid, "findings": findings, "useless": reason(found)}
        self._known[key] = told

    def useless(self, key: str, name: str) -> str:
        """Why an audio that is known is of no use; empty if it isn't so."""
        self._seen[key] = {**self._known[key], "audio": name}
        return self._seen[key]["useless"]

    def write(self) -> int:
        """Write those that were asked for.

        Returns:
            how many of them have something odd about them
        """
        header = {"format": FORMAT, "version": 1, **self._header}
        write_json(self.path, {**header, "clips": self._seen})
        return sum(not one["valid"] for one in self._seen.values())

    def _read(self) -> dict[str, dict[str, Any]]:
        if not self.path.is_file():
            return {}
        data = read_json(self.path, format=FORMAT)
        is_same = all(data.get(name) == value for name, value in self._header.items())
        return dict(data["clips"]) if is_same else {}


def reason(verdict: Verdict) -> str:
    """What makes audio useless, in words; empty if nothing does."""
    return "; ".join(str(issue) for issue in verdict.issues if issue.what in USELESS)
