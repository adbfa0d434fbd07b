"""The model as a task of the shared loop: its loss, for now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from higgs_trainer.collator import HiggsBatch
from higgs_trainer.delay import IGNORED
from higgs_trainer.loss import Predictions, higgs_loss, predictions
from ttscommon.losses import Losses


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

    def __init__(self, model: Any, weights: LossWeights):
        super().__init__()
        self.model, self.weights = model, weights
        self.codes_a_token: float | None = None

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
