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
from lewm.heads import build_head
from lewm.layers import DecoderBlock, Rotary
from lewm.step import StepWeights, step_block


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
        return self._prediction(x, attention if need_attention else None)

    @torch.no_grad()
    def start(
        self, text: Tensor, text_mask: Tensor, max_length: int, *, static: bool = False
    ) -> DecodeState:
        """Begin decoding: text (B, L, D) is projected once, room is made for max_length steps."""
        # Built here and not by the first step, which may be under CUDA graph capture.
        self.rotary.table(max_length, text.device)
        head_dim = text.shape[-1] // self.n_heads
        shape = (len(text), 2, self.n_heads, max_length, head_dim)
        return DecodeState(
            weights=[StepWeights.of(block) for block in self._layers()],
            caches=[text.new_zeros(shape) for _ in self._layers()],
            text=[_contiguous(block.cross.project(text)) for block in self._layers()],
            text_mask=text_mask,
            lengths=torch.zeros(len(text), dtype=torch.long, device=text.device),
            static=static,
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
        for layer, block in enumerate(self._layers()):
            x, _ = block(
                x,
                rotations,
                state.text[layer],
                state.cross_mask,
                remember=partial(state.fill, layer),
            )
        state.stand_at([n] * len(latents) if lengths is None else lengths)
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
        place = state.place(self.rotary)
        attention = []
        for layer, weights in enumerate(state.weights):
            x, attended = step_block(
                x,
                weights,
                state.caches[layer],
                place,
                state.text[layer],
                state.cross_mask,
                need_attention,
            )
            attention.append(attended)
        state.advance()
        return self._prediction(x.unsqueeze(1), attention if need_attention else None)

    def _layers(self) -> Iterable[DecoderBlock]:
        return cast(Iterable[DecoderBlock], self.blocks)

    def _shifted(self, latents: Tensor) -> Tensor:
        """Inputs u_t of latents (B, T, C): (B, T, D)"""
        begin = self.begin.expand(len(latents), 1, -1)
        return self.dropout(torch.cat([begin, self.project(latents[:, :-1])], dim=1))

    def _input(self, previous: Tensor | None, state: DecodeState) -> Tensor:
        """Input of the coming step: (B, D)"""
        if previous is None or state.position == 0:
            return self.begin.expand(state.batch_size, -1)
        x = self.project(previous)
        if state.position is None:
            x = torch.where(state.lengths[:, None] == 0, self.begin, x)
        return x

    def _prediction(self, x: Tensor, attention: list[Tensor] | None) -> Prediction:
        hidden = self.norm(x)
        weights = None if attention is None else tuple(attention)
        return Prediction(hidden, self.stop(hidden).squeeze(-1), weights)


def _contiguous(pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Strided once instead of in every step."""
    return pair[0].contiguous(), pair[1].contiguous()
