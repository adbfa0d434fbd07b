"""A toy regression for the training loop."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ttscommon.batching import BatchKey, length_buckets, pad
from ttscommon.checkpoints import RunFolder
from ttscommon.files import atomic_folder
from ttscommon.losses import Losses
from ttscommon.progress import Monitor
from ttscommon.seeds import seed_for
from ttscommon.training import FitConfig


@dataclass(frozen=True)
class ToyBatch:
    """x (B, T, 4), mask (B, T)"""

    ids: tuple[str, ...]
    x: Tensor
    mask: Tensor
    n_targets: int


class ToyPlan:
    """Sequences of different length with an augmentation drawn for each item."""

    def __init__(
        self,
        n_items: int = 12,
        seed: int = 0,
        bad_item: int | None = None,
        bad_step: int | None = None,
    ):
        self.n_loads, self.bad_step = 0, bad_step
        self.lengths = np.array([3 + (i * 7) % 9 for i in range(n_items)])
        self.seed, self.bad_item = seed, bad_item
        self.fingerprint = f"toy-{n_items}-{seed}"

    def epoch(self, epoch: int) -> list[BatchKey]:
        return length_buckets(
            self.lengths, batch_size=3, frame_budget=0, seed=self.seed, epoch=epoch
        )

    def load(self, key: BatchKey) -> ToyBatch:
        self.n_loads += 1
        if self.n_loads == self.bad_step:
            raise ZeroDivisionError("as if the power was cut")
        rows = []
        for item in key.items:
            noise = torch.Generator().manual_seed(seed_for(self.seed, "item", key.epoch, item))
            row = torch.randn(int(self.lengths[item]), 4, generator=noise)
            rows.append(row * float("nan") if item == self.bad_item else row)
        x, mask = pad(rows)
        ids = tuple(f"clip{item}" for item in key.items)
        return ToyBatch(ids=ids, x=x, mask=mask, n_targets=int(mask.sum()))


class ToyModule(nn.Module):
    def __init__(self, dropout: float = 0.2, *, useless: bool = False):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Dropout(dropout), nn.Linear(16, 4))
        self.useless = nn.Parameter(torch.ones(3)) if useless else None

    def forward(self, batch: ToyBatch, progress: float) -> Losses:
        error = (self.net(batch.x) - batch.x.flip(-1)).float().square().mean(-1)
        total = error[batch.mask].mean()
        return Losses(total, {"error": total})


class ToyTask:
    def __init__(self, kill_at: int | None = None, **options: Any):
        torch.manual_seed(1)
        self.module: nn.Module = ToyModule(**options)
        self.kill_at = kill_at

    def parameter_groups(self) -> list[dict[str, Any]]:
        last = list(self.module.net[3].parameters())  # type: ignore[index]
        ids = {id(p) for p in last}
        rest = [p for p in self.module.parameters() if id(p) not in ids]
        return [{"params": rest}, {"params": last, "lr_scale": 0.5, "weight_decay": 0.0}]

    def evaluate(self, module: nn.Module, monitor: Monitor, step: int) -> dict[str, float]:
        if step == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        x = torch.linspace(-1, 1, 40).reshape(10, 4)
        return {"loss": float((module.net(x) - x.flip(-1)).square().mean())}  # type: ignore[operator]

    def export(
        self, module: nn.Module, folder: Path, step: int, metrics: Mapping[str, float]
    ) -> None:
        with atomic_folder(folder) as draft:
            save_file({n: t.clone() for n, t in module.state_dict().items()}, draft / "toy.st")


def toy_config(**changes: Any) -> FitConfig:
    defaults: dict[str, Any] = {
        "steps": 12,
        "learning_rate": 0.01,
        "warmup_steps": 2,
        "ema_decay": 0.9,
        "evaluate_every": 1,
        "save_every": 3,
        "log_every": 2,
        "device": "cpu",
    }
    return FitConfig(**{**defaults, **changes})


def toy_run(folder: Path) -> RunFolder:
    return RunFolder(folder / "state", folder / "best", folder / "final", folder / "logs")
