"""From clips as ids to batches: padded, or laid end to end so that none sees another."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from datasets import Dataset
from torch import Tensor

from kani.attention import Segments
from kani.tokens import TokenSpace, frame_positions
from ttscommon.batching import BatchKey, length_buckets
from ttscommon.checkpoints import fingerprint
from ttscommon.errors import UserError
from ttscommon.seeds import seed_for

IGNORED = -100  # a label that isn't learned
# LFM2's convolutions look two places back, so two empty ones keep packed clips apart: measured,
# with one of them the next clip's outputs change by a tenth of their size.
GAP = 2
ANSWER = 2  # marks before the first code that the model has to say itself
PositionsOf = Callable[[Tensor], Tensor]
LossOn = Literal["all", "audio"]


@dataclass(frozen=True)
class KaniBatch:
    """What the network reads, and what it should say.

    Attributes:
        ids: names of the clips
        n_targets: places that are learned
        input_ids: (B, T) long
        labels: (B, T) long, each at its own place, not shifted
        segments: (B, T) long, which clip of its row a place belongs to, from 1; 0 on padding
        positions: (B, T), each clip's own places, from 0
        is_plain: whether each row holds one clip that counts its ids; it needs neither masks nor
            positions then
        speaker_embeddings: (N, E) of the clips whose ids have a place for one, in their order;
            None where none has
    """

    ids: tuple[str, ...]
    n_targets: int
    input_ids: Tensor
    labels: Tensor
    segments: Tensor
    positions: Tensor
    is_plain: bool
    speaker_embeddings: Tensor | None = None

    @property
    def attention_mask(self) -> dict[str, Tensor | Segments] | None:
        """What LFM2 is to be given: for each kind of layer, what it may see.

        Padding behind a single clip needs no mask: no layer looks ahead.
        """
        if self.is_plain:
            return None
        return {"full_attention": Segments.of(self.segments), "conv": self.segments > 0}


@dataclass(frozen=True)
class LearnedClip:
    """A clip to be learned: ids (L,), of which those from `learned_from` on are learned.

    Attributes:
        speaker_embedding: (E,) for the place that `tokens.with_place` made
    """

    name: str
    ids: Tensor
    learned_from: int
    speaker_embedding: Tensor | None = None


def collate(
    clips: Sequence[LearnedClip],
    pad_id: int,
    *,
    packed: bool,
    gap: int = GAP,
    positions_of: PositionsOf | None = None,
) -> KaniBatch:
    """A batch of clips, one in each row or all in one.

    Args:
        gap: empty places between clips of a row
        positions_of: the places of a clip's ids, where they aren't just counted
    """
    rows = [list(clips)] if packed else [[clip] for clip in clips]
    widths = [sum(len(clip.ids) + gap for clip in row) - gap for row in rows]
    shape = len(rows), max(widths)
    input_ids = torch.full(shape, pad_id, dtype=torch.long)
    labels = torch.full(shape, IGNORED, dtype=torch.long)
    segments = torch.zeros(shape, dtype=torch.long)
    positions = torch.zeros(shape, dtype=torch.float if positions_of else torch.long)
    for index, row in enumerate(rows):
        start = 0
        for number, clip in enumerate(row, 1):
            end = start + len(clip.ids)
            input_ids[index, start:end] = clip.ids
            # Nothing comes before a clip's first id, so nobody can learn to predict it.
            learned = max(1, clip.learned_from)
            labels[index, start + learned : end] = clip.ids[learned:]
            if clip.speaker_embedding is not None:
                labels[index, start + 1] = IGNORED  # it is read, nobody says it
            segments[index, start:end] = number
            count = positions_of or (lambda ids: torch.arange(len(ids)))
            positions[index, start:end] = count(clip.ids)
            start = end + gap
    speakers = [c.speaker_embedding for c in clips if c.speaker_embedding is not None]
    return KaniBatch(
        ids=tuple(clip.name for clip in clips),
        n_targets=int((labels != IGNORED).sum()),
        input_ids=input_ids,
        labels=labels,
        segments=segments,
        positions=positions,
        is_plain=not packed and positions_of is None,
        speaker_embeddings=torch.stack(speakers) if speakers else None,
    )


class KaniPlan:
    """Batches of prepared clips; everything drawn follows from (seed, epoch).

    Args:
        rows: columns id, ids, audio_start, speaker_emb
        token_budget: most places of a batch; 0: no limit
        audio_step: of kani-tts-2, see `tokens.frame_positions`; None for kani-tts-1
        shuffle: False makes all epochs alike, for validation

    Raises:
        UserError: if a clip alone is over the budget
    """

    def __init__(
        self,
        rows: Dataset,
        space: TokenSpace,
        *,
        batch_size: int,
        token_budget: int = 0,
        packing: bool = False,
        loss_on: LossOn = "all",
        audio_step: float | None = None,
        seed: int = 0,
        shuffle: bool = True,
    ):
        self.rows, self.space = rows.with_format("numpy"), space
        self.batch_size, self.token_budget = batch_size, token_budget
        self.audio_step = audio_step
        self.packing, self.loss_on, self.seed, self.shuffle = packing, loss_on, seed, shuffle
        table = rows.with_format("arrow")[:]
        assert isinstance(table, pa.Table)
        self.lengths = (
            pc.call_function("list_value_length", [table["ids"]]).to_numpy().astype(np.int64)
        )
        longest = int(self.lengths.max(initial=0))
        if token_budget and longest > token_budget:
            raise UserError(
                f"a clip has {longest} tokens, a batch may have {token_budget}",
                fix=f"token_budget: {longest}, or more; or a lower max_duration_sec",
            )
        content = hashlib.sha256(_bytes(table["ids"]))
        speakers = _bytes(table["speaker_emb"]) if "speaker_emb" in rows.column_names else b""
        self.has_speakers = len(speakers) > 0
        content.update(speakers)
        self.fingerprint = fingerprint(
            table["id"].to_pylist(), self.lengths.tolist(), content.hexdigest()
        )

    def __len__(self) -> int:
        return len(self.lengths)

    def epoch(self, epoch: int) -> list[BatchKey]:
        drawn = epoch if self.shuffle else 0
        if self.packing:
            return self._packed(drawn)
        return length_buckets(
            self.lengths,
            batch_size=self.batch_size,
            frame_budget=self.token_budget,
            seed=self.seed,
            epoch=drawn,
        )

    def load(self, key: BatchKey) -> KaniBatch:
        return self.batch(key.items)

    def batch(self, items: Sequence[int]) -> KaniBatch:
        """These clips as a batch."""
        return collate(
            [self.clip(item) for item in items],
            self.space.pad_token,
            packed=self.packing,
            positions_of=None if self.audio_step is None else self._frame_positions,
        )

    def _frame_positions(self, ids: Tensor) -> Tensor:
        assert self.audio_step is not None
        return torch.from_numpy(frame_positions(ids.numpy(), self.space, self.audio_step))

    def clip(self, item: int) -> LearnedClip:
        row: dict[str, Any] = self.rows[item]
        start = int(row["audio_start"]) - ANSWER if self.loss_on == "audio" else 0
        speaker = torch.as_tensor(row["speaker_emb"]) if self.has_speakers else torch.zeros(0)
        ids = torch.as_tensor(row["ids"]).long()
        return LearnedClip(str(row["id"]), ids, start, speaker.float() if len(speaker) else None)

    def _packed(self, epoch: int) -> list[BatchKey]:
        """Clips of any length together: packed, that costs little."""
        random = np.random.default_rng(seed_for(self.seed, "epoch", epoch))
        batches: list[list[int]] = [[]]
        n_tokens = 0
        for item in random.permutation(len(self)).tolist():
            more = int(self.lengths[item]) + (GAP if batches[-1] else 0)
            is_over = bool(self.token_budget) and n_tokens + more > self.token_budget
            if batches[-1] and (is_over or len(batches[-1]) == self.batch_size):
                batches.append([])
                n_tokens, more = 0, int(self.lengths[item])
            batches[-1].append(item)
            n_tokens += more
        return [BatchKey(epoch, place, tuple(items)) for place, items in enumerate(batches)]


def _bytes(lists: pa.ChunkedArray) -> bytes:
    return pc.call_function("list_flatten", [lists]).to_numpy().tobytes()
