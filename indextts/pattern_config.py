"""What can be set when a manner of speaking is trained.

Names and defaults of the public pattern trainer where it has them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from indextts.train_config import AdapterConfig
from ttscommon.errors import UserError
from ttscommon.train_settings import default, setting

PATTERN_STAGE, ADAPTER_STAGE, JOINT_STAGE = "pattern", "lora", "joint"
# They concern the adapter only, so the pattern, which is trained before it, doesn't depend on them.
OF_ADAPTERS = (
    *("joint", "lora_rank", "lora_alpha", "lora_dropout", "lora_gpt", "lora_mlp"),
    *("lora_heads", "lora_include_embeddings", "lora_target_modules", "learning_rate"),
    *("off_share", "off_weight"),
)


@dataclass(frozen=True, kw_only=True)
class PatternTrainConfig(AdapterConfig):
    """First the pattern alone; then a LoRA around it, the pattern frozen."""

    LOWEST_RANK: ClassVar[int] = 0

    pattern_tokens: int = setting(8, "vectors that hold the manner of speaking")
    pattern_lr: float = setting(1e-3, "peak learning rate of the pattern")
    injection_mode: Literal["add", "prepend", "replace_first"] = setting(
        "add", "how the pattern comes among the 32 vectors that say who speaks"
    )
    initialization: Literal["neutral", "reference"] = setting(
        "neutral", "neutral begins as the base; reference is the public trainer's noise"
    )
    joint: bool = setting(False, "train pattern and adapter together, as the public trainer does")
    loss: Literal["balanced", "decisions", "reference"] = setting(
        "balanced",
        "balanced scores both outcomes of each choice; decisions weighs the pauses that happened; "
        "reference is the public trainer's",
    )
    pause_weight: float = setting(2.0, "of when pauses begin and end")
    silence_weight: float = setting(0.5, "of missing and false silence, frame by frame")
    rate_weight: float = setting(0.5, "of how many frames of a clip are silent")
    event_weight: float = setting(0.5, "of fillers, stutters and drawn-out words")
    off_share: float = setting(
        0.15, "share of the clips with which the adapter, without the pattern, is kept at the base"
    )
    off_weight: float = setting(1.0, "of how far it is from the base there")
    other_share: float = setting(
        0.5, "share of the clips that are prompted by another speaker, where others are given"
    )
    strange_timbre: Literal["hidden", "taught"] = setting(
        "hidden",
        "what is learned where another speaker prompts: hidden scores only where it is silent, so "
        "that the timbre stays the prompt's (not with loss reference); taught scores every code",
    )
    epochs: int = setting(40, "passes over the clips, in each of the two stages")
    batch_size: int = default("batch_size", 4)
    grad_accumulation: int = default("grad_accumulation", 4)
    learning_rate: float = setting(5e-4, "peak learning rate of the adapter")
    lora_rank: int = setting(32, "size of the adapters; 0 trains the pattern only")
    lora_alpha: float = default("lora_alpha", 64.0)
    save_interval: int = default("save_interval", 200)
    log_interval: int = default("log_interval", 20)
    seed: int = default("seed", 42)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pattern_tokens < 1:
            raise UserError(f"pattern_tokens must be 1 or more, got {self.pattern_tokens}")
        if not self.pattern_lr > 0:
            raise UserError(f"pattern_lr must be above 0, got {self.pattern_lr}")
        weights = ("pause_weight", "silence_weight", "rate_weight", "event_weight", "off_weight")
        for name in weights:
            if not 0 <= getattr(self, name) < float("inf"):
                raise UserError(f"{name} must be 0 or more, got {getattr(self, name)}")
        for name in ("off_share", "other_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} must be from 0 to 1, got {getattr(self, name)}")
        if self.joint and not self.has_adapter:
            raise UserError(
                "--joint trains an adapter together with the pattern, --no-lora trains none",
                fix="leave out one of them",
            )
        if self.lora_conditioning:
            raise UserError(
                "lora_conditioning would change who speaks together with how", fix="leave it out"
            )

    @property
    def has_adapter(self) -> bool:
        return self.lora_rank > 0

    @property
    def first_stage(self) -> str:
        return JOINT_STAGE if self.joint else PATTERN_STAGE

    @classmethod
    def tiny(cls, **changes: Any) -> PatternTrainConfig:
        """For tests: a few steps."""
        small: dict[str, Any] = {"pattern_tokens": 2, "lora_rank": 4, "lora_alpha": 8.0}
        small |= {"batch_size": 2, "grad_accumulation": 1, "max_steps": 4}
        return cls(**{**small, "save_interval": 2, "log_interval": 1, **changes})
