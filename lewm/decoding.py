"""Running rows through the predictor frame by frame.

One batch is kept full: a row leaves when it stops and a waiting one takes its place.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lewm.model import DecodeState, LeWMTTS
from lewm.window import DEFAULT_WINDOW, Window
from ttscommon.errors import UserError

SHARE_TO_LEAVE = 8  # finished rows leave once they are 1/8 of the batch: leaving copies the cache


@dataclass(frozen=True, kw_only=True)
class GenerationSettings:
    """How to generate.

    Attributes:
        stop_threshold: stop probability that ends a row; 1 lets every row reach its maximum
        min_frames: latent frames no row ends before
        max_ratio: the maximum is this times the expected length, bytes * frames_per_byte
        max_frames: the maximum of every row, instead
        temperature: scale of the flow head's noise
        batch_size: rows generated together
        keep_attention: also return each row's alignment map
        window: what guided heads see of the text while decoding; None for all of it, and all of it
            for a voice whose heads had no guide
    """

    stop_threshold: float = 0.5
    min_frames: int = 8
    max_ratio: float = 1.6
    max_frames: int | None = None
    temperature: float = 0.6
    batch_size: int = 64
    keep_attention: bool = False
    window: Window | None = DEFAULT_WINDOW

    def __post_init__(self) -> None:
        for name in ("min_frames", "max_frames", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name} must be 1 or more, got {value}")
        if self.max_ratio <= 0 or self.temperature < 0:
            raise UserError("max_ratio must be above 0 and temperature 0 or more")
        if self.window is not None and min(self.window) < 0:
            raise UserError(f"a window reaches 0 bytes or more each way, got {self.window}")

    @property
    def stop_logit(self) -> float:
        """The threshold as a logit."""
        p = self.stop_threshold
        return math.log(p / (1 - p)) if 0 < p < 1 else math.copysign(math.inf, p - 0.5)


@dataclass
class Row:
    """One utterance on its way.

    Attributes:
        ids: of the prompt's text and the text
        prefix: (P, C) latents of the voice prompt, or None
        maximum: latent frames it may take
        noise: (maximum, C) from the request's own seed, or None
        pieces: what was generated so far, (n, C) each
    """

    ids: list[int]
    speaker_id: int
    language_id: int
    prefix: Tensor | None
    maximum: int
    noise: Tensor | None
    n_frames: int = 0
    ran_away: bool = False
    pieces: list[Tensor] = field(default_factory=list)

    @property
    def n_prefix(self) -> int:
        return 0 if self.prefix is None else len(self.prefix)

    def take(self, latents: Tensor, *, ran_away: bool) -> None:
        """Add (n, C) latents that were generated for this row."""
        self.pieces.append(latents)
        self.n_frames += len(latents)
        self.ran_away = ran_away


def encode_texts(model: LeWMTTS, rows: Sequence[Row], length: int) -> tuple[Tensor, Tensor]:
    """Texts of all rows, padded to `length` or the longest: (B, L, D) and mask (B, L)."""
    device = model.latent_mean.device
    length = max(length, *(len(row.ids) for row in rows))
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    mask = torch.zeros(len(rows), length, dtype=torch.bool)
    for b, row in enumerate(rows):
        ids[b, : len(row.ids)] = torch.tensor(row.ids)
        mask[b, : len(row.ids)] = True
    speakers = torch.tensor([row.speaker_id for row in rows], device=device)
    languages = torch.tensor([row.language_id for row in rows], device=device)
    mask = mask.to(device)
    return model.text_encoder(ids.to(device), mask, speakers, languages), mask


def begin(
    model: LeWMTTS,
    rows: Sequence[Row],
    window: Window | None,
    *,
    room: int = 0,
    n_text: int = 0,
    static: bool = False,
) -> tuple[DecodeState, Tensor]:
    """The state before the first frame, voice prompts read, and `previous` (B, C) to go with it.

    Args:
        room, n_text: frames and text ids to make room for, if more than the rows need
    """
    room = max(room, *(row.n_prefix + row.maximum for row in rows))
    text, mask = encode_texts(model, rows, n_text)
    state = model.predictor.start(text, mask, room, static=static, window=window)
    previous = text.new_zeros(len(rows), model.config.latent_dim)
    if any(row.n_prefix for row in rows):
        prefixes = [previous[:0] if row.prefix is None else row.prefix.to(previous) for row in rows]
        model.predictor.prefill(
            pad_sequence(prefixes, batch_first=True), state, [row.n_prefix for row in rows]
        )
        for b, prefix in enumerate(prefixes):
            if len(prefix):
                previous[b] = prefix[-1]
    return state, previous


def run_continuous(model: LeWMTTS, rows: Sequence[Row], settings: GenerationSettings) -> None:
    """Generate all rows in one batch that refills itself as rows finish."""
    waiting = deque(rows)
    batch: _Batch | None = None
    while waiting or batch is not None:
        n_free = settings.batch_size - (len(batch.rows) if batch is not None else 0)
        entering = [waiting.popleft() for _ in range(min(n_free, len(waiting)))]
        if entering:
            started = _Batch(entering, *begin(model, entering, settings.window))
            batch = started if batch is None else batch.merge(started)
        assert batch is not None
        batch = batch.run(model, settings)


class _Batch:
    """Rows that are being generated together, and the state they share."""

    def __init__(self, rows: list[Row], state: DecodeState, previous: Tensor):
        self.rows, self.state, self.previous = rows, state, previous

    def merge(self, other: _Batch) -> _Batch:
        """Both batches' rows as one batch."""
        previous = torch.cat([self.previous, other.previous])
        return _Batch(self.rows + other.rows, self.state.merge(other.state), previous)

    def run(self, model: LeWMTTS, settings: GenerationSettings) -> _Batch | None:
        """Go on until enough rows are done, hand out the frames, return the rows that are left."""
        enough = max(1, len(self.rows) // SHARE_TO_LEAVE)
        ends = [0] * len(self.rows)  # 0 until the row is done
        stopped = [False] * len(self.rows)
        frames: list[Tensor] = []
        while (n_done := len(ends) - ends.count(0)) < enough:
            if n_done and self.state.is_full:
                break  # a row at its maximum can't wait for company
            latent, stop_logits = self._step(model, len(frames), settings)
            frames.append(latent)
            for b, (row, stop_logit) in enumerate(zip(self.rows, stop_logits, strict=True)):
                n = row.n_frames + len(frames)
                stops = stop_logit > settings.stop_logit and n >= settings.min_frames
                if not ends[b] and (stops or n >= row.maximum):
                    ends[b], stopped[b] = len(frames), stops
        return self._leave(torch.stack(frames, 1), ends, stopped)

    def _step(
        self, model: LeWMTTS, n_new: int, settings: GenerationSettings
    ) -> tuple[Tensor, list[float]]:
        """The next latents (B, C) and stop logits; each row has `n_new` frames not yet its own."""
        said = model.predictor.step(self.previous, self.state)
        noise = self._noise(n_new)
        self.previous = model.predictor.head.sample(said.hidden[:, 0], noise, settings.temperature)
        return self.previous, said.stop_logits[:, 0].tolist()

    def _noise(self, n_new: int) -> Tensor | None:
        """(B, C); a row that is done but hasn't left yet takes its last noise again."""
        noises = [
            row.noise[min(row.n_frames + n_new, row.maximum - 1)]
            for row in self.rows
            if row.noise is not None
        ]
        return torch.stack(noises).to(self.previous) if noises else None

    def _leave(self, frames: Tensor, ends: list[int], stopped: list[bool]) -> _Batch | None:
        """Hand the frames (B, n, C) to their rows; go on without the rows that ended."""
        left = [b for b, end in enumerate(ends) if not end]
        for row, own, end, is_stopped in zip(self.rows, frames, ends, stopped, strict=True):
            row.take(own[: end or len(own)], ran_away=end > 0 and not is_stopped)
        if not left:
            return None
        keep = torch.tensor(left, device=self.previous.device)
        return _Batch([self.rows[b] for b in left], self.state.select(keep), self.previous[keep])
