"""From 50 semantic features a second to one condition for each mel frame."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from indextts.s2mel.config import LengthRegulatorConfig

N_LAYERS = 4


class LengthRegulator(nn.Module):
    """Stretches features to a given number of frames and smooths them.

    The norm runs over all frames of a row, so a result depends on the row's whole length: nothing
    can be computed piece by piece without changing it.
    """

    def __init__(self, config: LengthRegulatorConfig):
        super().__init__()
        width = config.channels
        layers: list[nn.Module] = []
        for _ in range(N_LAYERS):
            layers += [nn.Conv1d(width, width, 3, padding=1), nn.GroupNorm(1, width), nn.Mish()]
        self.model = nn.Sequential(*layers, nn.Conv1d(width, width, 1))
        self.content_in_proj = nn.Linear(config.in_channels, width)
        # In the official file, for an input of codes that no released model takes.
        self.embedding = nn.Embedding(config.content_codebook_size, width)
        self.mask_token = nn.Parameter(torch.zeros(1, width))

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Features (B, L, D) as conditions (B, T, C) with T = lengths.max().

        Every row is stretched to T and then cut to its own length, as in the original: rows of
        unequal lengths give other results than one by one.

        Args:
            lengths: (B,) frames wanted of each row; those beyond are zero
        """
        n_frames = int(lengths.max())
        x = self.content_in_proj(features).transpose(1, 2)  # (B, C, L)
        x = self.model(F.interpolate(x, size=n_frames, mode="nearest"))  # (B, C, T)
        mask = torch.arange(n_frames, device=lengths.device) < lengths[:, None]
        return x.transpose(1, 2).masked_fill(~mask[..., None], 0)
