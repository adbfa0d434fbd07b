"""Which clips of a voice are said one after the other, as one row of a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

Row = tuple[int, ...]


def joined_rows(
    items: np.ndarray,
    voices: np.ndarray,
    shares: tuple[float, float],
    may_join: Callable[[Sequence[int]], bool],
    random: np.random.Generator,
) -> list[Row]:
    """Every clip once, in rows of one, two or three clips of the same voice.

    Args:
        items: (N,) numbers of the clips
        voices: (N,) of whom each is; clips of different voices are never joined
        shares: of all clips, those that stand in rows of two and of three, where `may_join` lets
            them
    """
    two, three = shares
    chances = np.array([1 - two - three, two / 2, three / 3])
    rows: list[Row] = []
    for voice in np.unique(voices):
        order: list[int] = random.permutation(items[voices == voice]).tolist()
        sizes: list[int] = random.choice([1, 2, 3], len(order), p=chances / chances.sum()).tolist()
        rows += _cut(order, sizes, may_join)
    return rows


def _cut(
    order: Sequence[int], sizes: Sequence[int], may_join: Callable[[Sequence[int]], bool]
) -> Iterator[Row]:
    """`order` in pieces of these sizes, or of fewer clips where so many may not be joined."""
    start = 0
    for size in sizes:
        row = order[start : start + size]
        while len(row) > 1 and not may_join(row):
            row = row[:-1]
        if row:
            yield tuple(row)
        start += len(row)
