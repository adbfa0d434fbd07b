"""What can be set wherever a pretrained model is fine-tuned, and the loop's settings from it.

A family adds its own fields to `TrainSettings`, and those of `LoraSettings` where it trains
adapters; another default of a shared one is `default("epochs", 20)`. No torch in here.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ttscommon.config import to_dict
from ttscommon.errors import UserError

if TYPE_CHECKING:
    from ttscommon.task import FitConfig

# Names of the settings as the tools group them.
LENGTH = ("epochs", "max_steps", "patience")
BATCHES = ("batch_size", "token_budget", "grad_accumulation")
RATES = ("learning_rate", "weight_decay", "warmup_share", "final_share", "grad_clip")
REPORTS = ("log_interval", "val_interval", "save_interval")
SAMPLES = ("sample_interval", "n_samples")
MACHINE = ("gradient_checkpointing", "num_workers")


def setting(default: Any, words: str) -> Any:
    """A field that a flag can fill, with what its help says."""
    return field(default=default, metadata={"help": words})


def default(name: str, value: Any) -> Any:
    """The shared setting of that name with another default."""
    shared = {f.name: f for cls in (TrainSettings, LoraSettings) for f in dataclasses.fields(cls)}
    return field(default=value, metadata=shared[name].metadata)


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """How long, how fast and in which batches a model is trained, and what is told on the way."""

    # They change what is told and kept on the way, and not what is computed.
    FREE: ClassVar[tuple[str, ...]] = (
        *("save_interval", "log_interval", "num_workers", "patience"),
        *("gradient_checkpointing", "sample_interval", "n_samples"),
    )

    epochs: int = setting(3, "passes over the clips")
    max_steps: int = setting(0, "most optimizer steps; 0: as the epochs say")
    batch_size: int = setting(1, "most clips in a batch")
    token_budget: int = setting(0, "most tokens in a batch, clips x longest; 0: no limit")
    grad_accumulation: int = setting(8, "batches of one optimizer step")
    learning_rate: float = setting(1e-4, "peak learning rate")
    weight_decay: float = setting(0.01, "AdamW's, on matrices")
    warmup_share: float = setting(0.05, "share of the steps in which the learning rate rises")
    final_share: float = setting(0.1, "of the learning rate, at the end of its half cosine")
    grad_clip: float = setting(1.0, "longest gradient; 0: any")
    gradient_checkpointing: bool = setting(
        True, "compute activations twice, for a fraction of their memory"
    )
    patience: int = setting(0, "evaluations without a better one before it ends; 0: any number")
    val_interval: int = setting(0, "steps between evaluations; 0: one an epoch")
    save_interval: int = setting(500, "steps between resume points")
    log_interval: int = setting(50, "steps between lines of progress")
    num_workers: int = setting(0, "processes that load clips")
    amp: Literal["no", "bf16"] = setting("no", "precision of the computations")
    seed: int = setting(1234, "names everything random")

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "grad_accumulation", "save_interval", "log_interval"):
            self.require(name, getattr(self, name) >= 1, "1 or more")
        for name in ("max_steps", "token_budget", "patience", "val_interval", "num_workers"):
            self.require(name, getattr(self, name) >= 0, "0 or more")
        for name in ("warmup_share", "final_share"):
            self.require(name, 0 <= getattr(self, name) < 1, "from 0 to below 1")
        self.require("learning_rate", self.learning_rate > 0, "above 0")

    def require(self, name: str, is_so: bool, what: str) -> None:
        """Refuse the value of a setting.

        Raises:
            UserError: unless `is_so`
        """
        if not is_so:
            raise UserError(f"{name} must be {what}, got {getattr(self, name)}")

    def kept(self) -> dict[str, Any]:
        """What mustn't change when a run goes on."""
        return {name: value for name, value in to_dict(self).items() if name not in self.FREE}

    def fit_config(
        self,
        n_batches: int,
        *,
        n_processes: int,
        device: str,
        title: str,
        task_settings: Mapping[str, Any],
        data: Mapping[str, Mapping[str, str]] | None = None,
        ema_decay: float = 0.0,
    ) -> FitConfig:
        """How the loop runs.

        Args:
            n_batches: of an epoch
            task_settings, data: as `FitConfig` has them
        """
        from ttscommon.task import FitConfig  # brings torch

        per_step = self.grad_accumulation * n_processes
        steps = math.ceil(self.epochs * n_batches / per_step)
        steps = min(steps, self.max_steps) if self.max_steps else steps
        return FitConfig(
            steps=steps,
            learning_rate=self.learning_rate,
            schedule="cosine",
            warmup_steps=math.ceil(self.warmup_share * steps),
            final_share=self.final_share,
            weight_decay=self.weight_decay,
            clip_norm=self.grad_clip,
            grad_accumulation=self.grad_accumulation,
            ema_decay=ema_decay,
            amp=self.amp,
            log_every=self.log_interval,
            evaluate_every=self.val_interval or max(1, round(n_batches / per_step)),
            save_every=self.save_interval,
            monitor="loss",
            patience=self.patience,
            workers=self.num_workers,
            device=device,
            seed=self.seed,
            title=title,
            task_settings=task_settings,
            data=data or {},
        )


@dataclass(frozen=True, kw_only=True)
class SampleSettings:
    """What is spoken on the way; a config names it before `TrainSettings`."""

    sample_interval: int = setting(0, "steps between samples to hear, at evaluations; 0: none")
    n_samples: int = setting(2, "validation texts that are spoken")

    def require_samples(self) -> None:
        """Refuse numbers that make no sense.

        Raises:
            UserError: for a negative interval, or no samples
        """
        if self.sample_interval < 0 or self.n_samples < 1:
            raise UserError(
                "sample_interval must be 0 or more and n_samples 1 or more, got "
                f"{self.sample_interval} and {self.n_samples}"
            )


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """The adapters; a config names it before `TrainSettings`, and calls `require_adapters`."""

    LOWEST_RANK: ClassVar[int] = 1

    lora_rank: int = setting(16, "size of the adapters")
    lora_alpha: float = setting(32.0, "their strength; the update is scaled by alpha / rank")
    lora_dropout: float = setting(0.05, "of what goes into them, while training")

    def require_adapters(self) -> None:
        """Refuse sizes that make no sense.

        Raises:
            UserError: for a rank or a dropout
        """
        if self.lora_rank < self.LOWEST_RANK:
            lowest = self.LOWEST_RANK
            raise UserError(f"lora_rank must be {lowest} or more, got {self.lora_rank}")
        if not 0 <= self.lora_dropout < 1:
            raise UserError(f"lora_dropout must be from 0 to below 1, got {self.lora_dropout}")

    @property
    def lora_shape(self) -> dict[str, Any]:
        """As `ttscommon.lora.inject` takes it."""
        return {"rank": self.lora_rank, "alpha": self.lora_alpha, "dropout": self.lora_dropout}
