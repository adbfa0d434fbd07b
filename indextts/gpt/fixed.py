"""Decoding in fixed shapes, so that one step can be compiled and replayed as a CUDA graph.

The ordinary cache grows with every code; here all columns are there from the start, and a mask says
which of them are written. On a GPU, where a step of one row is bound by launching its thousand
kernels, replaying them as one graph is what makes decoding fast.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn

from indextts.config import GptConfig
from indextts.gpt.cache import DecodeState, LayerCache
from indextts.gpt.model import Prefix, UnifiedVoice

ROOM = 512  # columns come in multiples of this, lest every length of text be compiled anew


class FixedCache(LayerCache):
    """Keys and values of one layer, with room for all columns there will be.

    Attributes:
        columns: (2, B, H, room, d)
        place: (1,) long, the column written next; the same tensor in every layer
    """

    columns: Tensor

    def __init__(self, columns: Tensor, place: Tensor):
        super().__init__()
        self.columns, self.place = columns, place

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store one column (B, H, 1, d) and return all, unwritten ones too: (B, H, room, d)"""
        both = self.columns
        both[0].index_copy_(2, self.place, keys)
        both[1].index_copy_(2, self.place, values)
        return both[0], both[1]


@dataclass(eq=False)
class Buffers:
    """What a step reads and writes, always at the same addresses.

    Attributes:
        caches: one per transformer block
        may_read: (B, room) bool, False on the padding of prefixes
        place: (1,) long, the column that is written next
        position: (1,) long, the mel position of the code that is fed next
        codes: (B,) long, what is fed
    """

    caches: list[LayerCache]
    may_read: Tensor
    place: Tensor
    position: Tensor
    codes: Tensor

    @classmethod
    def empty(cls, model: UnifiedVoice, n_rows: int, room: int) -> Buffers:
        weight, config = model.mel_head.weight, model.config
        head_dim = config.model_dim // config.heads
        shape, device = (2, n_rows, config.heads, room, head_dim), weight.device
        place = torch.zeros(1, dtype=torch.long, device=device)
        made = cls(
            caches=[FixedCache(weight.new_zeros(shape), place) for _ in range(config.layers)],
            may_read=torch.ones(n_rows, room, dtype=torch.bool, device=device),
            place=place,
            position=torch.zeros_like(place),
            codes=torch.zeros(n_rows, dtype=torch.long, device=device),
        )
        for tensor in (*made.columns, made.may_read, place, made.position, made.codes):
            torch._dynamo.mark_static_address(tensor)
        return made

    @property
    def columns(self) -> list[Tensor]:
        return [cast(FixedCache, cache).columns for cache in self.caches]


@dataclass(eq=False)
class FixedState:
    """Takes the place of `DecodeState`; ordinary until the first step, which fixes the shapes.

    Rows that have left are computed on with the others; those that remain stand first.
    """

    started: DecodeState
    room: int
    buffers: Buffers | None = None
    n_rows: int = 0
    n_codes: int = field(default=0)

    @property
    def length(self) -> int:
        """Columns that are written."""
        return self.started.n_prefix + self.n_codes

    def select(self, rows: Tensor) -> None:
        """Keep these rows (n,) only, in this order; see `DecodeState.select`."""
        if self.buffers is None:
            self.started.select(rows)
            return
        self.n_rows = len(rows)
        for columns in self.buffers.columns:
            written = columns[:, :, :, : self.length]
            written[:, : self.n_rows] = written[:, rows]
        self.buffers.may_read[: self.n_rows] = self.buffers.may_read[rows]

    def reorder(self, rows: Tensor) -> None:
        """Let row b go on from row `rows[b]`, a beam of the same utterance."""
        if self.buffers is None:
            self.started.reorder(rows)
            return
        for columns in self.buffers.columns:
            written = columns[:, : self.n_rows, :, self.started.n_prefix : self.length]
            written.copy_(written[:, rows])


class FixedVoice:
    """Decodes as its model does, in steps of fixed shapes; one `generate` at a time.

    Args:
        model: what writes; its weights are shared
        compiler: backend of torch.compile; None runs the step as it is
        max_new: most codes that will be written, which is what room is made for
    """

    def __init__(
        self,
        model: UnifiedVoice,
        *,
        compiler: str | Callable | None = "inductor",
        max_new: int | None = None,
    ):
        self.model = model
        self.max_new = max_new or model.config.max_mel_tokens
        self._kept: dict[tuple[int, int], Buffers] = {}
        self._in_use: FixedState | None = None
        self._run = _logits
        if compiler is not None:
            # Captures CUDA graphs too; on a CPU it means nothing.
            mode = "reduce-overhead" if compiler == "inductor" else None
            self._run = torch.compile(
                _logits, backend=compiler, mode=mode, fullgraph=True, dynamic=False
            )

    @property
    def config(self) -> GptConfig:
        return self.model.config

    @property
    def mel_head(self) -> nn.Linear:
        return self.model.mel_head

    def start(self, prefix: Prefix, *, contiguous: bool = False) -> tuple[Tensor, FixedState]:
        """See `UnifiedVoice.start`."""
        logits, started = self.model.start(prefix, contiguous=contiguous)
        room = -(-(started.n_prefix + self.max_new) // ROOM) * ROOM
        self._in_use = FixedState(started, room)
        return logits, self._in_use

    @torch.no_grad()
    def step(self, codes: Tensor, state: FixedState) -> Tensor:
        """See `UnifiedVoice.step`.

        Raises:
            ValueError: if another text was started meanwhile, or there is no room left
        """
        if state is not self._in_use:
            raise ValueError("another text was started with these buffers")
        if state.length >= state.room:
            raise ValueError(f"all {state.room} columns are written")
        if state.buffers is None:
            self._fix(state, len(codes))
        buffers = state.buffers
        assert buffers is not None
        buffers.codes[: len(codes)] = codes
        if codes.is_cuda:
            torch.compiler.cudagraph_mark_step_begin()
        logits = self._run(self.model, buffers)[: state.n_rows].clone()
        buffers.place.add_(1)
        buffers.position.add_(1)
        state.n_codes += 1
        return logits

    def _fix(self, state: FixedState, n_rows: int) -> None:
        """Move what was read so far into the buffers of this shape."""
        key = (n_rows, state.room)
        if key not in self._kept:
            self._kept[key] = Buffers.empty(self.model, *key)
        buffers, started = self._kept[key], state.started
        for columns, cache in zip(buffers.columns, started.layers, strict=True):
            assert cache.columns is not None
            columns[:, :, :, : cache.length] = cache.columns[:, :, :, : cache.length]
        buffers.may_read.fill_(True)
        if started.prefix_mask is not None:
            buffers.may_read[:, : started.n_prefix] = started.prefix_mask
        buffers.place.fill_(started.n_prefix)
        buffers.position.fill_(started.position)
        buffers.codes.zero_()
        state.buffers, state.n_rows = buffers, n_rows
        started.layers = []


def _logits(model: UnifiedVoice, buffers: Buffers) -> Tensor:
    """(B, V) of the code after `buffers.codes`"""
    places = torch.arange(buffers.may_read.shape[1], device=buffers.may_read.device)
    mask = (buffers.may_read & (places <= buffers.place))[:, None, None]  # (B, 1, 1, room)
    x = model.mel_embedding(buffers.codes)
    x = x + model.mel_pos_embedding.emb(buffers.position)  # (B, D)
    hidden = model.gpt(x[:, None], mask, buffers.caches)
    return model.mel_head(model.final_norm(hidden[:, -1]))
