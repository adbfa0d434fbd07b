"""The joint-embedding predictor: from text and the latents so far to the next latent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from lewm.cache import DecodeState
from lewm.config import ModelConfig
from lewm.fused_step import FusedWeights, step_fused
from lewm.heads import build_head
from lewm.layers import DecoderBlock, Rotary
from lewm.step import Place, StepWeights, step_block
from lewm.window import Window


@dataclass
class Prediction:
    """What the predictor says about T consecutive latents.

    Attributes:
        hidden: (B, T, D), for `JEPAPredictor.head`
        stop_logits: (B, T), above 0 where the utterance probably ends with this latent
        attention: cross-attention weights, per layer (B, H, T, L), or None when not asked for
    """

    hidden: Tensor
    stop_logits: Tensor
    attention: tuple[Tensor, ...] | None = None


class JEPAPredictor(nn.Module):
    """Transformer decoder over standardised latents with cross-attention to text.

    Output t describes latents[:, t] and sees the text and latents[:, :t] only: the input is shifted
    inside, u_0 a learned vector and u_t = latents[t - 1]. `forward` does all frames at once;
    `start` and `step` (and `prefill` for a voice prompt) do the same one frame at a time.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        width = config.width
        self.project = nn.Linear(config.latent_dim, width)
        self.begin = nn.Parameter(torch.randn(width) * 0.1)
        self.dropout = nn.Dropout(config.dropout)
        self.rotary = Rotary(width // config.n_heads)
        self.blocks = nn.ModuleList(
            DecoderBlock(width, config.ff_dim, config.n_heads, config.dropout)
            for _ in range(config.n_predictor_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.stop = nn.Linear(width, 1)
        self.head = build_head(config.head, width, config.latent_dim)
        self.n_heads = config.n_heads
        self._fused: FusedWeights | None = None

    def fuse_steps(self) -> None:
        """From now on decode by one compiled function: for float32 weights on a CPU.

        It keeps a copy of the weights as they are now.
        """
        self._fused = FusedWeights.of(self._layers())

    def forward(
        self, latents: Tensor, text: Tensor, text_mask: Tensor, *, need_attention: bool = False
    ) -> Prediction:
        """Teacher-forced prediction of every latent.

        Args:
            latents: (B, T, C) standardised; padding at the end needs no mask, as nothing looks back
            text: (B, L, D)
            text_mask: (B, L) bool, True on real bytes
        """
        x = self._shifted(latents)
        rotations = self.rotary.span(0, x.shape[1], x.device)
        cross_mask = text_mask[:, None, None, :]
        attention = []
        for block in self._layers():
            x, weights = block(
                x,
                rotations,
                block.cross.project(text),
                cross_mask,
                need_attention=need_attention,
            )
            attention.append(weights)
        return self._prediction(x, tuple(attention) if need_attention else None)

    @torch.no_grad()
    def start(
        self,
        text: Tensor,
        text_mask: Tensor,
        max_length: int,
        *,
        static: bool = False,
        window: Window | None = None,
    ) -> DecodeState:
        """Begin decoding: text (B, L, D) is projected once, room is made for max_length steps.

        Args:
            window: what the guided heads see of the text around the furthest place read
        """
        # Built here and not by the first step, which may be under CUDA graph capture.
        self.rotary.table(max_length, text.device)
        keys, values = zip(*(block.cross.project(text) for block in self._layers()), strict=True)
        stacked = torch.stack(values)  # (N, B, H, L, d)
        n_layers, n_rows, n_heads, _, dim = stacked.shape
        room = (n_layers, n_rows, n_heads)
        # A static step is to be captured or compiled as a whole.
        fused = None if static else self._fused
        return DecodeState(
            weights=fused or [StepWeights.of(block) for block in self._layers()],
            cache=(text.new_zeros(*room, dim, max_length), text.new_zeros(*room, max_length, dim)),
            text=(torch.stack(keys).mT.contiguous(), stacked),
            text_mask=text_mask,
            lengths=torch.zeros(n_rows, dtype=torch.long, device=text.device),
            static=static,
            window=window,
        )

    @torch.no_grad()
    def prefill(
        self, latents: Tensor, state: DecodeState, lengths: Sequence[int] | None = None
    ) -> Prediction:
        """Read a voice prompt; the next `step` wants each row's last prompt latent as `previous`.

        Args:
            latents: (B, n, C) standardised, finite in the padding too
            state: fresh from `start`
            lengths: real latents of each row (0: that row has no prompt); default all n

        Returns:
            what `forward` says of these n latents
        """
        n = latents.shape[1]
        if n > state.max_length:
            raise ValueError(f"a prompt of {n} latents, but room for {state.max_length}")
        x = self._shifted(latents)
        rotations = self.rotary.span(0, n, x.device)
        cross_mask = state.text_mask[:, None, None, :]
        lengths = [n] * len(latents) if lengths is None else lengths
        rows, last = range(len(latents)), [max(length - 1, 0) for length in lengths]
        attention = []
        for layer, block in enumerate(self._layers()):
            keys, values = state.text[0][layer], state.text[1][layer]
            remember, windowed = partial(state.fill, layer), state.window is not None
            x, attended = block(
                *(x, rotations, (keys.mT, values), cross_mask),
                need_attention=windowed,
                remember=remember,
            )
            attention.append(attended[rows, :, last] if windowed else attended)
        state.stand_at(lengths, attention)
        return self._prediction(x, None)

    @torch.no_grad()
    def step(
        self, previous: Tensor | None, state: DecodeState, *, need_attention: bool = False
    ) -> Prediction:
        """The next latent of every row; `state` moves on by one.

        Args:
            previous: (B, C) the latent before; not looked at in rows that have none yet, and None
                when no row has one

        Returns:
            Prediction with T = 1
        """
        if state.is_full:
            raise ValueError(f"no room after {state.max_length} steps; start() with more")
        x = self._input(previous, state)  # (B, D)
        if isinstance(state.weights, FusedWeights):
            place = state.fused_place(self.rotary)
            x, attention = step_fused(x, state.weights, state.cache, state.text, place)
        else:
            x, attention = _step_blocks(x, state, state.place(self.rotary), state.weights)
            state.follow(attention)
        state.advance()
        shown = tuple(weights.unsqueeze(2) for weights in attention) if need_attention else None
        return self._prediction(x.unsqueeze(1), shown)

    def _layers(self) -> Iterable[DecoderBlock]:
        return cast(Iterable[DecoderBlock], self.blocks)

    def _shifted(self, latents: Tensor) -> Tensor:
        """Inputs u_t of latents (B, T, C): (B, T, D)"""
        begin = self.begin.expand(len(latents), 1, -1)
        return self.dropout(torch.cat([begin, self.project(latents[:, :-1])], dim=1))

    def _input(self, previous: Tensor | None, state: DecodeState) -> Tensor:
        """Input of the coming step: (B, D)"""
        if previous is None or state.position == 0:
            return self.begin.repeat(state.batch_size, 1)
        x = self.project(previous)
        if state.position is None:
            x = torch.where(state.lengths[:, None] == 0, self.begin, x)
        return x

    def _prediction(self, x: Tensor, attention: tuple[Tensor, ...] | None) -> Prediction:
        hidden = self.norm(x)
        return Prediction(hidden, self.stop(hidden).squeeze(-1), attention)


def _step_blocks(
    x: Tensor, state: DecodeState, place: Place, weights: Sequence[StepWeights]
) -> tuple[Tensor, list[Tensor]]:
    """x (B, D) through all blocks, and the cross-attention weights (B, H, L) of each."""
    attention, hidden = [], state.hidden_text()
    for layer in zip(weights, *state.cache, *state.text, strict=True):
        own, keys, values, text_keys, text_values = layer
        x, attended = step_block(x, own, (keys, values), (text_keys, text_values), place, hidden)
        attention.append(attended)
    return x, attention
