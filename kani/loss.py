"""Cross-entropy of the next id, told apart by what is said."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from kani.dataset import IGNORED, KaniBatch
from kani.tokens import TokenSpace
from ttscommon.losses import Losses

# Most places whose logits are there at the same time. A vocabulary of 80,538 takes 0.3 MB a place.
CHUNK = 256


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

    Args:
        hidden: (N, D); targets: (N,) long

    Returns:
        (N,) nats
    """
    if not len(hidden):
        return hidden.sum(dim=-1)
    if type(head) is nn.Linear and head.bias is None and not head.weight.requires_grad:
        losses: Any = FrozenHead.apply(hidden, head.weight, targets)
        return losses

    def some(part: Tensor, wanted: Tensor) -> Tensor:
        return F.cross_entropy(head(part).float(), wanted, reduction="none")

    parts = zip(hidden.split(CHUNK), targets.split(CHUNK), strict=True)
    if len(hidden) <= CHUNK or not torch.is_grad_enabled():
        return torch.cat([some(*part) for part in parts])
    # Logits are computed anew for the backward pass instead of kept.
    return torch.cat([checkpoint(some, *part, use_reentrant=False) for part in parts])  # type: ignore[misc]


class FrozenHead(torch.autograd.Function):
    """`token_losses` of a head that isn't trained, with the gradient found on the way.

    Logits of a chunk live in a place that is used again, and a backward pass has nothing left to do
    but a product. On a CPU that is two to three times as fast as autograd, which fills hundreds of
    megabytes of fresh memory several times.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:  # type: ignore[override]
        is_learned = ctx.needs_input_grad[0]
        exact = torch.promote_types(weight.dtype, torch.float32)
        losses = hidden.new_empty(len(hidden), dtype=exact)
        found = torch.empty_like(hidden) if is_learned else hidden.new_empty(0)
        # A chunk's logits take no more memory than the head: else reading them takes the time.
        chunk = min(CHUNK, len(hidden), weight.shape[1])
        logits = weight.new_empty(chunk, len(weight))
        product = weight.new_empty(chunk, weight.shape[1])
        wide = logits if exact == weight.dtype else torch.empty_like(logits, dtype=exact)
        for start in range(0, len(hidden), chunk):
            wanted = targets[start : start + chunk]
            said, shares = logits[: len(wanted)], wide[: len(wanted)]
            torch.mm(hidden[start : start + chunk].to(weight), weight.T, out=said)
            if wide is not logits:
                shares.copy_(said)
            told = shares.gather(1, wanted[:, None])[:, 0]
            highest = shares.amax(dim=-1)
            total = shares.sub_(highest[:, None]).exp_().sum(dim=-1)
            losses[start : start + chunk] = total.log() + (highest - told)
            if is_learned:
                # Likelihoods, times their sum, less one at the target: exact before all is rounded,
                # for where the target is nearly certain the rest is the difference of alikes.
                shares.scatter_add_(1, wanted[:, None], -total[:, None])
                if wide is not logits:
                    said.copy_(shares)
                pull = torch.mm(said, weight, out=product[: len(wanted)])
                found[start : start + chunk] = pull / total[:, None]
        ctx.save_for_backward(found)
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        (found,) = ctx.saved_tensors
        return found * gradient[:, None].to(found), None, None


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
