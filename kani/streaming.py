"""Sound while it is being generated: each piece is decoded with the frames before it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from kani.codec import NanoCodec

CHUNK_FRAMES = 25  # 2 s


@dataclass(frozen=True)
class Window:
    """Frames to decode together, of which the first `n_known` were heard before."""

    start: int
    end: int
    n_known: int


class Schedule:
    """When to decode what, as frames come in.

    Args:
        lookback: frames in front of each piece; from `NanoCodec.decoder_context` on pieces add up
            to what decoding at once gives, the public program takes 15
    """

    def __init__(self, chunk: int, lookback: int):
        if chunk < 1 or lookback < 0:
            raise ValueError(f"chunk {chunk} must be 1 or more, lookback {lookback} 0 or more")
        self.chunk, self.lookback, self.done = chunk, lookback, 0

    def due(self, n_frames: int, *, is_over: bool = False) -> Iterator[Window]:
        """What can be decoded once there are `n_frames`."""
        while n_frames - self.done >= self.chunk or (is_over and n_frames > self.done):
            start = max(0, self.done - self.lookback)
            end = min(self.done + self.chunk, n_frames)
            yield Window(start, end, self.done - start)
            self.done = end


def pieces(
    frames: Iterable[Tensor],
    codec: NanoCodec,
    *,
    chunk: int = CHUNK_FRAMES,
    lookback: int | None = None,
) -> Iterator[Tensor]:
    """Sound (S,) of frames (K,) that come one after the other.

    Args:
        lookback: the codec's whole context by default
    """
    context = codec.decoder_context if lookback is None else lookback
    schedule = Schedule(chunk, context)
    hop = codec.config.samples_per_frame
    kept: list[Tensor] = []
    device = next(codec.parameters()).device

    def decoded(window: Window) -> Tensor:
        codes = torch.stack(kept[window.start : window.end], dim=1)  # (K, T)
        return codec.decode(codes[None].to(device))[0, window.n_known * hop :].cpu()

    for frame in frames:
        kept.append(frame)
        yield from map(decoded, schedule.due(len(kept)))
    yield from map(decoded, schedule.due(len(kept), is_over=True))
