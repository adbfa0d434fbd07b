"""Numbers for speech: did it say the words, and how far is it from the recording?"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import jiwer
import numpy as np
from numpy.typing import NDArray

_SPACE = re.compile(r"\s+")


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


def plain_words(text: str) -> str:
    """Lower-case words with single spaces; apostrophes vanish, other punctuation separates.

    Combining marks stay: in Devanagari they are the vowels.
    """
    text = unicodedata.normalize("NFKC", text).casefold()
    text = text.replace("'", "").replace("’", "")
    letters = (" " if unicodedata.category(c)[0] in "PSC" else c for c in text)
    return _SPACE.sub(" ", "".join(letters)).strip()


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
