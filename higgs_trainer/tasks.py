"""The model as a task of the shared loop: what trains, how it is scored, what is saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from higgs_trainer.adapter import METADATA_FILE, METADATA_FORMAT, write_base
from higgs_trainer.collator import HiggsBatch
from higgs_trainer.dataset import SamplePlan
from higgs_trainer.delay import IGNORED
from higgs_trainer.hearing import Listener
from higgs_trainer.loss import Predictions, accuracies, codebook_losses, higgs_loss, predictions
from higgs_trainer.statistics import Statistics, write_statistics
from ttscommon import lora
from ttscommon.batching import move
from ttscommon.files import write_json
from ttscommon.losses import Losses
from ttscommon.progress import Monitor


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """What counts how much.

    Attributes:
        codebooks: one for each, or none for 1 each
        text: of the tokens around an answer; 0 needs no text head
    """

    audio: float = 1.0
    text: float = 0.1
    codebooks: Sequence[float] = ()


class HiggsStage(nn.Module):
    """The network with its loss.

    Attributes:
        codes_a_token: codes for each text token that is learned, in the data set; None weighs a
            batch by itself
    """

    entrances = ("predicted",)

    def __init__(self, model: Any, weights: LossWeights):
        super().__init__()
        self.model, self.weights = model, weights
        self.codes_a_token: float | None = None

    def shards(self) -> list[nn.Module]:
        """See `ttscommon.sharding`."""
        model, inner = self.model, self.model.model
        tables = [inner.embed_tokens, inner.embed_audio_tokens, inner.norm]
        heads = [model.audio_lm_head, model.text_lm_head]
        return [*inner.layers, *tables, *(head for head in heads if head is not None)]

    def forward(self, batch: HiggsBatch, progress: float = 0.0) -> Losses:  # noqa: ARG002
        said = self.predicted(batch)
        return higgs_loss(
            said,
            audio_weight=self.weights.audio,
            codebook_weights=self.weights.codebooks,
            text_weight=self.text_weight(batch),
        )

    def predicted(self, batch: HiggsBatch) -> Predictions:
        return predictions(self.model, batch, with_text=self.weights.text > 0)

    def text_weight(self, batch: HiggsBatch) -> float | Tensor:
        """The text's share of the total, which the loop will weigh by the codes of the batch.

        A text token counts alike then in every batch, however many codes it comes with.
        """
        if self.codes_a_token is None:
            return self.weights.text
        n_tokens = (batch.labels[:, 1:] != IGNORED).sum()
        return self.weights.text * self.codes_a_token * n_tokens / batch.n_targets


@dataclass(frozen=True)
class Origin:
    """Where an adapter comes from, as it is written beside it.

    Attributes:
        base: fingerprint of the weights it was trained on
        config: how it was trained
        codec: name of the codec whose codes it learned
        statistics: of the clips
    """

    base: str
    config: Mapping[str, Any]
    codec: str
    n_clips: int
    statistics: Statistics = field(default_factory=Statistics)

    def metadata(self, step: int, metrics: Mapping[str, float]) -> dict[str, Any]:
        found = {"format": METADATA_FORMAT, "version": 1, "step": step, "metrics": dict(metrics)}
        about = {"base": self.base, "codec": self.codec, "n_clips": self.n_clips}
        return {**about, "config": dict(self.config), **found}


class AdapterTask:
    """Trains the adapters in a stage's model, and writes them in peft's format."""

    def __init__(
        self,
        stage: HiggsStage,
        held_out: SamplePlan,
        origin: Origin,
        listener: Listener | None = None,
    ):
        self.module: nn.Module = stage
        self.held_out, self.origin, self.listener = held_out, origin, listener

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"params": [p for p in self.module.parameters() if p.requires_grad]}]

    def evaluate(self, module: nn.Module, monitor: Monitor, step: int) -> dict[str, float]:
        assert isinstance(module, HiggsStage)
        scores = validation_scores(module, self.held_out)
        if self.listener is not None and self.listener.is_due(step):
            self.listener.listen(module.model, monitor, step)
        return scores

    def export(
        self, module: nn.Module, folder: Path, step: int, metrics: Mapping[str, float]
    ) -> None:
        assert isinstance(module, HiggsStage)

        def beside(draft: Path) -> None:
            write_base(draft, self.origin.base)
            write_statistics(draft, self.origin.statistics)
            write_json(draft / METADATA_FILE, self.origin.metadata(step, metrics))

        lora.save_adapter(module.model, folder, beside=beside)


@torch.no_grad()
def validation_scores(stage: HiggsStage, plan: SamplePlan) -> dict[str, float]:
    """Of all held-out samples: "loss" decides; "audio" and "text" are nats per code and per token,
    "accuracy" is the share of codes that would be said first, "text_to_audio" the balance of both.
    """
    device = stage.model.audio_lm_head.weight.device
    n_codebooks = plan.writer.streams.n_codebooks
    audio, hits = torch.zeros(n_codebooks), torch.zeros(n_codebooks)
    n_audio = n_text = 0
    text = 0.0
    for key in plan.epoch(0):
        batch = move(plan.load(key), device)
        said = stage.predicted(batch)
        n = batch.n_targets // n_codebooks
        audio += codebook_losses(said).cpu() * n
        hits += accuracies(said).cpu() * n
        n_audio += n
        if said.text_logits is not None and said.text_targets is not None:
            losses = nn.functional.cross_entropy(
                said.text_logits.float(), said.text_targets, reduction="sum"
            )
            text, n_text = text + float(losses), n_text + len(said.text_targets)
    weights = torch.tensor(stage.weights.codebooks or [1.0] * n_codebooks)
    each = audio / n_audio
    found = {"audio": float(each.mean()), "accuracy": float(hits.mean() / n_audio)}
    total = stage.weights.audio * float((weights * each).mean())
    if n_text:
        found |= {"text": text / n_text, "text_to_audio": text / n_text / found["audio"]}
        total += stage.weights.text * found["text"]
    return {"loss": total, **found}
