"""What autoregressive decoding remembers between two steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from lewm.fused_step import FusedPlace, FusedWeights
from lewm.layers import KeysValues, Rotary
from lewm.step import Place, StepWeights
from lewm.window import Window, place_read, spans


@dataclass
class DecodeState:
    """The KV cache of a batch of utterances, which may stand at different lengths.

    Row b has fed `lengths[b]` inputs; its keys and values fill the first `lengths[b]` columns.
    Built by `JEPAPredictor.start`. Cache tensors are changed in place; `select` and `merge` give a
    new state and leave the old one alone.

    Attributes:
        weights: of all N layers, gathered once so that no step has to; fused ones on request
        cache: keys (N, B, H, d, max_length) and values (N, B, H, max_length, d)
        text: projected text, keys (N, B, H, d, L) and values (N, B, H, L, d)
        text_mask: (B, L) bool, True on real bytes
        lengths: (B,) long
        position: the length all rows share, known without asking the device; None when rows differ
            or in static mode
        longest: no row is longer than this (static mode: max_length)
        static: every step has the same shapes and no host-side number in it, so that one step can
            be captured as a CUDA graph or compiled once; it reads all max_length columns
        window: what the guided heads see of the text; None for all of it
        reached: (B,) long, the furthest byte of the text that they have read
    """

    weights: list[StepWeights] | FusedWeights
    cache: KeysValues
    text: KeysValues
    text_mask: Tensor
    lengths: Tensor
    position: int | None = 0
    longest: int = 0
    static: bool = False
    window: Window | None = None
    reached: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))

    def __post_init__(self) -> None:
        if len(self.reached) != self.batch_size:
            self.reached = torch.zeros_like(self.lengths)
        if self.static:
            self.position, self.longest = None, self.max_length
        self._rows = torch.arange(self.batch_size, device=self.lengths.device)
        self._columns = torch.arange(self.max_length, device=self.lengths.device)
        head_dim = self.cache[1].shape[4]
        scales = torch.tensor([head_dim**-0.5, 1.0, 1.0], device=self.lengths.device)
        self._scale = scales[:, None, None]  # (3, 1, 1): of the queries only
        self.n_text = self.text_mask.sum(1)
        # One host sync here saves a mask in every layer of every step.
        padded = self.static or not bool(self.text_mask.all())
        self.text_padding = ~self.text_mask[:, None] if padded else None
        self._bytes = torch.arange(self.text_mask.shape[1], device=self.lengths.device)

    @property
    def batch_size(self) -> int:
        return len(self.lengths)

    @property
    def max_length(self) -> int:
        return self.cache[0].shape[4]

    @property
    def is_full(self) -> bool:
        """No column is left for another step (never known in static mode: the caller counts)."""
        return not self.static and self.longest >= self.max_length

    def tensors(self) -> list[Tensor]:
        """Everything that makes up the state in static mode, in a fixed order."""
        assert self.text_padding is not None  # static: always there
        masks = (self.text_mask, self.text_padding, self.n_text)
        return [*self.cache, *self.text, *masks, self.lengths, self.reached]

    def copy_(self, other: DecodeState) -> None:
        """Take over another static state of the same shapes, in this one's memory."""
        for mine, theirs in zip(self.tensors(), other.tensors(), strict=True):
            mine.copy_(theirs)

    def place(self, rotary: Rotary) -> Place:
        """Where the coming step reads and writes."""
        table = rotary.table(self.max_length, self.lengths.device)
        if self.position is not None:
            rotations = table.narrow(0, self.position, 1) * self._scale
            return Place(self.position, self.position + 1, rotations, None)
        n_columns = self.max_length if self.static else self.longest + 1
        ahead = (self._columns[:n_columns] > self.lengths[:, None])[:, None]
        rotations = table[self.lengths] * self._scale
        return Place((self._rows, self.lengths), n_columns, rotations, ahead)

    def fused_place(self, rotary: Rotary) -> FusedPlace:
        """Where the coming step reads and writes, for fused steps."""
        rotations = rotary.table(self.max_length, self.lengths.device)[:, 0, 0][self.lengths]
        return FusedPlace.of(self.lengths, rotations, self.n_text, self.reached, self.window)

    def hidden_text(self) -> Tensor | None:
        """What the coming step doesn't see: (B, 1 or H, L) bool, or None where it sees all."""
        if self.window is None:
            return self.text_padding
        seen = spans(self.n_text, self.text[0].shape[2], self.reached, self.window)
        begin, end = seen.unsqueeze(2).unbind(-1)  # (B, H, 1) each
        return (self._bytes < begin) | (self._bytes >= end)

    def fill(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """Store the first n columns (B, H, n, d) of every row at once."""
        n = keys.shape[2]
        self.cache[0][layer, ..., :n] = keys.mT
        self.cache[1][layer, ..., :n, :] = values

    def follow(self, attention: Sequence[Tensor]) -> None:
        """Move the window after a step that looked at the text so, per layer (B, H, L)."""
        if self.window is not None:
            torch.maximum(self.reached, place_read(attention), out=self.reached)

    def advance(self) -> None:
        """Count the step that was just stored."""
        self.lengths += 1
        if self.static:
            return
        self.longest += 1
        if self.position is not None:
            self.position += 1

    def stand_at(self, lengths: Sequence[int], attention: Sequence[Tensor]) -> None:
        """Say how many of the columns that `fill` stored are real, row by row.

        Args:
            attention: with a window, the looks of each row's last one, per layer (B, H, L)
        """
        self.lengths.copy_(torch.as_tensor(lengths))
        if self.window is not None:
            self.reached.copy_(place_read(attention).masked_fill(self.lengths == 0, 0))
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

        keys, values = (x.new_zeros(len(x), len(rows), *x.shape[2:]) for x in self.cache)
        keys[..., :longest] = self.cache[0][:, rows, ..., :longest]
        values[..., :longest, :] = self.cache[1][:, rows, :, :longest]
        return DecodeState(
            weights=self.weights,
            cache=(keys, values),
            text=(self.text[0][:, rows], self.text[1][:, rows]),
            text_mask=self.text_mask[rows],
            lengths=lengths,
            position=longest if int(lengths.min()) == longest else None,
            longest=longest,
            static=self.static,
            window=self.window,
            reached=self.reached[rows],
        )

    def merge(self, other: DecodeState) -> DecodeState:
        """This state's rows, then the other's: lets new utterances join a running batch."""
        max_length = max(self.max_length, other.max_length)
        text_length = max(self.text_mask.shape[1], other.text_mask.shape[1])

        def join(a: KeysValues, b: KeysValues, n: int) -> KeysValues:
            keys = [F.pad(x, (0, n - x.shape[4])) for x, _ in (a, b)]
            values = [F.pad(x, (0, 0, 0, n - x.shape[3])) for _, x in (a, b)]
            return torch.cat(keys, 1), torch.cat(values, 1)

        masks = [F.pad(s.text_mask, (0, text_length - s.text_mask.shape[1])) for s in (self, other)]
        is_even = self.position is not None and self.position == other.position
        return DecodeState(
            weights=self.weights,
            cache=join(self.cache, other.cache, max_length),
            text=join(self.text, other.text, text_length),
            text_mask=torch.cat(masks),
            lengths=torch.cat([self.lengths, other.lengths]),
            position=self.position if is_even else None,
            longest=max(self.longest, other.longest),
            static=self.static,
            window=self.window,
            reached=torch.cat([self.reached, other.reached]),
        )
