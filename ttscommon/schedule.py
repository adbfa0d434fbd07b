"""The learning rate as a pure function of the step, and the average of the weights."""

from __future__ import annotations

import copy
import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

Schedule = Literal["constant", "linear", "cosine", "one_cycle"]


def learning_rate_share(
    step: int, kind: Schedule, *, steps: int, warmup_steps: int, final_share: float
) -> float:
    """The share of the peak learning rate at `step` (1..steps).

    "linear" and "cosine" warm up linearly and fall to `final_share`; "one_cycle" rises by a half
    cosine over the first 30 % of the steps and falls to zero by another (Smith and Topin 2018).
    """
    if kind == "one_cycle":
        peak = 0.3 * steps
        if step <= peak:
            return 0.04 + 0.96 * 0.5 * (1 - math.cos(math.pi * step / peak))
        return 0.5 * (1 + math.cos(math.pi * (step - peak) / max(1.0, steps - peak)))
    if step <= warmup_steps:
        return step / max(1, warmup_steps)
    done = (step - warmup_steps) / max(1, steps - warmup_steps)
    if kind == "linear":
        return 1 - (1 - final_share) * done
    if kind == "cosine":
        return final_share + (1 - final_share) * 0.5 * (1 + math.cos(math.pi * done))
    return 1.0


class Average:
    """Exponential moving average of a module's weights; its buffers are copied.

    The decay at step n is min(decay, (1 + n) / (10 + n)), so that short runs aren't dominated by
    the random start.
    """

    def __init__(self, module: nn.Module, decay: float):
        self.module, self.decay = copy.deepcopy(module), decay

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Take in the weights after training step `step` (1, 2, ...)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        own: list[Tensor] = [p for p in self.module.parameters() if p.requires_grad]
        new: list[Tensor] = [p for p in module.parameters() if p.requires_grad]
        get_ema_multi_avg_fn(decay)(own, new, torch.tensor(step))
        for mine, other in zip(self.module.buffers(), module.buffers(), strict=True):
            mine.copy_(other)
