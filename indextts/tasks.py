"""The language model as a task of the shared loop: what trains, how it is scored, what is saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from indextts.dataset import PairedPlan, VoiceTrainingBatch
from indextts.gpt.model import UnifiedVoice, VoiceBatch
from indextts.lora import write_base
from indextts.loss import voice_loss
from indextts.train_config import GptTrainConfig
from indextts.weights import save_gpt
from ttscommon import lora
from ttscommon.batching import move
from ttscommon.files import write_json
from ttscommon.losses import Losses
from ttscommon.progress import Monitor

METADATA_FILE, METADATA_FORMAT = "training_metadata.json", "indextts.gpt_training"


class Speaks(Protocol):
    """Lets a model be heard while it is trained."""

    def __call__(self, gpt: UnifiedVoice, monitor: Monitor, step: int) -> float | None:
        """Speak, tell the monitor, and say how good it was: less is better; None: can't tell."""
        ...


class VoiceStage(nn.Module):
    """The language model with its loss.

    Args:
        trains_conditions: whether gradients go through the encoders of speaker and mood
    """

    def __init__(self, gpt: UnifiedVoice, config: GptTrainConfig, *, trains_conditions: bool):
        super().__init__()
        self.gpt, self.trains_conditions = gpt, trains_conditions
        self.text_weight, self.mel_weight = config.text_loss_weight, config.mel_loss_weight
        gpt.gpt.recomputes = config.gradient_checkpointing

    def forward(self, batch: VoiceTrainingBatch, progress: float = 0.0) -> Losses:  # noqa: ARG002
        output = self.gpt(self.voiced(batch))
        return voice_loss(output, text_weight=self.text_weight, mel_weight=self.mel_weight)

    def voiced(self, batch: VoiceTrainingBatch) -> VoiceBatch:
        """The batch with its prompts' speaker and mood, computed here if they aren't stored."""
        if batch.prompt is None:
            return batch.voiced()
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.trains_conditions):
            speaker = self.gpt.speaker_latent(batch.prompt, batch.prompt_mask)
            emotion = self.gpt.emotion_vector(batch.prompt, batch.prompt_mask)
        return batch.voiced(speaker, emotion)


@dataclass(frozen=True)
class Origin:
    """Where a trained model comes from, as it is written beside it.

    Attributes:
        base: fingerprint of the weights that training began with
        clips: {id: hash} of what it was trained on
    """

    base: str
    config: Mapping[str, Any]
    clips: Mapping[str, str]

    def metadata(self, step: int, metrics: Mapping[str, float]) -> dict[str, Any]:
        return {
            "format": METADATA_FORMAT,
            "version": 1,
            "base": self.base,
            "step": step,
            "metrics": dict(metrics),
            "config": dict(self.config),
            "n_clips": len(self.clips),
        }


class VoiceTask:
    """Common to both ways; subclasses say what is written."""

    def __init__(
        self,
        stage: VoiceStage,
        held_out: PairedPlan,
        origin: Origin,
        *,
        speaks: Speaks | None = None,
        sample_interval: int = 0,
        best_audio: Path | None = None,
    ):
        self.module: nn.Module = stage
        self.held_out, self.origin = held_out, origin
        self.speaks, self.sample_interval, self.best_audio = speaks, sample_interval, best_audio
        self._heard_at = -1

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Weight decay on matrices only."""
        trained = [p for p in self.module.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in trained if p.ndim > 1]},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]
        return [group for group in groups if group["params"]]

    def evaluate(self, module: nn.Module, monitor: Monitor, step: int) -> dict[str, float]:
        assert isinstance(module, VoiceStage)
        metrics = self.scores(module)
        if self.speaks is None or not monitor.active or not self._is_due(step):
            return metrics
        score = self.speaks(module.gpt, monitor, step)
        if score is not None and self.best_audio is not None:
            if score < self._best_score():
                self.write(module, self.best_audio, step, {**metrics, "audio_score": score})
            monitor.scalars("sample", step, {"audio_score": score})
        return metrics

    def scores(self, stage: VoiceStage) -> dict[str, float]:
        """What held-out clips cost; "loss" says which checkpoint is best."""
        return validation_losses(stage, self.held_out)

    def export(
        self, module: nn.Module, folder: Path, step: int, metrics: Mapping[str, float]
    ) -> None:
        assert isinstance(module, VoiceStage)
        self.write(module, folder, step, metrics)

    def write(
        self, stage: VoiceStage, place: Path, step: int, metrics: Mapping[str, float]
    ) -> None:
        raise NotImplementedError

    def metadata_path(self, place: Path) -> Path:
        """Where what is known of a written model stands."""
        raise NotImplementedError

    def _is_due(self, step: int) -> bool:
        """At the first evaluation in each interval; an interval that was heard isn't again."""
        number = step // self.sample_interval if self.sample_interval else 0
        due, self._heard_at = number != self._heard_at, number
        return due

    def _best_score(self) -> float:
        from ttscommon.files import read_json

        path = self.metadata_path(self.best_audio) if self.best_audio else None
        if path is None or not path.is_file():
            return float("inf")
        return float(read_json(path, format=METADATA_FORMAT)["metrics"]["audio_score"])


class LoraTask(VoiceTask):
    """Adapters are written, in peft's format."""

    def write(
        self, stage: VoiceStage, place: Path, step: int, metrics: Mapping[str, float]
    ) -> None:
        def beside(draft: Path) -> None:
            write_base(draft, self.origin.base)
            write_json(draft / METADATA_FILE, self.origin.metadata(step, metrics))

        lora.save_adapter(stage.gpt, place, beside=beside)

    def metadata_path(self, place: Path) -> Path:
        return place / METADATA_FILE


class FullTask(VoiceTask):
    """The whole language model is written, as inference reads it."""

    def write(
        self, stage: VoiceStage, place: Path, step: int, metrics: Mapping[str, float]
    ) -> None:
        save_gpt(place, stage.gpt)
        write_json(self.metadata_path(place), self.origin.metadata(step, metrics))

    def metadata_path(self, place: Path) -> Path:
        return place.with_suffix(".json")


@torch.no_grad()
def validation_losses(stage: VoiceStage, plan: PairedPlan) -> dict[str, float]:
    """Mean cross-entropy per token over all clips: {"loss", "text", "mel"}."""
    device = stage.gpt.speed_emb.weight.device
    sums, counts = {"text": 0.0, "mel": 0.0}, {"text": 0, "mel": 0}
    for key in plan.epoch(0):
        batch = move(plan.load(key), device)
        losses = stage(batch)
        n_tokens = {"text": int(batch.text_lengths.sum()) + len(batch.ids), "mel": batch.n_targets}
        for name, n in n_tokens.items():
            sums[name] += float(losses.parts[name]) * n
            counts[name] += n
    means = {name: sums[name] / counts[name] for name in sums}
    total = stage.text_weight * means["text"] + stage.mel_weight * means["mel"]
    return {"loss": total, **means}


def trained_parts(gpt: UnifiedVoice, prefixes: Sequence[str]) -> None:
    """Train tensors whose names begin so, and freeze the others."""
    for name, parameter in gpt.named_parameters():
        parameter.requires_grad_(name.startswith(tuple(prefixes)))
