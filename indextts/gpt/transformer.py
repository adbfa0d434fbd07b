"""Pre-norm transformer blocks in GPT-2's form (Radford et al. 2019), without any positions inside.

Attribute names are the keys of the official checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from indextts.gpt.cache import LayerCache


class FlippedLinear(nn.Linear):
    """A linear layer whose weight is [in, out] in files, as GPT-2 checkpoints have it.

    In memory it is an ordinary `nn.Linear` with [out, in], which adapters and quantisers know;
    `state_dict` and `load_state_dict` turn it round.
    """

    def __init__(self, in_dim: int, out_dim: int):
        super().__init__(in_dim, out_dim)
        self.register_state_dict_post_hook(_flip_saved)
        self.register_load_state_dict_pre_hook(_flip_loaded)


def _flip_saved(_module: nn.Module, tensors: MutableMapping[str, Tensor], prefix: str, _: Any):
    tensors[f"{prefix}weight"] = tensors[f"{prefix}weight"].T


def _flip_loaded(
    _module: nn.Module, tensors: MutableMapping[str, Tensor], prefix: str, *_: Mapping | list | bool
):
    key = f"{prefix}weight"
    if key in tensors:
        tensors[key] = tensors[key].T


class SelfAttention(nn.Module):
    def __init__(self, width: int, n_heads: int, dropout: float):
        super().__init__()
        self.n_heads, self.dropout = n_heads, dropout
        self.c_attn = FlippedLinear(width, 3 * width)
        self.c_proj = FlippedLinear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None, cache: LayerCache | None) -> Tensor:
        """x (B, T, D), mask broadcastable to (B, H, T, K) bool, None: causal -> (B, T, D)"""
        q, k, v = (
            part.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
            for part in self.c_attn(x).chunk(3, dim=-1)
        )
        if cache is not None:
            k, v = cache.append(k, v)
        dropout = self.dropout if self.training else 0.0
        is_causal = mask is None and q.shape[2] > 1  # a single query is the newest: it sees all
        h = F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=is_causal
        )
        return self.c_proj(h.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.c_fc = FlippedLinear(width, 4 * width)
        self.c_proj = FlippedLinear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(F.gelu(self.c_fc(x), approximate="tanh"))


class Block(nn.Module):
    def __init__(self, width: int, n_heads: int, dropout: float):
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = SelfAttention(width, n_heads, dropout)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = FeedForward(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None, cache: LayerCache | None = None) -> Tensor:
        x = x + self.dropout(self.attn(self.ln_1(x), mask, cache))
        return x + self.dropout(self.mlp(self.ln_2(x)))


class Transformer(nn.Module):
    """The body of the language model: vectors in, vectors out.

    Attributes:
        recomputes: in training, keep no activations inside the blocks and compute them again in the
            backward pass
    """

    def __init__(self, width: int, n_layers: int, n_heads: int, dropout: float):
        super().__init__()
        self.h = nn.ModuleList(Block(width, n_heads, dropout) for _ in range(n_layers))
        self.ln_f = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.recomputes = False

    def forward(
        self, x: Tensor, mask: Tensor | None = None, caches: list[LayerCache] | None = None
    ) -> Tensor:
        """
        Args:
            x: (B, T, D); with filled caches T = 1
            mask: broadcastable to (B, H, T, K) bool, True where attention may look; None: at
                everything up to the query
            caches: one per block, which get the new columns; None: nothing is remembered

        Returns:
            (B, T, D)
        """
        x = self.dropout(x)
        for i, block in enumerate(self.h):
            if self.recomputes and self.training:
                # The re-entrant form gives adapters no gradient when no input asks for one.
                x = cast(Tensor, checkpoint(block, x, mask, use_reentrant=False))
            else:
                x = block(x, mask, caches[i] if caches is not None else None)
        return self.ln_f(x)
