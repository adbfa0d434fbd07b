"""What is wrong with speech, heard or generated: silence, clipping, hum, noise, codes that hang.

Every question has a number, a limit and an answer. Silence is measured in short windows against
full scale: a limit of 1e-6 (-120 dB), as the guide has it, would never be met by a recording.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from higgs_trainer.config import Streams, setting
from ttscommon.errors import UserError
from ttscommon.evaluation.verdicts import clipped_share

WINDOW, HOP = 0.050, 0.025  # seconds
N_FFT = 1024
TINY = 1e-10
FEWEST_STEPS = 12  # of codes; below, shares of them say little


@dataclass(frozen=True, kw_only=True)
class ValidationConfig:
    """Limits; what is on their wrong side fails."""

    min_seconds: float = setting(0.2, "shortest speech")
    max_seconds: float = setting(60.0, "longest speech")
    silence_db: float = setting(-50.0, "windows below this are silent, against full scale")
    max_silence: float = setting(0.6, "share of silent windows")
    max_silent_end: float = setting(0.4, "share of the speech that is silence at its end")
    max_clipped: float = setting(0.001, "share of samples in flat peaks at full scale")
    max_offset: float = setting(0.05, "mean of the samples")
    min_crest_db: float = setting(6.0, "peak over the mean power; a tone has 3")
    max_flatness: float = setting(0.4, "of the spectrum, where it isn't silent; noise has 0.56")
    min_diversity: float = setting(0.05, "different codes for each frame, a mean over codebooks")
    max_repeated: float = setting(0.8, "share of frames with the code before, in any codebook")
    max_alternating: float = setting(0.6, "share of frames with the code before the last one")
    max_stuck: float = setting(0.8, "share of the most frequent code, in any codebook")

    def __post_init__(self) -> None:
        if not 0 <= self.min_seconds < self.max_seconds:
            raise UserError(
                f"min_seconds {self.min_seconds:g} must be below max_seconds {self.max_seconds:g}"
            )


@dataclass(frozen=True)
class Finding:
    """One question and its answer.

    Attributes:
        what: names it, as "silence"
        limit: as it is shown: "at most 0.6"
    """

    what: str
    passed: bool
    value: float
    limit: str

    def __str__(self) -> str:
        return f"{self.what} {self.value:.3g} ({self.limit})"


@dataclass(frozen=True)
class Verdict:
    """All answers about one piece of speech."""

    findings: tuple[Finding, ...]

    @property
    def is_valid(self) -> bool:
        return not self.issues

    @property
    def issues(self) -> list[Finding]:
        """What failed."""
        return [finding for finding in self.findings if not finding.passed]

    def __add__(self, other: Verdict) -> Verdict:
        return Verdict(self.findings + other.findings)

    def __str__(self) -> str:
        return "; ".join(map(str, self.issues)) or "nothing is wrong"

    def to_dict(self) -> dict[str, Any]:
        return {"valid": self.is_valid, "findings": [vars(one) for one in self.findings]}


class AudioQualityValidator:
    """Asks all questions, with one set of limits."""

    def __init__(self, config: ValidationConfig | None = None):
        self.config = config or ValidationConfig()

    def waveform(self, audio: NDArray[np.float32], sample_rate: int) -> Verdict:
        """Of sound (S,), mono."""
        config = self.config
        seconds = len(audio) / sample_rate
        found = [
            _at_least("seconds", seconds, config.min_seconds),
            _at_most("seconds", seconds, config.max_seconds),
        ]
        n_bad = int((~np.isfinite(audio)).sum())
        found.append(_at_most("samples that are no numbers", n_bad, 0))
        if n_bad or not len(audio):
            return Verdict(tuple(found))
        sound = audio.astype(np.float64)
        is_silent = _levels(sound, sample_rate) < config.silence_db
        found += [
            _at_most("silence", float(is_silent.mean()), config.max_silence),
            _at_most("silence at the end", _tail(is_silent), config.max_silent_end),
            _at_most("clipped", clipped_share(sound), config.max_clipped),
            _at_most("offset", float(abs(sound.mean())), config.max_offset),
        ]
        if not is_silent.all():
            flatness = _flatness(sound, sample_rate, is_silent)
            found += [
                _at_least("crest dB", _crest(sound), config.min_crest_db),
                _at_most("flatness", flatness, config.max_flatness),
            ]
        return Verdict(tuple(found))

    def tokens(
        self,
        codes: NDArray[np.int64],
        streams: Streams,
        *,
        expected: tuple[int, int] | None = None,
        stopped: bool = True,
    ) -> Verdict:
        """Of codes (K, T), without begins and ends.

        Args:
            expected: the fewest and the most steps that the text can take
            stopped: whether they came to an end by themselves
        """
        config, n_steps = self.config, codes.shape[1]
        outside = int(((codes < 0) | (codes >= streams.n_codes)).sum())
        found = [
            _at_most("codes that the model hasn't", outside, 0),
            _at_most("speech without an end", float(not stopped), 0),
            _at_least("steps", n_steps, expected[0] if expected else 1),
        ]
        if expected:
            found.append(_at_most("steps", n_steps, expected[1]))
        if n_steps < FEWEST_STEPS:
            return Verdict(tuple(found))
        different = [len(np.unique(row)) / n_steps for row in codes]
        repeated = (codes[:, 1:] == codes[:, :-1]).mean(axis=1)
        alternating = (codes[:, 2:] == codes[:, :-2]) & (codes[:, 2:] != codes[:, 1:-1])
        most = [np.unique(row, return_counts=True)[1].max() / n_steps for row in codes]
        found += [
            _at_least("diversity", float(np.mean(different)), config.min_diversity),
            _at_most("repeated", float(repeated.max()), config.max_repeated),
            _at_most("alternating", float(alternating.mean(axis=1).max()), config.max_alternating),
            _at_most("stuck codebook", float(max(most)), config.max_stuck),
        ]
        return Verdict(tuple(found))


def _at_most(what: str, value: float, limit: float) -> Finding:
    return Finding(what, value <= limit, float(value), f"at most {limit:g}")


def _at_least(what: str, value: float, limit: float) -> Finding:
    return Finding(what, value >= limit, float(value), f"at least {limit:g}")


def _windows(sound: NDArray[np.float64], sample_rate: int) -> NDArray[np.float64]:
    """(N, W) overlapping stretches; one, filled up with zeros, of what is shorter."""
    width, hop = max(1, int(WINDOW * sample_rate)), max(1, int(HOP * sample_rate))
    if len(sound) < width:
        sound = np.pad(sound, (0, width - len(sound)))
    return np.lib.stride_tricks.sliding_window_view(sound, width)[::hop]


def _levels(sound: NDArray[np.float64], sample_rate: int) -> NDArray[np.float64]:
    """(N,) dB against full scale."""
    power = np.square(_windows(sound, sample_rate)).mean(axis=1)
    return 10 * np.log10(power + TINY)


def _tail(is_silent: NDArray[np.bool_]) -> float:
    """The share that is silent without a break at the end."""
    sounding = np.flatnonzero(~is_silent)
    last = int(sounding[-1]) + 1 if len(sounding) else 0
    return (len(is_silent) - last) / len(is_silent)


def _crest(sound: NDArray[np.float64]) -> float:
    return float(20 * np.log10(np.abs(sound).max() / np.sqrt(np.square(sound).mean() + TINY)))


def _flatness(sound: NDArray[np.float64], sample_rate: int, is_silent: NDArray[np.bool_]) -> float:
    """Median over the windows that sound, of the geometric over the arithmetic mean of power."""
    windows = _windows(sound, sample_rate)[~is_silent]
    power = np.square(np.abs(np.fft.rfft(windows * np.hanning(windows.shape[1]), N_FFT))) + TINY
    return float(np.median(np.exp(np.log(power).mean(axis=1)) / power.mean(axis=1)))
