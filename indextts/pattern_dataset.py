"""Batches for a manner of speaking: the prompt varies, so that it isn't learned as part of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from indextts.dataset import PairedPlan, TrainingClip, VoiceTrainingBatch
from indextts.pattern_clips import PatternClip
from ttscommon.batching import BatchKey, pad
from ttscommon.checkpoints import fingerprint
from ttscommon.errors import UserError
from ttscommon.seeds import seed_for


@dataclass(frozen=True)
class PatternBatch(VoiceTrainingBatch):
    """Utterances to learn from, with how they are spoken.

    Attributes:
        pauses: (B, T) bool, True inside pauses
        events: (B, T) bool, True inside fillers, stutters and drawn-out words
        decisions: (B, T) float, frames of a pause, where it begins and where speech goes on
        off: rows that are read without the pattern as well
        strange: rows that another speaker prompts
    """

    pauses: Tensor
    events: Tensor
    decisions: Tensor
    off: tuple[int, ...]
    strange: tuple[int, ...]


class PatternPlan(PairedPlan):
    """As `PairedPlan`, with prompts of other speakers, and clips to be read without the pattern.

    Args:
        clips: of the speaker
        others: clips of other speakers, to prompt with
        other_share: how often they do
        off_share: share of the clips that are read without the pattern as well
        options: of `PairedPlan`

    Raises:
        UserError: as `PairedPlan` does, and if an other's clip is the speaker's own
    """

    def __init__(
        self,
        clips: Sequence[PatternClip],
        *,
        others: Sequence[TrainingClip] = (),
        other_share: float = 0.5,
        off_share: float = 0.0,
        **options: Any,
    ):
        super().__init__(clips, **options)
        self.spoken, self.others = list(clips), list(others)
        self.other_share, self.off_share = other_share, off_share
        own = {clip.sha256 for clip in self.clips}
        if shared := [clip.id for clip in self.others if clip.sha256 in own]:
            raise UserError(
                f"{len(shared)} clips are the speaker's own and another's, {shared[0]} first",
                fix="--prompt-manifest names clips of other speakers",
            )
        if self.others:  # a plan of their own sees to it that they have the files
            PairedPlan(self.others, **{**options, "prompts": None, "token_budget": 0})
        marks = [clip.pattern_sha256 for clip in clips]
        pool = [clip.sha256 for clip in self.others]
        self.fingerprint = fingerprint(self.fingerprint, marks, pool)

    def load(self, key: BatchKey) -> PatternBatch:
        voice = super().load(key)
        chosen = [self.spoken[item] for item in key.items]
        return PatternBatch(
            **vars(voice),
            pauses=_stacked([torch.from_numpy(clip.pauses) for clip in chosen]),
            events=_stacked([torch.from_numpy(clip.events) for clip in chosen]),
            decisions=_stacked([torch.from_numpy(clip.decisions) for clip in chosen]),
            off=tuple(row for row, item in enumerate(key.items) if self._is_off(item, key.epoch)),
            strange=tuple(
                r for r, item in enumerate(key.items) if self._is_strange(item, key.epoch)
            ),
        )

    def prompt_of(self, item: int, epoch: int) -> TrainingClip:
        named = (epoch if self.shuffle else 0, item)
        if self._is_strange(item, epoch):
            return self.others[seed_for(self.seed, "other prompt", *named) % len(self.others)]
        return super().prompt_of(item, epoch)

    def _is_strange(self, item: int, epoch: int) -> bool:
        named = (epoch if self.shuffle else 0, item)
        return bool(self.others) and self._chance("other", *named) < self.other_share

    def _is_off(self, item: int, epoch: int) -> bool:
        return self._chance("off", epoch if self.shuffle else 0, item) < self.off_share

    def _chance(self, *event: object) -> float:
        """From 0 to below 1, the same for the same event."""
        return seed_for(self.seed, *event) / 2**32


def _stacked(rows: Sequence[Tensor]) -> Tensor:
    return pad(rows)[0]
