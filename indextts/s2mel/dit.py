"""The estimator of the flow: a diffusion transformer (Peebles and Xie 2023) and a WaveNet head."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from indextts.s2mel.config import DiTConfig
from indextts.s2mel.transformer import Transformer
from indextts.s2mel.wavenet import WaveNet
from indextts.weight_norm import weight_normed

MAX_FRAMES = 16_384  # the original's positions end here
N_FREQUENCIES = 128
LONGEST_PERIOD = 10_000.0
TIME_SCALE = 1000.0


class TimeEmbedding(nn.Module):
    """Time of the flow, 0..1, as a vector: (B,) -> (B, D)"""

    def __init__(self, dim: int):
        super().__init__()
        first = nn.Linear(2 * N_FREQUENCIES, dim)
        self.mlp = nn.Sequential(first, nn.SiLU(), nn.Linear(dim, dim))
        # For the checkpoint's sake: a cast to half precision rounds it, so it isn't read.
        self.register_buffer("freqs", _frequencies(None))

    def forward(self, time: Tensor) -> Tensor:
        angles = TIME_SCALE * time.float()[:, None] * _frequencies(time.device)
        features = torch.cat([angles.cos(), angles.sin()], dim=-1)
        return self.mlp(features.to(next(self.mlp.parameters()).dtype))


class FinalLayer(nn.Module):
    """Norm scaled and shifted by the time, and a linear layer: (B, T, D) -> (B, T, D)"""

    def __init__(self, dim: int):
        super().__init__()
        self.linear = weight_normed(nn.Linear(dim, dim))
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 2 * dim))

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """time: (B, 1, D)"""
        shift, scale = self.adaLN_modulation(time).chunk(2, dim=-1)
        x = F.layer_norm(x, x.shape[-1:], eps=1e-6)
        return self.linear(torch.addcmul(shift, x, 1 + scale))


class DiT(nn.Module):
    """Velocity of a noisy mel towards speech that says `condition` in the voice of a prompt."""

    def __init__(self, config: DiTConfig):
        super().__init__()
        self.config = config
        dim, n_mels = config.hidden_dim, config.n_mels
        self.transformer = Transformer(dim, config.n_heads, config.depth)
        self.cond_projection = nn.Linear(config.content_dim, dim)
        self.t_embedder = TimeEmbedding(dim)
        self.t_embedder2 = TimeEmbedding(dim)
        self.conv1 = nn.Linear(dim, dim)
        self.conv2 = nn.Conv1d(dim, n_mels, 1)
        self.wavenet = WaveNet(config)
        self.final_layer = FinalLayer(dim)
        self.res_projection = nn.Linear(dim, dim)
        self.skip_linear = nn.Linear(dim + n_mels, dim)
        self.cond_x_merge_linear = nn.Linear(dim + 2 * n_mels + config.style_dim, dim)
        # In the official file, of no use in the released model; kept for strict loading.
        self.x_embedder = weight_normed(nn.Linear(n_mels, dim))
        self.cond_embedder = nn.Embedding(config.content_codebook_size, dim)
        self.content_mask_embedder = nn.Embedding(1, dim)
        self.register_buffer("input_pos", torch.arange(MAX_FRAMES))

    def forward(
        self,
        x: Tensor,
        prompt: Tensor,
        lengths: Tensor | None,
        time: Tensor,
        style: Tensor,
        condition: Tensor,
        *,
        mask_content: bool = False,
        own_ends: bool = False,
    ) -> Tensor:
        """
        Args:
            x: (B, M, T) noisy mel
            prompt: (B, M, T) mel of the voice in its first frames, zero elsewhere
            lengths: (B,) real frames of each row, or None if all T are
            time: (B,) from 0 (noise) to 1 (speech)
            style: (B, E) speaker vector
            condition: (B, T, C) from the length regulator
            mask_content: leave out prompt, condition and style, as training does now and then
            own_ends: a row's result is then what it would be alone; otherwise the original's,
                where the last frames of a short row depend on the padding behind it

        Returns:
            (B, M, T)
        """
        n_frames = x.shape[-1]
        if n_frames > MAX_FRAMES:
            raise ValueError(f"{n_frames} frames, but the model knows {MAX_FRAMES} positions")
        mask = None
        if lengths is not None:
            mask = torch.arange(n_frames, device=x.device) < lengths[:, None]  # (B, T)
        time1, time2 = self.t_embedder(time)[:, None], self.t_embedder2(time)[..., None]
        noisy = x.transpose(1, 2)  # (B, T, M)
        content = torch.cat(
            [
                prompt.transpose(1, 2),
                self.cond_projection(condition),
                style[:, None].expand(-1, n_frames, -1),
            ],
            dim=-1,
        )
        if mask_content:
            content = torch.zeros_like(content)
        h = self.cond_x_merge_linear(torch.cat([noisy, content], dim=-1))  # (B, T, D)
        h = self.transformer(h, time1, mask)
        h = self.skip_linear(torch.cat([h, noisy], dim=-1))
        y = self.wavenet(
            self.conv1(h).transpose(1, 2),
            time2,
            None if mask is None else mask[:, None],
            lengths if own_ends else None,
        )  # (B, D, T)
        y = self.final_layer(y.transpose(1, 2) + self.res_projection(h), time1)
        return self.conv2(y.transpose(1, 2))


def _frequencies(device: torch.device | None) -> Tensor:
    """Falling geometrically from 1 to almost 1 / LONGEST_PERIOD: (128,) float32"""
    places = torch.arange(N_FREQUENCIES, dtype=torch.float32, device=device)
    return torch.exp(-math.log(LONGEST_PERIOD) * places / N_FREQUENCIES)
