"""The semantic codec (MaskGCT's RepCodec, Wang et al. 2024): speech features to codes and back."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from indextts.s2mel.config import CodecConfig
from indextts.weight_norm import weight_normed

EPSILON = 1e-6


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution and a feed-forward layer (Siuzdak 2023, Vocos): same shape (B, C, T)"""

    def __init__(self, dim: int, intermediate_dim: int):
        super().__init__()
        self.dwconv = nn.Conv1d(dim, dim, 7, padding=3, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=EPSILON)
        self.pwconv1 = nn.Linear(dim, intermediate_dim)
        self.pwconv2 = nn.Linear(intermediate_dim, dim)
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.dwconv(x).transpose(1, 2))  # (B, T, C)
        y = self.gamma * self.pwconv2(F.gelu(self.pwconv1(y)))
        return x + y.transpose(1, 2)


class Backbone(nn.Module):
    """A convolution and a row of `ConvNeXtBlock`: (B, T, D) -> (B, T, C)"""

    def __init__(self, config: CodecConfig):
        super().__init__()
        dim = config.vocos_dim
        self.embed = nn.Conv1d(config.hidden_size, dim, 7, padding=3)
        self.norm = nn.LayerNorm(dim, eps=EPSILON)
        self.convnext = nn.ModuleList(
            ConvNeXtBlock(dim, config.vocos_intermediate_dim)
            for _ in range(config.vocos_num_layers)
        )
        self.final_layer_norm = nn.LayerNorm(dim, eps=EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.embed(x.transpose(1, 2)).transpose(1, 2)).transpose(1, 2)
        for block in self.convnext:
            x = block(x)
        return self.final_layer_norm(x.transpose(1, 2))


class FactorizedQuantizer(nn.Module):
    """Codes chosen by direction in a few dimensions (Yu et al. 2022, ViT-VQGAN, section 3.2)."""

    def __init__(self, config: CodecConfig):
        super().__init__()
        wide, narrow = config.hidden_size, config.codebook_dim
        self.in_project = weight_normed(nn.Conv1d(wide, narrow, 1))
        self.out_project = weight_normed(nn.Conv1d(narrow, wide, 1))
        self.codebook = nn.Embedding(config.codebook_size, narrow)

    def encode(self, x: Tensor) -> Tensor:
        """Code of largest cosine similarity: (B, T, D) -> (B, T) long"""
        directions = F.normalize(self.in_project(x.transpose(1, 2)), dim=1)  # (B, d, T)
        codebook = F.normalize(self.codebook.weight, dim=1)  # (V, d)
        return (codebook @ directions).argmax(dim=1)

    def embed(self, codes: Tensor) -> Tensor:
        """(B, T) long -> (B, T, D)"""
        return self.out_project(self.codebook(codes).transpose(1, 2)).transpose(1, 2)


class SemanticCodec(nn.Module):
    """Codes of normalised w2v-bert features, and what each code stands for.

    The decoder is in the official file and has no use here. `encoder` and `decoder` may be set to
    None once the speaker is known: `embed` needs the quantizer only.
    """

    encoder: nn.Module | None
    decoder: nn.Module | None

    def __init__(self, config: CodecConfig):
        super().__init__()
        self.encoder = nn.Sequential(
            Backbone(config), nn.Linear(config.vocos_dim, config.hidden_size)
        )
        self.decoder = nn.Sequential(
            Backbone(config), nn.Linear(config.vocos_dim, config.hidden_size)
        )
        # A list of one: checkpoints have the names of a residual quantizer.
        only = FactorizedQuantizer(config)
        self.quantizer = nn.ModuleDict({"quantizers": nn.ModuleList([only])})

    def quantize(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Codes (B, T) long and their embeddings (B, T, D) of features (B, T, D)."""
        if self.encoder is None:
            raise ValueError("the codec's encoder was dropped")
        codes = self._only.encode(self.encoder(features))
        return codes, self.embed(codes)

    def embed(self, codes: Tensor) -> Tensor:
        """What the original calls vq2emb, for any batch: codes (B, T) long -> (B, T, D)"""
        return self._only.embed(codes)

    @property
    def _only(self) -> FactorizedQuantizer:
        return self.quantizer["quantizers"][0]  # type: ignore[index]
