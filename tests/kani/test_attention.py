"""Attention of clips cut out of a batch is that under a mask over the whole batch."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kani.attention import Segments, attention

ROWS = [
    [[1, 1, 1, 0, 0, 2, 2, 2, 2, 2, 0, 0, 3, 0]],
    [[1] * 14],
    [[1] * 9 + [0] * 5, [1] * 3 + [0, 0, 2, 2] + [0] * 7, [0] * 13 + [1]],
]


class Heads(nn.Module):
    num_key_value_groups, is_causal, training = 2, True, False


@pytest.mark.parametrize("rows", ROWS)
def test_clips_apart_are_as_under_a_mask(rows):
    torch.manual_seed(0)
    segments = torch.tensor(rows)
    batch, n_steps = segments.shape
    query = torch.randn(batch, 4, n_steps, 8, requires_grad=True)
    key, value = (torch.randn(batch, 2, n_steps, 8, requires_grad=True) for _ in range(2))
    same = segments[:, None, :, None] == segments[:, None, None, :]
    mask = same & torch.ones(n_steps, n_steps, dtype=torch.bool).tril()
    exact = F.scaled_dot_product_attention(
        query,
        key.repeat_interleave(2, 1),
        value.repeat_interleave(2, 1),
        attn_mask=mask,
        scale=0.3,
    ).transpose(1, 2)
    found, _ = attention(
        Heads(), query, key, value, Segments.of(segments), dropout=0.0, scaling=0.3
    )
    is_real = segments > 0
    assert torch.allclose(found[is_real], exact[is_real], atol=1e-6)
    weights = torch.randn(int(is_real.sum()), 4, 8)
    inputs = query, key, value
    ours = torch.autograd.grad((found[is_real] * weights).sum(), inputs)
    theirs = torch.autograd.grad((exact[is_real] * weights).sum(), inputs)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("sizes", [[10] * 32, [1500, *[40] * 15], [1, 2, 3, 4, 5, 100, 1]])
def test_what_is_cut_out_is_at_most_twice_the_clips(sizes):
    packed = torch.arange(1, len(sizes) + 1).repeat_interleave(torch.tensor(sizes))[None]
    found = Segments.of(packed)
    assert sum(one.numel() for one in found.places) < 2 * sum(sizes)
    together = torch.cat([one.flatten() for one in found.places])
    assert torch.equal(together[found.back], torch.arange(sum(sizes)))
