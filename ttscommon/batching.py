"""Batches of clips of like length, and the named order of every epoch."""

from __future__ import annotations

import dataclasses
import itertools
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ttscommon.errors import UserError
from ttscommon.seeds import seed_for

B = TypeVar("B")
B_co = TypeVar("B_co", covariant=True)


@dataclass(frozen=True)
class BatchKey:
    """Names one batch of a run; everything random in it derives from these numbers.

    Attributes:
        per_row: so many items, one after the other, make a row of the batch
    """

    epoch: int
    position: int
    items: tuple[int, ...]
    per_row: int = 1


class BatchPlan(Protocol[B_co]):
    """The data of a run: which batches an epoch has, and how one is loaded.

    `load` may run in a loader process, so it must depend on its key alone.
    """

    fingerprint: str

    def epoch(self, epoch: int) -> list[BatchKey]: ...
    def load(self, key: BatchKey) -> B_co: ...


class CountedEpochs:
    """A plan's epochs and how many batches each had; it varies with the order of the clips."""

    def __init__(self, plan: BatchPlan[Any]):
        self._plan, self._ends = plan, [0]

    def keys(self, epoch: int) -> list[BatchKey]:
        """The batches of an epoch; epochs are asked for one after the other, from 0."""
        keys = self._plan.epoch(epoch)
        if epoch == len(self._ends) - 1:
            self._ends.append(self._ends[-1] + len(keys))
        return keys

    def all_keys(self) -> Iterator[BatchKey]:
        """The batches of epoch 0, then of epoch 1, and so on without end."""
        for epoch in itertools.count():
            keys = self.keys(epoch)
            if not keys:
                raise UserError("no clips to train on", fix="prepare some recordings first")
            yield from keys

    def after(self, n_batches: int) -> float:
        """How many epochs, with fractions, so many batches are; those not asked for yet apart."""
        epoch = min(bisect_right(self._ends, n_batches), len(self._ends) - 1) - 1
        if epoch < 0:
            return 0.0
        start, end = self._ends[epoch : epoch + 2]
        return epoch + min(1.0, (n_batches - start) / max(1, end - start))


def length_buckets(
    lengths: np.ndarray,
    *,
    batch_size: int,
    frame_budget: int,
    seed: int,
    epoch: int,
    window: int = 4,
) -> list[BatchKey]:
    """Every item once, in batches of similar length, in an order named by (seed, epoch).

    Items are sorted by length, shuffled within windows of `window` batches so that neighbours vary
    from epoch to epoch, cut into batches, and the batches are shuffled.

    Args:
        lengths: (N,) frames of each item
        batch_size: most items in a batch
        frame_budget: most padded frames in a batch (items x longest); 0 sets no limit

    Raises:
        UserError: if one item alone is over the budget
    """
    if frame_budget and lengths.max(initial=0) > frame_budget:
        raise UserError(
            f"a clip of {lengths.max()} frames doesn't fit into a batch of {frame_budget} frames",
            fix=f"--batch-frames {lengths.max()}",
        )
    random = np.random.default_rng(seed_for(seed, "epoch", epoch))
    jitter = random.permutation(len(lengths))  # equal lengths in a new order each epoch
    order = jitter[np.argsort(lengths[jitter], kind="stable")]
    width = batch_size * window
    for start in range(0, len(order), width):
        random.shuffle(order[start : start + width])
    batches = _cut(order, lengths, batch_size, frame_budget)
    return [
        BatchKey(epoch, position, batches[chosen])
        for position, chosen in enumerate(random.permutation(len(batches)))
    ]


def _cut(
    order: np.ndarray, lengths: np.ndarray, batch_size: int, frame_budget: int
) -> list[tuple[int, ...]]:
    batches: list[tuple[int, ...]] = []
    current: list[int] = []
    longest = 0
    for item in order.tolist():
        longest = max(longest, int(lengths[item]))
        over = frame_budget and longest * (len(current) + 1) > frame_budget
        if current and (over or len(current) == batch_size):
            batches.append(tuple(current))
            current, longest = [], int(lengths[item])
        current.append(item)
    if current:
        batches.append(tuple(current))
    return batches


class LoadedBatches(Dataset):
    """A plan as a map from key to batch, so that loader processes can serve it."""

    def __init__(self, plan: BatchPlan[Any]):
        self.plan = plan

    def __getitem__(self, key: BatchKey) -> Any:
        return self.plan.load(key)


def pad(rows: Sequence[Tensor], value: float = 0) -> tuple[Tensor, Tensor]:
    """Stack rows of different length.

    Args:
        rows: N tensors (T_n, ...) that agree in all but the first dimension

    Returns:
        (N, T, ...) padded at the end with `value`, and the (N, T) bool mask of real positions
    """
    lengths = torch.tensor([len(row) for row in rows])
    padded = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=value)
    return padded, torch.arange(padded.shape[1])[None] < lengths[:, None]


def move(batch: B, device: torch.device) -> B:
    """The same batch (a dataclass of tensors and plain values) on another device."""
    changed: dict[str, Any] = {}
    for field in dataclasses.fields(batch):  # type: ignore[arg-type]
        value = getattr(batch, field.name)
        if isinstance(value, Tensor):
            changed[field.name] = value.to(device, non_blocking=True)
    return dataclasses.replace(batch, **changed)  # type: ignore[type-var]
