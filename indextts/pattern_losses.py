"""What a manner of speaking is trained by: pure functions of logits, in logarithms and float32.

Two kinds of weights must not be mixed up. Weighing a *kind of place* (all frames that follow
speech) leaves the best answer where it was: the speaker's own probability. Weighing *what happened*
(the frames at which a pause did begin) moves it: 8 times the weight, 8 times the odds. So whatever
is a choice between two outcomes is scored on both of them here; `decision_cross_entropy` and
`reference_losses`, which aren't, are there to be compared with.

Letters: B clips, T codes (without the stop), V codes of the model.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

PUBLIC_SILENCE_CODE = 52  # of the public trainer; it is of another version's codec
PUBLIC_WEIGHTS = {"ce": 1.0, "pause": 2.0, "rate": 0.5}
PUBLIC_NEIGHBOURS = {-2: 0.5, -1: 0.5, 0: 1.0, 1: 0.5, 2: 0.5}


@dataclass(frozen=True)
class _Places:
    """Where there is something to decide, each (B, T) bool."""

    is_paused: Tensor
    after_speech: Tensor
    after_pause: Tensor


def token_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """-log softmax(logits)[target] of every token.

    Args:
        logits: (B, T, V); targets: (B, T) long

    Returns:
        (B, T) nats, float32
    """
    return F.cross_entropy(logits.float().transpose(1, 2), targets, reduction="none")


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of values (B, T) where mask (B, T) bool is True; 0 if it is nowhere: ()"""
    return values.masked_fill(~mask, 0).sum() / mask.sum().clamp(min=1)


def log_masses(logits: Tensor, silence: Tensor) -> tuple[Tensor, Tensor]:
    """log P(silence) and log P(anything else) of every frame.

    Args:
        logits: (B, T, V)
        silence: (V,) bool, True for the codes that are silence, one at least

    Returns:
        each (B, T), float32
    """
    logits, lowest = logits.float(), -torch.inf
    whole = logits.logsumexp(-1)
    quiet = logits.masked_fill(~silence, lowest).logsumexp(-1) - whole
    loud = logits.masked_fill(silence, lowest).logsumexp(-1) - whole
    return quiet, loud


def pause_loss(
    masses: tuple[Tensor, Tensor], codes: Tensor, pauses: Tensor, mask: Tensor, silence: Tensor
) -> Tensor:
    """(mean(-log P(decision) | after speech) + mean(-log P(decision) | after a pause's frame)) / 2

    After speech it is decided at every frame whether a pause begins, and in a pause whether it goes
    on, so a pause of n frames counts n + 1 times. The least is reached where pauses begin and end
    as often as the speaker's.

    Args:
        masses: of `log_masses`
        codes: (B, T) long
        pauses: (B, T) bool, True inside pauses; silence at the ends of a clip is none
        mask: (B, T) bool, True on real codes
        silence: (V,) bool

    Returns:
        () nats a decision
    """
    quiet, loud = masses
    places = _places(codes, pauses, mask, silence)
    losses = -torch.where(places.is_paused, quiet, loud)
    return (masked_mean(losses, places.after_speech) + masked_mean(losses, places.after_pause)) / 2


def silence_mass_losses(
    masses: tuple[Tensor, Tensor], codes: Tensor, mask: Tensor, silence: Tensor
) -> tuple[Tensor, Tensor]:
    """Missing silence, sum(-log P(silence) | silent) / n, and false, sum(-log P(other) | not) / n.

    Both are divided by the number of all frames: balanced against each other they would reward too
    much silence.

    Args:
        masses, codes, mask, silence: as for `pause_loss`

    Returns:
        two of ()
    """
    quiet, loud = masses
    is_silent, n_frames = silence[codes], mask.sum().clamp(min=1)
    missing = -quiet.masked_fill(~(mask & is_silent), 0).sum() / n_frames
    false = -loud.masked_fill(~(mask & ~is_silent), 0).sum() / n_frames
    return missing, false


def rate_loss(
    masses: tuple[Tensor, Tensor], codes: Tensor, mask: Tensor, silence: Tensor
) -> Tensor:
    """(log(1 + expected silent frames) - log(1 + silent frames))^2, mean over clips.

    Args:
        masses, codes, mask, silence: as for `pause_loss`

    Returns:
        ()
    """
    expected = masses[0].exp().masked_fill(~mask, 0).sum(dim=1)  # (B,)
    found = (mask & silence[codes]).sum(dim=1)
    return (expected.log1p() - found.log1p()).square().mean()


def event_loss(losses: Tensor, events: Tensor) -> Tensor:
    """Mean cross-entropy of fillers, stutters and prolongations behind their first frame.

    That they begin is left to the cross-entropy of all codes; weighing it here would make more of
    them than the speaker does.

    Args:
        losses: (B, T) of `token_losses`
        events: (B, T) bool, True inside them

    Returns:
        ()
    """
    return masked_mean(losses, events & _shifted(events))


def decision_cross_entropy(losses: Tensor, weights: Tensor) -> Tensor:
    """sum(w l) / sum(w) over the first silent code of each pause and the first code behind it.

    Args:
        losses: (B, T) of `token_losses`
        weights: (B, T), frames of the pause at these two places, 0 elsewhere
    """
    return (losses * weights).sum() / weights.sum().clamp(min=1)


def distillation(logits: Tensor, wanted: Tensor, mask: Tensor) -> Tensor:
    """KL(softmax(wanted) || softmax(logits)), mean over tokens.

    Args:
        logits, wanted: (B, T, V)
        mask: (B, T) bool

    Returns:
        () nats a token
    """
    found, target = logits.float().log_softmax(-1), wanted.float().log_softmax(-1)
    return masked_mean((target.exp() * (target - found)).sum(-1), mask)


def reference_losses(
    logits: Tensor,
    targets: Tensor,
    mask: Tensor,
    starts: Tensor,
    *,
    silence_code: int = PUBLIC_SILENCE_CODE,
) -> dict[str, Tensor]:
    """The public trainer's: {"ce", "pause", "rate", "total"}, each ().

    pause: cross-entropy around the first frame of each pause, weight 1 there and 1/2 at two
    neighbours on either side; rate: binary cross-entropy of one code at every position.

    Args:
        logits: (B, T, V); targets: (B, T) long, stop tokens included
        mask: (B, T) bool, True on codes and one stop
        starts: (B, T) bool, True at the first frame of a pause
    """
    losses = token_losses(logits, targets)
    weights = torch.zeros_like(losses)
    n = starts.shape[1]
    for distance, weight in PUBLIC_NEIGHBOURS.items():
        near = F.pad(starts, (max(distance, 0), max(-distance, 0)))
        near = near[:, max(-distance, 0) :][:, :n]
        weights = torch.maximum(weights, weight * near)
    share = weights.sum().clamp(min=1)
    one = torch.arange(logits.shape[-1], device=logits.device) == silence_code
    quiet, loud = log_masses(logits, one)
    # Probabilities were masked there, so what lies behind a clip costs nothing.
    binary = -torch.where(targets == silence_code, quiet, loud).clamp(min=-100)
    parts = {
        "ce": masked_mean(losses, mask),
        "pause": (losses * weights * mask).sum() / share,
        "rate": masked_mean(binary, mask),
    }
    total = torch.stack([PUBLIC_WEIGHTS[name] * value for name, value in parts.items()]).sum()
    return {**parts, "total": total}


def _places(codes: Tensor, pauses: Tensor, mask: Tensor, silence: Tensor) -> _Places:
    """Frames are left out where codes and pauses disagree: a breath, or the silence of a stop."""
    is_silent = silence[codes]
    is_paused, speaks = pauses & is_silent & mask, ~pauses & ~is_silent & mask
    is_clear = is_paused | speaks
    return _Places(is_paused, _shifted(speaks) & is_clear, _shifted(pauses) & is_clear)


def _shifted(flags: Tensor) -> Tensor:
    """(..., T) bool, each as it was a frame before; False at first."""
    return F.pad(flags, (1, 0))[..., :-1]
