"""From the predictor's hidden state to the next latent: its mean, or a sample of it."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

N_EULER_STEPS = 4
N_TIME_FEATURES = 16


class MeanHead(nn.Module):
    """Predicts the mean of the next latent (head "mse")."""

    def __init__(self, width: int, latent_dim: int):
        super().__init__()
        self.out = nn.Linear(width, latent_dim)

    def forward(self, hidden: Tensor) -> Tensor:
        """hidden (..., D) -> (..., C)"""
        return self.out(hidden)

    def loss(self, hidden: Tensor, target: Tensor, mask: Tensor, *, n_draws: int = 1) -> Tensor:
        """sum_t ||o_t - target_t||^2 / (C * n real frames).

        Args:
            hidden: (B, T, D)
            target: (B, T, C)
            mask: (B, T) bool, True on real frames
            n_draws: not used here; `FlowHead` has a use for it

        Returns:
            ()
        """
        del n_draws
        padding = ~mask[..., None]  # (B, T, 1)
        error = self(hidden.masked_fill(padding, 0)) - target.masked_fill(padding, 0)
        return _mean_over_real(error.square(), mask)

    def sample(
        self, hidden: Tensor, noise: Tensor | None = None, temperature: float = 0.0
    ) -> Tensor:
        """The mean: hidden (B, D) -> (B, C); noise and temperature change nothing."""
        del noise, temperature
        return self(hidden)


class FlowHead(nn.Module):
    """Samples the next latent by flow matching (Lipman et al. 2023) on straight paths.

    With x_s = (1 - s) noise + s target, a small network learns the velocity target - noise from
    (x_s, s, hidden); sampling integrates it from noise at s = 0 to s = 1 in four Euler steps.
    """

    def __init__(self, width: int, latent_dim: int):
        super().__init__()
        self.latent_dim = latent_dim
        self.condition = nn.Linear(width, width)
        self.noisy = nn.Linear(latent_dim + N_TIME_FEATURES, width)
        self.middle = nn.Linear(width, width)
        self.out = nn.Linear(width, latent_dim)

    def velocity(self, x: Tensor, time: Tensor, condition: Tensor) -> Tensor:
        """x (..., C), time (..., 1), condition (..., D) = self.condition(hidden) -> (..., C)"""
        octaves = 2.0 ** torch.arange(N_TIME_FEATURES // 2, device=x.device, dtype=x.dtype)
        angles = time * octaves * (math.pi / 2)  # (..., F/2)
        features = torch.cat([x, angles.sin(), angles.cos()], dim=-1)
        h = F.silu(self.noisy(features) + condition)
        h = h + F.silu(self.middle(h))
        return self.out(h)

    def loss(self, hidden: Tensor, target: Tensor, mask: Tensor, *, n_draws: int = 1) -> Tensor:
        """mean ||v(x_s, s, h) - (target - noise)||^2 / C over real frames and `n_draws` noises.

        Args:
            hidden: (B, T, D)
            target: (B, T, C)
            mask: (B, T) bool, True on real frames
            n_draws: noises and times per frame; more makes the gradient quieter for little cost

        Returns:
            ()
        """
        padding = ~mask[..., None]  # (B, T, 1)
        hidden, target = hidden.masked_fill(padding, 0), target.masked_fill(padding, 0)
        shape = (n_draws, *target.shape)
        noise = torch.randn(shape, device=target.device, dtype=target.dtype)  # (n, B, T, C)
        time = torch.rand((*shape[:-1], 1), device=target.device, dtype=target.dtype)
        x = torch.lerp(noise, target.expand(shape), time)
        error = self.velocity(x, time, self.condition(hidden)) - (target - noise)
        return _mean_over_real(error.square().mean(0), mask)

    def sample(self, hidden: Tensor, noise: Tensor | None, temperature: float = 0.6) -> Tensor:
        """Integrate from `temperature * noise`.

        Args:
            hidden: (B, D)
            noise: (B, C) standard normal; handed in, so that a row doesn't depend on its batch;
                None starts from zero

        Returns:
            (B, C)
        """
        condition = self.condition(hidden)
        if noise is None:
            x = hidden.new_zeros(len(hidden), self.latent_dim)
        else:
            x = noise.to(hidden.dtype) * temperature
        for step in range(N_EULER_STEPS):
            time = x.new_full((len(x), 1), step / N_EULER_STEPS)
            x = x + self.velocity(x, time, condition) / N_EULER_STEPS
        return x


def build_head(form: str, width: int, latent_dim: int) -> MeanHead | FlowHead:
    """The head that `ModelConfig.head` names."""
    return {"mse": MeanHead, "flow": FlowHead}[form](width, latent_dim)


def _mean_over_real(per_value: Tensor, mask: Tensor) -> Tensor:
    """Mean of (B, T, C) over real frames and channels: ()"""
    kept = per_value.masked_fill(~mask[..., None], 0)
    return kept.sum() / (mask.sum().clamp(min=1) * per_value.shape[-1])
