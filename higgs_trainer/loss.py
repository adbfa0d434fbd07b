"""Losses of a Higgs Audio model, each label predicted from the place before its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from higgs_trainer.collator import HiggsBatch
from higgs_trainer.delay import IGNORED
from ttscommon.losses import Losses


@dataclass(frozen=True)
class Predictions:
    """Logits where there is something to learn, and only there: whole they would be the step's
    largest tensors.

    Attributes:
        audio_logits: (N, K, V); audio_targets: (N, K) long, IGNORED where a codebook has none
        text_logits: (M, W), and text_targets: (M,) long, where there is a text head
    """

    audio_logits: Tensor
    audio_targets: Tensor
    text_logits: Tensor | None
    text_targets: Tensor | None


def predictions(model: Any, batch: HiggsBatch, *, with_text: bool = True) -> Predictions:
    """What the model says before each label, of `HiggsAudioV2ForConditionalGeneration`."""
    config = model.config
    hidden = hidden_states(model, batch)  # (B, L, D)
    is_audio = audio_places(batch, config)
    shape = (*batch.input_ids.shape, config.num_codebooks)
    labels = batch.audio_labels.new_full(shape, IGNORED)  # (B, L, K)
    labels[is_audio] = batch.audio_labels[batch.frame_mask]
    after = labels[:, 1:]
    is_target = (after != IGNORED).any(-1)
    said = model.audio_lm_head(hidden[:, :-1][is_target])  # (N, K * V)
    text_logits = text_targets = None
    if with_text and model.text_lm_head is not None:
        text = batch.labels[:, 1:]
        text_targets = text[text != IGNORED]
        text_logits = model.text_lm_head(hidden[:, :-1][text != IGNORED])
    return Predictions(
        said.unflatten(-1, (config.num_codebooks, config.codebook_size)),
        after[is_target],
        text_logits,
        text_targets,
    )


def hidden_states(model: Any, batch: HiggsBatch) -> Tensor:
    """(B, L, D), normalised, as the heads read them."""
    has_audio = batch.frames.shape[1] > 0
    return model.model(
        input_ids=batch.input_ids,
        attention_mask=batch.mask,
        audio_input_ids=batch.frames if has_audio else None,
        audio_input_ids_mask=batch.frame_mask if has_audio else None,
        use_cache=False,
    ).last_hidden_state


def audio_places(batch: HiggsBatch, config: Any) -> Tensor:
    """(B, L) bool, True where a frame stands."""
    ids = batch.input_ids
    return (ids == config.audio_token_id) | (ids == config.audio_delay_token_id)


def codebook_losses(said: Predictions) -> Tensor:
    """-log softmax(logits)[target] of each codebook, averaged over its targets.

    Returns:
        (K,) nats per code
    """
    logits, targets = said.audio_logits.float(), said.audio_targets
    losses = F.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none"
    )
    return losses.view_as(targets).sum(0) / (targets != IGNORED).sum(0).clamp(min=1)


def higgs_loss(
    said: Predictions,
    *,
    audio_weight: float = 1.0,
    codebook_weights: Sequence[float] = (),
    text_weight: float | Tensor = 0.0,
) -> Losses:
    """audio_weight * mean over codebooks of weight * cross-entropy + text_weight * that of text."""
    each = codebook_losses(said)
    weights = each.new_tensor(codebook_weights) if codebook_weights else torch.ones_like(each)
    parts = {"audio": each.mean(), **{f"codebook_{k}": loss for k, loss in enumerate(each)}}
    total = audio_weight * (weights * each).mean()
    if said.text_logits is not None and said.text_targets is not None:
        parts["text"] = F.cross_entropy(said.text_logits.float(), said.text_targets)
        total = total + text_weight * parts["text"]
    return Losses(total, parts)


def accuracies(said: Predictions) -> Tensor:
    """(K,) share of targets that the model would say first."""
    hits = said.audio_logits.argmax(-1) == said.audio_targets
    real = said.audio_targets != IGNORED
    return (hits & real).sum(0) / real.sum(0).clamp(min=1)
