"""The language model as a task of the shared loop: what trains, how it is scored, what is saved."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from indextts.dataset import PairedPlan, VoiceTrainingBatch
from indextts.gpt.model import UnifiedVoice, VoiceBatch
from indextts.lora import write_base
from indextts.loss import voice_loss
from indextts.train_config import GptTrainConfig
from indextts.tuned import LIKE_LOSS, METADATA_FILE, METADATA_FORMAT
from indextts.weights import save_gpt
from ttscommon import lora
from ttscommon.batching import move
from ttscommon.files import read_json, write_json
from ttscommon.losses import Losses
from ttscommon.progress import Monitor


class Speaks(Protocol):
    """Lets a model be heard while it is trained."""

    def __call__(self, gpt: UnifiedVoice, monitor: Monitor, step: int) -> float | None:
        """Speak, tell the monitor, and say how good it was: less is better; None: can't tell."""
        ...


class VoiceStage(nn.Module):
    """The language model with its loss.

    Args:
        trains_conditions: whether gradients go through the encoders of speaker and mood

    Attributes:
        codes_a_token: codes for each text token of the data set; None weighs a batch by itself
    """

    def __init__(self, gpt: UnifiedVoice, config: GptTrainConfig, *, trains_conditions: bool):
        super().__init__()
        self.gpt, self.trains_conditions = gpt, trains_conditions
        self.text_weight, self.mel_weight = config.text_loss_weight, config.mel_loss_weight
        self.contiguous = config.contiguous_positions
        self.codes_a_token: float | None = None
        gpt.gpt.recomputes = config.gradient_checkpointing

    def forward(self, batch: VoiceTrainingBatch, progress: float = 0.0) -> Losses:  # noqa: ARG002
        output = self.gpt(self.voiced(batch))
        parts = voice_loss(output).parts
        total = self.weighed_text(parts["text"], batch) + self.mel_weight * parts["mel"]
        return Losses(total, parts)

    def weighed_text(self, text: Tensor, batch: VoiceTrainingBatch) -> Tensor:
        """The text's share of the total, which the loop will weigh by the codes of the batch.

        A text token counts alike then in every batch, however many codes it comes with.
        """
        if self.codes_a_token is None:
            return self.text_weight * text
        n_tokens = batch.text_lengths.sum() + len(batch.ids)
        return self.text_weight * self.codes_a_token / batch.n_targets * n_tokens * text

    def voiced(self, batch: VoiceTrainingBatch) -> VoiceBatch:
        """The batch with its prompts' speaker and mood, computed here if they aren't stored."""
        speaker = emotion = None
        if batch.prompt is not None:
            with torch.set_grad_enabled(torch.is_grad_enabled() and self.trains_conditions):
                speaker = self.gpt.speaker_latent(batch.prompt, batch.prompt_mask)
                emotion = self.gpt.emotion_vector(batch.prompt, batch.prompt_mask)
        voiced = batch.voiced(speaker, emotion)
        return dataclasses.replace(voiced, contiguous=self.contiguous, hides_padding=True)


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
        evaluate_every: int = 1,
        best_audio: Path | None = None,
    ):
        self.module: nn.Module = stage
        self.held_out, self.origin = held_out, origin
        self.speaks, self.best_audio = speaks, best_audio
        self.sample_interval, self.evaluate_every = sample_interval, evaluate_every

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
            heard = {**metrics, "audio_score": score}
            if sounds_better(heard, self._metrics_of(self.best_audio)):
                self.write(module, self.best_audio, step, heard)
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
        """At the first evaluation in each interval, also of a run that goes on."""
        before = (step - 1) // self.evaluate_every * self.evaluate_every
        interval = self.sample_interval or 1
        return before == 0 or step // interval != before // interval

    def _metrics_of(self, place: Path) -> Mapping[str, float]:
        path = self.metadata_path(place)
        return read_json(path, format=METADATA_FORMAT)["metrics"] if path.is_file() else {}


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
        about = self.metadata_path(place)
        draft = place.with_name(f".{place.stem}.new{place.suffix}")
        save_gpt(draft, stage.gpt)
        about.unlink(missing_ok=True)  # rather no word about weights than that of others
        draft.replace(place)
        write_json(about, self.origin.metadata(step, metrics))

    def metadata_path(self, place: Path) -> Path:
        return place.with_suffix(".json")


def sounds_better(found: Mapping[str, float], kept: Mapping[str, float]) -> bool:
    """Whether one checkpoint is to be preferred to another by ear, from the metrics of both.

    A few sentences are no measure of a voice: they decide among checkpoints of like loss only.
    """
    if "audio_score" not in kept or kept["loss"] > LIKE_LOSS * found["loss"]:
        return True
    is_like = found["loss"] <= LIKE_LOSS * kept["loss"]
    return is_like and found["audio_score"] < kept["audio_score"]


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
