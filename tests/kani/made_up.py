"""Data sets of random codes, and models to train on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from kani.config import LAYERS, DatasetConfig, ModelConfig, SourceConfig
from kani.prepared import Prepared, prepare
from kani.sources import save

TEXTS = (
    "The cat sat down.",
    "A dog barks.",
    "It rains a lot here.",
    "No.",
    "Who is that over there?",
)


def rows(n: int, *, n_frames: Sequence[int] = (6, 9, 4, 11), **columns: Any) -> dict[str, Any]:
    """Columns of a data set as the public ones have them."""
    random = np.random.default_rng(0)
    lengths = [n_frames[i % len(n_frames)] for i in range(n)]
    found: dict[str, Any] = {
        "text": [TEXTS[i % len(TEXTS)] for i in range(n)],
        "encoded_len": lengths,
        "recording": [f"recording {i // 2}" for i in range(n)],
    }
    for name in LAYERS:
        found[name] = [random.integers(0, 4032, length).tolist() for length in lengths]
    return {**found, **columns}


def saved(folder: Path, n: int = 8, **columns: Any) -> Path:
    """A data set in a folder, as `datasets` saves it."""
    save(Dataset.from_dict(rows(n, **columns)), folder)
    return folder


def dataset_config(*folders: Path, **changes: Any) -> DatasetConfig:
    sources = tuple(SourceConfig(reponame=str(path), speaker_id="Alice") for path in folders)
    return DatasetConfig(**{"hf_datasets": sources, "n_shards_per_dataset": 1, **changes})


def prepared(tmp_path: Path, model: Path, n: int = 8, **changes: Any) -> Prepared:
    config = dataset_config(saved(tmp_path / "codes", n), **changes)
    return prepare(config, ModelConfig(), model, tmp_path / "data")
