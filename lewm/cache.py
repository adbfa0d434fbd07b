"""What autoregressive decoding remembers between two steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lewm.layers import KeysValues, Rotary
from lewm.step import Place, StepWeights


@dataclass
class DecodeState:
    """The KV cache of a batch of utterances, which may stand at different lengths.

    Row b has fed `lengths[b]` inputs; its keys and values fill the first `lengths[b]` columns.
    Built by `JEPAPredictor.start`. Cache tensors are changed in place; `select` and `merge` give a
    new state and leave the old one alone.

    Attributes:
        weights: per layer, gathered once so that no step has to
        caches: per layer (B, 2, H, max_length, d), keys and values
        text: per layer the projected text, two (B, H, L, d)
        text_mask: (B, L) bool, True on real bytes
        lengths: (B,) long
        position: the length all rows share, known without asking the device; None when rows differ
            or in static mode
        longest: no row is longer than this (static mode: max_length)
        static: every step has the same shapes and no host-side number in it, so that one step can
            be captured as a CUDA graph or compiled once; it reads all max_length columns
    """

    weights: list[StepWeights]
    caches: list[Tensor]
    text: list[KeysValues]
    text_mask: Tensor
    lengths: Tensor
    position: int | None = 0
    longest: int = 0
    static: bool = False

    def __post_init__(self) -> None:
        if self.static:
            self.position, self.longest = None, self.max_length
        self._rows = torch.arange(self.batch_size, device=self.lengths.device)
        self._columns = torch.arange(self.max_length, device=self.lengths.device)
        # One host sync here saves a mask in every layer of every step.
        masked = self.static or not bool(self.text_mask.all())
        self.cross_mask = self.text_mask[:, None, None, :] if masked else None

    @property
    def batch_size(self) -> int:
        return len(self.lengths)

    @property
    def max_length(self) -> int:
        return self.caches[0].shape[3]

    @property
    def is_full(self) -> bool:
        """No column is left for another step (never known in static mode: the caller counts)."""
        return not self.static and self.longest >= self.max_length

    def tensors(self) -> list[Tensor]:
        """Everything that makes up the state in static mode, in a fixed order."""
        text = [tensor for pair in self.text for tensor in pair]
        return [*self.caches, *text, self.text_mask, self.lengths]

    def copy_(self, other: DecodeState) -> None:
        """Take over another static state of the same shapes, in this one's memory."""
        for mine, theirs in zip(self.tensors(), other.tensors(), strict=True):
            mine.copy_(theirs)

    def place(self, rotary: Rotary) -> Place:
        """Where the coming step reads and writes."""
        table = rotary.table(self.max_length, self.lengths.device)[:, :, :, None]
        if self.position is not None:
            rotations = table.narrow(0, self.position, 1)
            return Place(self.position, self.position + 1, rotations, None)
        n_columns = self.max_length if self.static else self.longest + 1
        mask = (self._columns[:n_columns] <= self.lengths[:, None])[:, None, None, :]
        return Place((self._rows, self.lengths), n_columns, table[self.lengths], mask)

    def fill(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """Store the first n columns (B, H, n, d) of every row at once."""
        n = keys.shape[2]
        self.caches[layer][:, 0, :, :n] = keys
        self.caches[layer][:, 1, :, :n] = values

    def advance(self) -> None:
        """Count the step that was just stored."""
        self.lengths += 1
        if self.static:
            return
        self.longest += 1
        if self.position is not None:
            self.position += 1

    def stand_at(self, lengths: Sequence[int]) -> None:
        """Say how many of the columns that `fill` stored are real, row by row."""
        self.lengths.copy_(torch.as_tensor(lengths))
        if not self.static:
            self.longest = max(lengths)
            self.position = self.longest if min(lengths) == self.longest else None

    def select(self, rows: Tensor) -> DecodeState:
        """The state of some rows, in that order: drops the finished ones.

        Args:
            rows: (n,) long
        """
        lengths = self.lengths[rows]
        longest = self.max_length if self.static else int(lengths.max())

        def pick(cache: Tensor) -> Tensor:
            picked = cache.new_zeros(len(rows), *cache.shape[1:])
            picked[:, :, :, :longest] = cache[rows, :, :, :longest]
            return picked

        return DecodeState(
            weights=self.weights,
            caches=[pick(cache) for cache in self.caches],
            text=[(k[rows], v[rows]) for k, v in self.text],
            text_mask=self.text_mask[rows],
            lengths=lengths,
            position=longest if int(lengths.min()) == longest else None,
            longest=longest,
            static=self.static,
        )

    def merge(self, other: DecodeState) -> DecodeState:
        """This state's rows, then the other's: lets new utterances join a running batch."""
        max_length = max(self.max_length, other.max_length)
        text_length = max(self.text_mask.shape[1], other.text_mask.shape[1])

        def join(a: Tensor, b: Tensor, n: int) -> Tensor:
            return torch.cat([F.pad(x, (0, 0, 0, n - x.shape[-2])) for x in (a, b)])

        masks = [F.pad(s.text_mask, (0, text_length - s.text_mask.shape[1])) for s in (self, other)]
        is_even = self.position is not None and self.position == other.position
        return DecodeState(
            weights=self.weights,
            caches=[join(a, b, max_length) for a, b in zip(self.caches, other.caches, strict=True)],
            text=[
                (join(a[0], b[0], text_length), join(a[1], b[1], text_length))
                for a, b in zip(self.text, other.text, strict=True)
            ],
            text_mask=torch.cat(masks),
            lengths=torch.cat([self.lengths, other.lengths]),
            position=self.position if is_even else None,
            longest=max(self.longest, other.longest),
            static=self.static,
        )
