"""What autoregressive decoding remembers between two steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lewm.layers import KeysValues


@dataclass
class DecodeState:
    """The KV cache of a batch of utterances, which may stand at different lengths.

    Row b has fed `lengths[b]` inputs; its keys and values fill the first `lengths[b]` columns.
    Built by `JEPAPredictor.start`. Cache tensors are changed in place; `select` and `merge` give a
    new state and leave the old one alone.

    Attributes:
        keys, values: per layer (B, H, max_length, d)
        text: per layer the projected text, two (B, H, L, d)
        text_mask: (B, L) bool, True on real bytes
        lengths: (B,) long
        position: the length all rows share, known without asking the device; None when rows differ
            or in static mode
        longest: no row is longer than this (static mode: max_length)
        static: every step has the same shapes and no host-side number in it, so that one step can
            be captured as a CUDA graph or compiled once; it reads all max_length columns
    """

    keys: list[Tensor]
    values: list[Tensor]
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
        return self.keys[0].shape[2]

    @property
    def is_full(self) -> bool:
        """No column is left for another step (never known in static mode: the caller counts)."""
        return not self.static and self.longest >= self.max_length

    def self_mask(self) -> Tensor | None:
        """What the coming step may attend to: (B, 1, 1, n) bool, or None for everything stored."""
        if self.position is not None:
            return None
        columns = self._columns if self.static else self._columns[: self.longest + 1]
        return (columns <= self.lengths[:, None])[:, None, None, :]

    def append(self, layer: int, keys: Tensor, values: Tensor) -> KeysValues:
        """Store one column (B, H, 1, d) per row; return all columns the step attends to."""
        all_keys, all_values = self.keys[layer], self.values[layer]
        if self.position is not None:
            end = self.position + 1
            all_keys[:, :, self.position : end] = keys
            all_values[:, :, self.position : end] = values
            return all_keys[:, :, :end], all_values[:, :, :end]
        all_keys[self._rows, :, self.lengths] = keys[:, :, 0].to(all_keys.dtype)
        all_values[self._rows, :, self.lengths] = values[:, :, 0].to(all_values.dtype)
        if self.static:
            return all_keys, all_values
        end = self.longest + 1
        return all_keys[:, :, :end], all_values[:, :, :end]

    def fill(self, layer: int, keys: Tensor, values: Tensor) -> KeysValues:
        """Store the first n columns (B, H, n, d) of every row at once."""
        self.keys[layer][:, :, : keys.shape[2]] = keys
        self.values[layer][:, :, : keys.shape[2]] = values
        return keys, values

    def advance(self) -> None:
        """Count the step that `append` stored."""
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
            picked[:, :, :longest] = cache[rows, :, :longest]
            return picked

        return DecodeState(
            keys=[pick(k) for k in self.keys],
            values=[pick(v) for v in self.values],
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
            return torch.cat([F.pad(x, (0, 0, 0, n - x.shape[2])) for x in (a, b)])

        masks = [F.pad(s.text_mask, (0, text_length - s.text_mask.shape[1])) for s in (self, other)]
        is_even = self.position is not None and self.position == other.position
        return DecodeState(
            keys=[join(a, b, max_length) for a, b in zip(self.keys, other.keys, strict=True)],
            values=[join(a, b, max_length) for a, b in zip(self.values, other.values, strict=True)],
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
