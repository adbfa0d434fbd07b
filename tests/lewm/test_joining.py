"""Clips said one after the other: whose, how many, and how little of a batch is padding."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from lewm.config import TrainConfig
from lewm.dataset import SpeechPlan
from lewm.joining import joined_rows
from lewm.replay import ReplayPlan

N, N_VOICES = 1800, 18


@pytest.fixture
def voices() -> np.ndarray:
    return np.random.default_rng(1).integers(0, N_VOICES, N)


def rows_of(voices, shares=(0.25, 0.2), may_join=lambda row: True):
    items = np.arange(N)
    return joined_rows(items, voices, shares, may_join, np.random.default_rng(0))


def test_every_clip_is_said_once_and_voices_are_not_mixed(voices):
    rows = rows_of(voices)
    assert sorted(item for row in rows for item in row) == list(range(N))
    assert all(len(set(voices[list(row)])) == 1 for row in rows)


def test_the_shares_are_of_clips_however_many_voices_there_are(voices):
    rows = rows_of(voices)
    of_twos, of_threes = (sum(len(row) for row in rows if len(row) == n) / N for n in (2, 3))
    assert of_twos == pytest.approx(0.25, abs=0.04)
    assert of_threes == pytest.approx(0.2, abs=0.04)


def test_what_may_not_be_joined_stays_alone(voices):
    rows = rows_of(voices, may_join=lambda row: sum(row) % 2 == 0)
    assert sorted(item for row in rows for item in row) == list(range(N))
    assert all(sum(row) % 2 == 0 for row in rows if len(row) > 1)
    assert {len(row) for row in rows} == {1, 2, 3}


def test_all_may_be_asked_for_in_threes(voices):
    rows = rows_of(voices, shares=(0.0, 1.0))
    assert sum(len(row) == 3 for row in rows) > 0.9 * len(rows)


@pytest.fixture
def plan(voices) -> SpeechPlan:
    """Clips that hold their own number, so that a row tells whose they are."""
    n_frames = np.random.default_rng(2).integers(20, 60, N)
    sentences: Any = SimpleNamespace(
        speakers=voices, languages=np.zeros(N, dtype=int), ids=[str(i) for i in range(N)],
        fallback=(), is_mixed=False, n_bytes=lambda item: 20,
        joined=lambda items, **_: torch.ones(20 * len(items), dtype=torch.long),
    )  # fmt: skip
    return SpeechPlan(
        sentences, lambda item: torch.full((int(n_frames[item]), 1), float(item)), n_frames,
        range(N), TrainConfig(), stride=1, downsample=4, limit=1000, data="clips",
    )  # fmt: skip


def test_rows_of_a_batch_are_joined_alike_and_hardly_padded(plan, voices):
    n_read = n_places = 0
    seen: list[int] = []
    for key in plan.epoch(0):
        batch = plan.load(key)
        assert set(batch.n_joined.tolist()) == {key.per_row}
        for row, mask, voice in zip(
            batch.speech[..., 0], batch.speech_mask, batch.speaker_ids.tolist(), strict=True
        ):
            items = torch.unique(row[mask]).long().tolist()
            assert len(items) == key.per_row
            assert {int(voices[item]) for item in items} == {voice}
            seen += items
        n_read += int(batch.speech_mask.sum())
        n_places += batch.speech_mask.numel()
    assert sorted(seen) == list(range(N))
    assert n_read > 0.9 * n_places


def test_replayed_batches_stay_joined(plan):
    mixed = ReplayPlan(plan, plan, 0.5, 0)
    keys = mixed.epoch(0)
    assert {key.per_row for key in keys if key.items[0] >= N} == {1, 2, 3}
    for key in keys:
        assert set(cast(Any, mixed.load(key)).n_joined.tolist()) == {key.per_row}
