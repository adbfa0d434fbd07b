"""What a family brings to the training loop: a task, and how to run it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from torch import nn

from ttscommon.checkpoints import State
from ttscommon.progress import Monitor
from ttscommon.schedule import Schedule

# Settings that change how a run goes but not what it computes, so a resume may change them.
FREE_SETTINGS = ("log_every", "save_every", "workers", "device", "compile", "patience")


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """How the loop runs; families fill it from their own training config.

    Attributes:
        patience: evaluations without a better one after which a run ends; 0: none ends it
        task_settings: of the family, which mustn't change on a resume
        data: hashes of what is trained on by name, which mustn't either; they aren't shown
    """

    steps: int
    learning_rate: float
    schedule: Schedule = "linear"
    warmup_steps: int = 0
    final_share: float = 0.1
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.98)
    clip_norm: float = 1.0
    grad_accumulation: int = 1
    ema_decay: float = 0.0
    amp: Literal["no", "bf16"] = "no"
    compile: bool = False
    log_every: int = 20
    evaluate_every: int = 500
    save_every: int = 200
    monitor: str = "loss"
    patience: int = 0
    workers: int = 0
    device: str = "auto"
    seed: int = 0
    title: str = "train"
    task_settings: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def kept_settings(self, n_processes: int) -> dict[str, Any]:
        """What must stay equal for a resume to go on with the same batches and weights.

        Two processes may go on as one with twice the accumulation: the batches of a step are the
        same.
        """
        settings = {k: v for k, v in asdict(self).items() if k not in FREE_SETTINGS}
        settings["batches_per_step"] = settings.pop("grad_accumulation") * n_processes
        of_task = {**self.task_settings, **settings.pop("data")}
        return {**settings, "betas": list(self.betas), "task_settings": of_task}

    def shown_settings(self, n_processes: int) -> dict[str, Any]:
        """The same for people to read: of thousands of clips no word."""
        return {**self.kept_settings(n_processes), "task_settings": dict(self.task_settings)}

    def is_stale(self, step: int, best_step: int) -> bool:
        """Whether the last evaluations, as many as the patience, brought nothing better."""
        return 0 < self.patience * self.evaluate_every <= step - best_step


class Task(Protocol):
    """What a family hands to the loop.

    `module(batch, progress)` returns `Losses`, each a mean over the batch's targets; `progress`
    runs from 0 to 1 over the steps, for anything annealed.
    """

    module: nn.Module

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Optimizer groups; "lr_scale" multiplies the learning rate of a group."""
        ...

    def evaluate(self, module: nn.Module, monitor: Monitor, step: int) -> dict[str, float]:
        """Score `module` on held-out data; every process calls it, none may skip it."""
        ...

    def export(
        self, module: nn.Module, folder: Path, step: int, metrics: Mapping[str, float]
    ) -> None:
        """Write what inference loads; `folder` is replaced as a whole or not at all."""
        ...


@dataclass(frozen=True)
class FitReport:
    """How a run ended.

    Attributes:
        metrics: of the best checkpoint
    """

    step: int
    best_step: int
    best_value: float | None
    metrics: dict[str, float]

    @classmethod
    def of(cls, state: State) -> FitReport:
        """Of a run that stands there."""
        metrics = state.best_metrics or state.metrics
        return cls(state.step, state.best_step, state.best_value, metrics)
