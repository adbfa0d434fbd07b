"""Cross-entropy of the next id, told apart by what is said."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from kani.dataset import IGNORED, KaniBatch
from kani.tokens import TokenSpace
from ttscommon.losses import Losses

# Places whose logits are there at the same time. A vocabulary of 80,538 takes 0.3 MB a place.
CHUNK = 2048


def predictions(hidden: Tensor, batch: KaniBatch) -> tuple[Tensor, Tensor]:
    """The places that predict something to be learned.

    Args:
        hidden: (B, T, D)

    Returns:
        (N, D), and the ids that follow them, (N,)
    """
    targets = batch.labels[:, 1:]
    learned = targets != IGNORED
    return hidden[:, :-1][learned], targets[learned]


def token_losses(hidden: Tensor, head: nn.Module, targets: Tensor) -> Tensor:
    """-log p(target) of each place.

    Logits of many places are computed anew for the backward pass instead of kept.

    Args:
        hidden: (N, D); targets: (N,) long

    Returns:
        (N,) nats
    """

    def losses(part: Tensor, wanted: Tensor) -> Tensor:
        return F.cross_entropy(head(part).float(), wanted, reduction="none")

    if len(hidden) <= CHUNK or not torch.is_grad_enabled():
        parts = zip(hidden.split(CHUNK), targets.split(CHUNK), strict=True)
        return torch.cat([losses(*part) for part in parts]) if len(hidden) else hidden.sum(dim=-1)
    return torch.cat(
        [
            checkpoint(losses, part, wanted, use_reentrant=False)  # type: ignore[misc]
            for part, wanted in zip(hidden.split(CHUNK), targets.split(CHUNK), strict=True)
        ]
    )


def kani_loss(losses: Tensor, targets: Tensor, space: TokenSpace) -> Losses:
    """The mean over all that is learned; "audio" and "text" (prompt and marks) each by itself.

    Args:
        losses, targets: (N,) of each place
    """
    is_audio = targets >= space.audio_tokens_start
    return Losses(
        losses.mean(), {"audio": _mean(losses, is_audio), "text": _mean(losses, ~is_audio)}
    )


def layer_of(targets: Tensor, space: TokenSpace) -> Tensor:
    """(N,) the layer, from 0, of each id; below 0 for what is no code."""
    return (targets - space.audio_tokens_start).div(space.codebook_size, rounding_mode="floor")


def _mean(losses: Tensor, mask: Tensor) -> Tensor:
    return (losses.detach() * mask).sum() / mask.sum().clamp(min=1)
