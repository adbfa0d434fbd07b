"""The model as a task of the shared loop: what trains, how it is scored, what is saved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kani.attention import attend_within_clips
from kani.dataset import IGNORED, KaniBatch, KaniPlan
from kani.loss import CHUNK, kani_loss, layer_of, predictions, token_losses
from kani.projection import inputs_with_speakers
from kani.tokens import TokenSpace
from ttscommon import lora, probe
from ttscommon.batching import move
from ttscommon.files import write_json
from ttscommon.losses import Losses
from ttscommon.progress import Monitor

METADATA_FILE, METADATA_FORMAT = "training_metadata.json", "kani.training"


class KaniStage(nn.Module):
    """The network with its loss."""

    def __init__(self, model: Any, space: TokenSpace):
        super().__init__()
        self.model, self.space = model, space
        attend_within_clips(model)

    def forward(self, batch: KaniBatch, progress: float = 0.0) -> Losses:  # noqa: ARG002
        losses, targets = self.losses(batch)
        return kani_loss(losses, targets, self.space)

    def losses(self, batch: KaniBatch) -> tuple[Tensor, Tensor]:
        """(N,) of each place that is learned, and the id that it should predict, (N,)."""
        said, targets = predictions(self.hidden(batch), batch)
        return token_losses(said, self.model.lm_head, targets), targets

    def hidden(self, batch: KaniBatch) -> Tensor:
        """(B, T, D) before the head."""
        inputs = inputs_with_speakers(
            self.model,
            batch.input_ids,
            batch.segments > 0,
            self.space.pad_token,
            batch.speaker_embeddings,
        )
        return self.model.model(
            **inputs,
            attention_mask=batch.attention_mask,
            position_ids=None if batch.is_plain else batch.positions,
            use_cache=False,
        ).last_hidden_state

    @property
    def device(self) -> torch.device:
        return self.model.lm_head.weight.device


@dataclass(frozen=True)
class Origin:
    """Where an adapter comes from, as it is written beside it.

    Attributes:
        base: the base model, by name and by its weights
        configuration: the experiment as its file says, with all defaults
    """

    base: str
    fingerprint: str
    configuration: Mapping[str, Any]
    n_clips: int

    def metadata(self, step: int, metrics: Mapping[str, float]) -> dict[str, Any]:
        found = {"format": METADATA_FORMAT, "version": 1, "step": step, "metrics": dict(metrics)}
        return {**vars(self), "configuration": dict(self.configuration), **found}


class KaniTask:
    """Trains the adapters in a stage's model, and writes them in peft's format.

    Args:
        on_evaluation: told (step, validation loss); what it raises ends the run
    """

    def __init__(
        self,
        stage: KaniStage,
        held_out: KaniPlan,
        origin: Origin,
        on_evaluation: Callable[[int, float], None] | None = None,
    ):
        self.module: nn.Module = stage
        self.held_out, self.origin, self.on_evaluation = held_out, origin, on_evaluation

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"params": [p for p in self.module.parameters() if p.requires_grad]}]

    def evaluate(self, module: nn.Module, monitor: Monitor, step: int) -> dict[str, float]:  # noqa: ARG002
        assert isinstance(module, KaniStage)
        scores = validation_scores(module, self.held_out)
        if self.on_evaluation is not None:
            self.on_evaluation(step, scores["loss"])
        return scores

    def export(
        self, module: nn.Module, folder: Path, step: int, metrics: Mapping[str, float]
    ) -> None:
        assert isinstance(module, KaniStage)

        def beside(draft: Path) -> None:
            write_json(draft / METADATA_FILE, self.origin.metadata(step, metrics))

        lora.save_adapter(module.model, folder, beside=beside)


@torch.no_grad()
def validation_scores(stage: KaniStage, plan: KaniPlan) -> dict[str, float]:
    """Of all held-out clips: "loss" decides; "audio" and "text" are nats per code and other id,
    "layer1" to "layer4" those of each layer, "accuracy" the share of codes said first.
    """
    n_layers = stage.space.num_codebooks
    sums, counts = torch.zeros(n_layers + 1), torch.zeros(n_layers + 1)  # the last: no codes
    hits = 0
    for key in plan.epoch(0):
        batch = move(plan.load(key), stage.device)
        said, targets = predictions(stage.hidden(batch), batch)
        losses = token_losses(said, stage.model.lm_head, targets).float().cpu()
        layers = layer_of(targets, stage.space).cpu()
        places = torch.where(layers < 0, n_layers, layers)
        sums.index_add_(0, places, losses)
        counts += torch.bincount(places, minlength=n_layers + 1)
        is_audio = targets >= stage.space.audio_tokens_start
        for part, wanted in zip(
            said[is_audio].split(CHUNK), targets[is_audio].split(CHUNK), strict=True
        ):
            hits += int((stage.model.lm_head(part).argmax(dim=-1) == wanted).sum())
    each = (sums / counts.clamp(min=1)).tolist()
    n_audio = float(counts[:-1].sum())
    return {
        "loss": float(sums.sum() / counts.sum()),
        "audio": float(sums[:-1].sum()) / max(n_audio, 1),
        "text": each[-1],
        **{f"layer{number}": value for number, value in enumerate(each[:-1], 1)},
        "accuracy": hits / max(n_audio, 1),
    }


@torch.no_grad()
def probed(stage: KaniStage, batch: KaniBatch) -> list[probe.Check]:
    """The checks of `ttscommon.probe` on a real padded batch; `stage` in eval mode."""
    head, ids = stage.model.lm_head, batch.input_ids
    hidden = stage.hidden(batch)
    mask = (batch.labels != IGNORED)[:, 1:]

    def outputs(changed: Tensor) -> Tensor:
        """Of one token to come: that at place t is predicted from those before it."""
        body = stage.model.model(input_ids=changed, use_cache=False).last_hidden_state
        said = head(body).float()
        return torch.cat([torch.zeros_like(said[:, :1]), said], dim=1)

    def loss_of(random: Tensor) -> Tensor:
        logits = outputs(random)[:, 1:-1]
        return nn.functional.cross_entropy(logits.flatten(0, 1), random[:, 1:].flatten())

    # Labels that are two places off are as badly predicted as what surrounds them.
    strangers = int(((batch.labels != IGNORED) & (batch.labels != ids)).sum())
    note = "the labels don't fit the ids in their places"
    n_tokens = stage.space.vocab_size
    few = ids[:1, : min(ids.shape[1], 256)]
    return [
        probe.Check("labels", strangers == 0, {"strangers": strangers}, note),
        probe.check_offsets(head(hidden)[:, :-1].float(), ids[:, :-1], batch.labels[:, 1:], mask),
        probe.check_causality(outputs, few, n_tokens=n_tokens),
        probe.check_entropy_floor(loss_of, few.shape, n_tokens=n_tokens, device=ids.device),
    ]
