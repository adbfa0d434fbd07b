"""What can be set when the language model is trained: as adapters, or as a whole.

Names and defaults are those of the public trainers for version 2 where these hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ttscommon.config import nearest
from ttscommon.errors import UserError
from ttscommon.train_settings import LoraSettings, SampleSettings, TrainSettings, default, setting

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


@dataclass(frozen=True, kw_only=True)
class GptTrainConfig(SampleSettings, TrainSettings):
    """What both ways of training share."""

    FREE: ClassVar[tuple[str, ...]] = (*TrainSettings.FREE, "whisper_model")

    epochs: int = default("epochs", 20)
    batch_size: int = default("batch_size", 8)
    grad_accumulation: int = default("grad_accumulation", 2)
    learning_rate: float = default("learning_rate", 3e-4)
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
    whisper_model: str = setting("", "recognises the samples, for a best checkpoint by ear")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_samples()
        self.require("gpt_dropout", 0 <= self.gpt_dropout < 1, "from 0 to below 1")
        if min(self.text_loss_weight, self.mel_loss_weight) < 0 or not self.mel_loss_weight:
            raise UserError("mel_loss_weight must be above 0, text_loss_weight 0 or more")
        if self.crop_prompts and not self.computes_conditions:
            raise UserError("stored conditions can't be cropped", fix="--on-the-fly --crop-prompts")

    @property
    def computes_conditions(self) -> bool:
        """Whether speaker and mood are computed anew in every step."""
        return self.on_the_fly


@dataclass(frozen=True, kw_only=True)
class AdapterConfig(LoraSettings, GptTrainConfig):
    """Which layers of the language model are adapted, and how much."""

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
        self.require_adapters()
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

    epochs: int = default("epochs", 50)
    batch_size: int = default("batch_size", 2)
    grad_accumulation: int = default("grad_accumulation", 4)
    learning_rate: float = default("learning_rate", 1e-5)
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
