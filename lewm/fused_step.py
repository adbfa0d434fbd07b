"""One frame through all decoder blocks as a single compiled CPU function.

On a CPU a step of `step.step_block` costs as much in calls as in reading the weights. Here numba
compiles the blocks into one. float32 only; equal to `step_block` within rounding. Compiled once a
machine, in ten seconds or so, and kept beside this file.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numba import njit
from numpy import ndarray
from torch import Tensor, nn

from lewm.layers import DecoderBlock, KeysValues
from lewm.loss import GUIDED_HEADS
from lewm.window import Window

# All of LLVM's liberties but the one to assume that there is no inf or nan.
LIBERTIES = {"reassoc", "contract", "arcp", "nsz"}
COMPILED = {"fastmath": LIBERTIES, "error_model": "numpy", "nogil": True, "cache": True}
UNROLLED = 8  # rows of a matrix read at once: fewer passes over what they are added to
ONE, HALF, LOG2_E = np.float32(1), np.float32(0.5), np.float32(1.4426950408889634)
# ln 2 in two parts, the first with few bits, as in Cephes' expf: their product loses nothing.
LN_2_HIGH, LN_2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
LOWEST, HIGHEST = np.float32(-87.0), np.float32(88.0)  # where exp leaves float32


log = logging.getLogger(__name__)


class FusedWeights(NamedTuple):
    """A copy of N blocks' parameters: norms (N, 2, D), biases (N, n), matrices (N, in, out)."""

    attention_norm: ndarray
    qkv_bias: ndarray
    qkv: ndarray
    attention_out: ndarray
    cross_norm: ndarray
    query_bias: ndarray
    query: ndarray
    cross_out: ndarray
    ff_norm: ndarray
    widen_bias: ndarray
    widen: ndarray
    narrow: ndarray

    @classmethod
    def of(cls, blocks: Iterable[DecoderBlock]) -> FusedWeights:
        """The weights of float32 blocks on the CPU."""
        layers = [cls._of_one(block) for block in blocks]
        return cls(*(torch.stack(same).numpy() for same in zip(*layers, strict=True)))

    @staticmethod
    def _of_one(block: DecoderBlock) -> list[Tensor]:
        attention, cross, ff = block.attention, block.cross, block.ff
        parts = [
            *(_norm(block.attention_norm), attention.qkv.bias, attention.qkv.weight.T),
            *(attention.out.weight.T, _norm(block.cross_norm), cross.query.bias),
            *(cross.query.weight.T, cross.out.weight.T, _norm(block.ff_norm)),
            *(ff.widen.bias, ff.widen.weight.T, ff.narrow.weight.T),
        ]
        return [part.detach() for part in parts]


class FusedPlace(NamedTuple):
    """Where in the cache each row's coming step stands.

    Attributes:
        columns: (B,) long, the column written to; it and those before are attended to
        rotations: (B, d/2) complex
        n_text: (B,) long, bytes of each row's text, which stand before its padding
        reached: (B,) long, the furthest byte that the guided heads have read; moved on in place
        window: (2,) long, bytes that they see behind and ahead of it; negative where they see all
    """

    columns: ndarray
    rotations: ndarray
    n_text: ndarray
    reached: ndarray
    window: ndarray

    @classmethod
    def of(
        cls,
        lengths: Tensor,
        rotations: Tensor,
        n_text: Tensor,
        reached: Tensor,
        window: Window | None,
    ) -> FusedPlace:
        """The place after `lengths` (B,) steps."""
        seen = np.array(window or (-1, -1))
        places = (lengths.numpy(), rotations.numpy(), n_text.numpy(), reached.numpy())
        return cls(*places, seen)


def step_fused(
    x: Tensor, weights: FusedWeights, cache: KeysValues, text: KeysValues, place: FusedPlace
) -> tuple[Tensor, Tensor]:
    """What `step.step_block` does for one block after the other.

    Args:
        x: (B, D) float32, changed in place
        cache: keys (N, B, H, d, max_length), values (N, B, H, max_length, d); changed in place
        text: projected text, keys (N, B, H, d, L) and values (N, B, H, L, d)

    Returns:
        (B, D) and the cross-attention weights (N, B, H, L)
    """
    (keys, values), (text_keys, text_values) = cache, text
    attention = np.zeros((*keys.shape[:3], text_keys.shape[4]), np.float32)
    arrays = (keys.numpy(), values.numpy(), text_keys.numpy(), text_values.numpy())
    if not _all_blocks.signatures and not _is_kept():
        log.info("compiling the decoding step for this processor, once: 10 to 20 s")
    _all_blocks(x.numpy(), *weights, *place, *arrays, attention)
    return x, torch.from_numpy(attention)


def _is_kept() -> bool:
    """Some earlier process has compiled the step and kept it."""
    kept = Path(_all_blocks.stats.cache_path or "").glob("fused_step._all_blocks*.nbi")
    return next(kept, None) is not None


def _norm(layer: nn.LayerNorm) -> Tensor:
    return torch.stack([layer.weight, layer.bias])


@njit(**COMPILED)
def _all_blocks(
    x, attention_norm, qkv_bias, qkv, attention_out, cross_norm, query_bias, query, cross_out,
    ff_norm, widen_bias, widen, narrow, columns, rotations, n_text, reached,
    window, keys, values, text_keys,
    text_values, attention,
):  # fmt: skip
    for i in range(len(qkv)):
        _attend_to_past(
            x, attention_norm[i], qkv_bias[i], qkv[i], attention_out[i], columns, rotations,
            keys[i], values[i],
        )  # fmt: skip
        _attend_to_text(
            x, cross_norm[i], query_bias[i], query[i], cross_out[i], n_text, reached, window,
            text_keys[i], text_values[i], attention[i],
        )  # fmt: skip
        _feed_forward(x, ff_norm[i], widen_bias[i], widen[i], narrow[i])
    if window[0] >= 0:
        _follow(attention, n_text, reached)


@njit(**COMPILED)
def _attend_to_past(x, norm, bias, qkv, out, columns, rotations, keys, values):
    n_rows, width = x.shape
    n_heads, head_dim, longest = keys.shape[1:]
    scores, scratch = np.empty(longest, np.float32), np.empty(longest, np.int32)
    heard = np.empty((n_rows, width), np.float32)
    both = _affine(x, norm, bias, qkv)
    for b in range(n_rows):
        column = columns[b]
        for h in range(n_heads):
            first = h * head_dim
            _rotate(both[b], first, rotations[b])
            _rotate(both[b], width + first, rotations[b])
            for i in range(head_dim):
                keys[b, h, i, column] = both[b, width + first + i]
                values[b, h, column, i] = both[b, 2 * width + first + i]
            query, part = both[b, first : first + head_dim], heard[b, first : first + head_dim]
            _read(query, keys[b, h], values[b, h], 0, column + 1, scores, scratch, part)
    _add_product(heard, out, x)


@njit(**COMPILED)
def _attend_to_text(
    x, norm, bias, query, out, n_text, reached, window, keys, values, attention
):  # fmt: skip
    n_rows, width = x.shape
    n_heads, head_dim, longest = keys.shape[1:]
    scratch = np.empty(longest, np.int32)
    heard = np.empty((n_rows, width), np.float32)
    asked = _affine(x, norm, bias, query)
    for b in range(n_rows):
        for h in range(n_heads):
            first = h * head_dim
            query, part = asked[b, first : first + head_dim], heard[b, first : first + head_dim]
            begin, end = 0, n_text[b]
            if window[0] >= 0 and h < GUIDED_HEADS:
                begin = max(begin, reached[b] - window[0])
                end = min(end, reached[b] + window[1] + 1)
            _read(query, keys[b, h], values[b, h], begin, end, attention[b, h], scratch, part)
    _add_product(heard, out, x)


@njit(**COMPILED)
def _follow(attention, n_text, reached):
    """Move each row's furthest byte on to where the guided heads look: `window.place_read`."""
    for b in range(len(reached)):
        most, place = np.float32(-1), 0
        for t in range(n_text[b]):
            look = np.float32(0)
            for i in range(len(attention)):
                for h in range(GUIDED_HEADS):
                    look += attention[i, b, h, t]
            if look > most:
                most, place = look, t
        reached[b] = max(reached[b], place)


@njit(**COMPILED)
def _feed_forward(x, norm, bias, widen, narrow):
    wide = _affine(x, norm, bias, widen)
    powers, scratch = np.empty(len(bias), np.float32), np.empty(len(bias), np.int32)
    for b in range(len(x)):
        row = wide[b]
        for i in range(len(row)):
            powers[i] = -row[i]
        _exponentiate(powers, 0, len(row), scratch)
        for i in range(len(row)):
            row[i] /= ONE + powers[i]
    _add_product(wide, narrow, x)


@njit(**COMPILED)
def _add_product(x, matrix, out):
    """out (B, m) += x (B, n) @ matrix (n, m)"""
    n_rows, n = x.shape
    whole = n - n % UNROLLED
    for i in range(0, whole, UNROLLED):
        m0, m1, m2, m3 = matrix[i], matrix[i + 1], matrix[i + 2], matrix[i + 3]
        m4, m5, m6, m7 = matrix[i + 4], matrix[i + 5], matrix[i + 6], matrix[i + 7]
        for b in range(n_rows):
            a0, a1, a2, a3 = x[b, i], x[b, i + 1], x[b, i + 2], x[b, i + 3]
            a4, a5, a6, a7 = x[b, i + 4], x[b, i + 5], x[b, i + 6], x[b, i + 7]
            row = out[b]
            for j in range(len(row)):
                row[j] += (a0 * m0[j] + a1 * m1[j] + a2 * m2[j] + a3 * m3[j]) + (
                    a4 * m4[j] + a5 * m5[j] + a6 * m6[j] + a7 * m7[j]
                )
    for i in range(whole, n):
        for b in range(n_rows):
            for j in range(out.shape[1]):
                out[b, j] += x[b, i] * matrix[i, j]


@njit(**COMPILED)
def _affine(x, gain_and_bias, bias, matrix):
    """bias (m,) + layer normalisation, eps 1e-5, of x (B, n) @ matrix (n, m)"""
    n_rows, width = x.shape
    normed = np.empty((n_rows, width), np.float32)
    out = np.empty((n_rows, len(bias)), np.float32)
    size = np.float32(width)
    for b in range(n_rows):
        total, squares = np.float32(0), np.float32(0)
        for i in range(width):
            total += x[b, i]
        mean = total / size
        for i in range(width):
            squares += (x[b, i] - mean) * (x[b, i] - mean)
        scale = ONE / np.sqrt(squares / size + np.float32(1e-5))
        for i in range(width):
            normed[b, i] = (x[b, i] - mean) * scale * gain_and_bias[0, i] + gain_and_bias[1, i]
        for i in range(len(bias)):
            out[b, i] = bias[i]
    _add_product(normed, matrix, out)
    return out


@njit(**COMPILED)
def _rotate(row, first, rotations):
    """Turn each pair of a head, from `first` of `row` on, by (d/2,), in place: `layers.rotate`."""
    for i in range(len(rotations)):
        at, turn = first + 2 * i, rotations[i]
        real, imaginary = row[at], row[at + 1]
        row[at] = real * turn.real - imaginary * turn.imag
        row[at + 1] = real * turn.imag + imaginary * turn.real


@njit(**COMPILED)
def _read(query, keys, values, begin, end, weights, scratch, out):
    """Attention of one head's query (d,) to keys (d, max) and values (max, d): out (d,).

    It sees columns `begin` to `end`, and leaves their attention weights in `weights`.
    """
    head_dim = len(keys)
    scale = ONE / np.sqrt(np.float32(head_dim))
    for t in range(begin, end):
        weights[t] = 0
    for i in range(head_dim):
        asked, key = query[i] * scale, keys[i]
        for t in range(begin, end):
            weights[t] += asked * key[t]
    highest = weights[begin]
    for t in range(begin + 1, end):
        highest = max(highest, weights[t])
    for t in range(begin, end):
        weights[t] -= highest
    _exponentiate(weights, begin, end, scratch)
    total = np.float32(0)
    for t in range(begin, end):
        total += weights[t]
    for i in range(head_dim):
        out[i] = 0
    for t in range(begin, end):
        weights[t] /= total
        share, value = weights[t], values[t]
        for i in range(head_dim):
            out[i] += share * value[i]


@njit(**COMPILED)
def _exponentiate(row, begin, end, scratch):
    """exp of a float32 row from `begin` to `end`, in place, within 3e-7 of it, relatively.

    exp(x) = 2^k exp(r) with k = round(x / ln 2), and a polynomial for exp(r); five times as fast
    as calls of the C library's, because the loops become vector instructions.
    """
    for i in range(begin, end):
        x = row[i]
        if x == x:  # a nan stays one
            x = min(max(x, LOWEST), HIGHEST)
        k = np.float32(math.floor(x * LOG2_E + HALF))
        r = (x - k * LN_2_HIGH) - k * LN_2_LOW
        p = np.float32(1 / 720) * r + np.float32(1 / 120)
        p = ((p * r + np.float32(1 / 24)) * r + np.float32(1 / 6)) * r + HALF
        row[i] = (p * r + ONE) * r + ONE
        scratch[i] = (np.int32(k) + np.int32(127)) << np.int32(23)  # the bits of 2^k
    powers = scratch.view(np.float32)
    for i in range(begin, end):
        row[i] *= powers[i]
