"""What every test stands on: one thread, no network, a fresh accelerate."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

# Before torch, tokenizers and the hub are imported for the first time.
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
    os.environ[name] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["MPLBACKEND"] = "agg"


@pytest.fixture(autouse=True)
def fresh_accelerate() -> Iterator[None]:
    """Forget accelerate's process-wide state, so no test sees another's device."""
    yield
    if "accelerate.state" not in sys.modules:
        return
    from accelerate.state import AcceleratorState, GradientState, PartialState

    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine hasn't got: a GPU, real checkpoints."""
    if not os.environ.get("VOXTUNE_WEIGHTS"):
        _skip(items, "weights", "VOXTUNE_WEIGHTS names no folder of checkpoints")
    if any(item.get_closest_marker("gpu") for item in items):
        import torch

        if not torch.cuda.is_available():
            _skip(items, "gpu", "no CUDA device")


def _skip(items: list[pytest.Item], marker: str, reason: str) -> None:
    for item in items:
        if item.get_closest_marker(marker):
            item.add_marker(pytest.mark.skip(reason=reason))
