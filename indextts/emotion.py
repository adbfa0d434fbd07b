"""In which mood to speak: from eight weights, or from a second recording, to one vector.

Upstream keeps, for each of eight emotions, a few vectors of different speakers; the one whose
speaker resembles the wanted voice most is taken. The arithmetic is the original's.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ttscommon.errors import UserError

log = logging.getLogger(__name__)

EMOTIONS = ("happy", "angry", "sad", "afraid", "disgusted", "melancholic", "surprised", "calm")
# How strongly each is toned down before it is limited; from the original's web page.
BIAS = (0.9375, 0.875, 1.0, 1.0, 0.9375, 0.9375, 0.6875, 0.5625)
MAX_SUM = 0.8  # of the weights there
# Far beyond what sounds like a mood; further the networks leave the numbers they can compute with.
MOST = 10.0


def emotion_vector(values: Sequence[float]) -> tuple[float, ...]:
    """The weights of `EMOTIONS`, checked.

    Raises:
        UserError: if there aren't eight, or one is negative, above 10 or not a number
    """
    order = ", ".join(EMOTIONS)
    try:
        vector = tuple(float(value) for value in values)
    except (TypeError, ValueError) as error:
        raise UserError(f"an emotion vector holds numbers: {error}", fix=f"give {order}") from error
    if len(vector) != len(EMOTIONS):
        raise UserError(
            f"an emotion vector has {len(EMOTIONS)} values, got {len(vector)}", fix=f"give {order}"
        )
    for name, value in zip(EMOTIONS, vector, strict=True):
        if not 0 <= value <= MOST:
            raise UserError(f"the emotion '{name}' is {value:g}", fix="0 is none of it, 1 is full")
    if sum(vector) > 1:
        log.warning(
            "the emotion vector sums up to %.2f; above 1 the voice's own mood is subtracted",
            sum(vector),
        )
    return vector


def scaled(vector: Sequence[float], alpha: float) -> tuple[float, ...]:
    """The weights times alpha (0..1), cut after the fourth digit unless alpha is 1."""
    strength = min(max(alpha, 0.0), 1.0)
    if strength == 1.0:
        return tuple(vector)
    return tuple(int(value * strength * 10_000) / 10_000 for value in vector)


def limited(vector: Sequence[float], *, apply_bias: bool = True) -> tuple[float, ...]:
    """The weights as the original's web page softens them: toned down, 0.8 in all at most."""
    values = [
        value * bias if apply_bias else value for value, bias in zip(vector, BIAS, strict=True)
    ]
    total = sum(values)
    factor = MAX_SUM / total if total > MAX_SUM else 1.0
    return tuple(value * factor for value in values)


def merged(own: Tensor, other: Tensor, alpha: float) -> Tensor:
    """own + alpha (other - own): two emotion vectors (B, D) -> (B, D)"""
    return own + alpha * (other - own)


@dataclass(frozen=True, kw_only=True)
class Mood:
    """In which mood to speak; by default in the one of the reference.

    Attributes:
        features: (1, L, C) w2v-bert features of another recording
        alpha: how far to go from the voice's own mood to that one; or factor of the vector
        vector: weights of `EMOTIONS`
        is_random: take the vectors of any speakers, instead of those most like the voice
    """

    features: Tensor | None = None
    alpha: float = 1.0
    vector: tuple[float, ...] | None = None
    is_random: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.alpha, int | float) or not -MOST <= self.alpha <= MOST:
            raise UserError(
                f"emo_alpha must be a number from {-MOST:g} to {MOST:g}, got {self.alpha!r}"
            )


@dataclass(frozen=True)
class EmotionMatrices:
    """Vectors of the eight emotions, each by several speakers.

    Attributes:
        speakers: (N, E) speaker vectors
        emotions: (N, D) what each of them sounds like in that emotion
        counts: rows of each emotion, in the order of `EMOTIONS`
    """

    speakers: Tensor
    emotions: Tensor
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        n = sum(self.counts)
        if len(self.counts) != len(EMOTIONS) or min(self.counts) < 1:
            raise UserError(f"emo_num must be {len(EMOTIONS)} numbers above 0, got {self.counts}")
        if not len(self.speakers) == len(self.emotions) == n:
            raise UserError(
                f"the speaker matrix has {len(self.speakers)} rows, the emotion matrix "
                f"{len(self.emotions)}, but emo_num sums up to {n}"
            )

    def nearest_rows(self, style: Tensor) -> list[int]:
        """For each emotion the row whose speaker is most like the voice of `style` (1, E)."""
        likeness = F.cosine_similarity(style, self.speakers, dim=-1).split(list(self.counts))
        return [int(group.argmax()) for group in likeness]

    def random_rows(self, seed: int) -> list[int]:
        """For each emotion any row."""
        chance = random.Random(seed)
        return [chance.randrange(count) for count in self.counts]

    def mix(self, vector: Sequence[float], rows: Sequence[int], own: Tensor) -> Tensor:
        """The weighted emotions, and of the voice's `own` mood what the weights leave.

        Args:
            vector: weights of the emotions
            rows: of each emotion, counted from its first
            own: (1, D)

        Returns:
            (1, D)
        """
        groups = self.emotions.split(list(self.counts))
        chosen = torch.stack([group[row] for group, row in zip(groups, rows, strict=True)])
        weights = torch.tensor(vector, dtype=chosen.dtype, device=chosen.device)
        mixture = (weights[:, None] * chosen).sum(0, keepdim=True)
        return mixture.to(own) + (1 - weights.sum().to(own)) * own
