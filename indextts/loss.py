"""Losses of the IndexTTS2 language model."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from indextts.gpt.model import VoiceOutput
from ttscommon.losses import Losses

IGNORED = -100
TEXT_WEIGHT, MEL_WEIGHT = 0.2, 0.8  # of all public trainers for version 2


def masked_cross_entropy(logits: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """-log softmax(logits)[target], averaged over real targets.

    Args:
        logits: (B, T, V)
        targets: (B, T) long
        mask: (B, T) bool, True on real targets

    Returns:
        () nats per token
    """
    # Left out by their label: to pick rows would copy the logits, the largest tensor of a step.
    labels = targets.masked_fill(~mask, IGNORED)
    total = F.cross_entropy(
        logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    return total / mask.sum().clamp(min=1)


def voice_loss(
    output: VoiceOutput, *, text_weight: float = TEXT_WEIGHT, mel_weight: float = MEL_WEIGHT
) -> Losses:
    """text_weight * cross-entropy of the text + mel_weight * cross-entropy of the codes."""
    text = masked_cross_entropy(output.text_logits, output.text_targets, output.text_mask)
    mel = masked_cross_entropy(output.mel_logits, output.mel_targets, output.mel_mask)
    return Losses(text_weight * text + mel_weight * mel, {"text": text, "mel": mel})
