"""What autoregressive decoding remembers between two steps."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

GROWTH = 256  # columns added when a cache is full


class LayerCache:
    """Keys and values of one layer, in one tensor that grows by some columns at a time.

    Attributes:
        columns: (2, B, H, room, d), of which the first `length` are filled
    """

    def __init__(self) -> None:
        self.columns: Tensor | None = None
        self.length = 0

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store n more columns (B, H, n, d) and return all there are: two (B, H, length, d)"""
        columns = self._with_room(keys)
        end = self.length + keys.shape[2]
        columns[0, :, :, self.length : end] = keys
        columns[1, :, :, self.length : end] = values
        self.length = end
        return columns[0, :, :, :end], columns[1, :, :, :end]

    def select(self, rows: Tensor) -> None:
        """Keep these rows (n,) only, in this order."""
        assert self.columns is not None
        self.columns = self.columns[:, rows]

    def reorder(self, rows: Tensor, start: int) -> None:
        """Let row b go on from row `rows[b]`; columns before `start` are the same in both."""
        assert self.columns is not None
        written = self.columns[:, :, :, start : self.length]
        written.copy_(written[:, rows])

    def _with_room(self, keys: Tensor) -> Tensor:
        n_rows, n_heads, n, head_dim = keys.shape
        room = 0 if self.columns is None else self.columns.shape[3]
        if self.columns is None or self.length + n > room:
            shape = (2, n_rows, n_heads, self.length + n + GROWTH, head_dim)
            grown = keys.new_zeros(shape)
            if self.columns is not None:
                grown[:, :, :, : self.length] = self.columns[:, :, :, : self.length]
            self.columns = grown
        return self.columns


@dataclass
class DecodeState:
    """The KV cache of rows that are decoded together, changed in place by every step.

    Built by `UnifiedVoice.start`. All rows stand at the same length: shorter prefixes are padded on
    the left.

    Attributes:
        layers: one cache per transformer block
        prefix_mask: (B, P + 1) bool, False on padding; None when nothing is padded
        n_prefix: columns written before the first code; beams of one utterance share them
        n_codes: codes fed so far
        contiguous: number the codes as the base was trained; the original leaves position 1 out
    """

    layers: list[LayerCache]
    prefix_mask: Tensor | None
    n_prefix: int
    contiguous: bool = False
    n_codes: int = field(default=0)

    @property
    def position(self) -> int:
        """Mel position of the code that is fed next."""
        return self.n_codes + (1 if self.contiguous else 2)

    def mask(self) -> Tensor | None:
        """Columns the coming step may read: (B, 1, 1, n) bool, or None for all."""
        if self.prefix_mask is None:
            return None
        codes = self.prefix_mask.new_ones(len(self.prefix_mask), self.n_codes + 1)
        return torch.cat([self.prefix_mask, codes], dim=1)[:, None, None]

    def select(self, rows: Tensor) -> None:
        """Keep these rows (n,) only: finished ones leave, or one becomes several beams."""
        for layer in self.layers:
            layer.select(rows)
        if self.prefix_mask is not None:
            self.prefix_mask = self.prefix_mask[rows]

    def reorder(self, rows: Tensor) -> None:
        """Let row b go on from row `rows[b]`, a beam of the same utterance."""
        for layer in self.layers:
            layer.reorder(rows, self.n_prefix)
