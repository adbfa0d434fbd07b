"""The stretch of text that the guided heads may look at while decoding.

The first heads of every layer were trained to follow the text (`loss.guided_attention`). Free to
look anywhere they sometimes return to a word that was said before, and say it again. So while
decoding they see a few bytes around the furthest place that they have read, after the monotonic
constraint of Ping et al. 2018 (Deep Voice 3, arXiv 1710.07654); the other heads see all of the
text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lewm.loss import GUIDED_HEADS


class Window(NamedTuple):
    """Bytes of text on either side of the furthest place read."""

    back: int = 5
    ahead: int = 8


DEFAULT_WINDOW = Window()


def spans(n_text: Tensor, n_heads: int, reached: Tensor, window: Window | None) -> Tensor:
    """What each head may look at: first byte and the one behind the last, (B, H, 2) long.

    Args:
        n_text: (B,) long, bytes of each row's text
        reached: (B,) long, the furthest byte read
        window: None lets all heads look everywhere
    """
    both = torch.stack([torch.zeros_like(n_text), n_text], 1)  # (B, 2)
    seen = both[:, None].repeat(1, n_heads, 1)
    if window is not None:
        begin = (reached - window.back).clamp(min=0)
        end = torch.minimum(reached + window.ahead + 1, n_text)
        seen[:, :GUIDED_HEADS] = torch.stack([begin, end], 1)[:, None]
    return seen


def place_read(attention: Sequence[Tensor]) -> Tensor:
    """Where the guided heads look, averaged over all layers: (B,) long.

    Args:
        attention: of one frame, per layer (B, H, L)
    """
    guided = torch.stack([layer[:, :GUIDED_HEADS] for layer in attention])  # (N, B, 2, L)
    return guided.float().mean((0, 2)).argmax(1)
