"""Samples of different length as one batch, padded so that nothing changes for any of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from higgs_trainer.config import Streams
from higgs_trainer.delay import IGNORED
from higgs_trainer.prompt import Written
from ttscommon.errors import UserError

Side = Literal["left", "right"]


@dataclass(frozen=True)
class HiggsBatch:
    """What the network reads, and what it should say.

    Attributes:
        ids: names of the samples
        n_targets: codes and ends to be learned
        input_ids: (B, L) long; mask: (B, L) bool, True on real places
        frames: (B, F, K) long, of all audios of a sample one after the other
        frame_mask: (B, F) bool, True on real frames
        labels: (B, L) long; audio_labels: (B, F, K) long; each at its own place, not shifted
    """

    ids: tuple[str, ...]
    n_targets: int
    input_ids: Tensor
    mask: Tensor
    frames: Tensor
    frame_mask: Tensor
    labels: Tensor
    audio_labels: Tensor


@dataclass(frozen=True)
class Collator:
    """Makes batches for one model.

    Attributes:
        side: where the text is padded; both give the same, generation wants "left"
    """

    streams: Streams
    pad_id: int
    side: Side = "right"

    def __call__(self, samples: Sequence[Written], ids: Sequence[str]) -> HiggsBatch:
        """A batch to learn from.

        Raises:
            UserError: if nothing is to be learned from it
        """
        n_targets = sum(sample.n_targets for sample in samples)
        if n_targets == 0:
            raise UserError(
                f"nothing to learn in {', '.join(ids)}: all labels are masked",
                fix="a sample ends with a turn of the assistant that holds the target's audio",
            )
        return self.padded(samples, ids)

    def padded(self, samples: Sequence[Written], ids: Sequence[str] = ()) -> HiggsBatch:
        """A batch to compute, whether or not anything is learned from it."""
        rows = [torch.ones(len(sample.ids), dtype=torch.bool) for sample in samples]
        lengths = torch.tensor([len(sample.frames) for sample in samples])
        end = self.streams.end_id
        frames = _stacked([sample.frames for sample in samples], end, "right")
        return HiggsBatch(
            ids=tuple(ids),
            n_targets=sum(sample.n_targets for sample in samples),
            input_ids=_stacked([sample.ids for sample in samples], self.pad_id, self.side),
            mask=_stacked(rows, False, self.side),
            frames=frames,
            frame_mask=torch.arange(frames.shape[1])[None] < lengths[:, None],
            labels=_stacked([sample.labels for sample in samples], IGNORED, self.side),
            audio_labels=_stacked([sample.audio_labels for sample in samples], IGNORED, "right"),
        )


def _stacked(rows: Sequence[Tensor], value: int | bool, side: Side) -> Tensor:
    """(B, T, ...) of rows (T_n, ...)."""
    return torch.nn.utils.rnn.pad_sequence(
        list(rows), batch_first=True, padding_value=value, padding_side=side
    )
