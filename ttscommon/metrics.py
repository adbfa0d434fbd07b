"""Numbers for speech: did it say the words, and how far is it from the recording?"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import jiwer
import numpy as np
import torch
from numpy.typing import NDArray

from ttscommon.audio import sound_edges
from ttscommon.evaluation.wording import compared_words, normal_words, plain_words
from ttscommon.mel import MelRecipe, log_mel

CEPSTRUM_RECIPE = MelRecipe(sample_rate=16_000, n_fft=512, hop_length=160, n_mels=80)
N_CEPSTRA = 13
SILENCE_DB = -40.0  # below the loudest moment: cut off both ends before recordings are compared
DEPTH = math.log(
    10 ** (60 / 20)
)  # of a spectrum: what is 60 dB below its loudest is raised to there


@dataclass(frozen=True)
class Errors:
    """Wrong, missing and extra words (or letters) against the number that should be there.

    Texts are scored one by one and summed with `ttscommon.evaluation.scores.ratio_score`.
    """

    n_errors: int
    n_units: int


def word_errors(
    reference: str, hypothesis: str, *, language: str = "en", fluent: bool = False
) -> Errors:
    """Substituted, deleted and inserted words of one text.

    Args:
        language: decides how numbers are read and which sounds are fillers
        fluent: forgive disfluencies: both texts first lose fillers, false starts and repeats, so
            that speech isn't punished for the hesitations it was trained to have
    """
    wanted, heard = compared_words(reference, hypothesis, language, fluent=fluent)
    return _errors(" ".join(wanted), " ".join(heard), jiwer.process_words, len(wanted), len(heard))


def character_errors(
    reference: str, hypothesis: str, *, language: str = "en", fluent: bool = False
) -> Errors:
    """As `word_errors`, in characters; spaces don't count, they aren't heard."""
    wanted = "".join(normal_words(reference, language, fluent=fluent))
    heard = "".join(normal_words(hypothesis, language, fluent=fluent))
    return _errors(wanted, heard, jiwer.process_characters, len(wanted), len(heard))


def aligned_words(
    reference: Sequence[str], hypothesis: Sequence[str]
) -> list[tuple[int | None, int | None]]:
    """Which word became which: (index, index) pairs with the fewest errors, None for no word."""
    pairs: list[tuple[int | None, int | None]] = []
    if not reference or not hypothesis:
        pairs += itertools.zip_longest(range(len(reference)), range(len(hypothesis)))
        return pairs
    chunks = jiwer.process_words(" ".join(reference), " ".join(hypothesis)).alignments[0]
    for chunk in chunks:
        ours = range(chunk.ref_start_idx, chunk.ref_end_idx)
        theirs = range(chunk.hyp_start_idx, chunk.hyp_end_idx)
        pairs += itertools.zip_longest(ours, theirs)
    return pairs


def word_error_rate(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """(substitutions + deletions + insertions) / reference words, over all texts together.

    Both sides go through `plain_words` first; the result can exceed 1.
    """
    if len(references) != len(hypotheses):
        raise ValueError(f"{len(references)} references but {len(hypotheses)} hypotheses")
    pairs = [(plain_words(r), plain_words(h)) for r, h in zip(references, hypotheses, strict=True)]
    if not any(reference for reference, _ in pairs):
        raise ValueError("the references hold no words")
    return float(jiwer.wer([r for r, _ in pairs], [h for _, h in pairs]))


def mel_cepstrum(log_mel: NDArray, n_cepstra: int = N_CEPSTRA) -> NDArray[np.float64]:
    """Cepstra 1 to n of a log-mel (M, T) of natural logarithms of magnitudes: (n, T).

    c_d = 2/M * sum_m x_m cos(pi d (m + 1/2) / M), so that x_m = c_0 + sum_d c_d cos(...): the mel
    spectrum smoothed to n cosines. c_0, the level, is left out.
    """
    from scipy.fft import dct

    transformed = np.asarray(dct(np.asarray(log_mel, np.float64), type=2, axis=0))
    return transformed[1 : n_cepstra + 1] / len(log_mel)


def mel_cepstral_distance(audio: NDArray, reference: NDArray, sample_rate: int = 16_000) -> float:
    """Mel-cepstral distance in dB after dynamic time warping, silent ends cut off both.

    MCD = mean over the path of 10 / ln 10 * sqrt(2 * sum_d (c_d - c'_d)^2), d = 1..13 (Kubichek
    1993, "Mel-cepstral distance measure for objective speech quality assessment"): the root mean
    square difference in dB of two smoothed mel spectra, whatever their loudness. Values depend on
    the analysis (here 80 bands, 32 ms windows every 10 ms at 16 kHz): compare ours with ours only.

    Args:
        audio, reference: (S,) at 16 kHz

    Raises:
        ValueError: if one is silent or shorter than a window, or at another rate
    """
    if sample_rate != CEPSTRUM_RECIPE.sample_rate:
        raise ValueError(f"wants audio at {CEPSTRUM_RECIPE.sample_rate} Hz, not {sample_rate}")
    a, b = (_cepstra_of_sound(x, sample_rate) for x in (audio, reference))
    return cepstral_distance(a, b)


def cepstral_distance(a: NDArray, b: NDArray) -> float:
    """The formula of `mel_cepstral_distance` for two cepstra (n, T1) and (n, T2)."""
    from scipy.spatial.distance import cdist

    cost = cdist(a.T, b.T) * (10 / math.log(10) * math.sqrt(2))  # (T1, T2) dB
    rows, columns = cheapest_path(cost)
    return float(cost[rows, columns].mean())


def mel_dtw(mel_a: NDArray, mel_b: NDArray, floor: float = -9.0) -> float:
    """Mean |a - b| of two log-mels along their cheapest warping path, in nats.

    Args:
        mel_a: (M, T1) natural log
        mel_b: (M, T2)
        floor: both are clamped here, so that the depth of digital silence doesn't rule the mean
    """
    if mel_a.shape[0] != mel_b.shape[0]:
        raise ValueError(f"{mel_a.shape[0]} mel bands against {mel_b.shape[0]}")
    a, b = (np.maximum(mel, floor).astype(np.float32) for mel in (mel_a, mel_b))
    distance = np.zeros((a.shape[1], b.shape[1]), np.float32)  # (T1, T2)
    step = np.empty_like(distance)
    for band_a, band_b in zip(a, b, strict=True):  # one band at a time keeps the memory at T1 * T2
        np.subtract(band_a[:, None], band_b, out=step)
        distance += np.abs(step, out=step)
    distance /= len(a)
    rows, columns = cheapest_path(distance)
    return float(distance[rows, columns].mean())


def cheapest_path(cost: NDArray) -> tuple[NDArray, NDArray]:
    """Dynamic time warping (Sakoe and Chiba 1978), steps (1, 1), (1, 0) and (0, 1) of equal weight.

    Written on anti-diagonals, whose cells don't depend on each other, so that numpy does the work:
    librosa's is as fast, but its first import in an installation compiles for 37 CPU-seconds.

    Args:
        cost: (T1, T2)

    Returns:
        rows and columns of the path from (0, 0) to (T1 - 1, T2 - 1)
    """
    n_rows, n_columns = cost.shape
    total = np.full((n_rows + 1, n_columns + 1), np.inf)
    total[0, 0] = 0
    padded = np.zeros_like(total)
    padded[1:, 1:] = cost
    flat, flat_cost, width = total.reshape(-1), padded.reshape(-1), n_columns + 1
    for diagonal in range(n_rows + n_columns - 1):
        top, bottom = max(0, diagonal - n_columns + 1), min(n_rows - 1, diagonal)
        first = (top + 1) * width + diagonal - top + 1  # one step down-left is width - 1 further
        last = first + (bottom - top) * (width - 1) + 1
        here, above, left, corner = (
            slice(first - back, last - back, width - 1) for back in (0, width, 1, width + 1)
        )
        before = np.minimum(flat[corner], np.minimum(flat[above], flat[left]))
        flat[here] = flat_cost[here] + before
    i, j = n_rows, n_columns
    path = [(i, j)]
    while i > 1 or j > 1:
        steps = ((i - 1, j - 1), (i - 1, j), (i, j - 1))
        i, j = min(steps, key=lambda cell: total[cell])  # the diagonal first where they tie
        path.append((i, j))
    rows, columns = np.array(path[::-1]).T - 1
    return rows, columns


def _errors(wanted: str, heard: str, process, n_wanted: int, n_heard: int) -> Errors:
    if not n_wanted or not n_heard:
        return Errors(max(n_wanted, n_heard), n_wanted)
    found = process(wanted, heard)
    return Errors(found.substitutions + found.deletions + found.insertions, n_wanted)


def _cepstra_of_sound(audio: NDArray, sample_rate: int) -> NDArray:
    start, end = sound_edges(audio, sample_rate, SILENCE_DB)
    if end - start <= CEPSTRUM_RECIPE.n_fft:
        raise ValueError("less sound than one window of analysis")
    sound = np.asarray(audio[start:end], np.float32)
    mel = log_mel(torch.from_numpy(sound), CEPSTRUM_RECIPE).numpy()  # (M, T)
    return mel_cepstrum(np.maximum(mel, mel.max() - DEPTH))
