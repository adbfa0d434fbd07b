"""Prepared clips with how they are spoken, and what is known of their speaker."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from indextts.clips import INFO_FILE, TrainingClip, read_clips
from indextts.pattern_features import PatternFeatures
from ttscommon.errors import UserError
from ttscommon.files import read_json

log = logging.getLogger(__name__)

PATTERN_INFO = "pattern_info.json"
PREPARE = "python tools/prepare_pattern_dataset_v3.py"
EVENTS = ("fillers", "stutters", "prolongations")
ROUNDING = 2  # codes that a clip may have more or fewer than its features say


@dataclass(frozen=True, kw_only=True)
class PatternClip(TrainingClip):
    """A clip with its pauses, fillers, stutters, drawn-out words and pace.

    Attributes:
        pattern_sha256: of the file of these
    """

    features: PatternFeatures
    pattern_sha256: str

    @property
    def pauses(self) -> np.ndarray:
        """(T,) bool, True inside pauses."""
        return self._frames(self.features.pauses)

    @property
    def events(self) -> np.ndarray:
        """(T,) bool, True inside fillers, stutters and drawn-out words."""
        return self._frames([span for name in EVENTS for span in getattr(self.features, name)])

    @property
    def decisions(self) -> np.ndarray:
        """(T,) float32: frames of a pause, at its first frame and behind its last."""
        found = np.zeros(self.code_len + 1, np.float32)
        for first, last in self.features.pauses:
            for place in (first, last):
                if place < self.code_len:
                    found[place] = max(found[place], last - first)
        return found[:-1]

    def _frames(self, spans: Sequence[tuple[int, int]]) -> np.ndarray:
        found = np.zeros(self.code_len, bool)
        for first, last in spans:
            found[first:last] = True
        return found


@dataclass(frozen=True, kw_only=True)
class PatternInfo:
    """What is known of a speaker from all clips together.

    Attributes:
        silence_codes: codes that are silence in the speaker's own recordings
        share: of each of these, how many of its frames are silent
        rates: pauses a minute and the like
        tokenizer: hash of what turned the texts into tokens
    """

    silence_codes: tuple[int, ...]
    share: Mapping[str, float] = field(default_factory=dict)
    rates: Mapping[str, Any] = field(default_factory=dict)
    tokenizer: str = ""

    def silence(self, n_codes: int) -> np.ndarray:
        """(V,) bool, True for silence codes."""
        found = np.zeros(n_codes, bool)
        found[list(self.silence_codes)] = True
        return found


def read_pattern_clips(manifests: Sequence[Path]) -> list[PatternClip]:
    """The clips of manifests in `processed_v3/`, with `<id>_pattern.json` beside their codes.

    Raises:
        UserError: if anything is missing or broken, or features are of other codes
    """
    return [_with_features(clip) for clip in read_clips(manifests)]


def read_pattern_info(folder: Path, n_codes: int) -> PatternInfo:
    """What stands in the folder of a manifest.

    Args:
        n_codes: codes that can be said

    Raises:
        UserError: if it is missing, broken, or names codes that there aren't
    """
    path = folder / PATTERN_INFO
    if not path.is_file():
        raise UserError("nothing is known here of pauses and silence", where=path, fix=PREPARE)
    data = read_json(path)
    try:
        codes = tuple(sorted({int(code) for code in data["silence_codes"]}))
        share = {str(code): float(value) for code, value in dict(data.get("share", {})).items()}
        rates = dict(data.get("rates", {}))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"no pattern info: {error!r}", where=path, fix=PREPARE) from error
    if codes and not 0 <= codes[0] <= codes[-1] < n_codes:
        what = f"silence codes from {codes[0]} to {codes[-1]}, this model's are below {n_codes}"
        raise UserError(what, where=path, fix=f"{PREPARE} again, with this model's files")
    about = folder / INFO_FILE
    tokenizer = str(read_json(about).get("tokenizer_sha256", "")) if about.is_file() else ""
    rates = {key: value for key, value in rates.items() if _is_plain(value)}
    return PatternInfo(silence_codes=codes, share=share, rates=rates, tokenizer=tokenizer)


def tell_of_silence(clips: Sequence[PatternClip], info: PatternInfo) -> None:
    """Warn where there is nothing to learn pauses from; the rest can be learned all the same."""
    n_pauses = sum(len(clip.features.pauses) for clip in clips)
    if not n_pauses:
        log.warning(
            "no pauses in %d clips: the pattern learns that this speaker makes none", len(clips)
        )
    if not info.silence_codes:
        log.warning(
            "no code is silence in these recordings, so pauses are learned like all other codes, "
            "without losses of their own"
        )


def _with_features(clip: TrainingClip) -> PatternClip:
    path = clip.codes_path.with_name(f"{clip.id}_pattern.json")
    if not path.is_file():
        raise UserError(f"nothing is known of how {clip.id} is spoken", where=path, fix=PREPARE)
    features = PatternFeatures.read(path)
    if abs(features.frames - clip.code_len) > ROUNDING:
        raise UserError(
            f"features of {features.frames} frames, {clip.id} has {clip.code_len} codes",
            where=path,
            fix=f"{PREPARE} again",
        )
    plain = {f.name: getattr(clip, f.name) for f in dataclasses.fields(TrainingClip)}
    mark = hashlib.sha256(path.read_bytes()).hexdigest()
    return PatternClip(**plain, features=features, pattern_sha256=mark)


def _is_plain(value: Any) -> bool:
    """Whether it can stand in a file of weights."""
    return isinstance(value, str) or (isinstance(value, int | float) and math.isfinite(value))
