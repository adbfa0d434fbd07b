"""What can be set when the language model is trained: as adapters, or as a whole.

Names and defaults are those of the public trainers for version 2 where these hold.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from ttscommon.config import nearest
from ttscommon.errors import UserError

ATTENTION = ("gpt.h.*.attn.c_attn", "gpt.h.*.attn.c_proj")
MLP = ("gpt.h.*.mlp.c_fc", "gpt.h.*.mlp.c_proj")
HEADS = ("text_head", "mel_head")
EMBEDDINGS = ("text_embedding", "mel_embedding")
CONDITIONING = (
    "linear_q",
    "linear_k",
    "linear_v",
    "linear_out",
    "linear_pos",
    "w_1",
    "w_2",
    "to_q",
    "to_kv",
    "to_out",
    "proj_context",
    "emovec_layer",
    "emo_layer",
)
# Parts of the model that are trained together or not at all, by the names their tensors begin with.
PARTS = {
    "transformer": ("gpt.", "final_norm.", "speed_emb."),
    "heads": ("text_head.", "mel_head."),
    "embeddings": (
        "text_embedding.",
        "mel_embedding.",
        "text_pos_embedding.",
        "mel_pos_embedding.",
    ),
    "speaker": ("conditioning_encoder.", "perceiver_encoder."),
    "emotion": (
        "emo_conditioning_encoder.",
        "emo_perceiver_encoder.",
        "emovec_layer.",
        "emo_layer.",
    ),
}
OF_CONDITIONS = ("speaker", "emotion")


def setting(default: Any, words: str) -> Any:
    return field(default=default, metadata={"help": words})


@dataclass(frozen=True, kw_only=True)
class GptTrainConfig:
    """What both ways of training share."""

    epochs: int = setting(20, "passes over the clips")
    max_steps: int = setting(0, "most optimizer steps; 0: as the epochs say")
    batch_size: int = setting(8, "most clips in a batch")
    token_budget: int = setting(0, "most tokens in a batch, clips x longest; 0: no limit")
    grad_accumulation: int = setting(2, "batches of one optimizer step")
    learning_rate: float = setting(3e-4, "peak learning rate")
    weight_decay: float = setting(0.01, "AdamW's, on matrices")
    warmup_share: float = setting(0.05, "share of the steps in which the learning rate rises")
    final_share: float = setting(0.1, "of the learning rate, at the end of its half cosine")
    grad_clip: float = setting(1.0, "longest gradient; 0: any")
    text_loss_weight: float = setting(
        0.2, "of the text's cross-entropy; at 0 its head isn't trained"
    )
    mel_loss_weight: float = setting(0.8, "of the codes' cross-entropy")
    pairing: Literal["other", "same"] = setting(
        "other", "prompt: another clip of the speaker, or the clip itself, which leaks its content"
    )
    on_the_fly: bool = setting(
        False, "compute speaker and mood of prompts anew, from cached features"
    )
    crop_prompts: bool = setting(False, "prompts are stretches of clips; with --on-the-fly")
    contiguous_positions: bool = setting(
        False, "number codes as the base was trained; else as it is spoken with"
    )
    gpt_dropout: float = setting(0.0, "in the transformer")
    gradient_checkpointing: bool = setting(
        True, "compute activations twice, for a fraction of their memory"
    )
    patience: int = setting(0, "evaluations without a better one before it ends; 0: any number")
    val_interval: int = setting(0, "steps between evaluations; 0: one an epoch")
    save_interval: int = setting(500, "steps between resume points")
    log_interval: int = setting(50, "steps between lines of progress")
    sample_interval: int = setting(0, "steps between samples to hear, at evaluations; 0: none")
    n_samples: int = setting(2, "validation texts that are spoken")
    whisper_model: str = setting("", "recognises the samples, for a best checkpoint by ear")
    num_workers: int = setting(0, "processes that load clips")
    amp: Literal["no", "bf16"] = setting("no", "precision of the computations")
    seed: int = setting(1234, "names everything random")

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "grad_accumulation", "n_samples"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be 1 or more, got {getattr(self, name)}")
        for name in ("max_steps", "token_budget", "patience", "val_interval", "num_workers"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} must be 0 or more, got {getattr(self, name)}")
        for name in ("save_interval", "log_interval"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be 1 or more, got {getattr(self, name)}")
        for name in ("warmup_share", "final_share", "gpt_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"{name} must be from 0 to below 1, got {getattr(self, name)}")
        if self.learning_rate <= 0:
            raise UserError(f"learning_rate must be above 0, got {self.learning_rate}")
        if min(self.text_loss_weight, self.mel_loss_weight) < 0 or not self.mel_loss_weight:
            raise UserError("mel_loss_weight must be above 0, text_loss_weight 0 or more")
        if self.crop_prompts and not self.computes_conditions:
            raise UserError("stored conditions can't be cropped", fix="--on-the-fly --crop-prompts")

    @property
    def computes_conditions(self) -> bool:
        """Whether speaker and mood are computed anew in every step."""
        return self.on_the_fly


@dataclass(frozen=True, kw_only=True)
class AdapterConfig(GptTrainConfig):
    """Which layers of the language model are adapted, and how much."""

    LOWEST_RANK: ClassVar[int] = 1

    lora_rank: int = setting(16, "size of the adapters")
    lora_alpha: float = setting(32.0, "their strength; the update is scaled by alpha / rank")
    lora_dropout: float = setting(0.05, "of what goes into them, while training")
    lora_gpt: bool = setting(True, "on the transformer's attention")
    lora_mlp: bool = setting(True, "on the transformer's feed-forward layers")
    lora_heads: bool = setting(True, "on the heads")
    lora_include_embeddings: bool = setting(False, "on the embeddings of text and codes")
    lora_conditioning: bool = setting(
        False, "on the encoders of speaker and mood, which are then computed in every step"
    )
    lora_target_modules: tuple[str, ...] = setting(
        (), 'instead of these: names of layers, such as "gpt.h.*.attn.c_attn"'
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lora_rank < self.LOWEST_RANK:
            lowest = self.LOWEST_RANK
            raise UserError(f"lora_rank must be {lowest} or more, got {self.lora_rank}")
        if not 0 <= self.lora_dropout < 1:
            raise UserError(f"lora_dropout must be from 0 to below 1, got {self.lora_dropout}")
        if not self.targets:
            raise UserError("no layer is adapted", fix="leave out --no-lora-gpt, or the like")

    @property
    def targets(self) -> tuple[str, ...]:
        """Patterns of the layers that are adapted."""
        if self.lora_target_modules:
            return tuple(self.lora_target_modules)
        heads = HEADS if self.text_loss_weight else HEADS[1:]
        chosen = [
            (self.lora_gpt, ATTENTION),
            (self.lora_gpt and self.lora_mlp, MLP),
            (self.lora_heads, heads),
            (self.lora_include_embeddings, EMBEDDINGS),
            (self.lora_conditioning, CONDITIONING),
        ]
        return tuple(pattern for wanted, patterns in chosen if wanted for pattern in patterns)

    @property
    def computes_conditions(self) -> bool:
        return self.on_the_fly or self.lora_conditioning


@dataclass(frozen=True, kw_only=True)
class LoraTrainConfig(AdapterConfig):
    """Adapters on the language model."""

    @classmethod
    def named(cls, preset: str) -> LoraTrainConfig:
        """ "light" keeps close to the base, "heavy" needs an hour of recordings or more."""
        presets = {
            "light": cls(lora_rank=8, lora_alpha=16.0, lora_mlp=False, lora_heads=False),
            "standard": cls(),
            "heavy": cls(lora_rank=32, lora_alpha=64.0, lora_dropout=0.1),
        }  # fmt: skip
        if preset not in presets:
            guess = nearest(preset, presets) or "standard"
            raise UserError(f"no preset '{preset}'", fix=f"--preset {guess}")
        return presets[preset]

    @classmethod
    def tiny(cls, **changes: Any) -> LoraTrainConfig:
        """For tests: a few steps."""
        small = {"lora_rank": 4, "lora_alpha": 8.0, "batch_size": 2, "grad_accumulation": 1}
        return cls(**{**small, "max_steps": 4, "save_interval": 2, "log_interval": 1, **changes})


@dataclass(frozen=True, kw_only=True)
class FullTrainConfig(GptTrainConfig):
    """The language model as a whole, or chosen parts of it."""

    epochs: int = setting(50, "passes over the clips")
    batch_size: int = setting(2, "most clips in a batch")
    grad_accumulation: int = setting(4, "batches of one optimizer step")
    learning_rate: float = setting(1e-5, "peak learning rate")
    train_parts: tuple[str, ...] = setting(
        ("transformer", "heads", "embeddings"), f"some of {', '.join(PARTS)}"
    )
    freeze_conditioning: bool = setting(False, "leave the parts speaker and emotion out")
    freeze_embeddings: bool = setting(False, "leave the part embeddings out")
    ema_decay: float = setting(0.0, "of an average of the weights, which is then saved; 0: none")

    def __post_init__(self) -> None:
        super().__post_init__()
        for part in self.train_parts:
            if part not in PARTS:
                guess = nearest(part, PARTS)
                fix = f"did you mean '{guess}'?" if guess else f"parts: {', '.join(PARTS)}"
                raise UserError(f"there is no part '{part}'", fix=fix)
        if not 0 <= self.ema_decay < 1:
            raise UserError(f"ema_decay must be from 0 to below 1, got {self.ema_decay}")
        if not self.parts:
            raise UserError("no part is trained", fix="--train-parts transformer heads")

    @property
    def parts(self) -> tuple[str, ...]:
        """Those that are trained."""
        frozen = OF_CONDITIONS if self.freeze_conditioning else ()
        frozen += ("embeddings",) if self.freeze_embeddings else ()
        return tuple(part for part in PARTS if part in self.train_parts and part not in frozen)

    @property
    def prefixes(self) -> list[str]:
        """What names of trained tensors begin with."""
        found = [prefix for part in self.parts for prefix in PARTS[part]]
        return [one for one in found if self.text_loss_weight or one != "text_head."]

    @property
    def computes_conditions(self) -> bool:
        return self.on_the_fly or any(part in OF_CONDITIONS for part in self.parts)

    @classmethod
    def tiny(cls, **changes: Any) -> FullTrainConfig:
        """For tests: a few steps."""
        small: dict[str, Any] = {"max_steps": 4, "save_interval": 2, "log_interval": 1}
        return cls(**{**small, "grad_accumulation": 1, **changes})
