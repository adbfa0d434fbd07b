"""NanoCodec's cheap layers in one pass over memory each, compiled for the CPU by numba.

Step by step in torch they take a quarter of the decoder's time. float32 only; equal to torch within
rounding. Compiled once a machine, in a few seconds, and kept beside this file.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy import ndarray

LEAK, EPSILON = 0.01, 1e-9  # of the leaky ReLU, and added to what is divided by
VECTORS = 32  # numbers that LLVM works on at once: loops of a multiple have no slow rest
# Not all of LLVM's liberties: sums stay in their order, there may be inf and nan.
COMPILED = {
    "fastmath": {"contract", "arcp", "nsz"},
    "error_model": "numpy",
    "nogil": True,
    "cache": True,
}
# sin(r) / r in powers of r², fitted at Chebyshev's places of 0..pi/2: 1e-8 off at most.
SINE = tuple(
    np.float32(c)
    for c in (0.9999999957137, -0.1666665796647, 8.333050533929e-3, -1.980904005e-4, 2.605151664e-6)
)
# pi in two parts, the first with few bits: their product with a number of turns loses nothing.
PI_HIGH, PI_LOW = np.float32(3.140625), np.float32(math.pi - 3.140625)
TURNS = np.float32(1 / math.pi)


@njit(**COMPILED)
def half_snake(x: ndarray, alpha: ndarray, found: ndarray) -> None:
    """x + sin(alpha x)^2 / alpha on the first half of the channels, leaky ReLU on the others.

    All channels are computed alike, so that LLVM makes vectors of them: without a wave where the
    ReLU is, without a leak where the snake is.

    Args:
        x: (..., C) float32; alpha: (C // 2,) float32
        found: of the shape of `x`, is filled; may be `x`
    """
    n_channels = x.shape[-1]
    width = n_channels * VECTORS // math.gcd(n_channels, VECTORS)
    alphas, heights = np.zeros(width, np.float32), np.zeros(width, np.float32)
    slopes = np.full(width, np.float32(LEAK))
    for place in range(width):
        channel = place % n_channels
        if channel < len(alpha):
            alphas[place] = alpha[channel]
            heights[place] = np.float32(1) / (alpha[channel] + np.float32(EPSILON))
            slopes[place] = np.float32(1)
    numbers, results = x.reshape(-1), found.reshape(-1)
    before = np.empty(width, np.float32)  # LLVM makes no vectors of what is overwritten
    for start in range(0, len(numbers), width):
        piece, result = numbers[start : start + width], results[start : start + width]
        for place in range(len(piece)):
            before[place] = piece[place]
        for place in range(len(piece)):
            number = before[place]
            angle = number * alphas[place]
            turns = np.rint(angle * TURNS)  # sin² comes again after pi
            rest = angle - turns * PI_HIGH - turns * PI_LOW
            square = rest * rest
            wave = SINE[3] + square * SINE[4]
            wave = SINE[1] + square * (SINE[2] + square * wave)
            wave = SINE[0] + square * wave
            lift = square * wave * wave * heights[place]
            result[place] = max(number, number * slopes[place]) + lift


@njit(**COMPILED)
def upsampled(x: ndarray, taps: ndarray, bias: ndarray, found: ndarray) -> None:
    """`codec_layers.CausalUpsample`.

    Args:
        x: (B, 1 + T, 2C) float32
        taps: (2, 2, S, C), of a pair's channels, of a step itself and of the one before it
        bias: (C,)
        found: (B, T * S, C), is filled
    """
    stride, n_channels = taps.shape[2], taps.shape[3]
    pairs = np.empty((2, 2, n_channels), np.float32)  # of two steps, in turns
    for row in range(x.shape[0]):
        for step in range(x.shape[1]):
            now, before = step % 2, (step + 1) % 2
            for channel in range(n_channels):
                pairs[now, 0, channel] = x[row, step, 2 * channel]
                pairs[now, 1, channel] = x[row, step, 2 * channel + 1]
            if step == 0:
                continue
            for place in range(stride):
                out = found[row, (step - 1) * stride + place]
                for channel in range(n_channels):
                    out[channel] = (
                        bias[channel]
                        + pairs[now, 0, channel] * taps[0, 0, place, channel]
                        + pairs[before, 0, channel] * taps[0, 1, place, channel]
                        + pairs[now, 1, channel] * taps[1, 0, place, channel]
                        + pairs[before, 1, channel] * taps[1, 1, place, channel]
                    )
