"""What trained models are compared with: the clips that were held out, and usual lengths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from kani.prepared import Prepared
from kani.speaker_embedding import mean_of
from kani.speaking import Line, Pace, split
from kani.tokens import Ids, extract

N_REAL = 12  # held-out clips of each speaker to be like
N_SOME = 500  # clips that usual lengths and voices are taken from


class References:
    """Prepared clips as words and codes again.

    Args:
        speakers: whose names may stand before a text
    """

    def __init__(self, prepared: Prepared, tokenizer: Any, speakers: Sequence[str], fps: float):
        self.mark = prepared.fingerprint
        self._prepared, self._tokenizer, self._fps = prepared, tokenizer, fps
        self._speakers = speakers

    def paces(self) -> dict[str | None, Pace]:
        """How long each speaker takes."""
        found: dict[str | None, tuple[list[int], list[float]]] = {}
        for row in self._some():
            line = self._line(row, "")
            letters, seconds = found.setdefault(line.speaker, ([], []))
            letters.append(len(line.text))
            seconds.append(row["n_frames"] / self._fps)
        return {speaker: Pace.of(*both) for speaker, both in found.items()}

    def voices(self) -> dict[str | None, Tensor]:
        """(E,) of each speaker, or language, that has any: the mean of its clips."""
        found: dict[str | None, list[Tensor]] = {}
        for row in self._some():
            if row.get("speaker_emb"):
                embedding = torch.tensor(row["speaker_emb"])
                found.setdefault(self._line(row, "").speaker, []).append(embedding)
        return {speaker: mean_of(some) for speaker, some in found.items()}

    def held_out(self) -> list[tuple[Line, Ids]]:
        """Clips of each speaker that nothing was trained on, with their codes (K, T)."""
        rows = self._prepared.rows
        numbers = np.flatnonzero(np.array(rows["held_out"], dtype=bool))
        counts: dict[str | None, int] = {}
        found = []
        for row in cast("Sequence[dict[str, Any]]", rows.select(numbers)):
            line = self._line(row, "")
            n = counts[line.speaker] = counts.get(line.speaker, 0) + 1
            if n <= N_REAL:
                codes = extract(row["ids"], self._prepared.space).codes
                name = f"{line.speaker or 'held-out'}_{n:02d}"
                found.append((Line(name, line.text, line.speaker), codes))
        return found

    def _some(self) -> Iterator[dict[str, Any]]:
        rows = self._prepared.rows
        for row in rows.select(range(0, len(rows), max(1, len(rows) // N_SOME))):
            yield cast("dict[str, Any]", row)

    def _line(self, row: Mapping[str, Any], name: str) -> Line:
        # human, maybe the voice, start of text, the text, its end, human's end, ai, speech, codes
        first = 3 if row.get("speaker_emb") else 2
        words = self._tokenizer.decode(row["ids"][first : row["audio_start"] - 4])
        speaker, text = split(words, self._speakers)
        return Line(name, text, speaker)
