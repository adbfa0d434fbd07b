"""Length buckets: nothing lost, nothing over budget, every epoch named."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ttscommon.batching import length_buckets, pad
from ttscommon.errors import UserError

lengths_lists = st.lists(st.integers(1, 300), min_size=1, max_size=80)


@given(lengths_lists, st.integers(1, 9), st.integers(300, 2000), st.integers(0, 5))
def test_every_item_comes_once_and_no_batch_is_over_budget(lengths, size, budget, epoch) -> None:
    keys = length_buckets(
        np.array(lengths), batch_size=size, frame_budget=budget, seed=0, epoch=epoch
    )
    assert sorted(item for key in keys for item in key.items) == list(range(len(lengths)))
    for key in keys:
        assert len(key.items) <= size
        assert len(key.items) * max(lengths[i] for i in key.items) <= budget


def test_epochs_differ_and_repeat_exactly() -> None:
    lengths = np.arange(1, 200)
    options = {"batch_size": 8, "frame_budget": 0, "seed": 3}
    first = length_buckets(lengths, epoch=0, **options)
    assert first == length_buckets(lengths, epoch=0, **options)
    assert first != length_buckets(lengths, epoch=1, **options)


def test_batches_hold_clips_of_like_length() -> None:
    lengths = np.random.default_rng(0).integers(1, 1000, 400)
    keys = length_buckets(lengths, batch_size=8, frame_budget=0, seed=0, epoch=0)
    padded = sum(lengths[list(key.items)].max() * len(key.items) for key in keys)
    assert padded < 1.15 * lengths.sum()


def test_a_clip_over_the_budget_names_the_flag() -> None:
    with pytest.raises(UserError, match="--batch-frames 500"):
        length_buckets(np.array([10, 500]), batch_size=2, frame_budget=100, seed=0, epoch=0)


def test_padding_marks_real_positions() -> None:
    padded, mask = pad([torch.ones(2, 3), torch.ones(4, 3)])
    assert padded.shape == (2, 4, 3)
    assert mask.tolist() == [[True, True, False, False], [True] * 4]
    assert padded[0, 2:].abs().sum() == 0
