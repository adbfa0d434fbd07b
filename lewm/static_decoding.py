"""Generation in fixed shapes, so that a GPU can replay one step as a graph.

A small model's step is a few hundred tiny kernels, and launching them one by one costs more than
running them. Here every tensor of a step keeps its shape and its place in memory: on CUDA the step
is captured once as a graph and replayed, and with `compile` it is fused by torch.compile first.
Gives the same latents as `decoding.run_continuous`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lewm.cache import DecodeState
from lewm.decoding import GenerationSettings, Row, begin
from lewm.model import LeWMTTS
from lewm.window import Window

STEPS_PER_LOOK = 16  # each look at who has stopped waits for the GPU
ROUNDING = 64  # lengths are rounded up to it, so that a captured step fits the next group too
N_WARM_UP = 3  # steps before capture, in which libraries take their memory and kernels compile
MAX_LOOPS = 8  # shapes kept; each holds a cache and, on CUDA, a graph


class StaticDecoder:
    """Runs rows in groups of like length, each group to its end.

    Keeps one loop per shape that it has met, to be used again by the next call.

    Args:
        compile: fuse the step with torch.compile; minutes for the first group, any device
    """

    def __init__(self, model: LeWMTTS, *, compile: bool = False):
        self.model, self.compile = model, compile
        self._loops: dict[tuple[int, int, int, float, Window | None], _Loop] = {}

    def run(self, rows: Sequence[Row], settings: GenerationSettings) -> None:
        """Generate all rows, `settings.batch_size` at a time."""
        for at in range(0, len(rows), settings.batch_size):
            self._run_group(rows[at : at + settings.batch_size], settings)

    def _run_group(self, rows: Sequence[Row], settings: GenerationSettings) -> None:
        longest = max(row.maximum for row in rows)
        loop = self._loop_for(rows, settings)
        ends = stopped = torch.zeros(len(rows))
        while not bool(ends.all()):
            loop.advance(min(STEPS_PER_LOOK, longest - loop.n_steps))
            ends, stopped = _ends(loop.stop_logits[: len(rows), : loop.n_steps], rows, settings)
        for b, row in enumerate(rows):
            end = int(ends[b])
            row.take(loop.latents[b, :end].clone(), ran_away=not bool(stopped[b]))

    def _loop_for(self, rows: Sequence[Row], settings: GenerationSettings) -> _Loop:
        n_slots = 1 << (len(rows) - 1).bit_length()
        # Every row is stepped as often as the longest, whatever its prompt.
        room = _round_up(max(row.n_prefix for row in rows) + max(row.maximum for row in rows))
        n_text = _round_up(max(len(row.ids) for row in rows))
        slots = [*rows, *[rows[-1]] * (n_slots - len(rows))]
        state, previous = begin(
            self.model, slots, settings.window, room=room, n_text=n_text, static=True
        )
        key = (n_slots, room, n_text, settings.temperature, settings.window)
        if key not in self._loops:
            if len(self._loops) == MAX_LOOPS:
                del self._loops[next(iter(self._loops))]
            self._loops[key] = _Loop(self.model, state, settings.temperature, self.compile)
        noise = None
        if slots[0].noise is not None:
            noise = previous.new_zeros(n_slots, room, previous.shape[1])
            for b, row in enumerate(slots):
                if row.noise is not None:
                    noise[b, : len(row.noise)] = row.noise.to(noise)
        self._loops[key].load(state, previous, noise)
        return self._loops[key]


class _Loop:
    """One step over buffers that never move.

    Attributes:
        latents: (B, room, C) what was generated
        stop_logits: (B, room)
        n_steps: how many of them are there
    """

    def __init__(self, model: LeWMTTS, state: DecodeState, temperature: float, compile: bool):
        self.model, self.temperature = model, temperature
        self.state = state.select(torch.arange(state.batch_size, device=state.lengths.device))
        # Held, so that a captured graph's table can't be replaced by a longer one and freed.
        self._rotations = model.predictor.rotary.table(state.max_length, state.lengths.device)
        shape = (state.batch_size, state.max_length, model.config.latent_dim)
        blank = state.cache[0].new_zeros(shape)
        self.latents, self.previous = blank, blank[:, 0].clone()
        self.stop_logits = blank[..., 0].clone()
        self.noise = blank.clone() if model.config.head == "flow" else None
        self.at = torch.zeros(1, dtype=torch.long, device=blank.device)
        self.n_steps = 0
        step = torch.compile(self._step, dynamic=False) if compile else self._step
        self._replay = _warmed(step, blank.device)

    def load(self, state: DecodeState, previous: Tensor, noise: Tensor | None) -> None:
        """Begin a new group: its contents are copied into this loop's memory."""
        self.state.copy_(state)
        self.previous.copy_(previous)
        if self.noise is not None and noise is not None:
            self.noise.copy_(noise)
        self.at.zero_()
        self.n_steps = 0

    def advance(self, n_steps: int) -> None:
        """Generate `n_steps` more frames of every row."""
        for _ in range(n_steps):
            self._replay()
        self.n_steps += n_steps

    def _step(self) -> None:
        said = self.model.predictor.step(self.previous, self.state)
        noise = None if self.noise is None else self.noise.index_select(1, self.at)[:, 0]
        latent = self.model.predictor.head.sample(said.hidden[:, 0], noise, self.temperature)
        self.previous.copy_(latent)
        self.latents.index_copy_(1, self.at, latent[:, None])
        self.stop_logits.index_copy_(1, self.at, said.stop_logits)
        self.at += 1


def _ends(
    stop_logits: Tensor, rows: Sequence[Row], settings: GenerationSettings
) -> tuple[Tensor, Tensor]:
    """Where rows end, 0 for those that go on, and which of them stopped by themselves: two (B,).

    Args:
        stop_logits: (B, n) of the first n frames
    """
    n = stop_logits.shape[1]
    frame = torch.arange(1, n + 1)
    maxima = torch.tensor([row.maximum for row in rows])
    stops = (stop_logits.float().cpu() > settings.stop_logit) & (frame >= settings.min_frames)
    first = torch.where(stops, frame, n + 1).min(1).values  # (B,)
    stopped = first <= maxima.clamp(max=n)
    ends = torch.where(stopped, first, torch.where(maxima <= n, maxima, 0))
    return ends, stopped


def _warmed(step: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """`step` after a few runs; on CUDA as a graph that calling replays."""
    if device.type != "cuda":
        for _ in range(N_WARM_UP):
            step()
        return step
    with torch.cuda.device(device):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(N_WARM_UP):
                step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
    return graph.replay


def _round_up(n: int) -> int:
    return -(-n // ROUNDING) * ROUNDING
