"""How well the predictor read its text: measures of one cross-attention map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lewm.loss import GUIDED_HEADS

REACH = 2  # bytes either side of a peak that count as read: a frame of 43 ms can span several


@dataclass(frozen=True)
class Alignment:
    """Three numbers about the path of attention peaks, each 1 for a perfect reading.

    Attributes:
        diagonality: correlation of the attended position with the frame number
        monotonicity: share of steps on which the peak doesn't move back by more than one byte
        coverage: share of the text that lies within two bytes of some peak
    """

    diagonality: float
    monotonicity: float
    coverage: float


def alignment_map(attention: Sequence[Tensor]) -> Tensor:
    """The reading path of one clip: guided heads (the first two), averaged over all layers.

    Args:
        attention: per layer (H, T, L)

    Returns:
        (T, L) rows summing to 1
    """
    return torch.stack([layer[:GUIDED_HEADS].float().mean(0) for layer in attention]).mean(0)


def measure_alignment(attention: Tensor) -> Alignment:
    """Measures of an alignment map (T, L) whose first and last columns are BOS and EOS."""
    path = attention.argmax(1).float().cpu()  # (T,)
    frames = torch.arange(len(path), dtype=torch.float32)
    steps = path.diff()
    text = torch.arange(1, max(2, attention.shape[1] - 1), dtype=torch.float32)  # without BOS, EOS
    distance = (text[:, None] - path[None]).abs().min(1).values  # (L - 2,)
    return Alignment(
        diagonality=_correlation(frames, path),
        monotonicity=float((steps >= -1).float().mean()) if len(steps) else 1.0,
        coverage=float((distance <= REACH).float().mean()),
    )


def _correlation(x: Tensor, y: Tensor) -> float:
    """Pearson's r; 0 where either is constant."""
    x, y = x - x.mean(), y - y.mean()
    scale = float((x.square().sum() * y.square().sum()).sqrt())
    return float((x * y).sum()) / scale if scale > 0 else 0.0
