"""A manner of speaking as a task of the shared loop: what trains, how it is scored, what is saved.

Scores are told for three ways of reading the same held-out clips: with the pattern, without it, and
with its numbers shuffled. Only what is better than both others is owed to the pattern.
"""

from __future__ import annotations

import dataclasses
import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from indextts.gpt.model import VoiceBatch, VoiceOutput
from indextts.lora import write_base
from indextts.loss import masked_cross_entropy
from indextts.pattern_config import PatternTrainConfig
from indextts.pattern_dataset import PatternBatch
from indextts.pattern_embeddings import PatternEmbedding
from indextts.pattern_losses import (
    decision_cross_entropy,
    distillation,
    event_loss,
    log_masses,
    masked_mean,
    pause_loss,
    rate_loss,
    reference_losses,
    silence_mass_losses,
    token_losses,
)
from indextts.tasks import METADATA_FILE, VoiceStage, VoiceTask
from indextts.tuned import ADAPTER_FOLDER, PATTERN_FILE
from ttscommon import lora
from ttscommon.batching import move
from ttscommon.files import atomic_folder, write_json
from ttscommon.losses import Losses

log = logging.getLogger(__name__)

Manner = Literal["on", "off", "shuffled"]
LOUD = 1.0  # times the length of a speaker's latent, above which a pattern is suspect


class PatternStage(VoiceStage):
    """The language model with a pattern among its conditions, and the losses of it.

    Args:
        gpt: with an adapter, where one is trained
        silence: (V,) bool, True for silence codes

    Attributes:
        manner: how batches are read
    """

    silence: Tensor

    def __init__(
        self,
        gpt: Any,
        pattern: PatternEmbedding,
        config: PatternTrainConfig,
        silence: Tensor,
    ):
        super().__init__(gpt, config, trains_conditions=False)
        self.pattern, self.config = pattern, config
        self.knows_silence = bool(silence.any())
        self.register_buffer("silence", silence, persistent=False)
        self.manner: Manner = "on"

    @property
    def has_adapter(self) -> bool:
        return bool(lora.layers(self.gpt))

    def forward(self, batch: PatternBatch, progress: float = 0.0) -> Losses:  # noqa: ARG002
        losses = self.losses(self.gpt(self.voiced(batch)), batch)
        if batch.off and self.has_adapter:
            parts = {**losses.parts, "off": self.drift(batch, batch.off)}
            losses = Losses(losses.total + self.config.off_weight * parts["off"], parts)
        return losses

    def voiced(self, batch: PatternBatch) -> VoiceBatch:
        """The batch as it is read: with the pattern, without it, or shuffled."""
        voiced = super().voiced(batch)
        if self.manner == "off":
            return voiced
        put_in = self.pattern.get_injection_embedding
        if self.manner == "shuffled":
            put_in = self.pattern.shuffled
        return dataclasses.replace(voiced, speaker=put_in(voiced.speaker))

    def drift(self, batch: PatternBatch, rows: tuple[int, ...]) -> Tensor:
        """KL(base || with the adapter) of these rows' codes, without the pattern: ()"""
        voiced = super().voiced(batch)
        chosen = torch.tensor(rows, device=voiced.codes.device)
        rows_of = {
            n: value[chosen] for n, value in vars(voiced).items() if isinstance(value, Tensor)
        }
        plain = dataclasses.replace(voiced, **rows_of)
        found = self.gpt(plain)
        with torch.no_grad(), lora.switched_off(self.gpt):
            wanted = self.gpt(plain)
        return distillation(found.mel_logits, wanted.mel_logits, found.mel_mask)

    def losses(self, output: VoiceOutput, batch: PatternBatch) -> Losses:
        """What is minimised, and its parts."""
        text = masked_cross_entropy(output.text_logits, output.text_targets, output.text_mask)
        codes, parts = self._of_codes(output, batch)
        total = self.weighed_text(text, batch) + self.mel_weight * codes
        return Losses(total, {"text": text, **parts})

    def _of_codes(
        self, output: VoiceOutput, batch: PatternBatch
    ) -> tuple[Tensor, dict[str, Tensor]]:
        config, losses = self.config, token_losses(output.mel_logits, output.mel_targets)
        if config.loss == "reference":
            parts = self._as_published(output, batch)
            return parts.pop("total"), parts
        n = batch.codes.shape[1]
        own = losses[:, :n]
        if config.strange_timbre == "hidden" and batch.strange and self.knows_silence:
            losses = self._without_timbre(output, batch, losses)
        parts = {"ce": masked_mean(losses, output.mel_mask)}
        if config.loss == "decisions":
            parts["pause"] = decision_cross_entropy(own, batch.decisions)
            return parts["ce"] + config.pause_weight * parts["pause"], parts
        parts |= self.measures(output, batch, losses)
        silence = parts.get("missing", 0) + parts.get("false", 0)
        total = (
            parts["ce"]
            + config.pause_weight * parts.get("pause", 0)
            + config.silence_weight * silence
            + config.rate_weight * parts.get("rate", 0)
            + config.event_weight * parts["events"]
        )
        return total, parts

    def measures(
        self, output: VoiceOutput, batch: PatternBatch, losses: Tensor
    ) -> dict[str, Tensor]:
        """What is scored whatever is minimised; nothing about silence where no code is silence."""
        n = batch.codes.shape[1]
        parts = {"events": event_loss(losses[:, :n], batch.events)}
        if not self.knows_silence:
            return parts
        places = torch.arange(n, device=batch.codes.device) < batch.code_lengths[:, None]
        masses = log_masses(output.mel_logits[:, :n], self.silence)
        told = batch.codes, places, self.silence
        missing, false = silence_mass_losses(masses, *told)
        pause = pause_loss(masses, batch.codes, batch.pauses, places, self.silence)
        rate = rate_loss(masses, *told)
        return {**parts, "pause": pause, "missing": missing, "false": false, "rate": rate}

    def _without_timbre(self, output: VoiceOutput, batch: PatternBatch, losses: Tensor) -> Tensor:
        """(B, T + 1): in rows that another prompts only whether a code is silence is scored.

        Which code of speech it is tells who speaks, and that is the prompt's to say. Events are
        scored behind their first code.
        """
        n, device = batch.codes.shape[1], losses.device
        quiet, loud = log_masses(output.mel_logits[:, :n], self.silence)
        coarse = -torch.where(self.silence[batch.codes], quiet, loud)
        rows = torch.zeros(len(losses), dtype=torch.bool, device=device)
        rows[list(batch.strange)] = True
        places = torch.arange(n, device=device) < batch.code_lengths[:, None]
        inside = batch.events & nn.functional.pad(batch.events, (1, 0))[:, :-1]
        own = torch.where(rows[:, None] & places & ~inside, coarse, losses[:, :n])
        return torch.cat([own, losses[:, n:]], 1)

    def _as_published(self, output: VoiceOutput, batch: PatternBatch) -> dict[str, Tensor]:
        before = nn.functional.pad(batch.pauses, (1, 0))[:, :-1]
        starts = nn.functional.pad(batch.pauses & ~before, (0, 2))
        targets = output.mel_targets, output.mel_mask
        return reference_losses(output.mel_logits, *targets, starts)


class PatternTask(VoiceTask):
    """Writes the pattern, and the adapter that was trained around it."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The pattern learns at its own rate and isn't decayed."""
        stage = self.module
        assert isinstance(stage, PatternStage)
        own = [p for p in stage.pattern.parameters() if p.requires_grad]
        others = [p for p in stage.gpt.parameters() if p.requires_grad]
        lr_scale = stage.config.pattern_lr / stage.config.learning_rate
        groups = [
            {"params": own, "weight_decay": 0.0, "lr_scale": lr_scale},
            {"params": [p for p in others if p.ndim > 1]},
            {"params": [p for p in others if p.ndim <= 1], "weight_decay": 0.0},
        ]
        return [group for group in groups if group["params"]]

    def scores(self, stage: VoiceStage) -> dict[str, float]:
        assert isinstance(stage, PatternStage)
        return pattern_scores(stage, self.held_out)

    def write(
        self, stage: VoiceStage, place: Path, step: int, metrics: Mapping[str, float]
    ) -> None:
        assert isinstance(stage, PatternStage)
        about = self.origin.metadata(step, metrics)
        with atomic_folder(place) as draft:
            own = stage.pattern.origin
            stage.pattern.origin = dataclasses.replace(own, training=about)
            stage.pattern.save(draft / PATTERN_FILE)
            stage.pattern.origin = own
            write_json(draft / METADATA_FILE, about)
            if stage.has_adapter:
                lora.save_adapter(
                    stage.gpt,
                    draft / ADAPTER_FOLDER,
                    beside=lambda folder: write_base(folder, self.origin.base),
                )

    def metadata_path(self, place: Path) -> Path:
        return place / METADATA_FILE


@torch.no_grad()
def pattern_scores(stage: PatternStage, plan: Any) -> dict[str, float]:
    """Losses of held-out clips, with the pattern under their own names.

    Returns:
        "loss" and its parts; the same as "off/..." and "shuffled/..."; "off/drift": how far the
        adapter without the pattern is from the base, in nats a code; "norm_ratio": length of the
        pattern's tokens in lengths of the speaker's latents
    """
    device = stage.gpt.speed_emb.weight.device
    sums: dict[str, float] = defaultdict(float)
    n_targets, ratio = 0, 0.0
    for key in plan.epoch(0):
        batch = move(plan.load(key), device)
        weight, n_targets = batch.n_targets, n_targets + batch.n_targets
        for manner in ("on", "off", "shuffled"):
            with read_as(stage, manner):
                found = _scored(stage, batch)
            prefix = "" if manner == "on" else f"{manner}/"
            for name, value in found.items():
                sums[prefix + name] += float(value) * weight
        with read_as(stage, "off"):
            ratio = stage.pattern.norm_ratio(stage.voiced(batch).speaker)
        if stage.has_adapter:
            sums["off/drift"] += float(stage.drift(batch, tuple(range(len(batch.ids))))) * weight
    if ratio > LOUD:
        log.warning("the pattern is %.1f times as long as who speaks: lower --pattern-lr", ratio)
    means = {name: value / n_targets for name, value in sums.items()}
    return {**means, "norm_ratio": ratio}


@contextmanager
def read_as(stage: PatternStage, manner: Manner) -> Iterator[None]:
    """Let batches be read with the pattern, without it, or shuffled, for the block."""
    before, stage.manner = stage.manner, manner
    try:
        yield
    finally:
        stage.manner = before


def _scored(stage: PatternStage, batch: PatternBatch) -> dict[str, Tensor]:
    output = stage.gpt(stage.voiced(batch))
    losses = stage.losses(output, batch)
    tokens = token_losses(output.mel_logits, output.mel_targets)
    ce = masked_mean(tokens, output.mel_mask)
    found = {"text": losses.parts["text"], "ce": ce, **stage.measures(output, batch, tokens)}
    return {"loss": losses.total, **found}
